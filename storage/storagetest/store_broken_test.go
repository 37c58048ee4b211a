package storagetest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// The stores whose Commit is broken.

// around puts fn around Commit. What it gets is a copy.
func around(fn func(ctx context.Context, s *fakeStore, c catalog.Commit, commit commitFunc) (catalog.Revision,
	error)) func(*fakeStore) {
	return func(s *fakeStore) {
		commit := s.commit
		s.commit = func(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
			return fn(ctx, s, cloned(c), commit)
		}
	}
}

type commitFunc = func(context.Context, catalog.Commit) (catalog.Revision, error)

// commitEdited changes commits on their way in.
func commitEdited(edit func(*catalog.Commit)) func(*fakeStore) {
	return around(func(ctx context.Context, _ *fakeStore, c catalog.Commit, commit commitFunc) (catalog.Revision, error) {
		edit(&c)
		return commit(ctx, c)
	})
}

// entityEdited changes entities on their way in.
func entityEdited(edit func(*catalog.Entity)) func(*fakeStore) {
	return commitEdited(func(c *catalog.Commit) {
		for i := range c.Writes {
			edit(&c.Writes[i].Entity)
		}
	})
}

// errorEdited replaces an error of Commit, where it is nil by success.
func errorEdited(from, to error) func(*fakeStore) {
	return around(func(ctx context.Context, _ *fakeStore, c catalog.Commit, commit commitFunc) (catalog.Revision, error) {
		rev, err := commit(ctx, c)
		if errors.Is(err, from) {
			err = to
		}
		return rev, err
	})
}

// now returns what there is of a write's entity.
func (s *fakeStore) now(ctx context.Context, w catalog.Write) (e catalog.Entity) {
	_ = s.memory.Read(ctx, func(r catalog.Reader) (err error) {
		e, err = r.Get(ctx, w.Entity.Kind, w.Entity.ID)
		return err
	}) // without it there is no revision
	return e
}

// count returns how many entities there are that a bound is about.
func (s *fakeStore) count(ctx context.Context, limit catalog.Cap) (n int64) {
	_ = s.memory.Read(ctx, func(r catalog.Reader) (err error) {
		n, err = r.Count(ctx, limit.Kind, catalog.Query{RefUnder: limit.RefUnder})
		return err
	})
	return n
}

// holder returns what has a natural key.
func (s *fakeStore) holder(ctx context.Context, k catalog.Kind, key string) (e catalog.Entity) {
	_ = s.memory.Read(ctx, func(r catalog.Reader) (err error) {
		e, err = r.Find(ctx, k, catalog.ByNaturalKey, key)
		return err
	})
	return e
}

func specFloats(e *catalog.Entity) {
	var spec any
	if json.Unmarshal(e.Spec, &spec) == nil {
		e.Spec, _ = json.Marshal(spec) // what was read can be written
	}
}

