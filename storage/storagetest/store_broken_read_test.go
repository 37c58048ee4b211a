package storagetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// The stores whose readers are broken.

// readerEdited breaks every reader of a store.
func readerEdited(edit func(*fakeReader)) func(*fakeStore) {
	return func(s *fakeStore) { s.spoilReader(edit) }
}

// headEdited changes what Head says.
func headEdited(edit func(*catalog.Head)) func(*fakeStore) {
	return readerEdited(func(r *fakeReader) {
		head := r.head
		r.head = func() catalog.Head {
			h := head()
			edit(&h)
			return h
		}
	})
}

// listEdited changes what is asked of List.
func listEdited(edit func(*catalog.Query)) func(*fakeStore) {
	return readerEdited(func(r *fakeReader) {
		list := r.list
		r.list = func(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
			edit(&q)
			return list(ctx, k, q)
		}
	})
}

// countEdited makes Count count what List returns for a changed query.
func countEdited(edit func(*catalog.Query)) func(*fakeStore) {
	return readerEdited(func(r *fakeReader) {
		list := r.list
		r.count = func(ctx context.Context, k catalog.Kind, q catalog.Query) (int64, error) {
			edit(&q)
			all, err := list(ctx, k, q)
			return int64(len(all)), err
		}
	})
}

// changesEdited changes what Changes returns.
func changesEdited(edit func(changes []catalog.Change, limit int) []catalog.Change) func(*fakeStore) {
	return readerEdited(func(r *fakeReader) {
		changes := r.changes
		r.changes = func(ctx context.Context, q feedQuery) ([]catalog.Change, error) {
			all, err := changes(ctx, q)
			return edit(all, q.limit), err
		}
	})
}

// findEdited changes what Find is asked for.
func findEdited(edit func(k catalog.Kind, by catalog.Index, value string) string) func(*fakeStore) {
	return readerEdited(func(r *fakeReader) {
		find := r.find
		r.find = func(ctx context.Context, k catalog.Kind, by catalog.Index, value string) (catalog.Entity, error) {
			return find(ctx, k, by, edit(k, by, value))
		}
	})
}

func changesByID(changes []catalog.Change, _ int) []catalog.Change {
	slices.SortStableFunc(changes, func(a, b catalog.Change) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.ID, b.ID))
	})
	return changes
}

