package storagetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// SinkHarness is what [RunSink] needs of an engine.
type SinkHarness struct {
	// Sink is under test, and empty. No other test uses its data. Where it is
	// a logbuf.Checkpointer, logbuf.Pipeliner or logbuf.Maintainer too, it is tested as that.
	Sink logbuf.Sink

	// Archive reads what Sink has stored. Defaults to Sink itself, which then
	// has to be one.
	Archive logbuf.Archive

	// Second is another handle on the same data, as another process would
	// have. Nil when the engine has none: then Sink takes its place.
	Second logbuf.Sink

	// Poison changes an entry into one that the engine refuses. Nil when it
	// refuses none.
	Poison func(t testing.TB, e *logbuf.Entry)

	// Dead returns how many entries with an id are in the dead letters.
	// Required with Poison.
	Dead func(t testing.TB, id uuid.UUID) int

	// Days is the number of days over which entries are spread, to compare usage in many time
	// zones; each quarter of an hour gets one. By default these are 400 days, which see every
	// change of a clock, and only the days next to such a change have an entry in each quarter.
	Days int

	// Close ends the sink, which then must refuse everything. Nil when it
	// cannot be closed.
	Close func(t testing.TB)

	// Reopen closes Sink and opens what it has stored again, as a program does that was restarted.
	// Nil when what it stores ends with it.
	Reopen func(t testing.TB) (logbuf.Sink, logbuf.Archive)
}

// RunSink tests everything that [logbuf.Sink] and [logbuf.Archive] demand, and
// [logbuf.Checkpointer], [logbuf.Pipeliner] and [logbuf.Maintainer] where they are implemented. It
// calls open once for each test, at the same time as others, and open uses its argument's Cleanup.
//
// A sink of the class [logbuf.ByIdentity] is tested by what that promises: an entry is answered once, the
// counts of a result add up and are otherwise not looked at, nor are checkpoints.
func RunSink(t *testing.T, open func(t testing.TB) SinkHarness) {
	for _, c := range sinkCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := open(t).withDefaults(t)
			if missing := c.needs(h); missing != "" {
				t.Logf("nothing to test: the engine %s", missing)
				return
			}
			c.test(t, h)
		})
	}
}

func (h SinkHarness) withDefaults(t testing.TB) SinkHarness {
	t.Helper()
	if h.Archive == nil {
		archive, ok := h.Sink.(logbuf.Archive)
		if !ok {
			t.Fatal("the harness has no Archive")
		}
		h.Archive = archive
	}
	if h.Second == nil {
		h.Second = h.Sink
	}
	if h.Poison != nil && h.Dead == nil {
		t.Fatal("the harness has Poison without Dead")
	}
	return h
}

// sinkCase is one test. It takes a testing.TB, so that the suite can be tested
// itself.
type sinkCase struct {
	name  string
	needs func(SinkHarness) (missing string)
	test  func(t testing.TB, h SinkHarness)
}

var sinkCases = []sinkCase{
	{"every field", nothing, testSinkFields},
	{"results", aTransaction, testSinkResults},
	{"duplicates", nothing, testSinkDuplicates},
	{"identity", nothing, testSinkIdentity},
	{"empty batches", aTransaction, testSinkEmpty},
	{"checkpoints", aTransaction, testSinkCheckpoints},
	{"checkpoints are told", aCheckpointer, testSinkCheckpointer},
	{"replays that overlap", nothing, testSinkOverlap},
	{"checkpoints that are behind", aTransaction, testSinkBehind},
	{"aliasing", nothing, testSinkAliasing},
	{"writers at once", aTransaction, testSinkWriters},
	{"the same batch at once", aTransaction, testSinkSameBatch},
	{"beside the batch before", aPipeliner, testSinkBeside},
	{"beside a batch that fails", aPipeliner, testSinkBesideFailure},
	{"beside a batch of the same", aPipeliner, testSinkBesideDuplicates},
	{"context", nothing, testSinkContext},
	{"closed", aClose, testSinkClosed},
	{"opened again", aReopening, testSinkReopened},
	{"poison", aPoison, testSinkPoison},
	{"poison among duplicates", aPoison, testSinkPoisonDuplicates},
	{"text at its limits", nothing, testSinkLimits},

	{"newest first", nothing, testLogsOrder},
	{"pages", nothing, testLogsPages},
	{"pages while others write", nothing, testLogsPagesWhileWriting},
	{"filters", nothing, testLogsFilters},
	{"more filters", nothing, testLogsMoreFilters},
	{"since and until", nothing, testLogsSpan},
	{"the last 24 hours", nothing, testLogsWindow},
	{"bad queries", nothing, testLogsInvalid},

	{"usage by every grouping", nothing, testUsageGroups},
	{"usage by hour and day", nothing, testUsageIntervals},
	{"usage at the ends of time", nothing, testUsageBounds},
	{"usage counts", nothing, testUsageCounts},
	{"usage is exact", nothing, testUsageExact},
	{"usage beyond the largest integer", nothing, testUsageWide},
	{"usage in pages", nothing, testUsagePages},
	{"usage in every time zone", nothing, testUsageZones},
	{"usage of keys", nothing, testUsageKeys},
	{"what keys have used", nothing, testKeyUsage},
	{"usage counts once", nothing, testUsageOnce},
	{"bad usage queries", nothing, testUsageInvalid},

	{"what is spent", aMeter, testMeter},
	{"what is spent, and gaps", aMeter, testMeterGaps},

	{"tasks", aMaintainer, testTasks},
	{"usage by closed days", aDayKeeper, testUsageDays},
	{"prices anew", aRepricer, testReprice},
	{"maintenance changes no answer", aMaintainer, testMaintainUsage},
	{"maintenance forgets whole days", aMaintainer, testMaintainForgets},
	{"maintenance while others write", aMaintainer, testMaintainWhileWriting},

	{"notes of health", aHealthKeeper, testHealthNotes},
	{"notes of health by many", aHealthKeeper, testHealthWriters},

	{"model of a sink", aTransaction, testSinkModel},
}

