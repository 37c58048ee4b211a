package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ReferrersOf names what an ErrReferenced says still refers to what was to go: up to five by kind, name and
// id, and whether there are others. It is empty where that is not known, and for all other errors.
func ReferrersOf(err error) string {
	if e, ok := errors.AsType[*referenceError](err); ok {
		return strings.Join(e.referrers, "; ")
	}
	return ""
}

const (
	mostReferrers    = 5
	mostReferrerName = 64 // bytes of a name
)

// withReferrers makes an error that something is still referred to name by what. Stores only say that it is.
// Of what the caller is not shown it says only that there are others.
func (c *core) withReferrers(ctx context.Context, failed *txn, err error) error {
	e, ok := errors.AsType[*referenceError](err)
	if !ok || e.dangling {
		return err
	}
	var names []string
	others := false
	unread := c.read(ctx, func(r Reader) error {
		tx := &txn{core: c, reader: r}
		for _, k := range Kinds() {
			refs := failed.released(k, e.kind)
			if len(refs) == 0 || k.facts().goes {
				continue
			}
			q := Query{Refs: refs, Limit: mostReferrers + 1 + len(failed.writes)} // some of which may be written
			left, err := r.List(ctx, k, q)
			if err != nil {
				return err
			}
			for _, referrer := range left {
				if w := failed.pending(k, referrer.ID); w != nil && (w.Delete || w.Entity.Ref != referrer.Ref) {
					continue
				}
				switch sees, err := tx.sees(ctx, referrer); {
				case err != nil:
					return err
				case !sees || len(names) == mostReferrers:
					others = true
				default:
					names = append(names, nameReferrer(referrer))
				}
			}
		}
		return nil
	})
	if unread != nil || len(names) == 0 {
		return err // what refers to it may have gone meanwhile
	}
	if others {
		names = append(names, "and others")
	}
	return &referenceError{kind: e.kind, referrers: names}
}

// released returns the Refs by which entities of a kind refer to those of another that the transaction deletes
// or renames, as many as are asked for at once.
func (tx *txn) released(from, to Kind) (refs []string) {
	if !slices.Contains(from.facts().refers, to) {
		return nil
	}
	for _, w := range tx.writes {
		if w == nil || w.before == nil || w.before.kind() != to || len(refs) == fetchSize {
			continue
		}
		key := w.before.naturalKey()
		if w.Delete || w.Entity.NaturalKey != key {
			refs = append(refs, from.RefTo(Entity{Kind: to, ID: w.before.meta().ID, NaturalKey: key}))
		}
	}
	return refs
}

// nameReferrer says what an entity is: key alice (id 7).
func nameReferrer(e Entity) string {
	if e.Kind == KindBinding { // which has no name of its own
		return fmt.Sprintf("%s (id %d)", e.Kind.Noun(), e.ID)
	}
	return fmt.Sprintf("%s %s (id %d)", e.Kind.Noun(), PlainText(e.Name, mostReferrerName), e.ID)
}
