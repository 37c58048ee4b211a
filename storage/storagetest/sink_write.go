package storagetest

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// newest orders entries as Logs does.
func newest(entries ...logbuf.Entry) []logbuf.Entry {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b logbuf.Entry) int {
		if c := b.Time.Compare(a.Time); c != 0 {
			return c
		}
		return slices.Compare(b.ID[:], a.ID[:])
	})
	return entries
}

// testSinkFields: what comes out is what went in.
func testSinkFields(t testing.TB, h SinkHarness) {
	full := logbuf.Entry{
		ID: uuid.MustParse("0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"), Time: logDay.Add(12*time.Hour + 123456*time.Microsecond),
		RequestID: "request", Balancer: "balancer", KeyID: math.MaxInt64, ProviderID: 1 << 40, Namespace: "ns",
		Model: "vendor/model.v1", UpstreamModel: "upstream", Group: "group", Endpoint: "/v1/chat/completions",
		Status: 599, Error: strings.Repeat("é", 4096), Attempts: 3, Stream: true, LatencyMS: 1 << 31, TTFTMS: 77,
		InputTokens: 1 << 33, CacheReadTokens: 1 << 34, CacheWriteTokens: 1 << 35, OutputTokens: 1 << 36,
		CostNanoUSD: new(int64(math.MaxInt64 / 4)), PricedRevision: 1 << 50,
		ClientIP: "2001:db8::1", UserAgent: "agent/1.0 (\"quoted\", 'single', back\\slash)", Revision: "5-42",
	}
	odd := []string{"", " ", "日本語", "\t\r\n", "\\N", "null", "'; drop table access_logs; --", "\u007f\ufffd", "%s$1?"}
	entries := []logbuf.Entry{full, {ID: logID(1), Time: logDay.Add(time.Minute)},
		{ID: logID(2), Time: logDay, CostNanoUSD: new(int64(0))}}
	for i, s := range odd {
		entries = append(entries, logEntry(10+i, func(e *logbuf.Entry) { e.Model, e.Error, e.UserAgent = s, s, s }))
	}
	mustStore(t, h.Sink, entries...)
	wantLogs(t, h.Archive, everything(), newest(entries...)...)

	// One at a time they may go another way.
	again := full
	again.ID, again.Time = logID(3), full.Time.Add(time.Microsecond)
	wantWrite(t, h.Sink, memory(full, again), logbuf.Result{Stored: 1, Duplicate: 1})
	wantLogs(t, h.Archive, everything(), newest(append(entries, again)...)...)
}

func testSinkResults(t testing.TB, h SinkHarness) {
	entries := logEntries(0, 2500)
	mustStore(t, h.Sink, entries...)
	mustStore(t, h.Sink, logEntry(3000))
	wantLogs(t, h.Archive, everything(), newest(append(entries, logEntry(3000))...)...)
}

func testSinkDuplicates(t testing.TB, h SinkHarness) {
	a, b, c := logEntry(1), logEntry(2), logEntry(3)
	wantWrite(t, h.Sink, memory(a, b, a, a), logbuf.Result{Stored: 2, Duplicate: 2}) // within a batch
	wantWrite(t, h.Sink, memory(a, b), logbuf.Result{Duplicate: 2})                  // of a batch before
	wantWrite(t, h.Second, memory(b, c, c), logbuf.Result{Stored: 1, Duplicate: 2})  // of another process, too
	mustStore(t, h.Sink, logEntry(4))
	wantLogs(t, h.Archive, everything(), newest(a, b, c, logEntry(4))...)
}

// testSinkReopened: what was stored outlives the sink, and so does how far a segment was.
func testSinkReopened(t testing.TB, h SinkHarness) {
	segment := uuid.New()
	wantWrite(t, h.Sink, spooled(segment, 0, 3), logbuf.Result{Stored: 3})
	mustStore(t, h.Sink, logEntry(9))
	sink, archive := h.Reopen(t)
	wantLogs(t, archive, everything(), newest(append(logEntries(0, 3), logEntry(9))...)...)
	wantWrite(t, sink, spooled(segment, 0, 5), logbuf.Result{Stored: 2, Duplicate: 3})
	wantWrite(t, sink, memory(logEntry(9)), logbuf.Result{Duplicate: 1})
}

