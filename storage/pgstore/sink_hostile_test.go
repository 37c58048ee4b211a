package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// hostile are settings that a role may have, each of which has broken somebody's program.
func hostile() []string {
	return []string{
		"datestyle = 'SQL, DMY'", "intervalstyle = 'postgres_verbose'", "timezone = 'Asia/Kathmandu'",
		"bytea_output = 'escape'",
		"extra_float_digits = -15", "default_transaction_isolation = 'serializable'", "default_transaction_read_only = on",
		"default_transaction_deferrable = on", "statement_timeout = '5s'", "lock_timeout = '1ms'",
		"idle_in_transaction_session_timeout = '200ms'", "synchronous_commit = off", "work_mem = '64kB'",
		"enable_hashagg = off",
		"enable_nestloop = off", "jit_above_cost = 0", "row_security = off", "xmloption = document", "lc_messages = 'C'",
		"array_nulls = off", "transform_null_equals = on", "synchronize_seqscans = on",
		"plan_cache_mode = force_generic_plan",
		"standard_conforming_strings = off", "backslash_quote = off", "quote_all_identifiers = on", "exit_on_error = on",
		"gin_fuzzy_search_limit = 1", "plpgsql.extra_errors = 'all'",
	}
}

// hostileSince are settings that older versions of PostgreSQL do not have.
func hostileSince() map[int]string {
	return map[int]string{14: "idle_session_timeout = '1500ms'", 17: "transaction_timeout = '600ms'"}
}

// hostileRole gives a role every hostile setting.
func hostileRole(t *testing.T, admin *pgxpool.Pool, role string) {
	t.Helper()
	settings := hostile()
	version := collect[int](t, admin, `select current_setting('server_version_num')::int / 10000`)[0]
	for since, setting := range hostileSince() {
		if version >= since {
			settings = append(settings, setting)
		}
	}
	for _, setting := range settings {
		execute(t, admin, "alter role "+role+" set "+setting)
	}
}

// A role with every hostile setting, that owns nothing and has no right to temporary tables, stores,
// folds, closes, drops and finds as any other does.
func TestHostileRole(t *testing.T) {
	t.Parallel()
	owned := pgtest.Migrated(t)
	admin := pgtest.Connect(t, owned)
	cfg := leastRights(t, owned)
	execute(t, admin, "revoke temporary on database "+pgx.Identifier{owned.ConnConfig.Database}.Sanitize()+" from public")
	hostileRole(t, admin, cfg.ConnConfig.User)
	pool := pgtest.Connect(t, cfg)
	if got := collect[string](t, pool, `select current_setting('bytea_output')`)[0]; got != "escape" {
		t.Fatalf("bytea_output is %s; the settings do not hold", got)
	}
	doAll(t, cfg, pool)
	takeTime(t, admin, pool)
}

// In a database that is replicated logically as a whole, all that stores and all that forgets works.
func TestPublishedDatabase(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	pool := pgtest.Connect(t, cfg)
	execute(t, pool, "set client_min_messages = error; create publication everything for all tables")
	doAll(t, cfg, pool)
}

