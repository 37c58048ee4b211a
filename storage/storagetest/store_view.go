package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// delay is how long a Commit may take that something is in the way of. It is
// generous: the machine may be busy.
const delay = 5 * time.Second

// commitBeside commits while the caller is within a Read, and fails the test
// when that takes long.
func commitBeside(t testing.TB, s catalog.Store, c catalog.Commit) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := s.Commit(t.Context(), c)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("Commit during a Read: %v", err)
		}
	case <-time.After(delay):
		t.Fatal("Commit waits for a Read")
	}
}

// testReadView: a Read that is held open sees its revision, and that alone, in whatever
// way it looks, while others commit. It delays none of them.
func testReadView(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 6)
	model, bound := full(catalog.KindModel, id), entity(catalog.KindBinding, id+1, natural("b"),
		refer(full(catalog.KindModel, id).NaturalKey))
	key, gone := full(catalog.KindKey, id+2), full(catalog.KindKey, id+3)
	rev := mustCommit(t, h.Store, create(model), create(bound), create(key), create(gone))
	before := mustContents(t, h.Second)

	unchanged := func(r catalog.Reader) {
		t.Helper()
		if diff := differ(before, contentsOf(t, r), byValue()); diff != "" {
			t.Fatalf("a Read that is open sees (-before +after):\n%s", diff)
		}
		for _, e := range []catalog.Entity{key, gone, bound} {
			for by, values := range uniques(e) {
				for _, value := range values {
					got, err := r.Find(t.Context(), e.Kind, by, value)
					if err != nil || got.ID != e.ID || got.Revision != rev {
						t.Fatalf("a Read that is open finds %s %d at %d by %s, %v; want %d at %d", e.Kind, got.ID, got.Revision, by,
							err, e.ID, rev)
					}
				}
			}
		}
		for _, value := range []string{"new", "newer"} {
			_, err := r.Find(t.Context(), catalog.KindKey, catalog.ByHash, value)
			mustFail(t, "a Read that is open: Find of what came later", err, catalog.ErrNotFound)
		}
		_, err := r.MarkAt(t.Context(), rev+1)
		mustFail(t, "a Read that is open: MarkAt of a later revision", err, catalog.ErrNotFound)
		changes, err := r.Changes(t.Context(), catalog.Cursor{Revision: rev}, 100)
		if err != nil || len(changes) != 0 {
			t.Fatalf("a Read that is open: Changes after its revision: %v, %v; want none", changes, err)
		}
		none, err := r.List(t.Context(), catalog.KindBinding, catalog.Query{Refs: []string{"elsewhere"}})
		if err != nil || len(none) != 0 {
			t.Fatalf("a Read that is open: List by a later reference: %v, %v; want none", none, err)
		}
	}
	for _, first := range []bool{true, false} { // looked before, or did not
		mustRead(t, h.Store, func(r catalog.Reader) {
			if first {
				unchanged(r)
			}
			elsewhere := entity(catalog.KindModel, model.ID, natural("elsewhere"))
			held := entity(catalog.KindKey, key.ID, hashes("new"))
			commitBeside(t, h.Second, commitOf(update(elsewhere, rev),
				update(entity(catalog.KindBinding, bound.ID, refer("elsewhere")), rev)))
			commitBeside(t, h.Store, commitOf(update(held, rev), remove(gone, rev)))
			commitBeside(t, h.Second, catalog.Commit{Sync: true, Epoch: before.Head.Epoch + 1, Time: storeTime})
			unchanged(r)
			mustRead(t, h.Second, func(inner catalog.Reader) {
				now := contentsOf(t, inner)
				commitBeside(t, h.Store, commitOf(create(entity(catalog.KindKey, gone.ID, hashes("newer")))))
				for range 10 { // enough for those to be tidied up that are not needed
					commitBeside(t, h.Second, catalog.Commit{Sync: true, Time: storeTime})
				}
				unchanged(r)
				if diff := differ(now, contentsOf(t, inner), byValue()); diff != "" {
					t.Fatalf("a second Read that is open sees (-before +after):\n%s", diff)
				}
			})
			unchanged(r)
		})
		if head := mustContents(t, h.Store).Head; head.Revision != rev+14 || head.Epoch != before.Head.Epoch+1 {
			t.Fatalf("the next Read is at %+v; want revision %d, epoch %d", head, rev+14, before.Head.Epoch+1)
		}

		// As it was, for the second round.
		all := mustContents(t, h.Store).Entities
		rev = mustCommit(t, h.Store,
			update(model, all[catalog.KindModel][0].Revision), update(bound, all[catalog.KindBinding][0].Revision),
			update(key, all[catalog.KindKey][0].Revision), update(gone, all[catalog.KindKey][1].Revision))
		before = mustContents(t, h.Second)
	}
}