// testSinkIdentity: an entry is its time, in microseconds, and its id.
func testSinkIdentity(t testing.TB, h SinkHarness) {
	a := logEntry(1)
	mustStore(t, h.Sink, a)
	changed := a
	changed.Model, changed.Status, changed.CostNanoUSD = "other", 500, nil
	wantWrite(t, h.Sink, memory(changed), logbuf.Result{Duplicate: 1}) // the first stays
	within := a
	within.Time = a.Time.Add(999 * time.Nanosecond)
	wantWrite(t, h.Sink, memory(within), logbuf.Result{Duplicate: 1})
	abroad := a
	abroad.Time = a.Time.In(time.FixedZone("", 3600))
	wantWrite(t, h.Sink, memory(abroad), logbuf.Result{Duplicate: 1})

	later, other := a, a
	later.Time = a.Time.Add(time.Microsecond)
	other.ID = logID(99)
	mustStore(t, h.Sink, later, other)
	odd := logEntry(5, func(e *logbuf.Entry) { e.Time = e.Time.Add(1500 * time.Nanosecond) })
	mustStore(t, h.Sink, odd)
	odd.Time = odd.Time.Truncate(time.Microsecond)
	wantLogs(t, h.Archive, everything(), newest(a, later, other, odd)...)
}

func testSinkEmpty(t testing.TB, h SinkHarness) {
	wantWrite(t, h.Sink, logbuf.Batch{}, logbuf.Result{})
	segment := uuid.New()
	wantWrite(t, h.Sink, logbuf.Batch{Segment: segment, From: 0, To: 3}, logbuf.Result{}) // all damaged
	wantWrite(t, h.Sink, spooled(segment, 0, 3), logbuf.Result{Duplicate: 3})             // it moved the checkpoint
	wantWrite(t, h.Sink, spooled(segment, 3, 5), logbuf.Result{Stored: 2})
	wantLogs(t, h.Archive, everything(), newest(logEntries(3, 5)...)...)
}

func testSinkCheckpoints(t testing.TB, h SinkHarness) {
	one, two := uuid.New(), uuid.New()
	wantWrite(t, h.Sink, spooled(one, 0, 10), logbuf.Result{Stored: 10})
	for range 2 { // its answer was lost, and lost again
		wantWrite(t, h.Sink, spooled(one, 0, 10), logbuf.Result{Duplicate: 10})
	}
	wantWrite(t, h.Sink, spooled(one, 10, 20), logbuf.Result{Stored: 10})
	wantWrite(t, h.Second, spooled(one, 0, 10), logbuf.Result{Duplicate: 10}) // long past

	// What is past is not looked at: these were stored by nobody.
	past := logbuf.Batch{Segment: one, From: 5, To: 15, Entries: logEntries(900, 910)}
	wantWrite(t, h.Sink, past, logbuf.Result{Duplicate: 10})

	// Segments do not know each other, and entries only once.
	wantWrite(t, h.Sink, spooled(two, 0, 20), logbuf.Result{Duplicate: 20})
	wantWrite(t, h.Sink, logbuf.Batch{Segment: two, From: 20, To: 25, Entries: logEntries(20, 25)},
		logbuf.Result{Stored: 5})
	wantWrite(t, h.Sink, spooled(one, 20, 30), logbuf.Result{Stored: 5, Duplicate: 5})
	wantLogs(t, h.Archive, everything(), newest(logEntries(0, 30)...)...)
}

