package pgstore_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// tasksSink returns a sink in a database of its own, with entries of some past days.
func tasksSink(tb testing.TB, days ...int) (*pgstore.Sink, *pgxpool.Pool, []logbuf.Entry) {
	tb.Helper()
	pool := pgtest.Pool(tb)
	open(tb, pool, nil)
	sink := newSink(pool)
	var entries []logbuf.Entry
	for n, day := range days {
		e := logEntry(n)
		e.Time = logDay.AddDate(0, 0, day).Add(time.Hour)
		entries = append(entries, e)
	}
	if len(entries) > 0 {
		store(tb, sink, entries...)
	}
	return sink, pool, entries
}

// failing returns the names of the tasks that fail.
func failing(tb testing.TB, s *pgstore.Sink, o logbuf.MaintenanceOptions) (names []string) {
	tb.Helper()
	for _, r := range logbuf.Maintain(tb.Context(), s, o) {
		if r.Err != nil {
			names = append(names, r.Name)
		}
	}
	return names
}

// daysAfter are the names of the partitions of days, and of those that are made ahead.
func daysAfter(days ...int) (names []string) {
	for _, d := range days {
		names = append(names, logDay.AddDate(0, 0, d).Format("20060102"))
	}
	return names
}

func sumOfRequests(tb testing.TB, s *pgstore.Sink) (n int64) {
	tb.Helper()
	page, err := s.Usage(tb.Context(), logbuf.UsageQuery{Since: logDay.AddDate(-1, 0, 0),
		Until: logDay.AddDate(1, 0, 0), Limit: 1000})
	if err != nil {
		tb.Fatal(err)
	}
	for _, u := range page.Rows {
		n += u.Requests
	}
	return n
}

// A fold that fails, for want of disk space, keeps no other task from being done, and says how far it is behind.
func TestFoldFailsAlone(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t, 0, -30)
	maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay.Add(time.Hour)})
	late := logEntry(10)
	late.Time = logDay.Add(2 * time.Hour)
	store(t, sink, late)
	execute(t, pool, `create function full_disk() returns trigger language plpgsql as $$
begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$;
create trigger full_disk before insert on usage_quarters for each row execute function full_disk();
insert into log_dead_letter select gen_random_uuid(), 0, '2026-01-01Z', null, '22000', '', '{}'`)
	o := logbuf.MaintenanceOptions{Now: logDay.Add(3 * time.Hour), Before: logDay.AddDate(0, 0, -7)}
	results := logbuf.Maintain(t.Context(), sink, o)
	for _, r := range results {
		if r.Name == "fold" {
			if r.Err == nil || r.Report.Behind != 2*time.Hour {
				t.Errorf("the fold: %v behind, %v; want two hours, and an error", r.Report.Behind, r.Err)
			}
		} else if r.Err != nil {
			t.Errorf("task %s: %v", r.Name, r.Err)
		}
	}
	if days := partitions(t, pool); !slices.Equal(days, daysAfter(0, 1, 2)) {
		t.Errorf("partitions %v; want the old one to be gone", days)
	}
	if n := count(t, pool, `select count(*) from log_dead_letter`); n != 0 {
		t.Errorf("%d old dead letters are left", n)
	}
	if n := sumOfRequests(t, sink); n != 3 {
		t.Errorf("usage counts %d requests; want 3", n)
	}
	execute(t, pool, `drop trigger full_disk on usage_quarters`)
	maintainAt(t, sink, o)
	if n := count(t, pool, `select count(*) from usage_pending`); n != 0 {
		t.Errorf("%d rows are pending", n)
	}
}

// Rows that cannot be added up are set aside, one by one, and count all the same; the others are folded.
func TestFoldSetsPoisonAside(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t)
	const n = 3000
	entries := logEntries(0, n)
	for _, i := range []int{0, 1700, n - 1} {
		for range 200 { // longer than an index can hold, and not to be compressed
			entries[i].Model += uuid.NewString()
		}
	}
	for i := range entries {
		entries[i].KeyID = int64(i) // a row each
	}
	store(t, sink, entries...)
	o := logbuf.MaintenanceOptions{Now: logDay.AddDate(0, 0, 9)}
	maintainAt(t, sink, o)
	if left := count(t, pool, `select count(*) from usage_pending`); left != 0 {
		t.Errorf("%d rows are pending", left)
	}
	aside := count(t, pool, `select count(*) from usage_aside where sqlstate = '54000' and reason <> ''`)
	if folded := count(t, pool, `select count(*) from usage_quarters`); aside != 3 || folded != n-3 {
		t.Errorf("%d rows are aside and %d folded; want 3 and %d", aside, folded, n-3)
	}
	if got := sumOfRequests(t, sink); got != n {
		t.Errorf("usage counts %d requests; want %d", got, n)
	}
	used, err := sink.KeyUsage(t.Context(), map[int64][]time.Time{1700: {{}}})
	if err != nil || used[1700].Spent[0].CostNanoUSD != *entries[1700].CostNanoUSD {
		t.Errorf("usage of the key that is aside: %+v, %v", used, err)
	}
	sums, err := sink.Spent(t.Context(), logbuf.SpentQuery{Keys: []int64{1700}})
	spent := sums.Keys[1700]
	if err != nil || spent.CostNanoUSD.Int64() != *entries[1700].CostNanoUSD {
		t.Errorf("the key that is aside has spent %s, %v", &spent.CostNanoUSD, err)
	}
	told := count(t, pool, `select count(*) from usage_folds, unnest(key_ids) as key_id where key_id in (0, 1700, 2999)`)
	if told != 2 { // 0 is free
		t.Errorf("%d of the rows that are aside were told", told)
	}
}