// doAll does all that is done with a store and a sink.
func doAll(t *testing.T, cfg *pgxpool.Config, pool *pgxpool.Pool) {
	t.Helper()
	store := open(t, pool, nil)
	if _, err := store.Commit(t.Context(), commit(write(key(1)))); err != nil {
		t.Errorf("commit: %v", err)
	}
	if _, err := store.Commit(t.Context(), commit(write(key(1)))); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("commit what is there: %v; want ErrConflict", err)
	}

	var many []catalog.Write // more than are written one by one
	for i := range 150 {
		many = append(many, write(key(int64(1000+i))))
	}
	if _, err := store.Commit(t.Context(), commit(many...)); err != nil {
		t.Errorf("a commit of many writes: %v", err)
	}
	writeAllElse(t, store)

	sink := newSink(pool)
	var entries []logbuf.Entry
	for n := range 3000 {
		e := logEntry(n)
		e.Error, e.Tags = `\x5c "quoted" \134 é`, map[string]string{"a": "b"}
		entries = append(entries, e)
	}
	segment := uuid.New()
	want(t, sink, logbuf.Batch{Segment: segment, To: 2000, Entries: entries[:2000]}, logbuf.Result{Stored: 2000})
	want(t, sink, logbuf.Batch{Entries: entries[1500:2500]}, logbuf.Result{Stored: 500, Duplicate: 500})
	poisoned := append([]logbuf.Entry{}, entries[2400:]...)
	poisoned[200].Model = "not UTF-8: \xff"
	want(t, sink, logbuf.Batch{Entries: poisoned}, logbuf.Result{Stored: 499, Duplicate: 100, Dead: 1})
	entries = append(entries[:2600], entries[2601:]...)
	if at, err := sink.Checkpoint(t.Context(), segment); err != nil || at != 2000 {
		t.Errorf("checkpoint %d, %v; want 2000", at, err)
	}
	if now, err := sink.Clock(t.Context()); err != nil || time.Since(now).Abs() > time.Minute {
		t.Errorf("clock: %s, %v", now, err)
	}
	before := usageOf(t, sink)
	wantLedger(t, admin2(t, cfg), sink, entries)
	for _, o := range []logbuf.MaintenanceOptions{
		{Now: logDay.Add(30 * time.Hour)},
		{Now: logDay.AddDate(0, 0, 5)},
		{Now: logDay.AddDate(0, 0, 6), UsageBefore: logDay.AddDate(-2, 0, 0)},
	} {
		for _, r := range logbuf.Maintain(t.Context(), sink, o) {
			if r.Err != nil {
				t.Errorf("task %s: %v", r.Name, r.Err)
			}
		}
		if fmt.Sprint(usageOf(t, sink)) != fmt.Sprint(before) {
			t.Error("maintenance changed what usage answers")
		}
	}
	for _, q := range []logbuf.LogQuery{{KeyID: 3}, {RequestID: "request-77"}, {KeyID: 3, Model: "m-1"},
		{Tags: map[string]string{"a": "b"}}} {
		q.Since, q.Until, q.Limit = logDay.AddDate(0, 0, -1), logDay.AddDate(0, 0, 9), 1000
		page, err := sink.Logs(t.Context(), q)
		matching := 0
		for i := range entries {
			if q.Matches(&entries[i]) {
				matching++
			}
		}
		if err != nil || len(page.Entries) != min(matching, 1000) {
			t.Errorf("logs by %+v: %d, %v; want %d", q, len(page.Entries), err, matching)
		}
	}
	used, err := sink.KeyUsage(t.Context(), map[int64][]time.Time{3: {{}}})
	if err != nil || used[3].Spent[0].CostNanoUSD == 0 {
		t.Errorf("usage of a key: %+v, %v", used, err)
	}
	reprice := logbuf.RepriceBatch{
		Run: uuid.New(), Own: true, Price: func(e *logbuf.Entry) { e.CostNanoUSD, e.PricedRevision = new(int64(1)), 5 },
		Query: logbuf.LogQuery{KeyID: 3, Since: logDay, Until: logDay.AddDate(0, 0, 9), Limit: 1000},
	}
	if r, err := sink.Reprice(t.Context(), reprice); err != nil || r.Changed == 0 {
		t.Errorf("reprice: %+v, %v", r, err)
	}
	if used, err := sink.KeyUsage(t.Context(), map[int64][]time.Time{3: {{}}}); err != nil ||
		used[3].Spent[0].CostNanoUSD > 1000 {
		t.Errorf("usage of the key after it was priced anew: %+v, %v", used, err)
	}

	daily := logbuf.UsageQuery{Since: logDay, Until: logDay.AddDate(0, 0, 9)}
	kept, err := sink.Usage(t.Context(), daily)
	if err != nil {
		t.Fatal(err)
	}
	maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay.AddDate(0, 0, 6), UsageBefore: logDay.AddDate(0, 0, 1)})
	if n := count(t, admin2(t, cfg), `select count(*) from usage_quarters where starts < $1`,
		logDay.AddDate(0, 0, 1)); n != 0 {
		t.Errorf("%d quarters of the first day are left", n)
	}
	if page, err := sink.Usage(t.Context(), daily); err != nil || fmt.Sprint(page) != fmt.Sprint(kept) {
		t.Errorf("after quarters were pruned: %+v, %v; want %+v", page, err, kept)
	}
	maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay.AddDate(0, 0, 6), Before: logDay.AddDate(0, 0, 3)})
	if page, err := sink.Logs(t.Context(), logbuf.LogQuery{Since: logDay, Until: logDay.AddDate(0, 0, 3)}); err != nil ||
		len(page.Entries) != 0 {
		t.Errorf("after the days were dropped: %d entries, %v", len(page.Entries), err)
	}
}

