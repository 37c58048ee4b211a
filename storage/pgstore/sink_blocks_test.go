package pgstore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// Whatever batches bring the entries, in whatever order, and whatever
// maintenance does between them: each is found by its key and by its request, page by
// page, and nothing else is.
func TestEntriesAreFound(t *testing.T) {
	t.Parallel()
	now := logDay.Add(26 * time.Hour)
	sink, pool := sinkAt(t, &now)
	rapid.Check(t, func(t *rapid.T) {
		if _, err := pool.Exec(t.Context(), `truncate access_logs, log_blocks, usage_pending, usage_quarters, usage_days, usage_quarter_totals, usage_day_totals, usage_aside`); err != nil {
			t.Fatal(err)
		}
		var all []logbuf.Entry
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		keys := rapid.IntRange(1, 300).Draw(t, "keys")
		spread := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Minute, time.Hour, 20 * time.Hour}).
			Draw(t, "spread")
		at := logDay.Add(time.Duration(rapid.IntRange(0, 25*60).Draw(t, "minute")) * time.Minute)
		for range rapid.IntRange(1, 60).Draw(t, "batches") {
			entries := make([]logbuf.Entry, 1+random.IntN(60))
			for i := range entries {
				e := logEntry(len(all) + i)
				e.ID, e.KeyID = uuid.New(), int64(random.IntN(keys))
				e.Time = at.Add(-time.Duration(random.Int64N(int64(spread)))).Truncate(time.Microsecond)
				entries[i] = e
			}
			batch := entries
			if len(all) > 0 && random.IntN(3) == 0 {
				batch = append(slices.Clone(entries), all[random.IntN(len(all))]) // which is there
			}
			if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: batch}); err != nil {
				t.Fatal(err)
			}
			all = append(all, entries...)
			if random.IntN(20) == 0 {
				if err := tryMaintain(t.Context(), sink, time.Time{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 10 {
			e := all[random.IntN(len(all))]
			q := logbuf.LogQuery{Since: logDay.Add(-24 * time.Hour), Limit: 1 + random.IntN(40)}
			if random.IntN(2) == 0 {
				q.RequestID = e.RequestID
			}
			if random.IntN(2) == 0 {
				q.KeyID = e.KeyID
			}
			if random.IntN(4) == 0 {
				q.Status = e.Status
			}
			if diff := cmp.Diff(oracle(all, q), allPages(t, sink, q)); diff != "" {
				t.Fatalf("%+v (-want +got):\n%s", q, diff)
			}
		}
		for _, q := range []logbuf.LogQuery{{KeyID: int64(keys) + 1}, {RequestID: "request"},
			{KeyID: all[0].KeyID, RequestID: "no such"}} {
			q.Since = logDay
			if got := allPages(t, sink, q); len(got) > 0 {
				t.Fatalf("%+v finds %v", q, got)
			}
		}
	})
}

// oracle returns the ids of the entries that a query asks for, newest first.
func oracle(all []logbuf.Entry, q logbuf.LogQuery) []string {
	var found []logbuf.Entry
	for _, e := range all {
		if (q.KeyID == 0 || q.KeyID == e.KeyID) && (q.RequestID == "" || q.RequestID == e.RequestID) &&
			(q.Status == 0 || q.Status == e.Status) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b logbuf.Entry) int {
		if c := b.Time.Compare(a.Time); c != 0 {
			return c
		}
		return strings.Compare(b.ID.String(), a.ID.String())
	})
	return idsOf(found)
}

func idsOf(entries []logbuf.Entry) []string {
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.ID.String())
	}
	return ids
}

// allPages reads all pages of a query.
func allPages(t *rapid.T, sink logbuf.Archive, q logbuf.LogQuery) (ids []string) {
	for {
		page, err := sink.Logs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, idsOf(page.Entries)...)
		if q.Cursor = page.Next; q.Cursor == "" {
			return ids
		}
	}
}

// What many small batches leave behind is few blocks after maintenance; blocks
// of days that are dropped go with them.
func TestBlocksAreGathered(t *testing.T) {
	t.Parallel()
	now := logDay.Add(2 * time.Hour)
	sink, pool := sinkAt(t, &now)
	var entries []logbuf.Entry
	for n := range 500 {
		e := logEntry(n)
		e.Time = logDay.Add(time.Duration(n) * time.Second)
		entries = append(entries, e)
		store(t, sink, e)
	}
	blocks := func() int64 { return count(t, pool, `select count(*) from log_blocks`) }
	if n := blocks(); n != 500 {
		t.Fatalf("%d blocks of 500 batches", n)
	}
	maintain(t, sink, time.Time{})
	if n := blocks(); n != 1 {
		t.Errorf("%d blocks after maintenance; want one", n)
	}
	for _, e := range []int{0, 250, 499} {
		page, err := sink.Logs(t.Context(), logbuf.LogQuery{RequestID: fmt.Sprint("request-", e), Since: logDay})
		if err != nil || len(page.Entries) != 1 || page.Entries[0].ID != entries[e].ID {
			t.Errorf("request %d: %+v, %v", e, page, err)
		}
	}
	now = now.AddDate(0, 0, 3)
	maintain(t, sink, logDay.AddDate(0, 0, 2))
	if n := blocks(); n != 0 {
		t.Errorf("%d blocks are left of a day that was dropped", n)
	}
}

