package storagetest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// testFeed carries every field of a change, and reads the feed from
// everywhere, with every limit.
func testFeed(t testing.TB, h StoreHarness) {
	const widest = 5 // changes of a revision
	var want []catalog.Change
	for i, n := range []int{1, 3, 1, widest, 2, 4, 1} {
		id := mustIDs(t, h.Store, n)
		c := catalog.Commit{Actor: fmt.Sprintf("actor '%d' é", i), Time: storeTime.Add(time.Duration(i%3) * time.Microsecond)}
		if i%2 == 0 {
			c.Reason = `because "of" \ it`
		}
		for j := range n { // ids descend: the order is that of the writes
			k := catalog.Kinds()[(i+j)%len(catalog.Kinds())]
			w := create(entity(k, id+int64(n-1-j)))
			w.Change.Before = []byte(`{"was":{"n":12345678901234567890,"s":"é \" 😀"}}`)
			w.Change.Touches = catalog.Touches{
				NaturalKeys: []string{"default.a", `"`}, Refs: []string{"é"}, Hashes: []string{"h"}, Groups: []string{"g", ""}, Models: []string{"m/1"},
			}
			// Who and when is the commit's to say.
			w.Change.Actor, w.Change.Reason, w.Change.Revision, w.Change.Time = "nobody", "none", 77, storeTime.AddDate(1, 0, 0)
			switch {
			case j%2 == 1:
				w.Change.Before, w.Change.After, w.Change.Touches = nil, nil, catalog.Touches{}
			case j == 2: // is recorded as it is said, whatever was written
				w.Change.Action, w.Change.Kind, w.Change.ID = catalog.ActionDelete, catalog.KindKey, 1<<60
			}
			c.Writes = append(c.Writes, w)
		}
		if n == 4 {
			c.Sync = true
		}
		rev, err := h.Store.Commit(t.Context(), c)
		if err != nil {
			t.Fatalf("Commit: %v", err)
		}
		want = append(want, recorded(c, rev)...)
	}

	head := revisionOf(t, h.Second)
	cursors := []catalog.Cursor{{Revision: head + 1}}
	for rev := range head + 1 {
		for seq := range widest + 2 { // a place beyond the last is the end of the revision
			if rev > 0 || seq == 0 {
				cursors = append(cursors, catalog.Cursor{Revision: rev, Seq: seq})
			}
		}
	}
	mustRead(t, h.Second, func(r catalog.Reader) {
		for _, after := range cursors {
			rest := slices.DeleteFunc(slices.Clone(want), func(c catalog.Change) bool { return !after.Before(c) })
			for _, limit := range []int{-1, 0, 1, 2, 4, 7, len(want), 1 << 20} {
				some := rest
				if limit > 0 {
					some = rest[:min(limit, len(rest))]
				}
				got, err := r.Changes(t.Context(), after, limit)
				if err != nil {
					t.Fatalf("Changes after %s, at most %d: %v", after, limit, err)
				}
				if diff := differ(some, got, byValue()); diff != "" {
					t.Fatalf("Changes after %s, at most %d (-want +got):\n%s", after, limit, diff)
				}
				if after.Seq > 0 {
					continue
				}
				whole, err := catalog.WholeRevisions(t.Context(), r, after.Revision, limit)
				end := min(max(limit, 1), len(rest))
				for end > 0 && end < len(rest) && rest[end].Revision == rest[end-1].Revision {
					end++
				}
				if diff := differ(rest[:end], whole, byValue()); err != nil || diff != "" {
					t.Fatalf("whole revisions after %s, about %d: %v (-want +got):\n%s", after, limit, err, diff)
				}
			}
		}
	})
}

