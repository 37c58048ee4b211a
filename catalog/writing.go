package catalog

import (
	"context"
	"slices"
)

// pendingWrite is a write, and the records that it is made from. before is nil when the entity
// is new, after is nil when it is deleted.
type pendingWrite struct {
	Write
	before, after record
}

// write stores a record, in the place of before unless that is nil, and does
// what follows from it.
func (tx *txn) write(ctx context.Context, before, after record) error {
	if err := tx.put(before, after); err != nil {
		return err
	}
	return after.follow(ctx, tx, before, after)
}

// put writes a record. before is nil when it is new. The record may change afterwards: what is
// stored is made now.
func (tx *txn) put(before, after record) error {
	w := newWrite(before, after)
	if err := w.complete(tx.core.keeper); err != nil {
		return err
	}
	tx.record(w)
	return nil
}

// putQuietly writes a record of which people see no more and no less than before.
func (tx *txn) putQuietly(before, after record) error {
	w := newWrite(before, after)
	w.Quiet, after.meta().Revision = true, before.meta().Revision
	if err := w.complete(tx.core.keeper); err != nil {
		return err
	}
	tx.record(w)
	return nil
}

// note is put for records that nobody else has: what is stored is made when somebody reads it or
// when it is committed, so that a plan that is only looked at costs less.
func (tx *txn) note(before, after record) { tx.record(newWrite(before, after)) }

// newWrite makes the write of a record, which is to be completed. before is nil when it is new.
func newWrite(before, after record) *pendingWrite {
	e := after.columns()
	change := Change{Action: ActionCreate, Kind: e.Kind, ID: e.ID, Touches: after.touches()}
	after.meta().Revision = 0 // it will be the change's
	if before != nil {
		change.Action, change.Touches = ActionUpdate, change.Touches.union(before.touches())
	}
	return &pendingWrite{Write{Entity: e, If: e.Revision, Change: change}, before, after}
}

// complete makes what the store needs.
func (w *pendingWrite) complete(keeper Keeper) error {
	if err := w.encode(keeper); err != nil {
		return err
	}
	return w.show()
}

// encode makes the Spec.
func (w *pendingWrite) encode(keeper Keeper) (err error) {
	if w.after != nil && w.Entity.Spec == nil {
		w.Entity.Spec, err = specOf(w.after, keeper)
	}
	return err
}

// show makes what the feed shows of the write.
func (w *pendingWrite) show() (err error) {
	c := &w.Change
	if w.before != nil && c.Before == nil {
		if c.Before, err = plainJSON(w.before); err != nil {
			return err
		}
	}
	if w.after != nil && c.After == nil {
		c.After, err = plainJSON(w.after)
	}
	return err
}

// delete removes a stored record, and does what follows from that.
func (tx *txn) delete(ctx context.Context, r record) error {
	if err := tx.remove(r); err != nil {
		return err
	}
	return tx.afterRemoval(ctx, r)
}

// afterRemoval removes what goes with records that were removed, and does what else follows.
func (tx *txn) afterRemoval(ctx context.Context, removed ...record) error {
	for _, k := range Kinds() {
		if !k.facts().goes {
			continue
		}
		var refs []string
		for _, r := range removed {
			if ref := k.RefTo(Entity{Kind: r.kind(), ID: r.meta().ID, NaturalKey: r.naturalKey()}); ref != "" {
				refs = append(refs, ref)
			}
		}
		tx.takes = tx.takes || len(refs) > 0
		for some := range slices.Chunk(refs, fetchSize) {
			if err := tx.removeReferring(ctx, k, some); err != nil {
				return err
			}
		}
	}
	for _, r := range removed {
		if err := r.follow(ctx, tx, r, nil); err != nil {
			return err
		}
	}
	return nil
}

// removeReferring removes the entities of a kind that have one of the Refs.
func (tx *txn) removeReferring(ctx context.Context, k Kind, refs []string) error {
	entities, err := tx.list(ctx, k, Query{Refs: refs})
	if err != nil {
		return err
	}
	for _, e := range entities {
		dependent, err := show(e, tx.core.keeper)
		if err != nil {
			return err
		}
		if err := tx.remove(dependent); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes a stored record.
func (tx *txn) remove(before record) error {
	m := before.meta()
	w := &pendingWrite{Write{
		Entity: Entity{Kind: before.kind(), ID: m.ID}, Delete: true, If: m.Revision,
		Change: Change{Action: ActionDelete, Kind: before.kind(), ID: m.ID, Touches: before.touches()},
	}, before, nil}
	if err := w.show(); err != nil {
		return err
	}
	tx.record(w)
	return nil
}

// record adds a write. An entity is written once in a transaction: a second
// write takes the place of the first, and a new entity that is deleted again
// was never there.
func (tx *txn) record(w *pendingWrite) {
	at := place{w.Entity.Kind, w.Entity.ID}
	earlier := tx.pending(at.kind, at.id)
	tx.hold(earlier, w)
	tx.enlist(w)
	if at.kind == KindProject {
		tx.projects = nil // they may be other ones now
	}
	switch {
	case earlier == nil:
		if tx.places == nil {
			tx.places = map[place]int{}
		}
		tx.places[at] = len(tx.writes)
		tx.writes = append(tx.writes, w)
	case w.Delete && earlier.If == 0:
		tx.writes[tx.places[at]] = nil
		delete(tx.places, at)
	default:
		w.If, w.before = earlier.If, earlier.before
		w.Change.Before = earlier.Change.Before
		w.Change.Touches = w.Change.Touches.union(earlier.Change.Touches)
		if earlier.Change.Action == ActionCreate {
			w.Change.Action = ActionCreate
		}
		*earlier = *w
	}
}