// takeTime reads, commits and stores what takes longer than a hostile role lets a transaction last, be
// idle, or wait for a lock.
func takeTime(t *testing.T, admin, pool *pgxpool.Pool) {
	t.Helper()
	const long = 700 * time.Millisecond
	ctx := t.Context()
	store, sink := open(t, pool, nil), newSink(pool)
	if err := store.Read(ctx, func(r catalog.Reader) error {
		time.Sleep(long)
		_, err := r.Count(ctx, catalog.KindKey, catalog.Query{})
		return err
	}); err != nil {
		t.Errorf("read, with a pause: %v", err)
	}
	stored := time.After(long) // the batch before
	_, err := sink.WriteAfter(ctx, logbuf.Batch{Entries: logEntries(9000, 9001)}, func(ctx context.Context) error {
		select {
		case <-stored:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		t.Errorf("store a batch, with a pause: %v", err)
	}

	behind := func(lock, what string, wait time.Duration, do func() error) {
		t.Helper()
		tx, err := admin.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(context.Background()) //nolint:errcheck // it is over by then
		if _, err := tx.Exec(ctx, lock); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- do() }()
		time.Sleep(wait)
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("%s, behind a lock: %v", what, err)
		}
	}
	for n, writes := range [][]catalog.Write{{write(key(101))}, {write(key(102)), write(key(103))}} {
		behind(`select from catalog_head for update`, fmt.Sprint("commit ", n+1), long, func() error {
			_, err := store.Commit(ctx, commit(writes...))
			return err
		})
	}
	behind(`lock table usage_pending in access exclusive mode`, "usage", long/3, func() error {
		_, err := sink.Usage(ctx, logbuf.UsageQuery{Since: logDay, Until: logDay.AddDate(0, 0, 1)})
		return err
	})
	behind(`lock table usage_state in access exclusive mode`, "fold", long, func() error { return sink.Fold(ctx) })
}

// writeAllElse calls whatever of a store writes, but for commits.
func writeAllElse(t *testing.T, store *pgstore.Store) {
	t.Helper()
	for _, n := range []int{1, 5} {
		if _, err := store.NextIDs(t.Context(), n); err != nil {
			t.Errorf("reserve %d ids: %v", n, err)
		}
	}
	if _, err := store.PruneChanges(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Errorf("prune changes: %v", err)
	}
	now := time.Now()
	alert := alerts.Alert{
		Kind: alerts.KeyExpiring, Severity: alerts.Warning, Subject: "key/1", Message: "It expires.", At: now, Identity: "1",
	}
	if n, err := store.RaiseAlerts(t.Context(), []alerts.Alert{alert}); err != nil || n != 1 {
		t.Errorf("raise alerts: %d, %v", n, err)
	}
	claimed, err := store.ClaimAlerts(t.Context(), now.Add(time.Minute), now.Add(time.Hour), 9)
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claim alerts: %v, %v", claimed, err)
	}
	if err := store.SettleAlert(t.Context(), claimed[0].ID, alerts.Outcome{DeliveredAt: now}); err != nil {
		t.Errorf("settle an alert: %v", err)
	}
	if n, err := store.PruneAlerts(t.Context(), now.Add(time.Hour)); err != nil || n != 1 {
		t.Errorf("prune alerts: %d, %v", n, err)
	}
}

// admin2 returns a pool of the same user without the settings that are in the way of a test's own reads.
func admin2(tb testing.TB, cfg *pgxpool.Config) *pgxpool.Pool {
	tb.Helper()
	cfg = cfg.Copy()
	for name, value := range map[string]string{"statement_timeout": "0", "lock_timeout": "0", "datestyle": "ISO"} {
		cfg.ConnConfig.RuntimeParams[name] = value
	}
	return pgtest.Connect(tb, cfg)
}

// A standby, or any connection that only reads, is unavailable: a matter of time, and nobody's data is at fault.
func TestOnlyReads(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	store(t, newSink(pool), logEntry(1))
	execute(t, pool, `create function standby() returns trigger language plpgsql as $$
begin raise exception 'cannot execute INSERT in a read-only transaction' using errcode = '25006'; end $$;
create trigger standby before insert on access_logs for each statement execute function standby()`)
	sink := newSink(pool)
	if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: logEntries(2, 3)}); !errors.Is(err, logbuf.ErrUnavailable) {
		t.Errorf("write: %v; want ErrUnavailable", err)
	}
	if n := count(t, pool, `select count(*) from log_dead_letter`); n != 0 {
		t.Errorf("%d dead letters; want none", n)
	}
	page, err := sink.Logs(t.Context(), logbuf.LogQuery{Since: logDay})
	if err != nil || len(page.Entries) != 1 {
		t.Errorf("read: %d, %v", len(page.Entries), err)
	}
}