var (
	markAtAnywhere = readerEdited(func(r *fakeReader) {
		markAt := r.markAt
		r.markAt = func(ctx context.Context, rev catalog.Revision) (catalog.Mark, error) {
			mark, err := markAt(ctx, rev)
			if errors.Is(err, catalog.ErrNotFound) {
				err = nil
			}
			return mark, err
		}
	})

	markAtHead = readerEdited(func(r *fakeReader) {
		r.markAt = func(_ context.Context, rev catalog.Revision) (catalog.Mark, error) {
			head := r.Head()
			switch {
			case rev > head.Revision:
				return "", catalog.ErrNotFound
			case rev == 0:
				return "", nil
			}
			return head.Mark, nil
		}
	})

	findEverywhere = readerEdited(func(r *fakeReader) {
		find := r.find
		r.find = func(ctx context.Context, k catalog.Kind, by catalog.Index, value string) (catalog.Entity, error) {
			e, err := find(ctx, k, by, value)
			if err != nil {
				e, err = find(ctx, k, catalog.ByExternalID, value)
			}
			return e, err
		}
	})

	findEmpty = readerEdited(func(r *fakeReader) {
		find, list := r.find, r.list
		r.find = func(ctx context.Context, k catalog.Kind, by catalog.Index, value string) (catalog.Entity, error) {
			if all, err := list(ctx, k, catalog.Query{}); value == "" && err == nil && len(all) > 0 {
				return all[len(all)-1], nil
			}
			return find(ctx, k, by, value)
		}
	})

	findTrims = findEdited(func(_ catalog.Kind, _ catalog.Index, value string) string { return strings.TrimSpace(value) })

	listLimitsFirst = readerEdited(func(r *fakeReader) {
		list := r.list
		r.list = func(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
			all, err := list(ctx, k, catalog.Query{After: q.After, Limit: q.Limit})
			return slices.DeleteFunc(all, func(e catalog.Entity) bool { return !q.Match(e) }), err
		}
	})

	listSearchesExactly = readerEdited(func(r *fakeReader) {
		list := r.list
		r.list = func(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
			all, err := list(ctx, k, q)
			return slices.DeleteFunc(all, func(e catalog.Entity) bool {
				return !strings.Contains(e.Name, q.Text) && !strings.Contains(e.ExternalID, q.Text)
			}), err
		}
	})

	listAsAsked = readerEdited(func(r *fakeReader) {
		list := r.list
		r.list = func(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
			all, err := list(ctx, k, q)
			if len(q.IDs) > 0 {
				slices.SortFunc(all, func(a, b catalog.Entity) int {
					return cmp.Compare(slices.Index(q.IDs, a.ID), slices.Index(q.IDs, b.ID))
				})
			}
			return all, err
		}
	})

	changesOne = readerEdited(func(r *fakeReader) {
		changes := r.changes
		r.changes = func(ctx context.Context, q feedQuery) ([]catalog.Change, error) {
			q.limit = 1
			return changes(ctx, q)
		}
	})

	changesWhole = readerEdited(func(r *fakeReader) {
		changes := r.changes
		r.changes = func(ctx context.Context, q feedQuery) ([]catalog.Change, error) {
			all, err := changes(ctx, q)
			if err != nil || len(all) == 0 {
				return all, err
			}
			rest, err := changes(ctx, feedQuery{after: all[len(all)-1].Cursor(), limit: 1 << 20, kinds: q.kinds})
			for _, c := range rest {
				if c.Revision == all[len(all)-1].Revision {
					all = append(all, c)
				}
			}
			return all, err
		}
	})

	changesAnew = readerEdited(func(r *fakeReader) {
		changes := r.changes
		r.changes = func(ctx context.Context, q feedQuery) ([]catalog.Change, error) {
			if q.after.Seq > 0 {
				q.after = catalog.Cursor{Revision: q.after.Revision - 1}
			}
			return changes(ctx, q)
		}
	})

	changesLenient = readerEdited(func(r *fakeReader) {
		changes := r.changes
		r.changes = func(ctx context.Context, q feedQuery) ([]catalog.Change, error) {
			all, err := changes(ctx, q)
			if errors.Is(err, catalog.ErrCompacted) {
				err = nil
			}
			return all, err
		}
	})
)

// changesWithoutGaps takes every gap of the feed for a pruned beginning.
var changesWithoutGaps = readerEdited(func(r *fakeReader) {
	changes := r.changes
	r.changes = func(ctx context.Context, q feedQuery) ([]catalog.Change, error) {
		all, err := changes(ctx, q)
		if len(all) > 0 && all[0].Revision > q.after.Revision+1 {
			return nil, catalog.ErrCompacted
		}
		return all, err
	}
})

// changesOfKinds leaves out other kinds after the limit has counted them.
var changesOfKinds = readerEdited(func(r *fakeReader) {
	changes := r.changes
	r.changes = func(ctx context.Context, q feedQuery) ([]catalog.Change, error) {
		kinds := q.kinds
		q.kinds = nil
		all, err := changes(ctx, q)
		return slices.DeleteFunc(all, func(c catalog.Change) bool {
			return len(kinds) > 0 && !slices.Contains(kinds, c.Kind)
		}), err
	}
})

// changesOf changes which kinds Changes returns.
func changesOf(edit func([]catalog.Kind) []catalog.Kind) func(*fakeStore) {
	return readerEdited(func(r *fakeReader) {
		changes := r.changes
		r.changes = func(ctx context.Context, q feedQuery) ([]catalog.Change, error) {
			q.kinds = edit(q.kinds)
			return changes(ctx, q)
		}
	})
}

