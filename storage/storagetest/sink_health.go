package storagetest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

func aHealthKeeper(h SinkHarness) string {
	if _, ok := h.Sink.(logbuf.HealthKeeper); !ok {
		return "keeps no notes of the health of providers"
	}
	return ""
}

// healthNote is what a writer noted of slot n.
func healthNote(writer uuid.UUID, n int, body string) logbuf.HealthNote {
	return logbuf.HealthNote{Writer: writer, Slot: logDay.Add(time.Duration(n) * logbuf.HealthSlot), Body: []byte(body)}
}

// wantHealth compares the notes since slot n.
func wantHealth(t testing.TB, k logbuf.HealthKeeper, n int, want ...logbuf.HealthNote) {
	t.Helper()
	got, err := k.HealthNotes(t.Context(), logDay.Add(time.Duration(n)*logbuf.HealthSlot))
	if err != nil {
		t.Fatalf("HealthNotes: %v", err)
	}
	for _, notes := range [][]logbuf.HealthNote{got, want} {
		slices.SortFunc(notes, func(a, b logbuf.HealthNote) int {
			return cmp.Or(a.Slot.Compare(b.Slot), bytes.Compare(a.Writer[:], b.Writer[:]))
		})
	}
	if len(want)+len(got) == 0 {
		return
	}
	// Byte by byte, as it would without the comparer, large notes take it minutes.
	if diff := differ(want, got, gocmp.Comparer(bytes.Equal)); diff != "" {
		t.Errorf("notes since slot %d (-want +got):\n%s", n, diff)
	}
}

// testHealthNotes: a note takes the place of the writer's own of that slot and of no other, all
// processes read the notes of all, and old ones are forgotten.
func testHealthNotes(t testing.TB, h SinkHarness) {
	one, ok := h.Second.(logbuf.HealthKeeper)
	if !ok {
		t.Fatal("the second handle keeps no notes")
	}
	k, ctx := h.Sink.(logbuf.HealthKeeper), t.Context()
	a, b := uuid.New(), uuid.New()
	keep := func(k logbuf.HealthKeeper, before int, notes ...logbuf.HealthNote) {
		t.Helper()
		if err := k.KeepHealth(ctx, logDay.Add(time.Duration(before)*logbuf.HealthSlot), notes...); err != nil {
			t.Fatalf("KeepHealth: %v", err)
		}
	}
	wantHealth(t, k, 0)
	keep(k, 0, healthNote(a, 1, "a1"), healthNote(a, 2, "a2"))
	keep(one, 0, healthNote(b, 2, "b2\x00\xff"))
	wantHealth(t, k, 0, healthNote(a, 1, "a1"), healthNote(a, 2, "a2"), healthNote(b, 2, "b2\x00\xff"))
	keep(k, 0, healthNote(a, 2, "a2 again"), healthNote(a, 3, ""))
	wantHealth(t, one, 2, healthNote(a, 2, "a2 again"), healthNote(b, 2, "b2\x00\xff"), healthNote(a, 3, ""))
	wantHealth(t, one, 3, healthNote(a, 3, ""))
	wantHealth(t, one, 4)
	keep(one, 3)
	wantHealth(t, k, 0, healthNote(a, 3, ""))

	large := healthNote(b, 4, string(bytes.Repeat([]byte{0xA5}, logbuf.MaxHealthNote)))
	keep(k, 0, large)
	wantHealth(t, one, 4, large)

	body := []byte("mine")
	keep(k, 5, logbuf.HealthNote{Writer: a, Slot: large.Slot.Add(logbuf.HealthSlot), Body: body})
	body[0] = 'X'
	wantHealth(t, k, 0, healthNote(a, 5, "mine"))
	notes, err := k.HealthNotes(ctx, logDay)
	if err != nil || len(notes) != 1 {
		t.Fatalf("%d notes, %v", len(notes), err)
	}
	notes[0].Body[0] = 'X'
	wantHealth(t, k, 0, healthNote(a, 5, "mine"))

	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := k.KeepHealth(ended, logDay, healthNote(a, 6, "late")); err == nil {
		t.Error("KeepHealth outlives its context")
	}
	if _, err := k.HealthNotes(ended, logDay); err == nil {
		t.Error("HealthNotes outlives its context")
	}
	wantHealth(t, k, 6)
}

// testHealthWriters: processes that note and forget at the same time are not in each other's way.
func testHealthWriters(t testing.TB, h SinkHarness) {
	k := h.Sink.(logbuf.HealthKeeper)
	var all sync.WaitGroup
	writers := make([]uuid.UUID, 4)
	for i := range writers {
		writers[i] = uuid.New()
		all.Go(func() {
			for n := range 10 {
				before := logDay.Add(time.Duration(n-2) * logbuf.HealthSlot)
				if err := k.KeepHealth(t.Context(), before, healthNote(writers[i], n, fmt.Sprint(n))); err != nil {
					t.Errorf("KeepHealth beside others: %v", err)
				}
			}
		})
	}
	all.Wait()
	var want []logbuf.HealthNote
	for _, w := range writers {
		want = append(want, healthNote(w, 9, "9"))
	}
	wantHealth(t, k, 9, want...)
}