// testFeedOfKinds reads changes of some kinds alone, from everywhere, with every limit.
func testFeedOfKinds(t testing.TB, h StoreHarness) {
	all := catalog.Kinds()
	for i := range 2 * len(all) {
		var writes []catalog.Write
		for j := range i%4 + 1 {
			writes = append(writes, create(entity(all[(i+2*j)%len(all)], mustIDs(t, h.Store, 1))))
		}
		c := commitOf(writes...)
		c.Sync = i%5 == 0
		if _, err := h.Store.Commit(t.Context(), c); err != nil {
			t.Fatalf("Commit: %v", err)
		}
	}
	feed := mustContents(t, h.Second).Changes
	mustRead(t, h.Second, func(r catalog.Reader) {
		for _, kinds := range [][]catalog.Kind{
			all[:1], all[3:4], all[5:6], {all[6], all[0]}, all[1:5], all, {"nothing"}, {all[2], "nothing"}, {""},
		} {
			at := []catalog.Cursor{{}, {Revision: r.Head().Revision}, {Revision: r.Head().Revision + 1}}
			for _, c := range feed {
				at = append(at, c.Cursor(), catalog.Cursor{Revision: c.Revision})
			}
			for _, after := range at {
				rest := slices.DeleteFunc(slices.Clone(feed), func(c catalog.Change) bool {
					return !after.Before(c) || !slices.Contains(kinds, c.Kind)
				})
				for _, limit := range []int{0, 1, 3} {
					some := rest
					if limit > 0 {
						some = rest[:min(limit, len(rest))]
					}
					got, err := r.Changes(t.Context(), after, limit, kinds...)
					if diff := differ(some, got, byValue()); err != nil || diff != "" {
						t.Fatalf("Changes of %q after %s, at most %d: %v (-want +got):\n%s", kinds, after, limit, err, diff)
					}
				}
			}
		}
	})
}

// testMarks: every revision has one of its own, which stays.
func testMarks(t testing.TB, h StoreHarness) {
	form := regexp.MustCompile(`^[0-9a-f]{32}$`)
	known := []catalog.Mark{""}
	for i := range 5 {
		s := []catalog.Store{h.Store, h.Second}[i%2]
		if i%2 == 0 {
			mustCommit(t, s, create(entity(catalog.KindKey, mustIDs(t, s, 1))))
		} else if _, err := s.Commit(t.Context(), catalog.Commit{Sync: true, Time: storeTime}); err != nil {
			t.Fatalf("Commit: %v", err)
		}
		c := mustContents(t, h.Store)
		mark := c.Head.Mark
		if !form.MatchString(string(mark)) || slices.Contains(known, mark) {
			t.Errorf("the mark of revision %d is %q, after %q", c.Head.Revision, mark, known)
		}
		known = append(known, mark)
		if diff := differ(known, c.Marks); diff != "" {
			t.Fatalf("marks (-want +got):\n%s", diff)
		}
		mustRead(t, h.Second, func(r catalog.Reader) {
			_, err := r.MarkAt(t.Context(), c.Head.Revision+1)
			mustFail(t, "MarkAt of what is to come", err, catalog.ErrNotFound)
		})
	}
}

func aPruner(h StoreHarness) string {
	if _, ok := h.Store.(catalog.Pruner); !ok {
		return "forgets no changes"
	}
	return ""
}

// testDates: what a process writes is dated by the store's clock, also when its own is wrong.
func testDates(t testing.TB, h StoreHarness) {
	ctx := t.Context()
	for _, ahead := range []time.Duration{100 * 24 * time.Hour, -100 * 24 * time.Hour, time.Minute} {
		clock := func() time.Time { return time.Now().Add(ahead) }
		tables := catalog.NewTables(h.Store, catalog.NewRandomKeyRing(), &catalog.Options{Clock: clock})
		model, err := tables.Models.Create(ctx, catalog.Model{Name: "m" + ahead.String()})
		if err == nil {
			model, err = tables.Models.Edit(ctx, model.ID, func(m *catalog.Model) error {
				m.Name += "n"
				return nil
			})
		}
		if err != nil {
			t.Fatalf("write with a clock that is %s ahead: %v", ahead, err)
		}
		mustRead(t, h.Second, func(r catalog.Reader) {
			changes, err := r.Changes(ctx, catalog.Cursor{Revision: model.Revision - 2}, 0)
			if err != nil || len(changes) != 2 {
				t.Fatalf("Changes: %d, %v; want 2", len(changes), err)
			}
			dates := []time.Time{changes[0].Time, changes[1].Time, r.Head().Time, model.CreatedAt, model.UpdatedAt}
			for i, at := range dates {
				if off := r.Now().Sub(at); off.Abs() > 20*time.Second {
					t.Errorf("date %d of a process whose clock is %s ahead: %s from the store's clock", i, ahead, off)
				}
			}
		})
	}
}

