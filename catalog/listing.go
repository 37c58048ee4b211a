package catalog

import (
	"cmp"
	"context"
	"iter"
)

const (
	pageSize  = 500 // entities that are read at once
	fewAtOnce = 40  // of which each may have more than a MiB
)

// List returns the entities that q selects, in order of id.
func (t Table[T]) List(ctx context.Context, q Query) (vs []T, err error) {
	err = t.read(ctx, func(tx *txn) error {
		entities, err := t.list(ctx, tx, q)
		vs = make([]T, len(entities))
		for i := 0; i < len(entities) && err == nil; i++ {
			vs[i], err = t.show(entities[i])
		}
		return err
	})
	return vs, err
}

// Page returns the first entities that q selects, in order of id, and whether there are more. There
// are at most q.Limit of them, or 500 if it is 0. The page ends earlier, after at least one entity,
// once its entities have the number of bytes that is given, as the store keeps them. They are read
// 40 at a time, so that this takes little memory however large they are.
func (t Table[T]) Page(ctx context.Context, q Query, bytes int) (vs []T, more bool, err error) {
	limit, bytes := cmp.Or(max(q.Limit, 0), pageSize), max(bytes, 1)
	err = t.read(ctx, func(tx *txn) error {
		vs, more = nil, true
		for size := 0; more && len(vs) < limit && size < bytes; {
			few := min(fewAtOnce, limit-len(vs))
			q.Limit = few + 1 // one more tells whether there are more
			part, err := t.list(ctx, tx, q)
			if err != nil {
				return err
			}
			more = false
			for i := 0; i < min(len(part), few) && size < bytes; i++ {
				v, err := t.show(part[i])
				if err != nil {
					return err
				}
				vs, size = append(vs, v), size+part[i].size()
				q.After, more = part[i].ID, i+1 < len(part)
			}
		}
		return nil
	})
	return vs, more, err
}

// size returns about how many bytes an entity takes.
func (e *Entity) size() int {
	n := len(e.Spec)
	for _, list := range [][]string{e.Namespaces, e.Groups, e.Mentions} {
		for _, text := range list {
			n += len(text)
		}
	}
	return n
}

// All iterates over all entities that q selects, in order of id, reading page
// by page: what is committed meanwhile may be seen or not. q.Limit is ignored.
func (t Table[T]) All(ctx context.Context, q Query) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q.Limit = pageSize
		for {
			page, err := t.List(ctx, q)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, v := range page {
				if !yield(v, nil) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
			q.After = asRecord(&page[len(page)-1]).meta().ID
		}
	}
}
