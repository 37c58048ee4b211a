package pgstore_test

import (
	"testing"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
)

// TestUsageWithoutKeysReadsTotals: what names no key is answered by the tables without keys, of quarters and of
// closed days, and has no row of the others. Those are emptied to see it.
func TestUsageWithoutKeysReadsTotals(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	sink := newSink(pool)
	const keys = 200
	for n, day := range []int{-3, 0} { // the first is closed below, the second is not
		entries := logEntries(n*keys, n*keys+keys)
		for i := range entries {
			e, cost := &entries[i], int64(5)
			e.KeyID, e.Project, e.ProviderID, e.Namespace, e.Model, e.Group = int64(i+1), "acme/search", 1, "n", "m", "g"
			e.Time, e.CostNanoUSD = logDay.AddDate(0, 0, day).Add(time.Hour), &cost
		}
		store(t, sink, entries...)
	}
	maintain(t, sink, time.Time{})
	now := logDay.Add(2 * time.Hour)
	if failed := failing(t, sink, logbuf.MaintenanceOptions{Now: now}); len(failed) > 0 {
		t.Fatalf("tasks fail: %v", failed)
	}
	for _, table := range []string{"usage_quarter_totals", "usage_day_totals"} {
		if n := count(t, pool, `select count(*) from `+table); n == 0 || n > 4 {
			t.Errorf("%s has %d rows for %d keys", table, n, keys)
		}
	}
	ask := func(f logbuf.UsageFilter, by ...logbuf.Dimension) (requests int64) {
		t.Helper()
		page, err := sink.Usage(t.Context(), logbuf.UsageQuery{UsageFilter: f, GroupBy: by, Interval: logbuf.Month,
			Since: logDay.AddDate(0, 0, -10), Until: logDay.AddDate(0, 0, 1), Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page.Rows {
			requests += u.Requests
		}
		return requests
	}
	if n := ask(logbuf.UsageFilter{}, logbuf.ByKey); n != 2*keys {
		t.Errorf("by key there are %d requests", n)
	}
	seen := map[logbuf.Usage]bool{} // pages by key begin at the first interval with usage, and go on over the gap
	for q := (logbuf.UsageQuery{GroupBy: []logbuf.Dimension{logbuf.ByKey}, Since: logDay.AddDate(0, 0, -10),
		Until: logDay.AddDate(0, 0, 1), Limit: 30}); ; {
		page, err := sink.Usage(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page.Rows {
			if seen[logbuf.Usage{Start: u.Start, KeyID: u.KeyID}] || u.Requests != 1 {
				t.Errorf("again, or wrong: %+v", u)
			}
			seen[logbuf.Usage{Start: u.Start, KeyID: u.KeyID}] = true
		}
		if q.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	if len(seen) != 2*keys {
		t.Errorf("the pages by key have %d rows; want %d", len(seen), 2*keys)
	}
	execute(t, pool, `truncate usage_quarters, usage_days`)
	for name, n := range map[string]int64{
		"all":      ask(logbuf.UsageFilter{}),
		"by model": ask(logbuf.UsageFilter{}, logbuf.ByModel, logbuf.ByProject),
		"project":  ask(logbuf.UsageFilter{Project: "acme"}),
	} {
		if n != 2*keys {
			t.Errorf("%s: %d requests without the tables with keys; want %d", name, n, 2*keys)
		}
	}
	if n := ask(logbuf.UsageFilter{}, logbuf.ByKey) + ask(logbuf.UsageFilter{KeyIDs: []int64{7}}); n != 0 {
		t.Errorf("what names keys is answered by the tables without: %d requests", n)
	}
	spent, err := sink.Spent(t.Context(), logbuf.SpentQuery{Since: logDay.AddDate(0, 0, -10),
		Until: logDay.AddDate(0, 0, 1), Projects: []string{"acme"}})
	if err != nil {
		t.Fatal(err)
	}
	if sum := spent.Projects["acme"]; sum.CostNanoUSD.Int64() != 2*keys*5 {
		t.Errorf("the project has spent %s", &sum.CostNanoUSD)
	}
	// Quarters that are pruned go from both.
	failed := failing(t, sink, logbuf.MaintenanceOptions{Now: now, UsageBefore: logDay})
	if n := count(t, pool, `select count(*) from usage_quarter_totals where starts < $1`, logDay); n != 0 || len(failed) > 0 {
		t.Errorf("%d quarters are left; tasks fail: %v", n, failed)
	}
}