// testPruneAhead: a revision that is dated ahead keeps none that came after it.
func testPruneAhead(t testing.TB, h StoreHarness) {
	var now time.Time
	mustRead(t, h.Store, func(r catalog.Reader) { now = r.Now() })
	for _, day := range []int{-50, 100, -40, -30, 100, -20, 0} {
		c := commitOf(create(entity(catalog.KindKey, mustIDs(t, h.Store, 1))))
		c.Time = now.AddDate(0, 0, day)
		if _, err := h.Store.Commit(t.Context(), c); err != nil {
			t.Fatalf("Commit: %v", err)
		}
	}
	for _, tt := range []struct {
		before int // days from now
		want   int64
	}{{-45, 2}, {-25, 3}, {1, 1}} {
		gone, err := h.Store.(catalog.Pruner).PruneChanges(t.Context(), now.AddDate(0, 0, tt.before))
		if err != nil || gone != tt.want {
			t.Errorf("PruneChanges before day %d: %d, %v; want %d", tt.before, gone, err, tt.want)
		}
	}
}

// testPrune forgets whole revisions, from the oldest on, and never the newest.
func testPrune(t testing.TB, h StoreHarness) {
	prune := func(before time.Time, want int64) {
		t.Helper()
		gone, err := h.Store.(catalog.Pruner).PruneChanges(t.Context(), before)
		if err != nil || gone != want {
			t.Fatalf("PruneChanges before %v: %d, %v; want %d", before, gone, err, want)
		}
	}
	day := func(n int) time.Time { return storeTime.AddDate(0, 0, n) }
	prune(day(1000), 0)

	sizes := []int64{0}                                     // of each revision
	for _, when := range []int{1, 2, 3, 6, 4, 5, 7, 8, 9} { // a clock may go back
		id := mustIDs(t, h.Store, 2)
		c := commitOf(create(entity(catalog.KindKey, id)), create(entity(catalog.KindKey, id+1)))
		c.Time, c.Writes = day(when), c.Writes[:1+when%2]
		if when == 2 {
			c.Writes, c.Sync = nil, true
		}
		if _, err := h.Store.Commit(t.Context(), c); err != nil {
			t.Fatalf("Commit: %v", err)
		}
		sizes = append(sizes, max(1, int64(len(c.Writes))))
	}
	all := mustContents(t, h.Store)
	last := all.Head.Revision
	for _, tt := range []struct {
		before time.Time
		oldest catalog.Revision // whose changes are left
	}{
		{day(1), 1}, // not earlier
		{day(1).Add(time.Microsecond), 2},
		{day(1).Add(time.Microsecond), 2},
		{day(3), 3},
		{day(5), 4}, // the next is of day 6, and stays; so do those after it
		{day(7), 7},
		{day(1000), last},
		{day(1000), last},
	} {
		pruned := int64(0)
		for rev := range tt.oldest {
			pruned += sizes[rev]
			sizes[rev] = 0
		}
		prune(tt.before, pruned)
		mustRead(t, h.Second, func(r catalog.Reader) {
			for after := range last + 1 {
				if _, err := r.Changes(t.Context(), catalog.Cursor{Revision: after, Seq: 1}, 1); after > 0 &&
					after < tt.oldest && !errors.Is(err, catalog.ErrCompacted) || after >= tt.oldest && err != nil {
					t.Fatalf("Changes within %d, with all before %d pruned: %v", after, tt.oldest, err)
				}
				_, ofKind := r.Changes(t.Context(), catalog.Cursor{Revision: after}, 0, catalog.KindOperator) // there are none
				if errors.Is(ofKind, catalog.ErrCompacted) != (after < tt.oldest-1) {
					t.Fatalf("Changes of operators after %d, with all before %d pruned: %v", after, tt.oldest, ofKind)
				}
				got, err := r.Changes(t.Context(), catalog.Cursor{Revision: after}, 0)
				got = slices.DeleteFunc(got, func(c catalog.Change) bool { return c.Revision != after+1 })
				switch {
				case after < tt.oldest-1:
					mustFail(t, fmt.Sprintf("Changes after %d, of which all before %d are pruned", after, tt.oldest), err,
						catalog.ErrCompacted)
				case err != nil:
					t.Fatalf("Changes after %d, with all before %d pruned: %v", after, tt.oldest, err)
				case after < last && (len(got) != int(sizes[after+1]) || got[0].Revision != after+1), after == last &&
					len(got) != 0:
					t.Fatalf("Changes after %d: %+v", after, got)
				}
			}
			for rev := range last + 2 {
				mark, err := r.MarkAt(t.Context(), rev)
				what := fmt.Sprintf("MarkAt(%d), with all before %d pruned", rev, tt.oldest)
				switch {
				case rev > last:
					mustFail(t, what, err, catalog.ErrNotFound)
				case rev > 0 && rev < tt.oldest:
					mustFail(t, what, err, catalog.ErrCompacted)
				case err != nil || mark != all.Marks[rev]:
					t.Fatalf("%s: %q, %v; want %q", what, mark, err, all.Marks[rev])
				}
			}
			if diff := differ(all.Head, r.Head()); diff != "" {
				t.Fatalf("pruning changed the head (-before +after):\n%s", diff)
			}
		})
		mustEntities(t, h.Second, catalog.KindKey, all.Entities[catalog.KindKey]...)
	}

	// History goes on from there.
	rev := mustCommit(t, h.Store, create(entity(catalog.KindProvider, mustIDs(t, h.Store, 1))))
	if changes := since(t, h.Second, last); rev != last+1 || len(changes) != 1 || changes[0].Revision != rev {
		t.Errorf("the commit after pruning has revision %d; the feed after %d is %+v", rev, last, changes)
	}
}

