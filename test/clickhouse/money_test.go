//go:build clickhouse

package clickhouse_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/chstore"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// openPostgres returns a sink on a PostgreSQL database of the test's own.
func openPostgres(t testing.TB) *pgstore.Sink {
	t.Helper()
	dsn := os.Getenv("EZ_TEST_PG_DSN")
	if dsn == "" {
		t.Fatal("EZ_TEST_PG_DSN is not set: usage is compared with PostgreSQL's")
	}
	admin, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	name := "ez_ch_" + strings.ToLower(rand.Text())
	create := "create database " + name + " with template template0 encoding 'UTF8'"
	if _, err := admin.Exec(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = admin.Exec(context.Background(), "drop database "+name+" with (force)")
		_ = admin.Close(context.Background())
	})
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.Database = name
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	store, err := pgstore.Open(t.Context(), pool, nil) // makes the tables
	if err != nil {
		t.Fatal(err)
	}
	_ = store.Close()
	return pgstore.NewSink(pool, nil)
}

// day is the first of the days of the tests' entries.
var day = time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)

// spent makes entry n, which costs something that only depends on n, on one of ten days.
func spent(n int) logbuf.Entry {
	random := mathrand.New(mathrand.NewPCG(uint64(n), 14))
	e := logbuf.Entry{
		Time: day.Add(time.Duration(random.Int64N(int64(10 * 24 * time.Hour)))).Truncate(time.Microsecond),
		KeyID: 1 + random.Int64N(
			7,
		), ProviderID: 1 + random.Int64N(2), Namespace: "default", Group: "default", Status: 200,
		Model:   []string{"gpt-4o", "claude", "日本"}[random.IntN(3)],
		Project: []string{"", "acme", "acme/search", "acme-2"}[random.IntN(4)],
		InputTokens: random.Int64N(
			5000,
		), CacheReadTokens: random.Int64N(900), OutputTokens: random.Int64N(3000),
		PricedRevision: 7,
	}
	binary.BigEndian.PutUint64(e.ID[8:], uint64(n))
	e.ID[6], e.ID[8] = 0x70, e.ID[8]|0x80
	switch random.IntN(10) {
	case 0: // not known
	case 1:
		e.CostNanoUSD, e.Status = new(int64(0)), 500
	case 2:
		e.CostNanoUSD = new(int64(logbuf.MaxCost - random.Int64N(1000)))
	default:
		e.CostNanoUSD = new(random.Int64N(90_000_000))
	}
	return e
}

