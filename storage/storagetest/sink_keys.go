package storagetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ez-api/ez-api/logbuf"
)

// testKeyUsage: each key has times of its own since which its cost counts,
// the last use counts always, to the minute and whatever comes after it, and maintenance changes neither.
func testKeyUsage(t testing.TB, h SinkHarness) {
	at := func(key int64, hours int, cost int64) func(*logbuf.Entry) {
		return func(e *logbuf.Entry) {
			e.KeyID, e.Time, e.CostNanoUSD = key, logDay.Add(time.Duration(hours)*time.Hour+17*time.Minute+42*time.Second), &cost
		}
	}
	unpriced := func(e *logbuf.Entry) { e.CostNanoUSD = nil }
	mustStore(t, h.Sink,
		logEntry(1, at(1, 0, 5)), logEntry(2, at(1, 3, 70)), logEntry(3, at(1, 3, 1)), logEntry(4, at(1, 30, 900)),
		logEntry(5, at(2, 1, 11), unpriced), logEntry(6, at(3, 2, 4)), logEntry(7, at(4, 2, 1<<62)),
		logEntry(8, at(4, 3, 1<<62)), logEntry(10, at(6, 2, 7)),
	)
	before := func(e *logbuf.Entry) { e.Time = e.Time.Add(-2 * time.Minute) } // in the same quarter of an hour
	mustStore(t, h.Sink, logEntry(9, at(1, 3, 2000)), logEntry(11, at(6, 2, 9), before))
	ask := map[int64][]time.Time{
		// Cut to the quarter of an hour; in no order.
		1: {logDay.Add(3*time.Hour + 29*time.Minute), {}, logDay.Add(20 * time.Hour), logDay.Add(99 * time.Hour)},
		2: {{}}, 4: {{}},
		3: {logDay.Add(5 * time.Hour)}, // after its last use
		5: {{}},                        // never used
		6: nil,                         // when it was used is all that is asked
	}
	used := func(hours int) time.Time { return logDay.Add(time.Duration(hours)*time.Hour + 17*time.Minute) }
	want := map[int64]logbuf.KeyUsage{
		1: {LastUsed: used(30), Spent: []logbuf.Spent{
			{CostNanoUSD: 70 + 1 + 900 + 2000}, {CostNanoUSD: 5 + 70 + 1 + 900 + 2000}, {CostNanoUSD: 900}, {},
		}},
		2: {LastUsed: used(1), Spent: []logbuf.Spent{{Unpriced: 1}}},
		3: {LastUsed: used(2), Spent: []logbuf.Spent{{}}},
		// As far as it can be told.
		4: {LastUsed: used(3), Spent: []logbuf.Spent{{CostNanoUSD: 1<<63 - 1}}},
		6: {LastUsed: used(2)},
	}
	check := func(when string) {
		t.Helper()
		got, err := h.Archive.KeyUsage(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		if diff := differ(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("KeyUsage %s (-want +got):\n%s", when, diff)
		}
	}
	check("at first")
	if m, ok := h.Sink.(logbuf.Maintainer); ok {
		if err := maintain(t.Context(), m, time.Time{}); err != nil {
			t.Fatal(err)
		}
		check("after maintenance")
	}
	got, err := h.Archive.KeyUsage(t.Context(), nil)
	if diff := differ(map[int64]logbuf.KeyUsage{}, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("KeyUsage of no keys: %v, %s", err, diff)
	}
}
