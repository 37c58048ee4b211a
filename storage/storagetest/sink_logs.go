package storagetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

func testLogsOrder(t testing.TB, h SinkHarness) {
	entries := logEntries(0, 30)
	for i := range entries { // five share a time: ids decide, by their bytes
		entries[i].Time = logDay.Add(time.Duration(i/5) * time.Hour * 7)
		entries[i].ID[0] = byte(i * 83)
	}
	shuffled := slices.Clone(entries)
	for i := range shuffled {
		j := i * 7 % len(shuffled)
		shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
	}
	mustStore(t, h.Sink, shuffled[:11]...)
	mustStore(t, h.Second, shuffled[11:]...)
	wantLogs(t, h.Archive, everything(), newest(entries...)...)
}

func testLogsPages(t testing.TB, h SinkHarness) {
	entries := logEntries(0, 250)
	for i := range entries {
		entries[i].Time = logDay.Add(time.Duration(i/9) * time.Minute) // pages end among equal times
	}
	mustStore(t, h.Sink, entries...)
	want := newest(entries...)
	for _, limit := range []int{1, 7, 9, 125, 249, 250, 251, 1000} {
		wantLogs(t, h.Archive, everything(func(q *logbuf.LogQuery) { q.Limit = limit }), want...)
	}

	q := everything(func(q *logbuf.LogQuery) { q.Limit = 0 })
	page, err := h.Archive.Logs(t.Context(), q)
	if err != nil || len(page.Entries) != 100 || page.Next == "" {
		t.Errorf("Logs without a limit: %d entries, next %q, %v; want 100 and a next page", len(page.Entries), page.Next, err)
	}
	q.Limit = 250
	page, err = h.Archive.Logs(t.Context(), q)
	if err != nil || page.Next != "" {
		t.Errorf("Logs of exactly as many as there are: next %q, %v; want no next page", page.Next, err)
	}

	// A page of filtered entries is as full as any.
	q = everything(func(q *logbuf.LogQuery) { q.Limit, q.RequestID = 10, "request-3" })
	page, err = h.Archive.Logs(t.Context(), q)
	if err != nil || len(page.Entries) != 1 || page.Next != "" {
		t.Errorf("Logs of one request: %d entries, next %q, %v; want it alone", len(page.Entries), page.Next, err)
	}

	// A cursor keeps to the bounds of its query.
	q = everything(func(q *logbuf.LogQuery) { q.Limit, q.Until = 5, logDay.Add(3*time.Minute) })
	wantLogs(t, h.Archive, q, newest(entries[:27]...)...)
}

// testLogsPagesWhileWriting: every entry that was there before is read once,
// whatever is written meanwhile, before and behind.
func testLogsPagesWhileWriting(t testing.TB, h SinkHarness) {
	old := logEntries(1000, 1300)
	mustStore(t, h.Sink, old...)
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := 0; n < 1000 && ctx.Err() == nil; n++ { // not more, lest it outrun the reader for ever
			b := memory(
				logEntry(100_000+n, func(e *logbuf.Entry) { e.Time = logDay.Add(2 * time.Hour) }),
				logEntry(200_000+n, func(e *logbuf.Entry) { e.Time = logDay.Add(time.Minute) }),
				logEntry(300_000+n, func(e *logbuf.Entry) { e.Time = old[n%len(old)].Time.Add(time.Millisecond) }),
			)
			if _, err := writeAgain(t, h.Second, b); err != nil {
				t.Errorf("Write: %v", err)
				return
			}
		}
	})
	defer writer.Wait()
	defer stop()
	for range 3 {
		times := make(map[uuid.UUID]int)
		var last logbuf.Entry
		for i, e := range readLogs(t, h.Archive, everything(func(q *logbuf.LogQuery) { q.Limit = 13 })) {
			times[e.ID]++
			if i > 0 && !slices.EqualFunc(newest(last, e), []logbuf.Entry{last, e},
				func(a, b logbuf.Entry) bool { return a.ID == b.ID }) {
				t.Fatalf("%s comes after %s", e.Time, last.Time)
			}
			last = e
		}
		for id, n := range times {
			if n != 1 {
				t.Fatalf("%s was read %d times", id, n)
			}
		}
		for _, e := range old {
			if times[e.ID] != 1 {
				t.Fatalf("%s was read %d times; it was there before", e.ID, times[e.ID])
			}
		}
	}
}