func testSinkCheckpointer(t testing.TB, h SinkHarness) {
	checkpointer := h.Sink.(logbuf.Checkpointer)
	one, two := uuid.New(), uuid.New()
	want := func(segment uuid.UUID, want int64) {
		t.Helper()
		if got, err := checkpointer.Checkpoint(t.Context(), segment); err != nil || got != want {
			t.Errorf("Checkpoint: %d, %v; want %d", got, err, want)
		}
	}
	want(one, 0)
	wantWrite(t, h.Sink, spooled(one, 0, 7), logbuf.Result{Stored: 7})
	want(one, 7)
	want(two, 0)
	wantWrite(t, h.Second, spooled(one, 7, 9), logbuf.Result{Stored: 2})
	want(one, 9)
	wantWrite(t, h.Sink, spooled(one, 0, 7), logbuf.Result{Duplicate: 7})
	want(one, 9) // it does not go back
	wantWrite(t, h.Sink, logbuf.Batch{Segment: two, To: 10, Entries: logEntries(100, 110)}, logbuf.Result{Stored: 10})
	want(two, 10)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := checkpointer.Checkpoint(canceled, one); err == nil {
		t.Error("Checkpoint with an ended context: no error")
	}
}

// testSinkOverlap: a batch that starts elsewhere than at the checkpoint.
func testSinkOverlap(t testing.TB, h SinkHarness) {
	segment := uuid.New()
	wantWrite(t, h.Sink, spooled(segment, 0, 10), logbuf.Result{Stored: 10})
	wantWrite(t, h.Sink, spooled(segment, 5, 15), logbuf.Result{Stored: 5, Duplicate: 5}) // back
	wantWrite(t, h.Sink, spooled(segment, 8, 15), logbuf.Result{Duplicate: 7})            // past
	wantWrite(t, h.Sink, spooled(segment, 15, 20), logbuf.Result{Stored: 5})              // as it should be
	wantWrite(t, h.Sink, spooled(segment, 2, 25), logbuf.Result{Stored: 5, Duplicate: 18})
	wantLogs(t, h.Archive, everything(), newest(logEntries(0, 25)...)...)
}

// testSinkBehind: a store that has lost what it had committed says so, and does not hide it by
// storing what comes next.
func testSinkBehind(t testing.TB, h SinkHarness) {
	segment := uuid.New()
	wantWrite(t, h.Sink, spooled(segment, 0, 10), logbuf.Result{Stored: 10})
	for _, c := range []struct {
		batch logbuf.Batch
		at    int64
	}{
		{spooled(segment, 15, 20), 10}, // as if 10 to 15 had been stored
		{logbuf.Batch{Segment: segment, From: 11, To: 20, Entries: logEntries(5, 14)}, 10}, // with duplicates
		{spooled(uuid.New(), 40, 45), 0}, // a first one that is none
	} {
		for range 2 {
			_, err := h.Sink.Write(t.Context(), c.batch)
			var behind *logbuf.BehindError
			if !errors.As(err, &behind) || behind.Position != c.at {
				t.Errorf("Write from %d: %v; want a BehindError at %d", c.batch.From, err, c.at)
			}
		}
	}
	wantLogs(t, h.Archive, everything(), newest(logEntries(0, 10)...)...)
	wantWrite(t, h.Sink, spooled(segment, 10, 20), logbuf.Result{Stored: 10})
}

// testSinkAliasing: what goes in and what comes out is a copy.
func testSinkAliasing(t testing.TB, h SinkHarness) {
	entries := logEntries(0, 3)
	mustStore(t, h.Sink, entries...)
	for i := range entries {
		*entries[i].CostNanoUSD = -1
		entries[i].Model = "changed"
	}
	page, err := h.Archive.Logs(t.Context(), everything())
	if err != nil {
		t.Fatal(err)
	}
	for i := range page.Entries {
		*page.Entries[i].CostNanoUSD = -2
		page.Entries[i].Model = "changed, too"
	}
	wantLogs(t, h.Archive, everything(), newest(logEntries(0, 3)...)...)
}

