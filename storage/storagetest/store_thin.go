package storagetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// thinnedDays are the days from now of the commits of testThin. A machine made those of machineDays.
var thinnedDays = []int{-60, -59, -58, 90, -57, -50, -49, -40, -45, -30, -29, -20, -10, -9}

func byMachine(rev catalog.Revision) bool {
	return !slices.Contains([]catalog.Revision{1, 6, 7, 12}, rev)
}

// testThin forgets the changes of machines alone, of old revisions, and says so to who follows.
func testThin(t testing.TB, h StoreHarness) {
	pruner := h.Store.(catalog.Pruner)
	var now time.Time
	mustRead(t, h.Store, func(r catalog.Reader) { now = r.Now().Truncate(time.Microsecond) })
	day := func(n int) time.Time { return now.AddDate(0, 0, n) }
	thin := func(before time.Time, want int) {
		t.Helper()
		if gone, err := pruner.ThinChanges(t.Context(), before); err != nil || gone != int64(want) {
			t.Fatalf("ThinChanges before %v: %d, %v; want %d", before, gone, err, want)
		}
	}
	thin(day(0), 0)
	makeThinnable(t, h.Store, day)

	all := mustContents(t, h.Second)
	last := all.Head.Revision
	left := thinned{all: all, oldest: 1}
	for _, tt := range []struct {
		before time.Time
		up     catalog.Revision // to which machines' changes are gone
		oldest catalog.Revision // before which all is pruned, when it is raised
	}{
		{before: day(-60), up: 0},
		{before: day(-59), up: 1},
		{before: day(-59).Add(time.Microsecond), up: 2},
		{before: day(-55), up: 5}, // a date that is wrong keeps nothing
		{before: day(-60), up: 5}, // it never goes back
		{before: day(-45), up: 7}, // the next is younger, and so are those after it
		{before: day(-40).Add(time.Microsecond), up: 9},
		{before: day(-25), up: 11, oldest: 6},
		{before: day(-25), up: 11, oldest: 8},
		{before: day(1), up: last - 1}, // the newest stays
		{before: day(1), up: last - 1, oldest: last},
	} {
		was := len(left.changes())
		mustRead(t, h.Second, func(r catalog.Reader) { // a view stays as it is
			before := left
			left.head = tt.up
			thin(tt.before, was-len(left.changes()))
			before.check(t, r)
		})
		if tt.oldest > 0 {
			before := day(thinnedDays[tt.oldest-2]).Add(time.Microsecond)
			if _, err := pruner.PruneChanges(t.Context(), before); err != nil {
				t.Fatalf("PruneChanges: %v", err)
			}
			left.oldest = tt.oldest
		}
		mustRead(t, h.Second, func(r catalog.Reader) { left.check(t, r) })
		for _, k := range catalog.Kinds() {
			mustEntities(t, h.Second, k, all.Entities[k]...)
		}
	}
}

// makeThinnable commits on each of thinnedDays, in each way in which engines write.
func makeThinnable(t testing.TB, s catalog.Store, day func(int) time.Time) {
	t.Helper()
	var old catalog.Entity
	for i, when := range thinnedDays {
		rev := catalog.Revision(i + 1)
		n := 1
		if i == 4 {
			n = 150
		}
		var writes []catalog.Write
		for id := mustIDs(t, s, n); n > 0; n, id = n-1, id+1 {
			writes = append(writes, create(entity(catalog.KindHold, id)))
		}
		switch i % 4 {
		case 1:
			writes = append(writes, remove(old, rev-1))
		case 2:
			writes = []catalog.Write{update(old, rev-1)}
		case 3:
			writes = []catalog.Write{remove(old, rev-1), writes[0]}
		}
		c := commitOf(writes...)
		c.Time, c.Machine = day(when), byMachine(rev)
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatalf("Commit of revision %d: %v", rev, err)
		}
		old = writes[len(writes)-1].Entity
		if i%4 == 1 {
			old = writes[0].Entity
		}
	}
}

// thinned is what is left of a feed.
type thinned struct {
	all    contents
	head   catalog.Revision // Head.Thinned
	oldest catalog.Revision // all before it is pruned
}

func (l thinned) keeps(rev, thinned catalog.Revision) bool {
	return rev >= l.oldest && (rev > thinned || !byMachine(rev))
}

// after returns the changes after a place, where the feed is thinned up to a revision.
func (l thinned) after(at catalog.Cursor, thinned catalog.Revision) (list []catalog.Change) {
	for _, c := range l.all.Changes {
		if at.Before(c) && l.keeps(c.Revision, thinned) {
			list = append(list, c)
		}
	}
	return list
}

func (l thinned) changes() []catalog.Change { return l.after(catalog.Cursor{}, l.head) }

// check reads all that there is.
func (l thinned) check(t testing.TB, r catalog.Reader) {
	t.Helper()
	want := l.all.Head
	want.Thinned = l.head
	if diff := differ(want, r.Head()); diff != "" {
		t.Fatalf("the head after thinning (-want +got):\n%s", diff)
	}
	first := l.changes()[0].Revision
	for rev := range l.all.Head.Revision + 1 {
		for seq := range 3 {
			at := catalog.Cursor{Revision: rev, Seq: seq}
			for _, limit := range []int{0, 1, 3} {
				what := fmt.Sprintf("Changes after %s, at most %d, thinned up to %d, pruned before %d",
					at, limit, l.head, l.oldest)
				got, err := r.Changes(t.Context(), at, limit)
				if rev < first-1 || seq > 0 && rev < first {
					if rev > 0 || seq == 0 {
						mustFail(t, what, err, catalog.ErrCompacted)
					}
					continue
				}
				some := l.after(at, l.head)
				if limit > 0 {
					some = some[:min(limit, len(some))]
				}
				if diff := differ(some, got, byValue()); err != nil || diff != "" {
					t.Fatalf("%s: %v (-want +got):\n%s", what, err, diff)
				}
			}
		}
		mark, err := r.MarkAt(t.Context(), rev)
		switch what := fmt.Sprintf("MarkAt(%d), thinned up to %d", rev, l.head); {
		case rev > 0 && !l.keeps(rev, l.head):
			mustFail(t, what, err, catalog.ErrCompacted)
		case err != nil || mark != l.all.Marks[rev]:
			t.Fatalf("%s: %q, %v; want %q", what, mark, err, l.all.Marks[rev])
		}
		whole, err := catalog.WholeRevisions(t.Context(), r, rev, 1000)
		what := fmt.Sprintf("all after %d, thinned up to %d", rev, l.head)
		if rev < l.head || rev < first-1 {
			mustFail(t, what, err, catalog.ErrCompacted)
			continue
		}
		diff := differ(l.after(catalog.Cursor{Revision: rev}, 0), whole, byValue())
		if err != nil || diff != "" {
			t.Fatalf("%s: %v (-want +got):\n%s", what, err, diff)
		}
	}
}
