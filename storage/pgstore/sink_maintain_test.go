package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	ezapi "github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// sinkAt returns a sink on whose clock it is a time, in a database of its own.
func sinkAt(tb testing.TB, at *time.Time) (*pgstore.Sink, *pgxpool.Pool) {
	tb.Helper()
	pool := pgtest.Pool(tb)
	open(tb, pool, nil)
	return pgstore.NewSink(pool, &pgstore.SinkOptions{
		Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time { return *at },
	}), pool
}

// Nothing that usage answers changes when what is pending is folded, nor when
// the entries themselves are gone.
func TestUsageOutlivesFoldAndDrop(t *testing.T) {
	t.Parallel()
	now := logDay.AddDate(0, 0, 4).Add(time.Hour)
	sink, pool := sinkAt(t, &now)
	const n = 4 * 24 * 60 // one a minute, for four days
	for from := 0; from < n; from += 480 {
		store(t, sink, logEntries(from, from+480)...)
	}
	before := usageOf(t, sink)
	if len(before) < 1000 {
		t.Fatalf("usage has %d rows; want many", len(before))
	}
	same := func(when string) {
		t.Helper()
		if diff := cmp.Diff(before, usageOf(t, sink)); diff != "" {
			t.Errorf("usage %s (-want +got):\n%s", when, diff)
		}
	}
	tables := func(when string, pending, hourly bool) {
		t.Helper()
		p, h := count(t, pool, `select count(*) from usage_pending`), count(t, pool, `select count(*) from usage_quarters`)
		if p > 0 != pending || h > 0 != hourly {
			t.Errorf("%s usage_pending has %d rows and usage_quarters %d", when, p, h)
		}
	}

	tables("before folding", true, false)
	maintain(t, sink, time.Time{})
	tables("after folding", false, true)
	same("after folding")
	if rows := count(t, pool, `select count(*) from access_logs`); rows != n {
		t.Errorf("folding left %d entries of %d", rows, n)
	}
	wantPartitions(t, pool, logDay, 4+1+2) // today's and two more

	maintain(t, sink, logDay.AddDate(0, 0, 2).Add(23*time.Hour))
	wantPartitions(t, pool, logDay.AddDate(0, 0, 2), 5)
	same("after two partitions were dropped")
	if rows := count(t, pool, `select count(*) from access_logs`); rows != n/2 {
		t.Errorf("%d entries are left; want %d", rows, n/2)
	}

	// What is left is known, and adds to usage when folded again.
	want(t, sink, logbuf.Batch{Entries: logEntries(n/2, n/2+100)}, logbuf.Result{Duplicate: 100})
	same("after duplicates")
	more := logEntries(n-50, n+50)
	want(t, sink, logbuf.Batch{Entries: more}, logbuf.Result{Stored: 50, Duplicate: 50})
	tables("with more", true, true)
	before = usageOf(t, sink)
	maintain(t, sink, logDay.AddDate(0, 0, 4))
	tables("after folding more", false, true)
	same("after folding more")
	wantPartitions(t, pool, logDay.AddDate(0, 0, 4), 3)
}

// More than one transaction's worth is folded at once.
func TestFoldMany(t *testing.T) {
	t.Parallel()
	now := logDay
	sink, pool := sinkAt(t, &now)
	n := scaled(60_000, 1_000_000)
	if _, err := pool.Exec(t.Context(), `
insert into usage_pending select '2026-03-14Z'::timestamptz + i % 24 * interval '1 hour', '2026-03-14Z', i % 100, 1, 1, 0, 0, i, 0, 0, 1, i, '', 'default', 'm', ''
from generate_series(1, $1::int) as i`, n); err != nil {
		t.Fatal(err)
	}
	before := usageOf(t, sink)
	start := time.Now()
	maintain(t, sink, time.Time{})
	t.Logf("folded %d rows in %v", n, time.Since(start).Round(time.Millisecond))
	if pending := count(t, pool, `select count(*) from usage_pending`); pending != 0 {
		t.Errorf("%d rows are pending; want none", pending)
	}
	if diff := cmp.Diff(before, usageOf(t, sink)); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}

