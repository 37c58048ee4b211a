package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/pgstore"
)

const (
	queryRuns = 60               // of each kind,
	queryTime = 10 * time.Second // unless they take longer
	queryKeys = 1000             // of which some are much busier than others

	// Besides those, keys with a handful of entries each.
	queryRareKeys    = 100
	queryRareEntries = 6
	queryRareKey     = 5000 // the first of them
	queryNoKey       = 9000 // has none

	querySpan = 24*time.Hour - 10*time.Minute // of the entries; loading and asking take the rest of the day
	queryLive = 30 * time.Minute              // at its end, batches are those of a second each
)

// Queries measures what it takes to read logs and usage when so many entries
// are stored, all of the last 24 hours, and prints a table. It makes a database of its own
// where the connection string leads, fills it through the sink, with the maintenance that
// the server would do meanwhile, and drops it afterwards.
func Queries(ctx context.Context, out io.Writer, dsn string, rows int) (err error) {
	w := &world{Options: Options{DSN: dsn, Rows: rows, Out: out}}
	drop, err := w.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	return newQueryBench(pgstore.NewSink(w.pool, nil), rows).run(ctx, w, func(ctx context.Context) (string, error) {
		return postgresSize(ctx, w.pool)
	})
}

// postgresSize says what the entries take.
func postgresSize(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	var size int64
	var blocks, pending int
	err := pool.QueryRow(ctx, `
select sum(pg_total_relation_size(inhrelid)), (select count(*) from log_blocks), (select count(*) from usage_pending)
from pg_inherits where inhparent = 'access_logs'::regclass`).Scan(&size, &blocks, &pending)
	return fmt.Sprintf("PostgreSQL, %d MB, %d blocks, %d rows of pending usage", size>>20, blocks, pending), err
}

// A logStore is what is asked.
type logStore interface {
	logbuf.Sink
	logbuf.Archive
	logbuf.Maintainer
}

// run loads a store, and measures it. The function size says what the entries take.
func (q *queryBench) run(ctx context.Context, w *world, size func(context.Context) (string, error)) error {
	if err := q.load(ctx); err != nil {
		return err
	}
	taken, err := size(ctx)
	if err != nil {
		return err
	}
	return q.measure(ctx, w, taken)
}

// queryBench fills a table as a busy gateway does, and knows what is in it.
type queryBench struct {
	sink   logStore
	rows   int
	random *rand.Rand
	zipf   *rand.Zipf

	since, until time.Time
	sample       []string // ids of requests, each as likely as any other
	loadedIn     time.Duration
}

func newQueryBench(sink logStore, rows int) *queryBench {
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same in every run
	now := time.Now().UTC()
	return &queryBench{
		sink: sink, rows: rows, random: random,
		zipf:  rand.NewZipf(random, 1.1, 1, queryKeys-1),
		since: now.Add(-querySpan), until: now,
	}
}

// load writes all entries: batches of 5,000, as they are while there is a
// backlog, and at the end one for each second, as they are while there is none. The
// last minute is left as maintenance finds it.
func (q *queryBench) load(ctx context.Context) error {
	start := time.Now()
	second := max(1, int(float64(q.rows)/querySpan.Seconds()))
	live := q.rows - int(float64(q.rows)*queryLive.Seconds()/querySpan.Seconds())
	maintainEvery := 1 + int(float64(q.rows)*(15*time.Minute).Seconds()/querySpan.Seconds())
	maintained, last := 0, q.rows-60*second
	batch := make([]logbuf.Entry, 0, batchSize)
	for n := 0; n < q.rows; {
		size := min(batchSize, q.rows-n)
		if n >= live {
			size = min(second, q.rows-n)
		}
		batch = batch[:0]
		for range size {
			batch = append(batch, q.entry(n))
			n++
		}
		r, err := q.sink.Write(ctx, logbuf.Batch{Entries: batch})
		if err != nil {
			return err
		}
		if r.Stored != size {
			return fmt.Errorf("%d of %d entries were stored", r.Stored, size)
		}
		if n-maintained >= maintainEvery || maintained < last && n >= last {
			maintained = n
			results := logbuf.Maintain(ctx, q.sink, logbuf.MaintenanceOptions{Now: time.Now(),
				Before: q.until.Add(-30 * 24 * time.Hour)})
			if err := logbuf.MaintenanceError(results); err != nil {
				return err
			}
			progress("queries: %d of %d entries are stored, %v", n, q.rows, time.Since(start).Round(time.Second))
		}
	}
	q.loadedIn = time.Since(start)
	return nil
}

