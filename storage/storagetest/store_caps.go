package storagetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// capped adds a bound on the keys of a project, and of those below it, to a commit of writes.
func capped(path string, most int64, writes ...catalog.Write) catalog.Commit {
	c := commitOf(writes...)
	c.Caps = []catalog.Cap{{Kind: catalog.KindKey, RefUnder: path, Max: most}}
	return c
}

// testStoreCaps: what counts is what the last write leaves, in a small commit and in a large one.
func testStoreCaps(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 10)
	in := func(n int64, path string) catalog.Entity { return entity(catalog.KindKey, id+n, refer(path)) }
	for i, path := range []string{"a", "a/b", "ab", "a-b"} {
		mustCommit(t, h.Store, create(entity(catalog.KindProject, mustIDs(t, h.Store, 1), natural(path))))
		mustCommit(t, h.Store, create(in(int64(i), path)))
	}
	rev := mustCommit(t, h.Store, create(in(4, "a"))) // three are in a or below, one of them in a/b
	for _, others := range []int{0, 120} {
		crowd := func(writes ...catalog.Write) []catalog.Write { return append(writes, models(t, h.Store, others)...) }
		mustRefuse(t, h,
			attempt{"one too many", capped("a", 3, crowd(create(in(5, "a")))...), catalog.ErrConflict},
			attempt{"one too many below", capped("a", 3, crowd(create(in(5, "a/b")))...), catalog.ErrConflict},
			attempt{"two for one", capped("a", 3, crowd(create(in(5, "a")), create(in(6, "a/b")), remove(in(4, "a"), rev))...),
				catalog.ErrConflict},
			attempt{"less than there are", capped("a", 2, crowd(create(in(5, "ab")))...), catalog.ErrConflict},
		)
		mustCommitAs(t, h.Second, capped("a/b", 2, crowd(create(in(5, "a/b")))...))
		rev5 := revisionOf(t, h.Store)
		mustCommitAs(t, h.Store, capped("a", 4, crowd(create(in(6, "ab")))...)) // which is not below a
		rev6 := revisionOf(t, h.Store)
		mustCommitAs(t, h.Store, capped("a", 4, crowd(create(in(7, "a")), remove(in(5, "a/b"), rev5))...))
		rev7 := revisionOf(t, h.Store)
		mustCommitAs(t, h.Second, capped("a", 3, remove(in(7, "a"), rev7), remove(in(6, "ab"), rev6)))
	}
	both := capped("a", 4, create(in(5, "a/b")))
	both.Caps = append(both.Caps, catalog.Cap{Kind: catalog.KindKey, RefUnder: "a/b", Max: 1})
	mustRefuse(t, h, attempt{"one of two bounds", both, catalog.ErrConflict})
	for name, bad := range map[string]catalog.Cap{
		"of an unknown kind": {Kind: "things", RefUnder: "a", Max: 9}, "of no path": {Kind: catalog.KindKey, Max: 99},
	} {
		c := commitOf(create(in(5, "a")))
		c.Caps = []catalog.Cap{bad}
		mustRefuse(t, h, attempt{"a bound " + name, c, catalog.ErrInvalid})
	}
}

// models makes the writes of so many new models.
func models(t testing.TB, s catalog.Store, n int) (writes []catalog.Write) {
	t.Helper()
	if n == 0 {
		return nil
	}
	first := mustIDs(t, s, n)
	for i := range n {
		writes = append(writes, create(entity(catalog.KindModel, first+int64(i))))
	}
	return writes
}

func mustCommitAs(t testing.TB, s catalog.Store, c catalog.Commit) {
	t.Helper()
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatalf("Commit with bounds %v: %v", c.Caps, err)
	}
}

// testStoreRaceForRoom: of many that want the last places, as many get one as there are.
func testStoreRaceForRoom(t testing.TB, h StoreHarness) {
	const writers, room = 10, 4
	mustCommit(t, h.Store, create(entity(catalog.KindProject, mustIDs(t, h.Store, 1), natural("a"))))
	var in atomic.Int64
	race(t, h, writers, func(i int, s catalog.Store) error {
		id, err := s.NextIDs(t.Context(), 1)
		if err != nil {
			return err
		}
		writes := []catalog.Write{create(entity(catalog.KindKey, id, refer("a")))}
		if i%3 == 0 {
			writes = append(writes, models(t, s, 120)...)
		}
		_, err = s.Commit(t.Context(), capped("a", room, writes...))
		switch {
		case err == nil:
			in.Add(1)
		case !errors.Is(err, catalog.ErrConflict):
			return fmt.Errorf("with no room the error is %w", err)
		}
		return nil
	})
	if in.Load() != room {
		t.Errorf("%d keys have come in where there was room for %d", in.Load(), room)
	}
}