// Partitions are there before their day begins, so that no write makes one.
func TestPartitionsAhead(t *testing.T) {
	t.Parallel()
	now := logDay.Add(24*time.Hour - time.Second)
	sink, pool := sinkAt(t, &now)
	for day := range 4 {
		maintain(t, sink, time.Time{})
		wantPartitions(t, pool, logDay, day+3)
		now = now.AddDate(0, 0, 1)
	}
	store(t, sink, logEntries(0, 5*24*60)...)
	wantPartitions(t, pool, logDay, 6)
}

// Only one does maintenance at a time, and the others go on without waiting.
func TestMaintainAlone(t *testing.T) {
	t.Parallel()
	now := logDay.AddDate(0, 0, 2)
	sink, pool := sinkAt(t, &now)
	store(t, sink, logEntries(0, 10)...)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	const usageLock = 0x65_7a_61_70_69_11 // "ezapi", 17
	if _, err := tx.Exec(t.Context(), `select pg_advisory_xact_lock($1)`, int64(usageLock)); err != nil {
		t.Fatal(err)
	}
	pending := count(t, pool, `select count(*) from usage_pending`)
	maintain(t, sink, now)
	if n := count(t, pool, `select count(*) from usage_pending`); n != pending || n == 0 {
		t.Errorf("%d rows of usage are pending while another folds; want %d", n, pending)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	maintain(t, sink, now)
	wantPartitions(t, pool, now, 3)
	if n := count(t, pool, `select count(*) from usage_pending`); n != 0 {
		t.Errorf("%d rows of usage are pending after a fold", n)
	}
}

// A partition that somebody reads is dropped another time; who writes or reads
// meanwhile is not held up for long.
func TestDropPartitionInUse(t *testing.T) {
	t.Parallel()
	now := logDay.AddDate(0, 0, 3)
	sink, pool := sinkAt(t, &now)
	store(t, sink, logEntries(0, 2*24*60)...)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `select count(*) from access_logs_20260314`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- tryMaintain(t.Context(), sink, now) }()
	for n := 10_000; ; n++ {
		start := time.Now()
		store(t, sink, logEntry(n))
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("a write took %v beside maintenance", took)
		}
		select {
		case err = <-done:
		default:
			continue
		}
		break
	}
	if err != nil {
		t.Errorf("maintain: %v; want it to leave what is in use", err)
	}
	if days := partitions(t, pool); days[0] != "20260314" || days[1] != "20260315" {
		t.Errorf("partitions %v; want both to stay: who waits again and again holds up all writes", days)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	maintain(t, sink, now)
	if days := partitions(t, pool); days[0] == "20260314" || days[0] == "20260315" {
		t.Errorf("partitions %v; want both to go", days)
	}
}