func testLogsFilters(t testing.TB, h SinkHarness) {
	var entries []logbuf.Entry
	for n := range 64 {
		either := func(bit int, a, b string) string {
			if n>>bit&1 == 0 {
				return a
			}
			return b
		}
		entries = append(entries, logEntry(n, func(e *logbuf.Entry) {
			e.KeyID, e.ProviderID = int64(1+n&1), int64(1+n>>1&1)
			e.Namespace, e.Model = either(2, "default", "team"), either(3, "m", "vendor/m")
			e.Status = 200 + 229*(n>>4&1)
			e.RequestID = either(5, "r1", "r2")
		}))
	}
	mustStore(t, h.Sink, entries...)
	for _, c := range []struct {
		name   string
		filter func(*logbuf.LogQuery)
		keep   func(logbuf.Entry) bool
	}{
		{"key", func(q *logbuf.LogQuery) { q.KeyID = 2 }, func(e logbuf.Entry) bool { return e.KeyID == 2 }},
		{"provider", func(q *logbuf.LogQuery) { q.ProviderID = 1 }, func(e logbuf.Entry) bool { return e.ProviderID == 1 }},
		{"namespace", func(q *logbuf.LogQuery) { q.Namespace = "team" },
			func(e logbuf.Entry) bool { return e.Namespace == "team" }},
		{"model", func(q *logbuf.LogQuery) { q.Model = "vendor/m" },
			func(e logbuf.Entry) bool { return e.Model == "vendor/m" }},
		{"status", func(q *logbuf.LogQuery) { q.Status = 429 }, func(e logbuf.Entry) bool { return e.Status == 429 }},
		{"request", func(q *logbuf.LogQuery) { q.RequestID = "r2" },
			func(e logbuf.Entry) bool { return e.RequestID == "r2" }},
		{"some", func(q *logbuf.LogQuery) { q.KeyID, q.Status = 1, 200 },
			func(e logbuf.Entry) bool { return e.KeyID == 1 && e.Status == 200 }},
		{"all", func(q *logbuf.LogQuery) {
			q.KeyID, q.ProviderID, q.Namespace, q.Model, q.Status, q.RequestID = 2, 2, "team", "m", 429, "r1"
		}, func(e logbuf.Entry) bool {
			return e.KeyID == 2 && e.ProviderID == 2 && e.Namespace == "team" && e.Model == "m" && e.Status == 429 &&
				e.RequestID == "r1"
		}},
		{"no such key", func(q *logbuf.LogQuery) { q.KeyID = 9 }, func(logbuf.Entry) bool { return false }},
		{"no such model", func(q *logbuf.LogQuery) { q.Model = "M" }, func(logbuf.Entry) bool { return false }},
		{"a pattern", func(q *logbuf.LogQuery) { q.Model = "%" }, func(logbuf.Entry) bool { return false }},
	} {
		var want []logbuf.Entry
		for _, e := range newest(entries...) {
			if c.keep(e) {
				want = append(want, e)
			}
		}
		for _, limit := range []int{3, 1000} {
			got := readLogs(t, h.Archive, everything(c.filter, func(q *logbuf.LogQuery) { q.Limit = limit }))
			if diff := differ(logIDs(want), logIDs(got)); diff != "" {
				t.Errorf("Logs by %s, %d a page (-want +got):\n%s", c.name, limit, diff)
			}
		}
	}
}

func logIDs(entries []logbuf.Entry) []string {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.ID.String()
	}
	return ids
}