// A filter seldom says yes without reason, and a row of the largest is in one page.
func TestBlocksAreSmallAndPrecise(t *testing.T) {
	t.Parallel()
	now := logDay.Add(2 * time.Hour)
	sink, pool := sinkAt(t, &now)
	var entries []logbuf.Entry
	for n := range 20_000 {
		e := logEntry(n)
		e.KeyID = int64(n + 1)
		e.Time = logDay.Add(time.Duration(n) * 100 * time.Millisecond)
		entries = append(entries, e)
	}
	for batch := range slices.Chunk(entries, 5000) {
		store(t, sink, batch...)
	}
	if size := count(t, pool, `select max(octet_length(filter)) from log_blocks`); size > 4000 {
		t.Errorf("the largest filter has %d bytes; two do not fit in a page", size)
	}
	blocks := count(t, pool, `select count(*) from log_blocks`)
	asked, yes := int64(0), int64(0)
	for n := range 200 {
		asked += blocks
		yes += count(t, pool, `select count(*) from log_blocks where `+strings.Join(pgstore.Probes(fmt.Sprint("unknown-", n)), " and "))
	}
	if yes > asked/200 {
		t.Errorf("%d of %d filters said yes to what is not in them; want one in 500", yes, asked)
	}
	for _, e := range entries[:200] {
		for _, q := range []logbuf.LogQuery{{KeyID: e.KeyID}, {RequestID: e.RequestID},
			{KeyID: e.KeyID, RequestID: e.RequestID}} {
			times, err := sink.Times(t.Context(), q.KeyID, q.RequestID, logDay, logDay.Add(time.Hour))
			if err != nil || times != 1 {
				t.Fatalf("the entry of key %d and request %q may be at %d times, %v; want 1", q.KeyID, q.RequestID, times, err)
			}
		}
	}
}

// However many entries a key had long ago, a few of their times are held at once: the pages are
// complete and in order all the same, with another filter too, and where entries share their times.
func TestFewTimesAreHeld(t *testing.T) {
	t.Parallel()
	const kept = 40
	now := logDay.Add(23 * time.Hour)
	sink, _ := sinkAt(t, &now)
	random := rand.New(rand.NewPCG(1, 2))
	var all []logbuf.Entry
	for n := range 6000 {
		e := logEntry(n)
		e.KeyID, e.Status = int64(1+n%20), 200+n/20%2
		if n%2 == 0 {
			e.KeyID = 5
		}
		e.Time = logDay.Add(time.Duration(random.IntN(4000)) * 300 * time.Millisecond)
		all = append(all, e)
	}
	for batch := range slices.Chunk(all, 1500) {
		store(t, sink, batch...)
	}
	for i, q := range []logbuf.LogQuery{
		{KeyID: 5, Limit: 17}, {KeyID: 5, Limit: 300}, {KeyID: 7, Limit: 100}, {KeyID: 5, Status: 201, Limit: 30},
		{KeyID: 5, Status: 201, Limit: 500}, {KeyID: 7, Status: 200, Limit: 9}, {KeyID: 5, Status: 404, Limit: 9},
		{KeyID: 5, Status: 201, Limit: 30}, {KeyID: 5, Status: 404, Limit: 9},
	} {
		q.Since = logDay.Add(-time.Hour)
		want := oracle(all, q)
		var got []string
		for more := true; more; more = q.Cursor != "" {
			page, held, err := sink.Page(t.Context(), q, kept, i > 6)
			if err != nil {
				t.Fatal(err)
			}
			if held > 2*kept {
				t.Fatalf("%+v: %d times were held at once; want at most %d", q, held, 2*kept)
			}
			got, q.Cursor = append(got, idsOf(page.Entries)...), page.Next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%+v (-want +got):\n%s", q, diff)
		}
	}
}

// Queries look back in windows of 4, 16, 64 minutes and more: nothing falls between them.
func TestNothingBetweenWindows(t *testing.T) {
	t.Parallel()
	now := logDay.Add(23 * time.Hour)
	sink, _ := sinkAt(t, &now)
	var entries []logbuf.Entry
	for _, minutes := range []time.Duration{4, 4 + 16, 4 + 16 + 64, 4 + 16 + 64 + 256, 4 + 16 + 64 + 256 + 1024} {
		for _, off := range []time.Duration{-1, 0, 1} {
			e := logEntry(len(entries))
			e.KeyID, e.Time = 5, now.Add(-minutes*time.Minute+off*time.Microsecond)
			entries = append(entries, e)
		}
	}
	store(t, sink, entries...)
	page, err := sink.Logs(t.Context(), logbuf.LogQuery{KeyID: 5})
	if err != nil || len(page.Entries) != len(entries) {
		t.Errorf("found %d of %d entries, %v", len(page.Entries), len(entries), err)
	}
}