// testIDs: no id is handed out twice, to whomever, and they rise.
func testIDs(t testing.TB, h StoreHarness) {
	last := int64(0)
	for i := range 6 {
		n := 1 + i%3
		first := mustIDs(t, []catalog.Store{h.Store, h.Second}[i%2], n)
		if first <= last {
			t.Fatalf("NextIDs(%d): %d, and %d was handed out before", n, first, last)
		}
		last = first + int64(n) - 1
	}
	for _, n := range []int{0, -1} {
		if first, err := h.Store.NextIDs(t.Context(), n); err == nil {
			t.Errorf("NextIDs(%d): %d; want an error", n, first)
		}
	}

	var mu sync.Mutex
	seen := make(map[int64]bool)
	race(t, h, 10, func(_ int, s catalog.Store) error {
		mine := last
		for n := 1; n <= 8; n++ {
			first, err := s.NextIDs(t.Context(), n)
			if err != nil {
				return err
			}
			if first <= mine {
				return fmt.Errorf("id %d came after %d", first, mine)
			}
			mine = first + int64(n) - 1
			mu.Lock()
			for id := first; id <= mine; id++ {
				if seen[id] {
					t.Errorf("id %d was handed out twice", id)
				}
				seen[id] = true
			}
			mu.Unlock()
			if n%4 == 0 { // ids and commits do not get into each other's way
				if _, err := s.Commit(t.Context(), commitOf(create(entity(catalog.KindKey, first)))); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
