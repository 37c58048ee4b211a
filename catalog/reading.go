package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// pending returns what the transaction has written of an entity, or nil.
func (tx *txn) pending(k Kind, id int64) *pendingWrite {
	if i, ok := tx.places[place{k, id}]; ok {
		return tx.writes[i]
	}
	return nil
}

// entity returns what a store would have of a write that is no deletion.
func (tx *txn) entity(w *pendingWrite) (Entity, error) {
	err := w.encode(tx.core.keeper)
	return w.Entity, err
}

func (tx *txn) get(ctx context.Context, k Kind, id int64) (Entity, error) {
	if w := tx.pending(k, id); w != nil {
		if w.Delete {
			return Entity{}, notFound(k, id)
		}
		return tx.entity(w)
	}
	return tx.reader.Get(ctx, k, id)
}

func notFound(k Kind, id int64) error { return fmt.Errorf("%s %d: %w", k.Noun(), id, ErrNotFound) }

func (tx *txn) find(ctx context.Context, k Kind, by Index, value string) (Entity, error) {
	if id, ok := tx.held[heldValue{k, by, value}]; ok {
		return tx.entity(tx.pending(k, id))
	}
	e, err := tx.reader.Find(ctx, k, by, value)
	if err == nil && tx.pending(k, e.ID) != nil { // it held the value before
		return Entity{}, fmt.Errorf("%s: %w", k.Noun(), ErrNotFound)
	}
	return e, err
}

func (tx *txn) list(ctx context.Context, k Kind, q Query) ([]Entity, error) {
	limit := q.Limit
	if limit > 0 {
		q.Limit += len(tx.writes) // as many may drop out
	}
	stored, err := tx.reader.List(ctx, k, q)
	if err != nil || len(tx.writes) == 0 {
		return stored, err
	}
	entities := slices.DeleteFunc(stored, func(e Entity) bool { return tx.pending(k, e.ID) != nil })
	for _, id := range tx.candidates(k, q) {
		if w := tx.pending(k, id); w != nil && !w.Delete && q.Match(w.Entity) {
			e, err := tx.entity(w)
			if err != nil {
				return nil, err
			}
			entities = append(entities, e)
		}
	}
	slices.SortFunc(entities, func(a, b Entity) int { return cmp.Compare(a.ID, b.ID) })
	if limit > 0 && len(entities) > limit {
		entities = entities[:limit]
	}
	return entities, nil
}

func (tx *txn) count(ctx context.Context, k Kind, q Query) (int64, error) {
	n, err := tx.reader.Count(ctx, k, q)
	if err != nil || len(tx.writes) == 0 {
		return n, err
	}
	written := q // those that it counted, and that were written since
	written.IDs = nil
	for _, w := range tx.writes {
		if w == nil || w.Entity.Kind != k {
			continue
		}
		if w.If != 0 && (len(q.IDs) == 0 || slices.Contains(q.IDs, w.Entity.ID)) {
			written.IDs = append(written.IDs, w.Entity.ID)
		}
		if !w.Delete && q.Match(w.Entity) {
			n++
		}
	}
	if len(written.IDs) == 0 {
		return n, nil
	}
	stale, err := tx.reader.Count(ctx, k, written)
	return n - stale, err
}