// testReadWhileWriting: every Read sees all of a commit or nothing, and
// those who follow the feed get every revision, once, in order.
func testReadWhileWriting(t testing.TB, h StoreHarness) {
	const writers, commits = 4, 10
	id := mustIDs(t, h.Store, 2*writers)
	both := func(i, n int) []catalog.Entity { // each writer's pair adds up to 0
		return []catalog.Entity{
			entity(catalog.KindKey, id+int64(2*i), func(e *catalog.Entity) { e.Name = fmt.Sprint(n) }),
			entity(catalog.KindProvider, id+int64(2*i+1), func(e *catalog.Entity) { e.Name = fmt.Sprint(n) }),
		}
	}
	for i := range writers {
		pair := both(i, 0)
		mustCommit(t, h.Store, create(pair[0]), create(pair[1]))
	}

	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	reads := make([]int, 4)
	for i := range reads {
		s := []catalog.Store{h.Store, h.Second}[i%2]
		readers.Go(func() {
			feed := catalog.Revision(0)
			for ctx.Err() == nil {
				err := s.Read(t.Context(), func(r catalog.Reader) (err error) {
					feed, err = lookForTears(t.Context(), r, feed)
					return err
				})
				if err != nil {
					t.Errorf("while others write: %v", err)
					return
				}
				reads[i]++
			}
		})
	}
	race(t, h, writers, func(i int, s catalog.Store) error {
		at := catalog.Revision(i + 1)
		for n := range commits {
			pair := both(i, n+1)
			rev, err := s.Commit(t.Context(), commitOf(update(pair[0], at), update(pair[1], at)))
			if err != nil {
				return err
			}
			at = rev
		}
		return nil
	})
	stop()
	readers.Wait()
	if slices.Contains(reads, 0) && !t.Failed() {
		t.Errorf("the readers came to %v Reads while others wrote", reads)
	}
}

// lookForTears looks at the pairs, and at the feed after a revision. It
// returns the revision up to which the feed now is known.
func lookForTears(ctx context.Context, r catalog.Reader, after catalog.Revision) (catalog.Revision, error) {
	head := r.Head()
	keys, err := r.List(ctx, catalog.KindKey, catalog.Query{})
	if err != nil {
		return 0, err
	}
	providers, err := r.List(ctx, catalog.KindProvider, catalog.Query{})
	if err != nil || len(keys) != len(providers) {
		return 0, fmt.Errorf("%d keys, %d providers, %w", len(keys), len(providers), err)
	}
	newest := catalog.Revision(0)
	for i, k := range keys {
		if p := providers[i]; p.Revision != k.Revision || p.Name != k.Name {
			return 0, fmt.Errorf("torn: %s at %d beside %s at %d", k.Name, k.Revision, p.Name, p.Revision)
		}
		newest = max(newest, k.Revision)
	}
	if newest != head.Revision {
		return 0, fmt.Errorf("the head is at %d, and the newest entity at %d", head.Revision, newest)
	}
	if mark, err := r.MarkAt(ctx, head.Revision); err != nil || mark != head.Mark {
		return 0, fmt.Errorf("the head's mark is %q, MarkAt says %q, %w", head.Mark, mark, err)
	}
	changes, err := r.Changes(ctx, catalog.Cursor{Revision: after}, 1<<20)
	if err != nil {
		return 0, err
	}
	for i, c := range changes { // two for each revision
		if want := after + 1 + catalog.Revision(i/2); c.Revision != want {
			return 0, fmt.Errorf("the feed after %d has revision %d where %d belongs", after, c.Revision, want)
		}
	}
	if got := after + catalog.Revision(len(changes)/2); got != head.Revision || len(changes)%2 != 0 {
		return 0, errors.New("the feed does not end with the head's revision")
	}
	return head.Revision, nil
}