func nothing(SinkHarness) string { return "" }

func aCheckpointer(h SinkHarness) string {
	if _, ok := h.Sink.(logbuf.Checkpointer); !ok {
		return "tells no checkpoints"
	}
	return ""
}

func aMaintainer(h SinkHarness) string {
	if _, ok := h.Sink.(logbuf.Maintainer); !ok {
		return "needs no maintenance"
	}
	return ""
}

// aDayKeeper keeps usage by the day when its quarters are gone.
func aDayKeeper(h SinkHarness) string {
	if logbuf.ClassOf(h.Sink) != logbuf.Transactional {
		return "keeps usage by the quarter of an hour for ever"
	}
	return aMaintainer(h)
}

func aRepricer(h SinkHarness) string {
	if _, ok := h.Sink.(logbuf.Repricer); !ok {
		return "cannot price anew"
	}
	return ""
}

func aMeter(h SinkHarness) string {
	if _, ok := h.Sink.(logbuf.Meter); !ok {
		return "does not tell what is spent"
	}
	return ""
}

// aTransaction is what exact counts and checkpoints need.
func aTransaction(h SinkHarness) string {
	if logbuf.ClassOf(h.Sink) != logbuf.Transactional {
		return "has no transactions: its counts may be estimates, and it moves no checkpoint"
	}
	return ""
}

func aClose(h SinkHarness) string {
	if h.Close == nil {
		return "cannot be closed"
	}
	return ""
}

func aReopening(h SinkHarness) string {
	if h.Reopen == nil {
		return "keeps nothing that could be opened again"
	}
	return aTransaction(h)
}

func aPoison(h SinkHarness) string {
	if h.Poison == nil {
		return "refuses no entry"
	}
	return ""
}

// logDay is a day in the past on which most test entries happen: a full one.
var logDay = time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)

// logID makes the id of test entry n.
func logID(n int) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	id[6], id[8] = 0x70, id[8]|0x80
	return id
}

// logEntry makes test entry n: a second after the one before, changed by edits.
func logEntry(n int, edits ...func(*logbuf.Entry)) logbuf.Entry {
	e := logbuf.Entry{
		ID: logID(n), Time: logDay.Add(time.Duration(n) * time.Second), RequestID: fmt.Sprint("request-", n),
		KeyID: 1, ProviderID: 2, Namespace: "default", Model: "m", Group: "default", Status: 200,
		InputTokens: 10, OutputTokens: 5, CostNanoUSD: new(int64(n)),
	}
	for _, edit := range edits {
		edit(&e)
	}
	return e
}

// logEntries makes test entries from n to m - 1.
func logEntries(n, m int, edits ...func(*logbuf.Entry)) []logbuf.Entry {
	entries := make([]logbuf.Entry, 0, m-n)
	for ; n < m; n++ {
		entries = append(entries, logEntry(n, edits...))
	}
	return entries
}

// memory makes a batch without a segment.
func memory(entries ...logbuf.Entry) logbuf.Batch { return logbuf.Batch{Entries: entries} }