// writeAgain writes a batch as a queue does: engines may fail when they get in
// each other's way.
func writeAgain(t testing.TB, s logbuf.Sink, b logbuf.Batch) (r logbuf.Result, err error) {
	for range 20 {
		if r, err = s.Write(t.Context(), b); err == nil {
			break
		}
	}
	return r, err
}

// testSinkWriters: many at once lose nothing and store nothing twice. Each
// entry is sent by two.
func testSinkWriters(t testing.TB, h SinkHarness) {
	const writers, batches, size = 8, 6, 40
	var group sync.WaitGroup
	results := make([]logbuf.Result, writers)
	for w := range writers {
		sink := h.Sink
		if w%2 == 1 {
			sink = h.Second
		}
		group.Go(func() {
			for b := range batches {
				from := (w/2*batches + b) * size
				r, err := writeAgain(t, sink, memory(logEntries(from, from+size)...))
				if err != nil {
					t.Errorf("Write: %v", err)
					return
				}
				results[w].Stored += r.Stored
				results[w].Duplicate += r.Duplicate
			}
		})
	}
	group.Wait()
	var sum logbuf.Result
	for _, r := range results {
		sum.Stored += r.Stored
		sum.Duplicate += r.Duplicate
	}
	const n = writers / 2 * batches * size
	if want := (logbuf.Result{Stored: n, Duplicate: n}); sum != want {
		t.Errorf("all results add up to %+v; want %+v", sum, want)
	}
	wantLogs(t, h.Archive, everything(), newest(logEntries(0, n)...)...)
	if got := requests(t, t.Context(), h.Archive); got != n {
		t.Errorf("usage counts %d requests; want %d", got, n)
	}
}

// testSinkSameBatch: a batch whose answer was lost is sent again while it is
// still being stored.
func testSinkSameBatch(t testing.TB, h SinkHarness) {
	for range 5 {
		segment := uuid.New()
		from := 0
		for step := range 4 {
			var group sync.WaitGroup
			results := make([]logbuf.Result, 4)
			for i := range results {
				sink := h.Sink
				if i%2 == 1 {
					sink = h.Second
				}
				group.Go(func() {
					b := spooled(segment, from, from+50)
					for j := range b.Entries {
						copy(b.Entries[j].ID[:8], segment[:]) // no round has those of another
					}
					var err error
					if results[i], err = writeAgain(t, sink, b); err != nil {
						t.Errorf("Write: %v", err)
					}
				})
			}
			group.Wait()
			var sum logbuf.Result
			for _, r := range results {
				sum.Stored += r.Stored
				sum.Duplicate += r.Duplicate
			}
			if want := (logbuf.Result{Stored: 50, Duplicate: 150}); sum != want {
				t.Fatalf("step %d: four writes of one batch add up to %+v; want %+v", step, sum, want)
			}
			from += 50
		}
	}
}

func testSinkContext(t testing.TB, h SinkHarness) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Sink.Write(canceled, memory(logEntry(1))); err == nil {
		t.Error("Write with an ended context: no error")
	}
	if _, err := h.Archive.Logs(canceled, everything()); err == nil {
		t.Error("Logs with an ended context: no error")
	}
	if _, err := h.Archive.Usage(canceled, allUsage(logbuf.Day)); err == nil {
		t.Error("Usage with an ended context: no error")
	}
	// Nothing was stored, and nothing is stuck.
	mustStore(t, h.Sink, logEntry(1))
	wantLogs(t, h.Archive, everything(), logEntry(1))
}

func testSinkClosed(t testing.TB, h SinkHarness) {
	mustStore(t, h.Sink, logEntry(1))
	h.Close(t)
	if _, err := h.Sink.Write(t.Context(), memory(logEntry(2))); err == nil {
		t.Error("Write after closing: no error")
	}
	if _, err := h.Archive.Logs(t.Context(), everything()); err == nil {
		t.Error("Logs after closing: no error")
	}
	if _, err := h.Archive.Usage(t.Context(), allUsage(logbuf.Day)); err == nil {
		t.Error("Usage after closing: no error")
	}
}