// entry makes the nth. Most arrive when they end, seconds after their time, and
// one in a hundred minutes later.
func (q *queryBench) entry(n int) logbuf.Entry {
	r := q.random
	late := time.Duration(r.ExpFloat64() * float64(3*time.Second))
	if r.IntN(100) == 0 {
		late += time.Duration(r.Int64N(int64(5 * time.Minute)))
	}
	at := q.since.Add(time.Duration(float64(n) / float64(q.rows) * float64(querySpan))).Add(-late).
		Truncate(time.Microsecond)
	key := int64(1 + q.zipf.Uint64())
	if r.IntN(q.rows) < queryRareKeys*queryRareEntries {
		key = queryRareKey + r.Int64N(queryRareKeys)
	}
	model := (key + r.Int64N(3)) % 20
	cost := int64(1000 + r.IntN(1_000_000))
	e := logbuf.Entry{
		ID: uuidV7(at, r), Time: at, RequestID: queryRequest(r.Uint64()), Balancer: fmt.Sprint("balancer-", n%4),
		KeyID: key, ProviderID: 1 + (model+r.Int64N(2))%10, Namespace: "default",
		Model: fmt.Sprint("model-", model), UpstreamModel: fmt.Sprintf("vendor/model-%d-2026-01-01", model),
		Group: "default", Endpoint: "/v1/chat/completions", Status: 200, Attempts: 1, Stream: key%3 == 0,
		LatencyMS: late.Milliseconds(), TTFTMS: int64(50 + r.IntN(500)),
		InputTokens: int64(r.IntN(8000)), CacheReadTokens: int64(r.IntN(2000)), OutputTokens: int64(r.IntN(1500)),
		CostNanoUSD: &cost, ClientIP: fmt.Sprintf("10.%d.%d.%d", key%4, key%250, r.IntN(250)),
		UserAgent: "openai-python/2.8.1", Revision: "3.41.12077",
	}
	if key%10 == 0 {
		e.Namespace = "research"
	}
	switch p := r.IntN(100_000); {
	case p < 3000:
		e.Status, e.Error = 429, "upstream: rate limit reached for requests"
	case p < 4000:
		e.Status, e.Error = 502, "upstream: connection reset by peer"
	case p == 4000:
		e.Status, e.Error = 413, "the body is too large"
	}
	// Reservoir sampling: Vitter's algorithm R.
	if n < queryRuns {
		q.sample = append(q.sample, e.RequestID)
	} else if i := r.IntN(n + 1); i < queryRuns {
		q.sample[i] = e.RequestID
	}
	return e
}

func queryRequest(n uint64) string { return fmt.Sprintf("req_%016x", n) }

// A queryKind is one kind of question. Each run of it prepares another, which
// answers how much it found.
type queryKind struct {
	name    string
	prepare func(ctx context.Context, run int) (ask func() (int, error), err error)
}

