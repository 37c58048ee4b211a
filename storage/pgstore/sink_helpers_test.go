package pgstore_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/pgstore"
)

var long = flag.Bool("long", false, "take the time for the full figures")

// scaled returns full with -long, otherwise short.
func scaled(short, full int) int {
	if *long {
		return full
	}
	return short
}

func newSink(pool *pgxpool.Pool) *pgstore.Sink {
	return pgstore.NewSink(pool, &pgstore.SinkOptions{Logger: slog.New(slog.DiscardHandler)})
}

// logDay is the day on which the entries of tests begin.
var logDay = time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)

// logEntry makes entry n: a minute after the one before, of one of 7 keys.
func logEntry(n int) logbuf.Entry {
	e := logbuf.Entry{
		Time: logDay.Add(time.Duration(n) * time.Minute), RequestID: fmt.Sprint("request-", n),
		KeyID: int64(n % 7), ProviderID: int64(n % 3), Namespace: "default", Model: fmt.Sprint("m-", n%5), Group: "default",
		Status: 200 + 300*(n%11/10), InputTokens: int64(n), OutputTokens: int64(3 * n),
		CostNanoUSD: new(int64(1_000_003 * n)),
	}
	binary.BigEndian.PutUint64(e.ID[8:], uint64(n))
	e.ID[6], e.ID[8] = 0x70, e.ID[8]|0x80
	return e
}

// logEntries makes the entries from n to m - 1.
func logEntries(n, m int) (entries []logbuf.Entry) {
	for ; n < m; n++ {
		entries = append(entries, logEntry(n))
	}
	return entries
}

// store writes entries of which none was stored before.
func store(tb testing.TB, s logbuf.Sink, entries ...logbuf.Entry) {
	tb.Helper()
	want(tb, s, logbuf.Batch{Entries: entries}, logbuf.Result{Stored: len(entries)})
}

// want writes a batch and compares the result.
func want(tb testing.TB, s logbuf.Sink, b logbuf.Batch, want logbuf.Result) {
	tb.Helper()
	if got, err := s.Write(tb.Context(), b); err != nil || got != want {
		tb.Fatalf("write %d entries: %+v, %v; want %+v", len(b.Entries), got, err, want)
	}
}

// maintain does maintenance.
func maintain(tb testing.TB, s *pgstore.Sink, before time.Time) {
	tb.Helper()
	if err := tryMaintain(tb.Context(), s, before); err != nil {
		tb.Fatalf("maintain: %v", err)
	}
}

// tryMaintain runs all tasks once.
func tryMaintain(ctx context.Context, s *pgstore.Sink, before time.Time) error {
	results := logbuf.Maintain(ctx, s, logbuf.MaintenanceOptions{Now: s.Time(), Before: before})
	if err := logbuf.MaintenanceError(results); err != nil {
		return err
	}
	return ctx.Err()
}

// collect reads the only column of a query.
func collect[T any](tb testing.TB, pool *pgxpool.Pool, sql string, args ...any) []T {
	tb.Helper()
	rows, err := pool.Query(tb.Context(), sql, args...)
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return values
}

// count reads a number.
func count(tb testing.TB, pool *pgxpool.Pool, sql string, args ...any) int64 {
	tb.Helper()
	return collect[int64](tb, pool, sql, args...)[0]
}

// execute runs statements.
func execute(tb testing.TB, pool *pgxpool.Pool, sql string) {
	tb.Helper()
	if _, err := pool.Exec(tb.Context(), sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// forget empties the tables of a sink.
func forget(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	execute(tb, pool, `truncate access_logs, log_blocks, usage_pending, usage_quarters, usage_days, usage_quarter_totals, usage_day_totals, usage_aside, log_dead_letter, log_checkpoints`)
}

// partitions lists the days that have a partition.
func partitions(tb testing.TB, pool *pgxpool.Pool) []string {
	tb.Helper()
	return collect[string](tb, pool, `
select substr(relname, 13) from pg_inherits join pg_class on oid = inhrelid
where inhparent = 'access_logs'::regclass order by relname`)
}

// wantPartitions compares the partitions with days from one to another.
func wantPartitions(tb testing.TB, pool *pgxpool.Pool, from time.Time, days int) {
	tb.Helper()
	var want []string
	for i := range days {
		want = append(want, from.AddDate(0, 0, i).Format("20060102"))
	}
	if diff := cmp.Diff(want, partitions(tb, pool)); diff != "" {
		tb.Errorf("partitions (-want +got):\n%s", diff)
	}
}

// usageOf reads usage by every dimension and by the hour.
func usageOf(tb testing.TB, a logbuf.Archive) []logbuf.Usage {
	tb.Helper()
	q := logbuf.UsageQuery{
		GroupBy: logbuf.Dimensions(), Interval: logbuf.Hour, Since: logDay.AddDate(-1, 0, 0),
		Until: logDay.AddDate(1, 0, 0), Limit: 1000,
	}
	var rows []logbuf.Usage
	for {
		page, err := a.Usage(tb.Context(), q)
		if err != nil {
			tb.Fatalf("usage: %v", err)
		}
		rows = append(rows, page.Rows...)
		if q.Cursor = page.Next; q.Cursor == "" {
			return rows
		}
	}
}

// wantLedger compares what is stored with the entries that were acknowledged:
// each of them once, with usage of exactly as many requests and of their cost.
func wantLedger(tb testing.TB, pool *pgxpool.Pool, a logbuf.Archive, acknowledged []logbuf.Entry) {
	tb.Helper()
	ids := make([]uuid.UUID, 0, len(acknowledged))
	var cost int64
	for _, e := range acknowledged {
		ids = append(ids, e.ID)
		cost += *e.CostNanoUSD
	}
	n := int64(len(ids))
	if lost := count(tb, pool, `select count(*) from unnest($1::uuid[]) as a(id) where not exists (select from access_logs l where l.id = a.id)`, ids); lost != 0 {
		tb.Errorf("%d of %d acknowledged entries are lost", lost, n)
	}
	if rows := count(tb, pool, `select count(*) from access_logs`); rows != n {
		tb.Errorf("%d rows; want %d", rows, n)
	}
	if distinct := count(tb, pool, `select count(distinct id) from access_logs`); distinct != n {
		tb.Errorf("%d distinct ids; want %d", distinct, n)
	}
	if stored := count(tb, pool, `select coalesce(sum(cost_nano_usd), 0)::bigint from access_logs`); stored != cost {
		tb.Errorf("rows cost %d; want %d", stored, cost)
	}
	var requests, spent int64
	for _, u := range usageOf(tb, a) {
		requests += u.Requests
		spent += u.CostNanoUSD
	}
	if requests != n || spent != cost {
		tb.Errorf("usage counts %d requests for %d; want %d for %d", requests, spent, n, cost)
	}
}
