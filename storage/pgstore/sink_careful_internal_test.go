package pgstore

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

// Of entries that are the same the first stays, and what stays is in the order of time and id.
func TestDistinctEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := make([]logbuf.Entry, rapid.IntRange(0, 50).Draw(t, "entries"))
		first := map[identity]int64{}
		for i := range entries {
			e := &entries[i]
			e.ID = uuid.UUID{byte(rapid.IntRange(1, 5).Draw(t, "id"))}
			e.Time = time.UnixMicro(rapid.Int64Range(-3, 3).Draw(t, "micros")).
				Add(time.Duration(rapid.IntRange(0, 999).Draw(t, "nanos")))
			e.KeyID = int64(i)
			if _, there := first[identityOf(e)]; !there {
				first[identityOf(e)] = e.KeyID
			}
		}
		sorted := distinct(entries)
		if len(sorted) != len(first) {
			t.Fatalf("%d entries, want %d", len(sorted), len(first))
		}
		for i := range sorted {
			at := identityOf(&sorted[i])
			if sorted[i].KeyID != first[at] {
				t.Fatalf("entry %d stays of %v, want %d", sorted[i].KeyID, at, first[at])
			}
			if i == 0 {
				continue
			}
			before := identityOf(&sorted[i-1])
			if before.micros > at.micros || before.micros == at.micros && bytes.Compare(before.id[:], at.id[:]) >= 0 {
				t.Fatalf("%v comes before %v", before, at)
			}
		}
	})
}