// A batch that takes too long is halved until it does not.
func TestFoldHalves(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t)
	store(t, sink, logEntries(0, 500)...)
	execute(t, pool, `create function slow() returns trigger language plpgsql as $$
begin
    if (select count(*) from new_rows) > 20 then raise exception 'too slow' using errcode = '57014'; end if;
    return null;
end $$;
create trigger slow after delete on usage_pending referencing old table as new_rows for each statement execute function slow()`)
	maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay.Add(time.Hour)})
	if left := count(t, pool, `select count(*) from usage_pending`); left != 0 {
		t.Errorf("%d rows are pending", left)
	}
	if n := sumOfRequests(t, sink); n != 500 {
		t.Errorf("usage counts %d requests; want 500", n)
	}
}

// A DEFAULT partition takes what has no other; old entries go from it, too, and nothing stops.
func TestDefaultPartition(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t)
	execute(t, pool, `create table access_logs_default partition of access_logs default`)
	var entries []logbuf.Entry
	for n, day := range []int{0, 1, -30} {
		e := logEntry(n)
		e.Time = logDay.AddDate(0, 0, day).Add(time.Hour)
		entries = append(entries, e)
	}
	store(t, sink, entries...)
	o := logbuf.MaintenanceOptions{Now: logDay.Add(2 * time.Hour), Before: logDay.AddDate(0, 0, -7)}
	for range 2 {
		if names := failing(t, sink, o); names != nil {
			t.Errorf("these tasks fail: %v", names)
		}
	}
	if n := count(t, pool, `select count(*) from access_logs`); n != 2 {
		t.Errorf("%d entries are left; want 2", n)
	}
	late := logEntry(9)
	late.Time = logDay.AddDate(0, 0, 1).Add(5 * time.Hour)
	store(t, sink, late)
	if n := sumOfRequests(t, sink); n != 4 {
		t.Errorf("usage counts %d requests; want 4", n)
	}
}

// A day that was detached for an archive keeps its name; late entries of it have a partition of
// their own, which is dropped
// when it is time.
func TestDetachedPartition(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t, -3)
	execute(t, pool, `alter table access_logs detach partition access_logs_20260311`)
	late := logEntry(9)
	late.Time = logDay.AddDate(0, 0, -3).Add(5 * time.Hour)
	store(t, sink, late)
	maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay})
	if days := partitions(t, pool); !slices.Equal(days, append([]string{"20260311_2"}, daysAfter(0, 1, 2)...)) {
		t.Errorf("partitions %v", days)
	}
	maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay, Before: logDay})
	if days := partitions(t, pool); !slices.Equal(days, daysAfter(0, 1, 2)) {
		t.Errorf("partitions %v; want the second one of the old day to be gone", days)
	}
	if n := count(t, pool, `select count(*) from access_logs_20260311`); n != 1 {
		t.Errorf("the detached table has %d rows; want its one", n)
	}
}