var (
	commitMerges = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for i := range c.Writes {
			if e := &c.Writes[i].Entity; e.ExternalID == "" {
				e.ExternalID = s.now(ctx, c.Writes[i]).ExternalID
			}
		}
		return commit(ctx, c)
	})

	commitTouches = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		rev, err := commit(ctx, c)
		s.spoilReader(func(r *fakeReader) {
			list := r.list
			r.list = func(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
				all, err := list(ctx, k, q)
				for i := range all {
					all[i].Revision = max(all[i].Revision, rev)
				}
				return all, err
			}
		})
		return rev, err
	})

	commitAnywhere = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for i := range c.Writes {
			if w := &c.Writes[i]; w.If != 0 {
				w.If = s.now(ctx, *w).Revision
			}
		}
		return commit(ctx, c)
	})

	commitDeletesNothing = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for i := range c.Writes {
			if w := &c.Writes[i]; w.Delete && s.now(ctx, *w).Revision == 0 {
				w.If = 0
			}
		}
		return commit(ctx, c)
	})

	commitUniqueAcross = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for _, w := range c.Writes {
			for _, k := range catalog.Kinds() {
				if k != w.Entity.Kind && !w.Delete && s.holder(ctx, k, w.Entity.NaturalKey).ID != 0 {
					return 0, catalog.Exists(k, catalog.ByNaturalKey)
				}
			}
		}
		return commit(ctx, c)
	})

	commitUniqueBefore = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for _, w := range c.Writes {
			if id := s.holder(ctx, w.Entity.Kind, w.Entity.NaturalKey).ID; id != 0 && id != w.Entity.ID {
				return 0, catalog.Exists(w.Entity.Kind, catalog.ByNaturalKey)
			}
		}
		return commit(ctx, c)
	})

	// commitUniqueEach looks at what each write finds, as if they came one by one.
	commitUniqueEach = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		gone := map[int64]bool{}
		for _, w := range c.Writes {
			id := s.holder(ctx, w.Entity.Kind, w.Entity.NaturalKey).ID
			if !w.Delete && id != 0 && id != w.Entity.ID && !gone[id] {
				return 0, catalog.Exists(w.Entity.Kind, catalog.ByNaturalKey)
			}
			gone[w.Entity.ID] = true
		}
		return commit(ctx, c)
	})

	commitDropsSecond = around(func(ctx context.Context, _ *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		seen := map[int64]bool{}
		var once []catalog.Write
		for _, w := range c.Writes {
			if !seen[w.Entity.ID] {
				once = append(once, w)
			}
			seen[w.Entity.ID] = true
		}
		c.Writes = once
		return commit(ctx, c)
	})

	commitBoundsFirst = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for _, limit := range c.Caps {
			if s.count(ctx, limit) > limit.Max {
				return 0, catalog.ErrConflict
			}
		}
		c.Caps = nil
		return commit(ctx, c)
	})

	commitBoundsRacy = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for _, limit := range c.Caps {
			if s.count(ctx, limit) >= limit.Max {
				return 0, catalog.ErrConflict
			}
		}
		time.Sleep(time.Millisecond)
		c.Caps = nil
		return commit(ctx, c)
	})

	// commitBoundsShallow forgets what is below a path.
	commitBoundsShallow = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for i, limit := range c.Caps {
			below := catalog.Cap{Kind: limit.Kind, RefUnder: limit.RefUnder + "/b"}
			c.Caps[i].Max += s.count(ctx, below)
		}
		return commit(ctx, c)
	})

	commitReferencesFirst = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for i, w := range c.Writes {
			if w.Entity.Ref != "" && i == 0 && s.holder(ctx, catalog.KindModel, w.Entity.Ref).ID == 0 {
				return 0, catalog.Dangling(w.Entity.Kind)
			}
		}
		return commit(ctx, c)
	})

	commitRefersToAll = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for i := range c.Writes {
			if e := &c.Writes[i].Entity; e.Ref != "" && s.holder(ctx, catalog.KindProvider, e.Ref).ID != 0 {
				e.Ref = ""
			}
		}
		return commit(ctx, c)
	})

	commitMixesEnds = around(func(ctx context.Context, _ *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		rev, err := commit(ctx, c)
		if errors.Is(err, catalog.ErrReferenced) {
			err = catalog.Dangling(catalog.KindBinding)
		}
		return rev, err
	})

	commitHalf = around(func(ctx context.Context, _ *fakeStore, c catalog.Commit, commit commitFunc) (catalog.Revision,
		error) {
		rev, err := commit(ctx, c)
		if err != nil && len(c.Writes) > 1 {
			c.Writes = c.Writes[:len(c.Writes)-1]
			_, _ = commit(ctx, c) // half of it, and nobody is told
		}
		return rev, err
	})

	commitRaises = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		rev, err := commit(ctx, c)
		if err == nil {
			headEdited(func(h *catalog.Head) {
				if h.Revision >= rev {
					h.Epoch = max(h.Epoch, c.Epoch)
				}
			})(s)
		}
		return rev, err
	})

	headEpochLast = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		rev, err := commit(ctx, c)
		if err == nil && c.Sync && c.Epoch != 0 {
			headEdited(func(h *catalog.Head) { h.Epoch = c.Epoch })(s)
		}
		return rev, err
	})

	commitPieces = around(func(ctx context.Context, _ *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for len(c.Writes) > 64 {
			piece := c
			piece.Writes, c.Writes = c.Writes[:64], c.Writes[64:]
			if rev, err := commit(ctx, piece); err != nil {
				return rev, err
			}
		}
		return commit(ctx, c)
	})

	commitOutlives = around(func(ctx context.Context, _ *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		return commit(context.WithoutCancel(ctx), c)
	})

	commitReadsBack = around(func(ctx context.Context, s *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		if rev, err := commit(ctx, c); err != nil {
			return rev, err
		}
		time.Sleep(time.Millisecond)
		return s.memory.Commit(ctx, catalog.Commit{})
	})

	commitRacy = around(func(ctx context.Context, s *fakeStore, c catalog.Commit, commit commitFunc) (catalog.Revision,
		error) {
		for _, w := range c.Writes {
			if s.now(ctx, w).Revision != w.If {
				return 0, catalog.ErrConflict
			}
		}
		time.Sleep(time.Millisecond)
		for i := range c.Writes {
			c.Writes[i].If = s.now(ctx, c.Writes[i]).Revision
		}
		return commit(ctx, c)
	})

	commitMissesAbsent = around(func(ctx context.Context, _ *fakeStore, c catalog.Commit,
		commit commitFunc) (catalog.Revision, error) {
		for _, w := range c.Writes {
			if w.Delete && w.If == 0 {
				return 0, catalog.ErrConflict
			}
		}
		return commit(ctx, c)
	})
)