// A plane maintains the sink that it is given.
func TestPlaneMaintains(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	sink := newSink(pool)
	now := time.Now().UTC()
	entries := logEntries(0, 300)
	for i := range entries {
		entries[i].Time = now.AddDate(0, 0, -5*(i%3)) // today, and 5 and 10 days ago
	}
	store(t, sink, entries...)
	plane, err := ezapi.New(ezapi.Config{LogSink: sink, LogRetention: 7 * 24 * time.Hour,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(ctx) }()
	old := now.AddDate(0, 0, -10).Format("20060102")
	eventually(t, "usage is folded, and the old partition dropped", func() bool {
		return count(t, pool, `select count(*) from usage_pending`) == 0 && !slices.Contains(partitions(t, pool), old)
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if err := plane.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if rows := count(t, pool, `select count(*) from access_logs`); rows != 200 {
		t.Errorf("%d entries are left; want 200", rows)
	}
	if used := count(t, pool, `select sum(requests)::bigint from usage_quarters`); used != 300 {
		t.Errorf("usage counts %d requests; want 300", used)
	}
}

// Without its tables the sink is paused, and says so.
func TestMaintainPaused(t *testing.T) {
	t.Parallel()
	sink := newSink(pgtest.Connect(t, pgtest.Config(t)))
	if err := tryMaintain(t.Context(), sink, logDay); !errors.Is(err, logbuf.ErrPaused) {
		t.Errorf("maintain without tables: %v; want ErrPaused", err)
	}
}

// bloat fills usage_pending with more than it may keep, which adds up to nothing.
const bloat = `
insert into usage_pending select starts, starts, key_id, provider_id, 0, 0, 0, 0, 0, 0, 0, 0, project, namespace, model, route_group
from (select starts, key_id, provider_id, project, namespace, model, route_group from usage_pending
    union all select starts, key_id, provider_id, project, namespace, model, route_group from usage_quarters limit 1) as one,
    generate_series(1, 80000)`

// The file in which every query of usage has to look becomes small again, once
// nobody uses it.
func TestPendingIsTrimmed(t *testing.T) {
	t.Parallel()
	now := logDay.Add(time.Hour)
	sink, pool := sinkAt(t, &now)
	size := func() int64 { return count(t, pool, `select pg_relation_size('usage_pending')`) }
	store(t, sink, logEntries(0, 100)...)
	before := usageOf(t, sink)
	execute(t, pool, bloat)
	if size() < 8<<20 {
		t.Fatalf("usage_pending has only %d bytes", size())
	}

	reader, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // at the latest
	if _, err := reader.Exec(t.Context(), `select from usage_pending limit 1`); err != nil {
		t.Fatal(err)
	}
	maintain(t, sink, time.Time{})
	if size() == 0 {
		t.Error("usage_pending was trimmed under the eyes of who reads it")
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	maintain(t, sink, time.Time{})
	if n := size(); n != 0 {
		t.Errorf("usage_pending has %d bytes after maintenance", n)
	}
	if diff := cmp.Diff(before, usageOf(t, sink)); diff != "" {
		t.Errorf("usage after maintenance (-want +got):\n%s", diff)
	}
}

// While it becomes small, nothing that is written or read is missed.
func TestTrimmingChangesNoUsage(t *testing.T) {
	t.Parallel()
	now := logDay.Add(time.Hour)
	sink, pool := sinkAt(t, &now)
	var written atomic.Int64
	store(t, sink, logEntry(0))
	written.Store(1)
	ctx, stop := context.WithCancel(t.Context())
	var workers errgroup.Group
	workers.Go(func() error {
		for n := 1; ctx.Err() == nil; n += 10 {
			if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: logEntries(n, n+10)}); err != nil {
				return err
			}
			written.Add(10)
		}
		return nil
	})
	workers.Go(func() error {
		for ctx.Err() == nil {
			least := written.Load()
			usage, err := sink.Usage(t.Context(), logbuf.UsageQuery{Since: logDay, Until: logDay.AddDate(1, 0, 0), Limit: 400})
			if err != nil {
				return err
			}
			var requests int64
			for _, u := range usage.Rows {
				requests += u.Requests
			}
			if requests < least {
				return fmt.Errorf("usage counts %d requests of at least %d", requests, least)
			}
		}
		return nil
	})
	trimmed := 0
	for range scaled(8, 50) {
		execute(t, pool, bloat)
		before := count(t, pool, `select pg_relation_filenode('usage_pending')::bigint`)
		for range 5 {
			maintain(t, sink, time.Time{})
		}
		if count(t, pool, `select pg_relation_filenode('usage_pending')::bigint`) != before {
			trimmed++
		}
	}
	stop()
	if err := workers.Wait(); err != nil {
		t.Error(err)
	}
	if trimmed == 0 {
		t.Error("usage_pending was never trimmed")
	}
}
