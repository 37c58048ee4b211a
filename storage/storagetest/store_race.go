package storagetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// race runs fn n times at once, on alternating handles, and reports whether all
// returned no error.
func race(t testing.TB, h StoreHarness, n int, fn func(i int, s catalog.Store) error) {
	t.Helper()
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		s := []catalog.Store{h.Store, h.Second}[i%2]
		group.Go(func() {
			<-start
			if err := fn(i, s); err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	close(start)
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// testStoreRevisions: fifty writers get revisions without gaps, and the feed
// has them in order. Whoever has committed sees it.
func testStoreRevisions(t testing.TB, h StoreHarness) {
	const writers, commits = 50, 2
	var mu sync.Mutex
	var revisions []catalog.Revision
	race(t, h, writers, func(i int, s catalog.Store) error {
		last := catalog.Revision(0)
		for n := range commits {
			id, err := s.NextIDs(t.Context(), 2)
			if err != nil {
				return err
			}
			c := commitOf(create(entity(catalog.KindKey, id)), create(entity(catalog.KindProvider, id+1)))
			c.Writes = c.Writes[:1+n%2]
			rev, err := s.Commit(t.Context(), c)
			if err != nil {
				return err
			}
			if rev <= last {
				return fmt.Errorf("revision %d came after %d", rev, last)
			}
			last = rev
			err = s.Read(t.Context(), func(r catalog.Reader) error {
				e, err := r.Get(t.Context(), catalog.KindKey, id)
				if err != nil || e.Revision != rev || r.Head().Revision < rev {
					return fmt.Errorf("%d was committed, and the next Read sees %d at %d, %w", rev, r.Head().Revision, e.Revision, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
			mu.Lock()
			revisions = append(revisions, rev)
			mu.Unlock()
		}
		return nil
	})

	slices.Sort(revisions)
	for i, rev := range revisions {
		if rev != catalog.Revision(i+1) {
			t.Fatalf("commit %d of %d has revision %d", i+1, len(revisions), rev)
		}
	}
	all := mustContents(t, h.Second)
	if all.Head.Revision != writers*commits || len(all.Changes) != writers*commits*3/2 {
		t.Errorf("the head is at %d with %d changes; want %d, %d", all.Head.Revision, len(all.Changes),
			writers*commits, writers*commits*3/2)
	}
	at := make(map[int64]catalog.Revision)
	for _, e := range slices.Concat(all.Entities[catalog.KindKey], all.Entities[catalog.KindProvider]) {
		at[e.ID] = e.Revision
	}
	for i, c := range all.Changes {
		if at[c.ID] != c.Revision || i > 0 && c.Revision < all.Changes[i-1].Revision {
			t.Errorf("change %d, of %s %d at %d, says revision %d", i, c.Kind, c.ID, at[c.ID], c.Revision)
		}
	}
	slices.Sort(all.Marks)
	if once := slices.Compact(slices.Clone(all.Marks)); len(once) != len(all.Marks) {
		t.Errorf("%d marks of %d revisions differ", len(once), len(all.Marks))
	}
}

// testStoreLostUpdates: of those who read, add and write, each adds, whether it
// is the entity's revision they hold on to or the catalog's.
func testStoreLostUpdates(t testing.TB, h StoreHarness) {
	for name, condition := range map[string]func(*catalog.Commit, catalog.Head){
		"If":   func(*catalog.Commit, catalog.Head) {},
		"Base": func(c *catalog.Commit, head catalog.Head) { c.Base = head.Revision },
	} {
		const writers, each = 6, 5
		id := mustIDs(t, h.Store, 1)
		start := revisionOf(t, h.Store)
		mustCommit(t, h.Store, create(entity(catalog.KindKey, id, spec(`{"n":0}`))))
		race(t, h, writers, func(_ int, s catalog.Store) error {
			for range each {
				if err := increment(t.Context(), s, id, condition); err != nil {
					return err
				}
			}
			return nil
		})
		mustRead(t, h.Store, func(r catalog.Reader) {
			e, err := r.Get(t.Context(), catalog.KindKey, id)
			want := entity(catalog.KindKey, id, spec(fmt.Sprintf(`{"n":%d}`, writers*each)))
			want.Revision = start + 1 + writers*each
			if diff := differ(want, e, byValue()); err != nil || diff != "" {
				t.Fatalf("%s: %v (-want +got)\n%s", name, err, diff)
			}
		})
	}
}

// increment adds 1 to the number that an entity holds, and tries until that is done.
func increment(ctx context.Context, s catalog.Store, id int64, condition func(*catalog.Commit, catalog.Head)) error {
	for {
		var c catalog.Commit
		err := s.Read(ctx, func(r catalog.Reader) error {
			e, err := r.Get(ctx, catalog.KindKey, id)
			if err != nil {
				return err
			}
			var sum struct{ N int }
			if err := json.Unmarshal(e.Spec, &sum); err != nil {
				return err
			}
			e.Spec = fmt.Appendf(nil, `{"n":%d}`, sum.N+1)
			c = commitOf(update(e, e.Revision))
			condition(&c, r.Head())
			return nil
		})
		if err != nil {
			return err
		}
		if _, err = s.Commit(ctx, c); !errors.Is(err, catalog.ErrConflict) {
			return err
		}
	}
}

// testStoreRaceForValue: one gets it, and the others hear that it exists.
func testStoreRaceForValue(t testing.TB, h StoreHarness) {
	for _, o := range []holding{
		{catalog.KindModel, catalog.ByNaturalKey, natural},
		{catalog.KindProvider, catalog.ByExternalID, external},
		{catalog.KindKey, catalog.ByHash, func(v string) func(*catalog.Entity) { return hashes(v) }},
	} {
		const rivals = 8
		id := mustIDs(t, h.Store, rivals)
		errs := make([]error, rivals)
		race(t, h, rivals, func(i int, s catalog.Store) error {
			_, errs[i] = s.Commit(t.Context(), commitOf(create(entity(o.kind, id+int64(i), o.value("it")))))
			return nil
		})
		winner := slices.IndexFunc(errs, func(err error) bool { return err == nil })
		if winner < 0 {
			t.Fatalf("%s: nobody got it: %v", o, errs)
		}
		for i, err := range errs {
			if i != winner {
				mustFail(t, fmt.Sprintf("%s: the rival that lost", o), err, catalog.ErrExists)
			}
		}
		mustBeFound(t, h.Second, o, "it", id+int64(winner))
	}
}

// testStoreRaceForReference: a model goes while a binding to it comes. One of
// them is refused.
func testStoreRaceForReference(t testing.TB, h StoreHarness) {
	for range 15 {
		id := mustIDs(t, h.Store, 2)
		model := entity(catalog.KindModel, id)
		rev := mustCommit(t, h.Store, create(model))
		errs := make([]error, 2)
		race(t, h, 2, func(i int, s catalog.Store) error {
			w := remove(model, rev)
			if i == 1 {
				w = create(entity(catalog.KindBinding, id+1, refer(model.NaturalKey)))
			}
			_, errs[i] = s.Commit(t.Context(), commitOf(w))
			return nil
		})
		switch {
		case errs[0] == nil:
			mustFail(t, "a binding to the model that went", errs[1], catalog.ErrReferenced)
		case errs[1] == nil:
			mustFail(t, "deleting the model that is bound", errs[0], catalog.ErrReferenced)
		default:
			t.Fatalf("both were refused: %v, %v", errs[0], errs[1])
		}
	}
}