// testStoreAliasing: nothing that a caller holds is a part of the store.
func testStoreAliasing(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 2)
	commit := func() catalog.Commit {
		c := commitOf(create(full(catalog.KindKey, id)), create(full(catalog.KindModel, id+1)))
		c.Writes[0].Change.Touches = catalog.Touches{
			NaturalKeys: []string{"n"}, Refs: []string{"r"}, Hashes: []string{"h"}, Groups: []string{"g"}, Models: []string{"m"},
		}
		c.Writes[0].Change.Before = []byte(`{"was":"it"}`)
		return c
	}
	given := commit()
	rev, err := h.Store.Commit(t.Context(), given)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	intact := func(after string) {
		t.Helper()
		mustLook(t, h.Store, written(full(catalog.KindKey, id), rev))
		mustLook(t, h.Store, written(full(catalog.KindModel, id+1), rev))
		if diff := differ(recorded(commit(), rev), since(t, h.Store, 0), byValue()); diff != "" {
			t.Fatalf("%s: the feed (-want +got):\n%s", after, diff)
		}
	}
	for i := range given.Writes {
		scribbleEntity(given.Writes[i].Entity)
		scribbleChange(given.Writes[i].Change)
	}
	intact("a caller wrote over what it had committed")

	mustRead(t, h.Store, func(r catalog.Reader) {
		for _, e := range []catalog.Entity{full(catalog.KindKey, id), full(catalog.KindModel, id+1)} {
			got, err := r.Get(t.Context(), e.Kind, e.ID)
			if err != nil {
				t.Fatalf("Get: %v", err)
			}
			scribbleEntity(got)
			for by, values := range uniques(e) {
				for _, value := range values {
					if got, err = r.Find(t.Context(), e.Kind, by, value); err != nil {
						t.Fatalf("Find: %v", err)
					}
					scribbleEntity(got)
				}
			}
			list, err := r.List(t.Context(), e.Kind, catalog.Query{})
			if err != nil || len(list) != 1 {
				t.Fatalf("List: %v, %v", list, err)
			}
			scribbleEntity(list[0])
		}
		changes, err := r.Changes(t.Context(), catalog.Cursor{}, 100)
		if err != nil || len(changes) != 2 {
			t.Fatalf("Changes: %v, %v", changes, err)
		}
		scribbleChange(changes[0])
		scribbleChange(changes[1])
	})
	intact("a caller wrote over what it had read")
}

func scribble[T any](s []T, with T) {
	for i := range s {
		s[i] = with
	}
}

func scribbleEntity(e catalog.Entity) {
	for _, s := range [][]string{e.Hashes, e.Namespaces, e.Groups} {
		scribble(s, "scribble")
	}
	for name := range e.Labels {
		e.Labels[name] = "scribble"
	}
	scribble(e.Spec, '#')
}

func scribbleChange(c catalog.Change) {
	t := c.Touches
	for _, s := range [][]string{t.NaturalKeys, t.Refs, t.Hashes, t.Groups, t.Models} {
		scribble(s, "scribble")
	}
	scribble(c.Before, '#')
	scribble(c.After, '#')
}

// testReadClock: a view's clock was read before the view was taken, and does
// not move in it.
func testReadClock(t testing.TB, h StoreHarness) {
	var before, within, later time.Time
	mustRead(t, h.Store, func(r catalog.Reader) {
		before = r.Now()
		time.Sleep(2 * time.Millisecond)
		within = r.Now()
	})
	time.Sleep(2 * time.Millisecond)
	mustRead(t, h.Second, func(r catalog.Reader) { later = r.Now() })
	switch {
	case before.IsZero() || before.Location() != time.UTC:
		t.Errorf("the clock of a view says %v; want a time in UTC", before)
	case !within.Equal(before):
		t.Errorf("the clock of a view went from %v to %v", before, within)
	case !later.After(before):
		t.Errorf("the clock of a later view says %v, that of the first %v", later, before)
	}
}
