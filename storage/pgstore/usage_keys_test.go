package pgstore_test

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// What keys have used is one pass: no part of the plan runs more often than there are keys, and what
// is pending, which has no index, is read once for all of them.
func TestUsageOfKeysIsOnePass(t *testing.T) {
	t.Parallel()
	pool := pgtest.Connect(t, pgtest.Migrated(t))
	open(t, pool, nil)
	sink := newSink(pool)
	store(t, sink, logEntries(0, 2000)...)
	maintain(t, sink, time.Time{})
	store(t, sink, logEntries(2000, 2600)...)
	ids := []int64{0, 1, 2, 3, 4, 5, 6}
	times := make([]time.Time, len(ids))
	for i := range times {
		times[i] = logDay
	}
	plan := collect[string](t, pool, `explain (analyze, costs off, timing off) `+pgstore.SQLKeyUsage,
		ids, ids, times, times, times)
	loops, pending := regexp.MustCompile(`loops=(\d+)`), regexp.MustCompile(`usage_pending.*loops=(\d+)`)
	seen := false
	for _, line := range plan {
		if m := loops.FindStringSubmatch(line); m != nil {
			if n, err := strconv.Atoi(m[1]); err != nil || n > len(ids) {
				t.Errorf("for %d keys: %s", len(ids), line)
			}
		}
		if m := pending.FindStringSubmatch(line); m != nil {
			seen = true
			if m[1] != "1" {
				t.Errorf("what is pending is read more than once: %s", line)
			}
		}
	}
	if !seen {
		t.Errorf("the plan has no usage_pending: %v", plan)
	}
}
