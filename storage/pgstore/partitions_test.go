package pgstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/logbuf"
)

// A partition goes when all that it may hold is too old, whatever it is called.
func TestPartitionIsWhatItsBoundsSay(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t)
	execute(t, pool, `
create table access_logs_20260309 partition of access_logs for values from ('2026-03-09Z') to ('2026-03-16Z');
create table access_logs_of_2025 partition of access_logs for values from ('2025-01-01Z') to ('2026-01-01Z');
create table access_logs_before partition of access_logs for values from (minvalue) to ('2025-01-01 05:45+05:45');
create table access_logs_20200101 partition of access_logs for values from ('2027-01-01Z') to (maxvalue);
create table access_logs_20200102 partition of access_logs default;
create table access_logs_20200103 (like access_logs)`)
	late := logEntry(0)
	late.Time = logDay.AddDate(0, 0, 1).Add(23 * time.Hour) // at the end of the week that begins on the 9th
	store(t, sink, late)
	ours := []string{"20260316", "20260317", "20260318"}
	for _, step := range []struct {
		before time.Time
		want   []string
	}{
		{time.Time{}, []string{"20200101", "20200102", "20260309", "before", "of_2025"}},
		{time.Date(2025, 12, 31, 23, 59, 59, 0, time.UTC), []string{"20200101", "20200102", "20260309", "of_2025"}},
		{logDay.AddDate(0, 0, 2).Add(-time.Second), []string{"20200101", "20200102", "20260309"}},
		{logDay.AddDate(0, 0, 2), []string{"20200101", "20200102"}},
	} {
		maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay.AddDate(0, 0, 2), Before: step.before})
		want := slices.Sorted(slices.Values(append(step.want, ours...)))
		if diff := cmp.Diff(want, partitions(t, pool)); diff != "" {
			t.Errorf("partitions when all before %s goes (-want +got):\n%s", step.before, diff)
		}
	}
	if n := count(t, pool, `select count(*) from pg_class where relname = 'access_logs_20200103'`); n != 1 {
		t.Error("a table that is no partition was dropped")
	}
}

// Bounds that are not times tell nothing of the age of what is there.
func TestPartitionOfOtherBoundsStays(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t)
	execute(t, pool, `
alter table access_logs rename to former;
create table access_logs (like former including all) partition by range (ts, id);
create table access_logs_20200101 partition of access_logs
    for values from ('2020-01-01Z', minvalue) to ('2020-01-02Z', minvalue);
grant select, insert on access_logs to public`)
	names := failing(t, sink, logbuf.MaintenanceOptions{Now: logDay, Before: logDay})
	if !slices.Equal(names, []string{"partitions"}) {
		t.Errorf("these tasks fail: %v; want only the one that makes partitions by the time alone", names)
	}
	if days := partitions(t, pool); !slices.Equal(days, []string{"20200101"}) {
		t.Errorf("partitions %v; want the one to stay", days)
	}
}

// Where partitions of somebody else's hold parts of a day, as those of local weeks do, what is
// between them gets partitions, and every entry is stored.
func TestGapsOfADay(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t)
	execute(t, pool, `
create table week_1 partition of access_logs for values from ('2026-03-07 00:00+01') to ('2026-03-14 00:00+01');
create table hour_7 partition of access_logs for values from ('2026-03-14 07:00Z') to ('2026-03-14 08:00Z');
create table week_2 partition of access_logs for values from ('2026-03-15 00:00+01') to ('2026-03-22 00:00+01')`)
	entries := logEntries(0, 3*24*60)
	store(t, sink, entries...)
	wantLedger(t, pool, sink, entries)
	maintain(t, sink, time.Time{})
	got := collect[string](t, pool, `
select relname || ' ' || to_char(since at time zone 'UTC', 'DD HH24') || ' ' ||
    to_char(until at time zone 'UTC', 'DD HH24')
from ezapi_log_partitions() join pg_class on oid = partition
where relname like 'access%' and since < '2026-03-17Z' order by since`)
	want := []string{"access_logs_20260314 14 00 14 07", "access_logs_20260314_2 14 08 14 23"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
}

// A partition that is being detached is the archive's already.
func TestPartitionThatIsBeingDetachedStays(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t, -9)
	execute(t, pool, `update pg_inherits set inhdetachpending = true where inhrelid = 'access_logs_20260305'::regclass`)
	maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay, Before: logDay})
	if days := partitions(t, pool); !slices.Equal(days, append([]string{"20260305"}, daysAfter(0, 1, 2)...)) {
		t.Errorf("partitions %v; want the one of the old day to stay", days)
	}
}
