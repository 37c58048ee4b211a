package pgstore

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

// Entries are written in the order of time, those of one time as they came. Those in order keep it, however far apart
// they are.
func TestByTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		centuries := rapid.Bool().Draw(t, "centuries")
		micros := rapid.Int64Range(0, 50*365*86400e6) // 50 years
		if centuries {
			micros = rapid.Int64()
		}
		times := rapid.SliceOf(micros).Draw(t, "times")
		if centuries {
			slices.Sort(times)
		}
		entries := make([]logbuf.Entry, len(times))
		want := make([]uint64, len(times))
		for i := range times {
			entries[i].Time, want[i] = time.UnixMicro(times[i]), uint64(i)
		}
		slices.SortStableFunc(want, func(a, b uint64) int { return entries[a].Time.Compare(entries[b].Time) })
		if got := byTime(entries); !slices.Equal(got, want) {
			t.Fatalf("the order of %v is %v; want %v", times, got, want)
		}
	})
}