// wantSameUsage asks both the same, in many ways.
func wantSameUsage(t *testing.T, when string, want, got logbuf.Archive) {
	t.Helper()
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(a logbuf.Archive, q logbuf.UsageQuery) (rows []logbuf.Usage) {
		t.Helper()
		q.Limit = 333
		for {
			page, err := a.Usage(t.Context(), q)
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			rows = append(rows, page.Rows...)
			if q.Cursor = page.Next; page.Next == "" {
				return rows
			}
		}
	}
	all := logbuf.UsageQuery{Since: day.AddDate(0, 0, -1), Until: day.AddDate(0, 0, 12)}
	queries := []logbuf.UsageQuery{all}
	for _, interval := range logbuf.Intervals() {
		for _, by := range [][]logbuf.Dimension{nil, {logbuf.ByKey}, {logbuf.ByProject, logbuf.ByModel}} {
			q := all
			q.Interval, q.GroupBy = interval, by
			queries = append(queries, q)
			q.Zone = shanghai
			queries = append(queries, q)
		}
	}
	for _, f := range []logbuf.UsageFilter{
		{Project: "acme"}, {KeyIDs: []int64{2, 5}}, {ProviderID: 2, Model: "claude"},
		{Model: "日本", Project: "acme/search"},
	} {
		q := all
		q.UsageFilter, q.GroupBy = f, logbuf.Dimensions()
		queries = append(queries, q)
		q.Since, q.Until = day.Add(26*time.Hour+15*time.Minute), day.Add(77*time.Hour+45*time.Minute)
		queries = append(queries, q)
	}
	for _, q := range queries {
		if diff := cmp.Diff(ask(want, q), ask(got, q)); diff != "" {
			t.Errorf(
				"%s: usage by %s of %v, %+v (-PostgreSQL +ClickHouse):\n%.2000s",
				when,
				q.Interval,
				q.GroupBy,
				q.UsageFilter,
				diff,
			)
		}
	}
	since := map[int64][]time.Time{}
	for key := range int64(9) {
		since[key] = []time.Time{{}, day.Add(50 * time.Hour), day.AddDate(0, 0, 9)}
	}
	keys, err := want.KeyUsage(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	same, err := got.KeyUsage(t.Context(), since)
	if diff := cmp.Diff(keys, same); err != nil || diff != "" {
		t.Errorf("%s: usage of keys: %v (-PostgreSQL +ClickHouse):\n%s", when, err, diff)
	}
}

// Entries are sent three times, in other batches, through two sinks, before and after their
// hours were closed, and are counted and priced once: usage is PostgreSQL's to the last
// nano-dollar. It stays when the entries go.
func TestMoney(t *testing.T) {
	t.Parallel()
	postgres, database := openPostgres(t), newDatabase()
	sinks := []*chstore.Sink{openSink(t, database), openSink(t, database)}
	const n = 6000
	var entries []logbuf.Entry
	for i := range n {
		entries = append(entries, spent(i))
	}
	for batch := range slices.Chunk(entries, 1000) {
		if _, err := postgres.Write(t.Context(), logbuf.Batch{Entries: batch}); err != nil {
			t.Fatal(err)
		}
	}
	maintain := func(m logbuf.Maintainer, o logbuf.MaintenanceOptions) {
		t.Helper()
		if err := logbuf.MaintenanceError(logbuf.Maintain(t.Context(), m, o)); err != nil {
			t.Fatal(err)
		}
	}
	random := mathrand.New(mathrand.NewPCG(3, 14))
	send := func(round int, upTo int) {
		t.Helper()
		some := slices.Clone(entries[:upTo])
		random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		segment, at := uuid.New(), int64(0)
		for batch := range slices.Chunk(some, 300+random.IntN(900)) {
			b := logbuf.Batch{Entries: batch}
			if round%2 == 1 {
				b.Segment, b.From, b.To = segment, at, at+int64(len(batch))
				at = b.To
			}
			for range 1 + random.IntN(2) { // an answer was lost
				if _, err := sinks[random.IntN(2)].Write(t.Context(), b); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	send(0, n/2)
	maintain(sinks[0], logbuf.MaintenanceOptions{Now: day.AddDate(0, 0, 5)})
	send(1, n)
	wantSameUsage(t, "with some hours closed and written to again", postgres, sinks[0])
	maintain(sinks[1], logbuf.MaintenanceOptions{Now: day.AddDate(0, 0, 8)})
	send(2, n)
	wantSameUsage(t, "after the third time", postgres, sinks[1])
	for range 2 {
		maintain(sinks[0], logbuf.MaintenanceOptions{Now: day.AddDate(0, 0, 20)})
	}
	open := query(t, database, `SELECT count() FROM usage_builds FINAL
LEFT JOIN (SELECT hour, max(at) AS marked FROM usage_marks GROUP BY hour) AS marks USING hour
WHERE marked >= covered`)
	if open != "0" {
		t.Errorf("%s hours are not closed", open)
	}
	wantSameUsage(t, "with everything closed", postgres, sinks[0])

	o := logbuf.MaintenanceOptions{Now: day.AddDate(0, 0, 20), Before: day.AddDate(0, 0, 4)}
	maintain(postgres, o)
	maintain(sinks[0], o)
	if left := query(t, database, "SELECT toString(min(ts)) FROM access_logs"); left < "2026-03-18" {
		t.Errorf("entries from %s are still there", left)
	}
	wantSameUsage(t, "after the first days were dropped", postgres, sinks[1])
}

// closedMarks counts the hours that were marked, and are closed all the same.
const closedMarks = `SELECT count() FROM usage_builds FINAL
INNER JOIN (SELECT hour, max(at) AS marked FROM usage_marks GROUP BY hour) AS marks USING hour WHERE marked < covered`

// An hour in which something was written lately is read from its entries, and is not summed for
// good before all that may be under way has settled.
func TestSettling(t *testing.T) {
	t.Parallel()
	database := newDatabase()
	s, err := chstore.NewSink(server.DSN(database), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Write(t.Context(), logbuf.Batch{Entries: []logbuf.Entry{spent(1), spent(2)}}); err != nil {
		t.Fatal(err)
	}
	o := logbuf.MaintenanceOptions{Now: day.AddDate(0, 1, 0), Before: day.AddDate(0, 0, 20)}
	for _, r := range logbuf.Maintain(t.Context(), s, o) {
		if r.Err != nil {
			t.Errorf("task %s: %v", r.Name, r.Err)
		}
		if behind := r.Report.Behind != 0; behind != (r.Name == "drop") {
			t.Errorf("task %s is %s behind: what settles is not late, but a day that cannot go is", r.Name, r.Report.Behind)
		}
	}
	for _, c := range []struct{ what, want string }{
		{closedMarks, "0"},
		{"SELECT count() FROM access_logs", "2"},
	} {
		if got := query(t, database, c.what); got != c.want {
			t.Errorf("%s: %s; want %s", c.what, got, c.want)
		}
	}
}

// A day that has no entries in its first hours, and a day without any, hold up nothing: days are dropped, and their
// usage stays.
func TestDropSparseDays(t *testing.T) {
	t.Parallel()
	database := newDatabase()
	s := openSink(t, database)
	entries := []logbuf.Entry{spent(1), spent(2), spent(3), spent(4)}
	for i, at := range []time.Duration{5 * time.Hour, 53 * time.Hour, 120 * time.Hour, 5 * time.Hour} {
		entries[i].Time = day.Add(at)
	}
	if _, err := s.Write(t.Context(), logbuf.Batch{Entries: entries[1:3]}); err != nil {
		t.Fatal(err)
	}
	o := logbuf.MaintenanceOptions{Now: day.AddDate(0, 0, 9)}
	for _, late := range []logbuf.Entry{entries[0], entries[3]} {
		if err := logbuf.MaintenanceError(logbuf.Maintain(t.Context(), s, o)); err != nil {
			t.Fatal(err)
		}
		// before all others
		if _, err := s.Write(t.Context(), logbuf.Batch{Entries: []logbuf.Entry{late}}); err != nil {
			t.Fatal(err)
		}
		o.Before = day.AddDate(0, 0, 4)
	}
	// What came after the drop is forgotten at once.
	if got := query(t, database, "SELECT count() FROM access_logs"); got != "1" {
		t.Errorf("%s entries are left; want 1", got)
	}
	q := logbuf.UsageQuery{Interval: logbuf.Month, Since: day, Until: day.AddDate(0, 0, 11)}
	page, err := s.Usage(t.Context(), q)
	if err != nil || len(page.Rows) != 1 || page.Rows[0].Requests != 4 {
		t.Errorf("%+v, %v; want four requests", page, err)
	}
}

// What comes when a day is about to be forgotten, or was, is added to its usage, once: also what is there
// already, and what comes again. No mark, no entry that turns up in the day, and no price changes it then.
func TestForgottenDays(t *testing.T) {
	t.Parallel()
	database := newDatabase()
	slow, err := chstore.NewSink(server.DSN(database), nil) // with the time to settle of servers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slow.Close() })
	quick := openSink(t, database)
	var entries []logbuf.Entry
	for i := range 8 {
		e := spent(i)
		e.Time, e.CostNanoUSD = day.Add(5*time.Hour+time.Duration(i)*time.Minute), new(int64(1)<<i)
		entries = append(entries, e)
	}
	write := func(s *chstore.Sink, some ...logbuf.Entry) {
		t.Helper()
		if _, err := s.Write(t.Context(), logbuf.Batch{Entries: some}); err != nil {
			t.Fatal(err)
		}
	}
	wantCost := func(when string, want int64) {
		t.Helper()
		page, err := quick.Usage(t.Context(), logbuf.UsageQuery{Since: day, Until: day.AddDate(0, 0, 2)})
		if err != nil || len(page.Rows) != 1 || page.Rows[0].CostNanoUSD != want {
			t.Errorf("%s: %+v, %v; want %b", when, page.Rows, err, want)
		}
	}
	o := logbuf.MaintenanceOptions{Now: day.AddDate(0, 0, 20), Before: day.AddDate(0, 0, 9)}
	maintain := func(s *chstore.Sink) {
		t.Helper()
		if err := logbuf.MaintenanceError(logbuf.Maintain(t.Context(), s, o)); err != nil {
			t.Fatal(err)
		}
	}
	write(quick, entries[:3]...)
	maintain(slow) // says that the day is forgotten, and waits
	wantCost("before", 0b111)
	write(quick, entries[2], entries[3])
	write(slow, entries[4], entries[3])
	wantCost("while it waits", 0b11111)
	maintain(quick)
	if got := query(t, database, "SELECT count() FROM access_logs"); got != "0" {
		t.Errorf("%s entries are left", got)
	}
	wantCost("after the entries are gone", 0b11111)
	write(slow, entries[5])
	write(quick, entries[6], entries[5], entries[4])
	wantCost("with what came then", 0b1111111)

	// A step of a server that was suspended comes to its end, and an hour is marked.
	query(t, database, "INSERT INTO access_logs (ts, id, version, cost_nano_usd) "+
		"SELECT ts, id, version + 1, 1000000 FROM usage_late WHERE cost_nano_usd IN (4, 8)")
	query(t, database, "INSERT INTO access_logs (ts, id, version, cost_nano_usd) "+
		"SELECT ts + 1, unhex(repeat('ab', 16)), 1, 1000000 FROM usage_late LIMIT 1")
	query(t, database, "INSERT INTO usage_marks (hour) SELECT toStartOfHour(ts) FROM usage_late LIMIT 1")
	wantCost("with strange entries", 0b1111111)
	result, err := quick.Reprice(t.Context(), logbuf.RepriceBatch{
		Run: uuid.New(), Query: logbuf.LogQuery{Limit: 500, Since: day, Until: day.AddDate(0, 0, 2)}, Own: true,
		Price: func(e *logbuf.Entry) { e.CostNanoUSD = new(int64(5)) },
	})
	if err != nil || result.Changed != 0 {
		t.Errorf("priced anew: %+v, %v; want nothing", result, err)
	}
	for range 2 {
		maintain(quick)
		wantCost("after more maintenance", 0b1111111)
	}
	if got := query(t, database, "SELECT count() FROM access_logs"); got != "0" {
		t.Errorf("%s entries are left at the end", got)
	}
}

// Where somebody else has removed entries of an hour that was summed, the usage stays when some come late.
func TestPartitionsThatOthersDrop(t *testing.T) {
	t.Parallel()
	database := newDatabase()
	s := openSink(t, database)
	o := logbuf.MaintenanceOptions{Now: day.AddDate(0, 0, 20)}
	for i, e := range []logbuf.Entry{spent(1), spent(2)} {
		e.Time = day.Add(time.Duration(i) * time.Second)
		if _, err := s.Write(t.Context(), logbuf.Batch{Entries: []logbuf.Entry{e}}); err != nil {
			t.Fatal(err)
		}
		if err := logbuf.MaintenanceError(logbuf.Maintain(t.Context(), s, o)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			query(t, database, "ALTER TABLE access_logs DROP PARTITION 20260314")
			o.Before = day.AddDate(0, 0, 9)
			if err := logbuf.MaintenanceError(logbuf.Maintain(t.Context(), s, o)); err != nil {
				t.Fatal(err)
			}
		}
	}
	page, err := s.Usage(t.Context(), logbuf.UsageQuery{Since: day, Until: day.AddDate(0, 0, 2)})
	if err != nil || len(page.Rows) != 1 || page.Rows[0].Requests != 2 {
		t.Errorf("%+v, %v; want two requests", page.Rows, err)
	}
}

// A server that is about to sum an hour, and goes on when its day was dropped by another, changes nothing.
func TestBuildAfterDrop(t *testing.T) {
	t.Parallel()
	database := newDatabase()
	quick := openSink(t, database)
	begins, dropped := make(chan struct{}), make(chan struct{})
	var once sync.Once
	const held = "X-Held"
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: server.Addr()})
			text, err := io.ReadAll(r.In.Body)
			if err != nil {
				t.Error(err)
			}
			if bytes.Contains(text, []byte("min(ts)")) { // the last that is asked before hours are summed
				r.Out.Header.Set(held, "yes")
			}
			r.Out.Body, r.Out.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Header.Get(held) != "" {
				once.Do(func() { close(begins); <-dropped })
			}
			return nil
		},
	})
	t.Cleanup(front.Close)
	dsn := strings.Replace(server.DSN(database), server.Addr(), front.Listener.Addr().String(), 1)
	slow, err := chstore.NewSink(dsn, &chstore.SinkOptions{Settle: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slow.Close() })
	if _, err := quick.Write(t.Context(), logbuf.Batch{Entries: []logbuf.Entry{spent(1)}}); err != nil {
		t.Fatal(err)
	}
	o := logbuf.MaintenanceOptions{Now: day.AddDate(0, 0, 20)}
	done := make(chan error, 1)
	go func() { done <- logbuf.MaintenanceError(logbuf.Maintain(t.Context(), slow, o)) }()
	<-begins
	o.Before = day.AddDate(0, 0, 15)
	if err := logbuf.MaintenanceError(logbuf.Maintain(t.Context(), quick, o)); err != nil {
		t.Error(err)
	}
	close(dropped)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := query(t, database, "SELECT count() FROM access_logs"); got != "0" {
		t.Errorf("%s entries are left", got)
	}
	page, err := quick.Usage(t.Context(), logbuf.UsageQuery{Since: day, Until: day.AddDate(0, 0, 15)})
	if err != nil || len(page.Rows) != 1 || page.Rows[0].Requests != 1 {
		t.Errorf("%+v, %v; want one request", page.Rows, err)
	}
}