// testLogsSpan: since is inclusive, until is not, to the microsecond, and
// across days.
func testLogsSpan(t testing.TB, h SinkHarness) {
	at := func(n int, d time.Duration) logbuf.Entry {
		return logEntry(n, func(e *logbuf.Entry) { e.Time = logDay.Add(d) })
	}
	a, b, c, d := at(1, -time.Microsecond), at(2, 0), at(3, time.Microsecond), at(4, 24*time.Hour)
	b.ID[0], c.ID[0] = 0xff, 0xff // the greatest and the least id of a bound make no difference
	least := at(0, 24*time.Hour)
	least.ID = uuid.UUID{15: 1}
	mustStore(t, h.Sink, a, b, c, d, least)
	for _, span := range []struct {
		since, until time.Duration
		want         []logbuf.Entry
	}{
		{-time.Microsecond, time.Microsecond, newest(a, b)},
		{0, time.Microsecond, newest(b)},
		{0, 24 * time.Hour, newest(b, c)},
		{time.Microsecond, 24*time.Hour + time.Microsecond, newest(c, d, least)},
		{time.Hour, 2 * time.Hour, nil},
		{-100 * time.Hour, 100 * time.Hour, newest(a, b, c, d, least)},
	} {
		q := logbuf.LogQuery{Since: logDay.Add(span.since), Until: logDay.Add(span.until), Limit: 2}
		wantLogs(t, h.Archive, q, span.want...)
		q.Since = q.Since.In(time.FixedZone("", -5*3600))
		wantLogs(t, h.Archive, q, span.want...)
	}
}

// testLogsWindow: a query that does not say looks back 24 hours, and sees
// entries whose clocks run ahead.
func testLogsWindow(t testing.TB, h SinkHarness) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	at := func(n int, d time.Duration) logbuf.Entry {
		return logEntry(n, func(e *logbuf.Entry) { e.Time = now.Add(d) })
	}
	ahead, recent, edge, old := at(1, 30*time.Minute), at(2, -time.Hour), at(3, -24*time.Hour+time.Minute),
		at(4, -24*time.Hour-time.Minute)
	mustStore(t, h.Sink, ahead, recent, edge, old)
	wantLogs(t, h.Archive, logbuf.LogQuery{}, ahead, recent, edge)
	wantLogs(t, h.Archive, logbuf.LogQuery{Limit: 1}, ahead, recent, edge)
	wantLogs(t, h.Archive, logbuf.LogQuery{Until: now}, recent, edge)
	wantLogs(t, h.Archive, logbuf.LogQuery{Until: now.Add(-2 * time.Minute)}, recent, edge, old)
	wantLogs(t, h.Archive, logbuf.LogQuery{Since: now.Add(-2 * time.Hour)}, ahead, recent)
}

// testLogsInvalid: what cannot be answered names its field.
func testLogsInvalid(t testing.TB, h SinkHarness) {
	mustStore(t, h.Sink, logEntries(0, 3)...)
	page, err := h.Archive.Logs(t.Context(), everything(func(q *logbuf.LogQuery) { q.Limit = 1 }))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		field string
		query logbuf.LogQuery
	}{
		{"cursor", logbuf.LogQuery{Cursor: "nonsense"}},
		{"cursor", logbuf.LogQuery{Cursor: "AAAA"}},
		{"cursor", logbuf.LogQuery{Cursor: page.Next[:len(page.Next)-4]}},
		{"cursor", logbuf.LogQuery{Cursor: page.Next + "AAAA"}},
		{"cursor", logbuf.LogQuery{Cursor: strings.Repeat("_", len(page.Next))}},
		{"cursor", logbuf.LogQuery{Cursor: page.Next, KeyID: 1}},
		{"cursor", logbuf.LogQuery{Cursor: page.Next, Tags: map[string]string{"team": "x"}}},
		{"limit", logbuf.LogQuery{Limit: -1}},
		{"limit", logbuf.LogQuery{Limit: 1001}},
		{"since", logbuf.LogQuery{Since: logDay, Until: logDay}},
		{"since", logbuf.LogQuery{Since: logDay.Add(time.Second), Until: logDay}},
	} {
		_, err := h.Archive.Logs(t.Context(), c.query)
		wantInvalid(t, err, c.field)
	}
}

// wantInvalid fails unless the error names the field.
func wantInvalid(t testing.TB, err error, field string) {
	t.Helper()
	var invalid *logbuf.FieldError
	if !errors.Is(err, logbuf.ErrInvalid) || !errors.As(err, &invalid) || invalid.Field != field {
		t.Errorf("%v; want ErrInvalid for %q", err, field)
	}
}