// Through a pooler in transaction mode, with few connections, everything works as it does without.
func TestSinkBehindPooler(t *testing.T) {
	t.Parallel()
	direct := pgtest.Migrated(t)
	pool := pgtest.Connect(t, pgtest.Pooler(t, direct, 3))
	open(t, pool, &pgstore.Options{ListenDSN: pgstore.ListenNone})
	sink := pgstore.NewSink(pool, &pgstore.SinkOptions{Logger: slog.New(slog.DiscardHandler)})
	entries := logEntries(0, 2000)
	store(t, sink, entries...)
	want(t, sink, logbuf.Batch{Entries: entries[:50]}, logbuf.Result{Duplicate: 50})
	before := usageOf(t, sink)
	maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay.AddDate(0, 0, 4)})
	if fmt.Sprint(usageOf(t, sink)) != fmt.Sprint(before) {
		t.Error("maintenance changed what usage answers")
	}
	page, err := sink.Logs(t.Context(), logbuf.LogQuery{KeyID: 3, Since: logDay, Limit: 10})
	if err != nil || len(page.Entries) != 10 {
		t.Errorf("logs of a key: %d, %v", len(page.Entries), err)
	}

	segment, poisoned := uuid.New(), logEntries(2000, 2100)
	poisoned[50].Model = "not UTF-8: \xff"
	want(t, sink, logbuf.Batch{Segment: segment, To: 100, Entries: poisoned}, logbuf.Result{Stored: 99, Dead: 1})
	want(t, sink, logbuf.Batch{Segment: segment, To: 100, Entries: poisoned}, logbuf.Result{Duplicate: 100})
	_, err = sink.Write(t.Context(), logbuf.Batch{Segment: segment, From: 150, To: 200, Entries: logEntries(2150, 2200)})
	if behind, ok := errors.AsType[*logbuf.BehindError](err); !ok || behind.Position != 100 {
		t.Errorf("a batch beyond the checkpoint: %v; want that it is at 100", err)
	}
	reprice := logbuf.RepriceBatch{
		Run: uuid.New(), Own: true, Price: func(e *logbuf.Entry) { e.CostNanoUSD, e.PricedRevision = new(int64(7)), 5 },
		Query: logbuf.LogQuery{Since: logDay, Until: logDay.AddDate(0, 0, 9), Limit: 1000},
	}
	for more := true; more; {
		r, err := sink.Reprice(t.Context(), reprice)
		if err != nil {
			t.Fatal(err)
		}
		reprice.Query.Cursor, more = r.Next, r.Next != ""
	}
	var spent int64
	for _, u := range usageOf(t, sink) {
		spent += u.CostNanoUSD
	}
	if spent != 2099*7 {
		t.Errorf("priced anew, usage counts %d; want %d", spent, 2099*7)
	}
}

// A batch that is written beside the one before holds the pooler's only connection when that one needs
// it again, as after a duplicate. Nothing in the database shows that; it gives way all the same.
func TestBatchesGiveWayBehindPooler(t *testing.T) {
	t.Parallel()
	direct := pgtest.Migrated(t)
	open(t, pgtest.Connect(t, direct), nil)
	sink := newSink(pgtest.Connect(t, pgtest.Pooler(t, direct, 1)))
	segment, entries := uuid.New(), logEntries(0, 20)
	first := logbuf.Batch{Segment: segment, To: 10, Entries: entries[:10]}
	second := logbuf.Batch{Segment: segment, From: 10, To: 20, Entries: entries[10:]}

	written, stored, beside := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	announce := sync.OnceFunc(func() { close(written) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() {
		_, err := sink.WriteAfter(ctx, second, func(ctx context.Context) error {
			announce()
			select {
			case <-stored:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		beside <- err
	}()
	<-written
	if r, err := sink.Write(ctx, first); err != nil || r.Stored != 10 {
		t.Errorf("the batch that the other waits for: %+v, %v", r, err)
	}
	close(stored)
	if err := <-beside; err == nil {
		t.Error("the batch beside did not give way")
	}
	want(t, sink, second, logbuf.Result{Stored: 10})
}

// maintainAt runs all tasks, none of which may fail.
func maintainAt(tb testing.TB, s *pgstore.Sink, o logbuf.MaintenanceOptions) {
	tb.Helper()
	for _, r := range logbuf.Maintain(tb.Context(), s, o) {
		if r.Err != nil {
			tb.Errorf("task %s: %v", r.Name, r.Err)
		}
	}
}