func commitScribbles(s *fakeStore) {
	commit := s.commit
	s.commit = func(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
		rev, err := commit(ctx, c)
		for i := range c.Writes {
			c.Writes[i].Entity.Revision = rev
		}
		return rev, err
	}
}

func commitRemembers(s *fakeStore) {
	taken := make(map[string]int64) // by which id, ever
	around(func(ctx context.Context, _ *fakeStore, c catalog.Commit, commit commitFunc) (catalog.Revision, error) {
		for _, w := range c.Writes {
			key := string(w.Entity.Kind) + w.Entity.ExternalID
			if id, ok := taken[key]; ok && strings.HasPrefix(w.Entity.ExternalID, "gone") && id != w.Entity.ID {
				return 0, catalog.Exists(w.Entity.Kind, catalog.ByExternalID)
			}
			taken[key] = w.Entity.ID
		}
		return commit(ctx, c)
	})(s)
}

func commitGaps(s *fakeStore) {
	var n atomic.Int64
	around(func(ctx context.Context, _ *fakeStore, c catalog.Commit, commit commitFunc) (catalog.Revision, error) {
		if n.Add(1)%30 == 0 {
			if rev, err := commit(ctx, catalog.Commit{Sync: true, Time: storeTime}); err != nil {
				return rev, err
			}
		}
		return commit(ctx, c)
	})(s)
}

