package memstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// reader sees the versions of its head's revision.
type reader struct {
	store *Store
	head  catalog.Head
	now   time.Time

	changes []catalog.Change // of the head's revision and before
	commits []commitMark

	over bool // guarded by store.mu
}

var _ catalog.Reader = (*reader)(nil)

var errReadOver = errors.New("memstore: the read is over")

// look calls fn with the table while nobody writes.
func (r *reader) look(ctx context.Context, k catalog.Kind, fn func(*table) error) error {
	if err := r.store.alive(ctx); err != nil {
		return err
	}
	t := r.store.tables[k]
	if t == nil {
		return fmt.Errorf("memstore: kind %q: %w", k, catalog.ErrInvalid)
	}
	r.store.mu.RLock()
	defer r.store.mu.RUnlock()
	if r.over {
		return errReadOver
	}
	return fn(t)
}

// Head implements [catalog.Reader].
func (r *reader) Head() catalog.Head { return r.head }

// Now implements [catalog.Reader].
func (r *reader) Now() time.Time { return r.now }

// Get implements [catalog.Reader].
func (r *reader) Get(ctx context.Context, k catalog.Kind, id int64) (e catalog.Entity, err error) {
	err = r.look(ctx, k, func(t *table) error {
		found := t.at(id, r.head.Revision)
		if found == nil {
			return fmt.Errorf("memstore: %s %d: %w", k.Noun(), id, catalog.ErrNotFound)
		}
		e = found.Clone()
		return nil
	})
	return e, err
}

// Find implements [catalog.Reader].
func (r *reader) Find(ctx context.Context, k catalog.Kind, by catalog.Index, value string) (e catalog.Entity,
	err error) {
	err = r.look(ctx, k, func(t *table) error {
		see := func(id int64) *catalog.Entity { return t.at(id, r.head.Revision) }
		id, ok := t.holderAt(by, value, see)
		if !ok {
			return fmt.Errorf("memstore: %s by %s: %w", k.Noun(), by, catalog.ErrNotFound)
		}
		e = see(id).Clone()
		return nil
	})
	return e, err
}

// List implements [catalog.Reader].
func (r *reader) List(ctx context.Context, k catalog.Kind, q catalog.Query) (list []catalog.Entity, err error) {
	err = r.look(ctx, k, func(t *table) error {
		for _, id := range t.candidates(q) {
			if q.Limit > 0 && len(list) == q.Limit {
				return nil
			}
			if e := t.at(id, r.head.Revision); e != nil && q.Match(*e) {
				list = append(list, e.Clone())
			}
		}
		return nil
	})
	return list, err
}

// Count implements [catalog.Reader].
func (r *reader) Count(ctx context.Context, k catalog.Kind, q catalog.Query) (n int64, err error) {
	q.After = 0
	err = r.look(ctx, k, func(t *table) error {
		for _, id := range t.candidates(q) {
			if e := t.at(id, r.head.Revision); e != nil && q.Match(*e) {
				n++
			}
		}
		return nil
	})
	return n, err
}

// candidates returns ids, in order, among which are all that q selects: few of
// them where an index can tell.
func (t *table) candidates(q catalog.Query) []int64 {
	var ids []int64
	switch {
	case len(q.IDs) > 0:
		ids = slices.Clone(q.IDs)
	case len(q.NaturalKeys) > 0:
		for _, key := range q.NaturalKeys {
			ids = append(ids, t.holders[held{catalog.ByNaturalKey, key}]...)
		}
	case len(q.ExternalIDs) > 0:
		for _, id := range q.ExternalIDs {
			ids = append(ids, t.holders[held{catalog.ByExternalID, id}]...)
		}
	case len(q.Refs) > 0:
		for _, ref := range q.Refs {
			ids = append(ids, t.refs[ref]...)
		}
	case q.RefUnder != "":
		for ref := range t.refs {
			if ref == q.RefUnder || strings.HasPrefix(ref, q.RefUnder+"/") {
				ids = append(ids, t.refs[ref]...)
			}
		}
	case len(q.Mentions) > 0:
		for _, name := range q.Mentions {
			ids = append(ids, t.named[name]...)
		}
	default:
		return t.ids[sort.Search(len(t.ids), func(i int) bool { return t.ids[i] > q.After }):]
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Changes implements [catalog.Reader].
func (r *reader) Changes(
	ctx context.Context, after catalog.Cursor, limit int, kinds ...catalog.Kind,
) (list []catalog.Change, err error) {
	err = r.look(ctx, catalog.KindKey, func(*table) error {
		all, first := r.changes, catalog.Revision(0)
		if len(all) > 0 {
			first = all[0].Revision - 1
		}
		if after.Revision < first || after.Revision == first && after.Seq > 0 {
			return fmt.Errorf("memstore: changes after %s: %w", after, catalog.ErrCompacted)
		}
		from := sort.Search(len(all), func(i int) bool { return after.Before(all[i]) })
		for i := from; i < len(all) && (limit <= 0 || len(list) < limit); i++ {
			if len(kinds) == 0 || slices.Contains(kinds, all[i].Kind) {
				list = append(list, all[i].Clone())
			}
		}
		return nil
	})
	return list, err
}

// MarkAt implements [catalog.Reader].
func (r *reader) MarkAt(ctx context.Context, at catalog.Revision) (mark catalog.Mark, err error) {
	err = r.look(ctx, catalog.KindKey, func(*table) error {
		first := r.commits[0].revision
		switch {
		case at == 0:
			return nil
		case at > r.head.Revision || at < 0:
			return fmt.Errorf("memstore: revision %d: %w", at, catalog.ErrNotFound)
		case at <= first:
			return fmt.Errorf("memstore: revision %d: %w", at, catalog.ErrCompacted)
		}
		if mark = r.commits[at-first].mark; mark == "" { // there are no gaps
			return fmt.Errorf("memstore: revision %d: %w", at, catalog.ErrCompacted)
		}
		return nil
	})
	return mark, err
}
