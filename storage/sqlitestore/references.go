package sqlitestore

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/catalog"
)

// SQLite does not say which foreign key was violated, and has none that leads to one of several
// tables. References are looked at here, after the last write of a commit: it has the write lock.

// reference is what entities of a kind referred to, which may be gone.
type reference struct {
	from catalog.Kind
	ref  string
	to   catalog.Kind
}

type references []reference

// add notes all that may refer to an entity.
func (r *references) add(e catalog.Entity) {
	for _, k := range catalog.Kinds() {
		if ref := k.RefTo(e); ref != "" {
			*r = append(*r, reference{k, ref, e.Kind})
		}
	}
}

// checkReferences refuses a commit after which an entity refers to nothing.
func checkReferences(ctx context.Context, tx *sqlx.Tx, c catalog.Commit, lost references) error {
	known := map[reference]bool{} // that are there: of many keys, most are in few projects
	for _, w := range c.Writes {
		at := reference{from: w.Entity.Kind, ref: w.Entity.Ref}
		if w.Delete || at.ref == "" || known[at] {
			continue
		}
		there, err := isThere(ctx, tx, at)
		if err != nil {
			return err
		}
		if !there {
			return catalog.Dangling(at.from)
		}
		known[at] = true
	}
	for _, at := range lost {
		there, err := isThere(ctx, tx, at) // another may have taken its place
		if err != nil {
			return err
		}
		var referred bool
		if !there {
			err = tx.GetContext(ctx, &referred, fmt.Sprintf(sqlReferred, at.from), at.ref)
		}
		switch {
		case err != nil:
			return err
		case referred:
			return catalog.Referenced(at.to)
		}
	}
	return nil
}

// isThere reports whether there is what a reference names.
func isThere(ctx context.Context, tx *sqlx.Tx, at reference) (there bool, err error) {
	t, _ := at.from.Target(at.ref) // see catalog.Commit.Check
	if t.ID != 0 {
		err = tx.GetContext(ctx, &there, fmt.Sprintf(sqlThereByID, t.Kind), t.ID)
	} else {
		err = tx.GetContext(ctx, &there, fmt.Sprintf(sqlThereByKey, t.Kind), t.NaturalKey)
	}
	return there, err
}