// spooled makes the batch of test entries from n to m - 1 of a segment.
func spooled(segment uuid.UUID, n, m int) logbuf.Batch {
	return logbuf.Batch{Segment: segment, From: int64(n), To: int64(m), Entries: logEntries(n, m)}
}

// wantWrite writes a batch and compares the result.
func wantWrite(t testing.TB, s logbuf.Sink, b logbuf.Batch, want logbuf.Result) {
	t.Helper()
	got, err := s.Write(t.Context(), b)
	if err != nil {
		t.Fatalf("Write of %d entries: %v", len(b.Entries), err)
	}
	if logbuf.ClassOf(s) == logbuf.ByIdentity { // its counts may be estimates, but add up
		if sum := got.Stored + got.Duplicate + got.Dead; sum != len(b.Entries) ||
			min(got.Stored, got.Duplicate, got.Dead) < 0 {
			t.Errorf("Write of %d entries: %+v, which does not add up", len(b.Entries), got)
		}
		return
	}
	if got != want {
		t.Errorf("Write of %d entries: %+v; want %+v", len(b.Entries), got, want)
	}
}

// mustStore writes entries of which none was stored before.
func mustStore(t testing.TB, s logbuf.Sink, entries ...logbuf.Entry) {
	t.Helper()
	wantWrite(t, s, memory(entries...), logbuf.Result{Stored: len(entries)})
}

// everything selects all test entries.
func everything(edits ...func(*logbuf.LogQuery)) logbuf.LogQuery {
	q := logbuf.LogQuery{Since: logDay.AddDate(-1, 0, 0), Until: logDay.AddDate(1, 0, 0), Limit: 1000}
	for _, edit := range edits {
		edit(&q)
	}
	return q
}

// readLogs reads all pages of a query.
func readLogs(t testing.TB, a logbuf.Archive, q logbuf.LogQuery) (entries []logbuf.Entry) {
	t.Helper()
	for range 10_000 {
		page, err := a.Logs(t.Context(), q)
		if err != nil {
			t.Fatalf("Logs: %v", err)
		}
		entries = append(entries, page.Entries...)
		if page.Next == "" {
			return entries
		}
		q.Cursor = page.Next
	}
	t.Fatal("Logs has always another page")
	return nil
}

// wantLogs reads all pages of a query and compares.
func wantLogs(t testing.TB, a logbuf.Archive, q logbuf.LogQuery, want ...logbuf.Entry) {
	t.Helper()
	if diff := differ(want, readLogs(t, a, q), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Logs (-want +got):\n%s", diff)
	}
}

// allUsage selects the usage of all test entries.
func allUsage(i logbuf.Interval, by ...logbuf.Dimension) logbuf.UsageQuery {
	return logbuf.UsageQuery{GroupBy: by, Interval: i, Since: logDay.AddDate(-1, 0, 0),
		Until: logDay.AddDate(1, 0, 0), Limit: 1000}
}

// readUsage reads all pages of a query.
func readUsage(t testing.TB, a logbuf.Archive, q logbuf.UsageQuery) (rows []logbuf.Usage) {
	t.Helper()
	for range 10_000 {
		page, err := a.Usage(t.Context(), q)
		if err != nil {
			t.Fatalf("Usage: %v", err)
		}
		rows = append(rows, page.Rows...)
		if page.Next == "" {
			return rows
		}
		q.Cursor = page.Next
	}
	t.Fatal("Usage has always another page")
	return nil
}

// maintain runs all tasks of a sink, which forget what is from before a time.
func maintain(ctx context.Context, m logbuf.Maintainer, before time.Time) error {
	results := logbuf.Maintain(ctx, m, logbuf.MaintenanceOptions{Now: time.Now(), Before: before})
	if err := logbuf.MaintenanceError(results); err != nil {
		return err
	}
	return ctx.Err()
}

// wantUsage reads usage and compares.
func wantUsage(t testing.TB, a logbuf.Archive, q logbuf.UsageQuery, want ...logbuf.Usage) {
	t.Helper()
	if diff := differ(want, readUsage(t, a, q), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Usage (-want +got):\n%s", diff)
	}
}

// requests returns how many requests usage counts in all.
func requests(t testing.TB, ctx context.Context, a logbuf.Archive) (n int64) {
	t.Helper()
	usage, err := a.Usage(ctx, allUsage(logbuf.Day))
	if err != nil {
		t.Fatalf("Usage: %v", err)
	}
	for _, u := range usage.Rows {
		n += u.Requests
	}
	return n
}
