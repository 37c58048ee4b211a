package catalog

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// txn collects the writes of one transaction over one consistent reading.
type txn struct {
	core   *core
	reader Reader // nil in a transaction that does not read
	now    time.Time
	writes []*pendingWrite      // in order; nil where a new entity was deleted again
	places map[place]int        // of each entity's write
	held   map[heldValue]int64  // who holds a unique value by what was written
	listed map[listedBy][]int64 // which entities were written with a value that lists ask for

	ids     []int64 // reserved and not used yet
	missing int     // ids that were not reserved; the transaction has to run again

	rendered rendered            // what documents are to be made of
	grown    map[string]*Key     // projects that have more keys, and the last that came
	projects map[string]*Project // that were looked up; nil where there is none
	pinned   map[place]*target   // entities that a plan says all of; nothing else changes them
	caps     []Cap               // that the commit has to keep
	takes    bool                // what is deleted may have something that goes with it
	warnings []pendingWarning
	unserved unserved // may deserve a warning
}

type place struct {
	kind Kind
	id   int64
}

type heldValue struct {
	kind  Kind
	by    Index
	value string
}

// mode says what a transaction reads, and what its commit depends on.
type mode int

const (
	blind   mode = iota // reads nothing
	guarded             // reads, and depends on the revisions of what it writes
	serial              // reads, and depends on everything: nothing may have come between
)

// transact calls fn and commits what it has written. While others change what
// the commit depends on, it begins again with a new reading, so fn may run again.
//
// Ids cannot be reserved while the reading is held open: it occupies a
// connection, and waiting for a second one may be waiting for ourselves. So a
// run that needs ids is given provisional ones, thrown away, and repeated with
// as many as it needed.
func (c *core) transact(ctx context.Context, m mode, fn func(*txn) error) (Revision, error) {
	var ids []int64
	for try := 1; ; try++ {
		tx := &txn{core: c, now: c.now(), ids: slices.Clone(ids)}
		base, err := tx.run(ctx, m, fn)
		if err != nil {
			return 0, err
		}
		if tx.missing > 0 {
			first, err := c.store.NextIDs(ctx, tx.missing)
			if err != nil {
				return 0, err
			}
			for i := range tx.missing {
				ids = append(ids, first+int64(i))
			}
			continue
		}
		if m != blind && len(tx.places) == 0 {
			tx.warn(ctx)
			return base, nil
		}
		if m != serial {
			base = 0
		}
		revision, err := c.commit(ctx, tx, base)
		if err == nil {
			tx.warn(ctx)
		}
		if m == blind || !tx.overtaken(err, try) {
			return revision, c.withReferrers(ctx, tx, err)
		}
		if err := pause(ctx, try); err != nil {
			return 0, err
		}
	}
}

// run calls fn once, and returns the revision that it has read.
func (tx *txn) run(ctx context.Context, m mode, fn func(*txn) error) (base Revision, err error) {
	if m == blind {
		if !tx.core.clock.known.Load() {
			if tx.now, err = tx.core.storeTime(ctx); err != nil {
				return 0, err
			}
		}
		if err := fn(tx); err != nil {
			return 0, err
		}
		return 0, tx.checkReserved(ctx)
	}
	err = tx.core.read(ctx, func(r Reader) error {
		base, tx.reader, tx.now = r.Head().Revision, r, tx.core.now()
		if err := fn(tx); err != nil {
			return err
		}
		if err := tx.checkReserved(ctx); err != nil {
			return err
		}
		if ctx.Value(warnKey{}) != nil {
			if err := tx.warnUnserved(ctx); err != nil {
				return err
			}
		}
		if err := tx.checkGrowth(ctx); err != nil {
			return err
		}
		if err := tx.noteProjects(ctx); err != nil {
			return err
		}
		return tx.checkRendering(ctx)
	})
	return base, err
}

// overtaken reports whether a commit failed, in one of several tries, because of what others
// may have done since it was read. What goes with an entity that is deleted, such as a hold, may
// have come meanwhile: then the entity is still referred to.
func (tx *txn) overtaken(err error, try int) bool {
	if errors.Is(err, ErrReferenced) {
		return tx.takes && !IsDangling(err) && try < maxTakes
	}
	return errors.Is(err, ErrConflict) && try < maxTries
}

// maxTries bounds how often a transaction runs again after a conflict.
const maxTries = 200

// maxTakes bounds how often it runs again because something still refers to what it deletes.
const maxTakes = 3

// pause waits a moment that grows with the number of tries.
func pause(ctx context.Context, try int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(time.Millisecond * time.Duration(min(try, 20)))):
		return nil
	}
}

func (c *core) commit(ctx context.Context, tx *txn, base Revision) (Revision, error) {
	name, reason := ActorFrom(ctx)
	commit := Commit{Base: base, Time: tx.now, Actor: name, Reason: reason, Machine: isMachine(ctx), Caps: tx.caps}
	for _, w := range tx.writes {
		if w == nil {
			continue
		}
		if err := w.complete(c.keeper); err != nil {
			return 0, err
		}
		commit.Writes = append(commit.Writes, w.Write)
		if !w.Entity.Kind.facts().imperative { // Tables.At and Revert need every change of these
			commit.Machine = false
		}
	}
	return c.confirm(ctx, commit)
}

// provisional ids are above all real ones, as new ids are.
const provisional = 1 << 62

// nextID returns an id for a new entity.
func (tx *txn) nextID(ctx context.Context) (int64, error) {
	if tx.reader == nil {
		return tx.core.store.NextIDs(ctx, 1)
	}
	if len(tx.ids) == 0 {
		tx.missing++
		return provisional + int64(tx.missing), nil
	}
	id := tx.ids[0]
	tx.ids = tx.ids[1:]
	return id, nil
}

// fieldOf names a field of a record that is written, after the item of a plan that it comes from.
func (tx *txn) fieldOf(r record, field string) string {
	if t := tx.pinned[place{r.kind(), r.meta().ID}]; t != nil {
		return t.at + "." + field
	}
	return field
}

// identify gives new entities their real ids in the place of the provisional ones, which are
// numbered from 1 on. What was made with those is made anew, because secrets are sealed with the id.
func (tx *txn) identify(first int64) {
	for _, w := range tx.writes {
		if w != nil && w.Entity.ID > provisional {
			w.after.meta().ID = first + w.Entity.ID - provisional - 1
			*w = *newWrite(nil, w.after)
		}
	}
}
