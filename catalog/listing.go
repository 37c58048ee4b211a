package catalog

import (
	"cmp"
	"context"
	"iter"
)

// Of entities whose size is not known few are read at once, because each may have more than a MiB.
const (
	pageSize  = 500 // entities that are read at once where they are small
	largeSize = 40  // and at first
	smallOne  = 4 << 10
	pageBytes = 4 << 20 // of what All holds at a time
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
// are at most q.Limit of them, or 500 if it is 0, and fewer where those before the next one have
// so many bytes in the store together. So an answer takes little memory, however large entities are.
func (t Table[T]) Page(ctx context.Context, q Query, bytes int) (vs []T, more bool, err error) {
	limit, bytes := cmp.Or(max(q.Limit, 0), pageSize), max(bytes, 1)
	err = t.read(ctx, func(tx *txn) error {
		vs, more = nil, true
		for size, atOnce := 0, largeSize; more && len(vs) < limit && size < bytes; {
			atOnce = min(atOnce, limit-len(vs))
			q.Limit = atOnce + 1 // one more tells whether there are more
			part, err := t.list(ctx, tx, q)
			if err != nil {
				return err
			}
			more = false
			before := size
			for i := 0; i < min(len(part), atOnce) && size < bytes; i++ {
				v, err := t.show(part[i])
				if err != nil {
					return err
				}
				vs, size = append(vs, v), size+part[i].size()
				q.After, more = part[i].ID, i+1 < len(part)
			}
			if atOnce = largeSize; size-before <= len(part)*smallOne {
				atOnce = pageSize
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
		for more := true; more; {
			var page []T
			var err error
			if page, more, err = t.Page(ctx, q, pageBytes); err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, v := range page {
				if !yield(v, nil) {
					return
				}
				q.After = asRecord(&v).meta().ID
			}
		}
	}
}
