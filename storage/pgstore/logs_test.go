package pgstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// A key with a second filter is found by the better of two ways, or nearly: to look up the entries of
// the key one by one, or to pass over all. Which one that is depends on how many of the entries are the
// key's. With -long the times are compared, too: at most twice that of the better way.
func TestSecondFilters(t *testing.T) {
	if !*long {
		t.Parallel()
	}
	entries := scaled(30_000, 200_000)
	now := logDay.Add(22 * time.Hour)
	sink, pool := sinkAt(t, &now)
	shares := []float64{0.3, 0.1, 0.048, 0.03, 0.02, 0.01, 0.004}
	var batch []logbuf.Entry
	for n := range entries {
		e := logEntry(n)
		e.Time, e.KeyID = logDay.Add(time.Duration(n)*22*time.Hour/time.Duration(entries)), int64(1000+n%97)
		e.Model = fmt.Sprint("m-", n%2)
		at := float64(n*7919%entries) / float64(entries)
		for i, share := range shares {
			if at -= share; at < 0 {
				e.KeyID = int64(1 + i)
				break
			}
		}
		if batch = append(batch, e); len(batch) == 5000 || n == entries-1 {
			store(t, sink, batch...)
			batch = batch[:0]
		}
	}
	execute(t, pool, `vacuum analyze access_logs, log_blocks`)
	for i, share := range shares {
		for name, q := range map[string]logbuf.LogQuery{
			"nothing":  {Status: 599},
			"no user":  {User: "x"},
			"no tag":   {Tags: map[string]string{"a": "b"}},
			"half":     {Model: "m-0"},
			"failures": {Errors: true},
		} {
			q.KeyID, q.Limit, q.Since, q.Until = int64(1+i), 100, logDay, now
			looked, passed, err := sink.Look(t.Context(), q, nil)
			if err != nil {
				t.Fatal(err)
			}
			// What is looked up before it is known how common the key is takes little.
			if most := entries / 30; looked > most && passed || share > 0.04 && looked > most {
				t.Errorf("a key with %.1f %% of the entries and %s: %d of them were looked up one by one; want at most %d",
					100*share, name, looked, most)
			}
			if share < 0.02 && passed {
				t.Errorf("a key with %.1f %% of the entries and %s: all others were passed over", 100*share, name)
			}
			if *long {
				compareWays(t, sink, fmt.Sprintf("a key with %.1f %% of the entries and %s", 100*share, name), q)
			}
		}
	}
}

// compareWays compares the time that a query takes with those of the two ways that it can take.
func compareWays(t *testing.T, sink *pgstore.Sink, name string, q logbuf.LogQuery) {
	t.Helper()
	best := [3]time.Duration{time.Hour, time.Hour, time.Hour}
	for range 15 {
		for way, dense := range []func(int, int64) bool{
			func(int, int64) bool { return false }, func(int, int64) bool { return true }, nil,
		} {
			begin := time.Now()
			if _, _, err := sink.Look(t.Context(), q, dense); err != nil {
				t.Fatal(err)
			}
			best[way] = min(best[way], time.Since(begin))
		}
	}
	t.Logf("%s: one by one %v, passing over all %v, as chosen %v", name, best[0], best[1], best[2])
	if best[2] > 2*min(best[0], best[1])+time.Millisecond {
		t.Errorf("%s takes %v; one by one %v, passing over all %v", name, best[2], best[0], best[1])
	}
}