// While somebody reads for long, a run of maintenance holds up writes once, and not once for every old partition.
func TestDropStallsOnce(t *testing.T) {
	t.Parallel()
	days := make([]int, 20)
	for i := range days {
		days[i] = -60 - i
	}
	sink, pool, _ := tasksSink(t, days...)
	store(t, sink, func() logbuf.Entry { e := logEntry(900); e.Time = logDay; return e }())
	reader, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // at the end
	if _, err := reader.Exec(t.Context(), `select count(*) from access_logs`); err != nil {
		t.Fatal(err)
	}
	var waits atomic.Int64 // statements that waited for a lock of a table
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		waiting := false
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			now := count(t, pool, `select count(*) from pg_locks where locktype = 'relation' and not granted
				and database = (select oid from pg_database where datname = current_database())`) > 0
			if now && !waiting {
				waits.Add(1)
			}
			waiting = now
		}
	})
	o := logbuf.MaintenanceOptions{Now: logDay, Before: logDay.AddDate(0, 0, -30)}
	results := logbuf.Maintain(t.Context(), sink, o)
	close(stop)
	watching.Wait()
	if n := waits.Load(); n > 1 {
		t.Errorf("maintenance waited for a table %d times; want once", n)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Errorf("task %s: %v", r.Name, r.Err)
		}
		if r.Name == "drop" && r.Report.Behind < 45*24*time.Hour {
			t.Errorf("the drop is %v behind; want the age of the oldest partition", r.Report.Behind)
		}
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	maintainAt(t, sink, o)
	if left := partitions(t, pool); len(left) != 3 {
		t.Errorf("partitions %v; want the old ones to be gone", left)
	}
}

// Usage that is read while maintenance makes usage_pending small is complete, whatever isolation is the default.
func TestTrimUnderAnyIsolation(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	pool := pgtest.Connect(t, cfg)
	open(t, pool, nil)
	store(t, newSink(pool), logEntries(0, 2)...)
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		cfg := cfg.Copy()
		cfg.ConnConfig.RuntimeParams["default_transaction_isolation"] = isolation
		sink := newSink(pgtest.Connect(t, cfg))
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `lock table usage_pending in access exclusive mode`); err != nil {
			t.Fatal(err)
		}
		got := make(chan int64, 1)
		go func() { got <- sumOfRequests(t, sink) }()
		eventually(t, "the query waits", func() bool {
			return count(t, pool, `select count(*) from pg_locks where relation = 'usage_pending'::regclass and not granted`) > 0
		})
		if _, err := tx.Exec(t.Context(), `insert into usage_quarter_totals select starts, last_at, provider_id, requests, errors, unpriced,
			input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, cost_nano_usd, project, namespace, model, route_group
			from usage_pending; truncate usage_pending`); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := <-got; n != 2 {
			t.Errorf("%s: usage counts %d requests; want 2", isolation, n)
		}
		execute(t, pool, `insert into usage_pending select starts, last_at, 1, provider_id, requests, errors, unpriced,
			input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, cost_nano_usd, project, namespace, model, route_group
			from usage_quarter_totals; truncate usage_quarter_totals`)
	}
}

// No query goes on for ever, however far back it looks.
func TestFarSince(t *testing.T) {
	t.Parallel()
	sink, _, entries := tasksSink(t, 0, -1)
	for _, key := range []int64{entries[0].KeyID, 99} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		page, err := sink.Logs(ctx, logbuf.LogQuery{KeyID: key, Since: time.Unix(0, 0),
			Until: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)})
		cancel()
		if want := map[bool]int{true: 1, false: 0}[key == entries[0].KeyID]; key != 0 && (err != nil ||
			len(page.Entries) != want) {
			t.Errorf("logs of key %d: %d, %v; want %d", key, len(page.Entries), err, want)
		}
	}
	if _, err := sink.Logs(t.Context(), logbuf.LogQuery{KeyID: 1, Since: time.Date(1, 1, 2, 0, 0, 0, 0,
		time.UTC)}); err == nil {
		t.Error("logs since the year 1: no error")
	}
}

// Many queries at once leave connections to writes.
func TestQueriesLeaveConnections(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	cfg.MaxConns = 6
	pool := pgtest.Connect(t, cfg)
	catalogs := open(t, pool, &pgstore.Options{ListenDSN: pgstore.ListenNone})
	sink := newSink(pool)
	store(t, sink, logEntry(1))
	other := pgtest.Connect(t, cfg)
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	//nolint:errcheck // at the end
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `lock table log_blocks in access exclusive mode`); err != nil { // queries of a key wait
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var queries sync.WaitGroup
	for range 40 {
		queries.Go(func() { _, _ = sink.Logs(ctx, logbuf.LogQuery{KeyID: 1, Since: logDay}) })
	}
	eventually(t, "queries wait", func() bool {
		return count(t, other, `select count(*) from pg_locks where relation = 'log_blocks'::regclass and not granted`) == 2
	})
	if _, err := sink.KeyUsage(ctx, map[int64][]time.Time{1: {{}}}); err != nil {
		t.Errorf("what a key has used, beside queries: %v", err)
	}
	for id := range int64(20) {
		begin := time.Now()
		if _, err := catalogs.Commit(t.Context(), commit(write(key(id+1)))); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("a commit took %v beside queries", took)
		}
	}
	cancel()
	queries.Wait()
}