// changesLenientOfKinds does not tell that changes of one kind may have been pruned, when none are there.
var changesLenientOfKinds = readerEdited(func(r *fakeReader) {
	changes := r.changes
	r.changes = func(ctx context.Context, q feedQuery) ([]catalog.Change, error) {
		all, err := changes(ctx, q)
		if len(q.kinds) > 0 && errors.Is(err, catalog.ErrCompacted) {
			err = nil
		}
		return all, err
	}
})

// changesTrusted has changes say themselves who made them.
func changesTrusted(s *fakeStore) {
	var mu sync.Mutex
	said := make(map[catalog.Revision]string)
	around(func(ctx context.Context, _ *fakeStore, c catalog.Commit, commit commitFunc) (catalog.Revision, error) {
		rev, err := commit(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		for _, w := range c.Writes {
			said[rev] = w.Change.Actor
		}
		return rev, err
	})(s)
	changesEdited(func(changes []catalog.Change, _ int) []catalog.Change {
		mu.Lock()
		defer mu.Unlock()
		for i := range changes {
			if actor := said[changes[i].Revision]; actor != "" {
				changes[i].Actor = actor
			}
		}
		return changes
	})(s)
}

func readWraps(s *fakeStore) {
	read := s.read
	s.read = func(ctx context.Context, fn func(catalog.Reader) error) error {
		if err := read(ctx, fn); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		return nil
	}
}

// readNewest has each method of a reader see what then is the newest.
func readNewest(s *fakeStore) {
	s.spoilReader(func(r *fakeReader) {
		list, changes := r.list, r.changes
		r.list = func(ctx context.Context, k catalog.Kind, q catalog.Query) (all []catalog.Entity, err error) {
			if _, err := list(ctx, k, q); err != nil {
				return nil, err
			}
			time.Sleep(100 * time.Microsecond)
			err = s.memory.Read(ctx, func(r catalog.Reader) error {
				all, err = r.List(ctx, k, q)
				return err
			})
			return all, err
		}
		r.changes = func(ctx context.Context, q feedQuery) (all []catalog.Change, err error) {
			if _, err := changes(ctx, q); err != nil {
				return nil, err
			}
			err = s.memory.Read(ctx, func(r catalog.Reader) error {
				all, err = r.Changes(ctx, q.after, q.limit, q.kinds...)
				return err
			})
			return all, err
		}
	})
}

func readLocks(s *fakeStore) {
	var mu sync.RWMutex
	read := s.read
	s.read = func(ctx context.Context, fn func(catalog.Reader) error) error {
		mu.RLock()
		defer mu.RUnlock()
		return read(ctx, fn)
	}
	around(func(ctx context.Context, _ *fakeStore, c catalog.Commit, commit commitFunc) (catalog.Revision, error) {
		mu.Lock()
		defer mu.Unlock()
		return commit(ctx, c)
	})(s)
}

// getShared returns the same memory every time.
func getShared(s *fakeStore) {
	var mu sync.Mutex
	kept := make(map[catalog.Kind]map[int64]catalog.Entity)
	s.spoilReader(func(r *fakeReader) {
		get := r.get
		r.get = func(ctx context.Context, k catalog.Kind, id int64) (catalog.Entity, error) {
			mu.Lock()
			defer mu.Unlock()
			if e, ok := kept[k][id]; ok {
				return e, nil
			}
			e, err := get(ctx, k, id)
			if err == nil {
				if kept[k] == nil {
					kept[k] = make(map[int64]catalog.Entity)
				}
				kept[k][id] = e
			}
			return e, err
		}
	})
}

func changesShared(s *fakeStore) {
	var mu sync.Mutex
	var kept []catalog.Change
	s.spoilReader(func(r *fakeReader) {
		changes := r.changes
		r.changes = func(ctx context.Context, q feedQuery) (_ []catalog.Change, err error) {
			mu.Lock()
			defer mu.Unlock()
			if kept == nil {
				kept, err = changes(ctx, q)
			}
			return kept, err
		}
	})
}