func (q *queryBench) kinds() []queryKind {
	r := q.random
	logs := func(name string, next func(run int) logbuf.LogQuery) queryKind {
		return queryKind{name, func(ctx context.Context, run int) (func() (int, error), error) {
			query := next(run)
			return func() (int, error) {
				page, err := q.sink.Logs(ctx, query)
				return len(page.Entries), err
			}, nil
		}}
	}
	key := func(from, to int64) func(int) logbuf.LogQuery {
		return func(int) logbuf.LogQuery { return logbuf.LogQuery{KeyID: from + r.Int64N(to-from)} }
	}
	usage := func(name string, query logbuf.UsageQuery) queryKind {
		return queryKind{name, func(ctx context.Context, _ int) (func() (int, error), error) {
			return func() (int, error) {
				used, err := q.sink.Usage(ctx, query)
				return len(used.Rows), err
			}, nil
		}}
	}
	keyUsage := func(name string, keys int, since time.Duration) queryKind {
		return queryKind{name, func(ctx context.Context, _ int) (func() (int, error), error) {
			asked := make(map[int64][]time.Time)
			for len(asked) < keys {
				asked[1+r.Int64N(queryKeys)] = []time.Time{q.until.Add(-since)}
			}
			return func() (int, error) {
				used, err := q.sink.KeyUsage(ctx, asked)
				return len(used), err
			}, nil
		}}
	}
	return []queryKind{
		logs("logs, first page", func(int) logbuf.LogQuery { return logbuf.LogQuery{} }),
		logs("logs, first page of 1,000", func(int) logbuf.LogQuery { return logbuf.LogQuery{Limit: 1000} }),
		{"logs, a page far back", q.farBack},
		logs("logs of one of the 10 busiest keys", key(1, 11)),
		logs("logs of a key in the middle (rank 100 to 300)", key(100, 301)),
		logs("logs of a quiet key (rank 500 to 1,000)", key(500, 1001)),
		logs(fmt.Sprintf("logs of a rare key (about %d entries)", queryRareEntries),
			key(queryRareKey, queryRareKey+queryRareKeys)),
		logs("logs of a key without any", key(queryNoKey, queryNoKey+1000)),
		logs("logs of a request, of any age",
			func(run int) logbuf.LogQuery { return logbuf.LogQuery{RequestID: q.sample[run%len(q.sample)]} }),
		logs("logs of a request that is not there",
			func(int) logbuf.LogQuery { return logbuf.LogQuery{RequestID: queryRequest(r.Uint64())} }),
		logs("logs of a quiet key's errors (4 %)",
			func(int) logbuf.LogQuery { return logbuf.LogQuery{KeyID: 500 + r.Int64N(500), Status: 429} }),
		logs("logs of a model (5 %)",
			func(int) logbuf.LogQuery { return logbuf.LogQuery{Model: fmt.Sprint("model-", r.IntN(20))} }),
		logs("logs of a provider (10 %)", func(int) logbuf.LogQuery { return logbuf.LogQuery{ProviderID: 1 + r.Int64N(10)} }),
		logs("logs of a namespace (7 %)", func(int) logbuf.LogQuery { return logbuf.LogQuery{Namespace: "research"} }),
		logs("logs with status 429 (3 %)", func(int) logbuf.LogQuery { return logbuf.LogQuery{Status: 429} }),
		logs("logs with status 413 (one in 100,000)", func(int) logbuf.LogQuery { return logbuf.LogQuery{Status: 413} }),
		logs("logs of the busiest key with status 413",
			func(int) logbuf.LogQuery { return logbuf.LogQuery{KeyID: 1, Status: 413} }),
		logs("logs of the busiest key that a provider never served", func(int) logbuf.LogQuery {
			return logbuf.LogQuery{KeyID: 1, ProviderID: 99}
		}),
		logs("logs that a provider never served", func(int) logbuf.LogQuery { return logbuf.LogQuery{ProviderID: 99} }),
		logs("logs of a key in the middle with status 413", func(int) logbuf.LogQuery {
			return logbuf.LogQuery{KeyID: 100 + r.Int64N(201), Status: 413}
		}),
		usage("usage by day and key", logbuf.UsageQuery{GroupBy: []logbuf.Dimension{logbuf.ByKey}}),
		usage("usage by hour and key", logbuf.UsageQuery{GroupBy: []logbuf.Dimension{logbuf.ByKey}, Interval: logbuf.Hour}),
		usage("usage by hour", logbuf.UsageQuery{Interval: logbuf.Hour}),
		keyUsage("usage of one key", 1, 30*24*time.Hour),
		keyUsage("usage of each of 100 keys", 100, 30*24*time.Hour),
	}
}

// farBack asks for the page behind a cursor, anywhere in the day.
func (q *queryBench) farBack(ctx context.Context, run int) (func() (int, error), error) {
	back := time.Duration(float64(querySpan) * 0.99 * float64(1+run) / queryRuns)
	before, err := q.sink.Logs(ctx, logbuf.LogQuery{Since: q.since, Until: q.until.Add(-back), Limit: 1})
	return func() (int, error) {
		page, err := q.sink.Logs(ctx, logbuf.LogQuery{Cursor: before.Next})
		return len(page.Entries), err
	}, err
}

// measure asks, and prints how long the answers took.
func (q *queryBench) measure(ctx context.Context, w *world, taken string) error {
	t := w.table(fmt.Sprintf("%d entries in %s; written in %v, %.0f a second", q.rows, taken,
		q.loadedIn.Round(time.Second), float64(q.rows)/q.loadedIn.Seconds()), "p50 ms", "p99 ms", "found")
	defer t.end()
	for _, kind := range q.kinds() {
		progress("queries: %s", kind.name)
		took := make([]float64, 0, queryRuns)
		var found int
		for run, first := 0, time.Now(); run < queryRuns && time.Since(first) < queryTime; run++ {
			ask, err := kind.prepare(ctx, run)
			if err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
			start := time.Now()
			n, err := ask()
			if err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
			took = append(took, time.Since(start).Seconds()*1e3)
			found += n
		}
		slices.Sort(took)
		quantile := func(p float64) float64 { return took[int(math.Ceil(p*float64(len(took))))-1] }
		t.row(kind.name, quantile(0.5), quantile(0.99), float64(found)/float64(len(took)))
	}
	return nil
}
