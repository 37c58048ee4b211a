package storagetest

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// testSinkPoison: an entry that the engine refuses goes to the dead letters,
// and keeps none of its neighbours from being stored.
func testSinkPoison(t testing.TB, h SinkHarness) {
	segment := uuid.New()
	from := 0
	for _, poisoned := range [][]int{{0}, {99}, {0, 99}, {17}, {41, 42, 43, 77}} {
		b := spooled(segment, from, from+100)
		var stored []logbuf.Entry
		for i := range b.Entries {
			if !slices.Contains(poisoned, i) {
				stored = append(stored, b.Entries[i])
				continue
			}
			h.Poison(t, &b.Entries[i])
		}
		wantWrite(t, h.Sink, b, logbuf.Result{Stored: len(stored), Dead: len(poisoned)})
		q := everything()
		q.Since, q.Until = stored[0].Time, stored[len(stored)-1].Time.Add(1e9)
		wantLogs(t, h.Archive, q, newest(stored...)...)
		for _, i := range poisoned {
			wantDead(t, h, b.Entries[i].ID)
		}

		// The batch moved the checkpoint, all the same.
		wantWrite(t, h.Sink, b, logbuf.Result{Duplicate: 100})
		from += 100
	}
	if got, want := requests(t, t.Context(), h.Archive), int64(500-9); got != want {
		t.Errorf("usage counts %d requests; want %d, those that are stored", got, want)
	}
}

// testSinkPoisonDuplicates: without a checkpoint, dead entries come again with
// those that are stored.
func testSinkPoisonDuplicates(t testing.TB, h SinkHarness) {
	entries := logEntries(0, 40)
	h.Poison(t, &entries[7])
	h.Poison(t, &entries[30])
	mustStore(t, h.Sink, entries[20:30]...)
	wantWrite(t, h.Sink, memory(entries...), logbuf.Result{Stored: 28, Duplicate: 10, Dead: 2})
	wantWrite(t, h.Second, memory(entries...), logbuf.Result{Duplicate: 38, Dead: 2})
	wantWrite(t, h.Sink, memory(entries[7]), logbuf.Result{Dead: 1})
	wantDead(t, h, entries[7].ID)
	wantDead(t, h, entries[30].ID)
	if got := requests(t, t.Context(), h.Archive); got != 38 {
		t.Errorf("usage counts %d requests; want 38", got)
	}
	mustStore(t, h.Sink, logEntry(50))
}

// wantDead fails unless the entry is in the dead letters once.
func wantDead(t testing.TB, h SinkHarness, id uuid.UUID) {
	t.Helper()
	if n := h.Dead(t, id); n != 1 {
		t.Errorf("the refused entry is in the dead letters %d times; want once", n)
	}
}