// commitShared keeps the entities that it was given, and Get returns them.
func commitShared(s *fakeStore) {
	var mu sync.Mutex
	kept := make(map[int64]catalog.Entity)
	commit := s.commit
	s.commit = func(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
		rev, err := commit(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		for _, w := range c.Writes {
			kept[w.Entity.ID] = written(w.Entity, rev)
		}
		return rev, err
	}
	s.spoilReader(func(r *fakeReader) {
		get := r.get
		r.get = func(ctx context.Context, k catalog.Kind, id int64) (catalog.Entity, error) {
			mu.Lock()
			defer mu.Unlock()
			if e, ok := kept[id]; ok && e.Kind == k {
				return e, nil
			}
			return get(ctx, k, id)
		}
	})
}

// The stores that wait badly, and those that hand out ids badly.

func waitPolls(s *fakeStore) {
	s.wait = func(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
		for {
			if rev, err := s.memory.Commit(ctx, catalog.Commit{}); err != nil || rev > after {
				return rev, err
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
}

func waitNextOnly(s *fakeStore) {
	s.wait = func(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
		rev, err := s.memory.Wait(ctx, after)
		return min(rev, after+1), err
	}
}

func waitSpurious(s *fakeStore) {
	s.wait = func(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
		now, err := s.memory.Commit(ctx, catalog.Commit{})
		if err != nil {
			return 0, err
		}
		return s.memory.Wait(ctx, min(after, now))
	}
}

func waitDeaf(s *fakeStore) {
	s.wait = func(ctx context.Context, _ catalog.Revision) (catalog.Revision, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}
}

func waitGivesUp(s *fakeStore) {
	s.wait = func(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
		short, cancel := context.WithTimeout(ctx, quiet*3/2)
		defer cancel()
		rev, err := s.memory.Wait(short, after)
		if err != nil && ctx.Err() == nil {
			return after, nil
		}
		return rev, err
	}
}

func waitOutlives(s *fakeStore) {
	s.wait = func(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
		long, cancel := context.WithTimeout(context.WithoutCancel(ctx), delay+time.Second)
		defer cancel()
		return s.memory.Wait(long, after)
	}
}

func waitAfterClose(s *fakeStore) {
	var known atomic.Int64
	around(func(ctx context.Context, _ *fakeStore, c catalog.Commit, commit commitFunc) (catalog.Revision, error) {
		rev, err := commit(ctx, c)
		if err == nil {
			known.Store(int64(rev))
		}
		return rev, err
	})(s)
	s.wait = func(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
		if rev := catalog.Revision(known.Load()); rev > after {
			return rev, nil
		}
		return s.memory.Wait(ctx, after)
	}
}

func nextIDsOne(s *fakeStore) {
	s.nextIDs = func(ctx context.Context, n int) (int64, error) {
		if n < 1 {
			return s.memory.NextIDs(ctx, n)
		}
		return s.memory.NextIDs(ctx, 1)
	}
}

func nextIDsLenient(s *fakeStore) {
	s.nextIDs = func(ctx context.Context, n int) (int64, error) { return s.memory.NextIDs(ctx, max(n, 1)) }
}

func pruneCounts(s *fakeStore) {
	s.prune = func(ctx context.Context, before time.Time) (int64, error) {
		n, err := s.memory.PruneChanges(ctx, before)
		return min(n, 1), err
	}
}

// pruneStopsAhead looks for the first revision that is young enough, whatever is wrong with its date.
func pruneStopsAhead(s *fakeStore) {
	prune := s.prune
	s.prune = func(ctx context.Context, before time.Time) (int64, error) {
		var feed []catalog.Change
		err := s.memory.Read(ctx, func(r catalog.Reader) (err error) {
			feed, err = r.Changes(ctx, catalog.Cursor{}, 0)
			return err
		})
		if err == nil && slices.ContainsFunc(feed, func(c catalog.Change) bool { return c.Time.After(time.Now()) }) {
			return 0, nil
		}
		return prune(ctx, before)
	}
}

func pruneIncludes(s *fakeStore) {
	s.prune = func(ctx context.Context, before time.Time) (int64, error) {
		return s.memory.PruneChanges(ctx, before.Add(time.Microsecond))
	}
}

func thinIncludes(s *fakeStore) {
	s.thin = func(ctx context.Context, before time.Time) (int64, error) {
		return s.memory.ThinChanges(ctx, before.Add(time.Microsecond))
	}
}

func listLabels(q *catalog.Query) {
	q.Labels = maps.Clone(q.Labels)
	maps.DeleteFunc(q.Labels, func(_, value string) bool { return value == "" })
}
