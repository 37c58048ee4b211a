package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/chstore"
	"github.com/ez-api/ez-api/test/clickhouse"
)

// benchSettle is how long an hour stays open after its last entry. Entries of a day are written within
// minutes here, so the default, which is right for entries that are written when they happen, would keep
// all hours open.
const benchSettle = time.Second

// ClickHouse does what [Queries] does, and the same with ClickHouse after it, on the same machine. All
// hours that are over are closed when the questions are asked, as they are in a gateway. It needs
// CHDB_LIB_PATH, see package clickhouse.
func ClickHouse(ctx context.Context, out io.Writer, dsn string, rows int) (err error) {
	if err := Queries(ctx, out, dsn, rows); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ez-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := clickhouse.Start(ctx, dir)
	if err != nil {
		return err
	}
	defer server.Stop()
	sink, err := chstore.NewSink(server.DSN("bench"), &chstore.SinkOptions{Settle: benchSettle})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	w := &world{Options: Options{Rows: rows, Out: out}}
	q := newQueryBench(&largeBatches{Sink: sink}, rows)
	if err := q.load(ctx); err != nil {
		return err
	}
	if err := q.closeHours(ctx); err != nil {
		return err
	}
	taken, err := server.Ask(ctx, "bench", `SELECT intDiv(sum(bytes_on_disk), 1048576), count(), (
    SELECT count() FROM usage_builds FINAL
) FROM system.parts WHERE database = 'bench' AND table = 'access_logs' AND active FORMAT Values`)
	if err != nil {
		return err
	}
	return q.measure(ctx, w, "ClickHouse, (MB, parts, closed hours) = "+taken)
}

// closeHours does maintenance until no task is behind.
func (q *queryBench) closeHours(ctx context.Context) error {
	for {
		select {
		case <-time.After(2 * benchSettle):
		case <-ctx.Done():
			return ctx.Err()
		}
		results := logbuf.Maintain(ctx, q.sink, logbuf.MaintenanceOptions{Now: time.Now()})
		if err := logbuf.MaintenanceError(results); err != nil {
			return err
		}
		if !slices.ContainsFunc(results, func(r logbuf.TaskResult) bool { return r.Report.Behind > 0 }) {
			return nil
		}
	}
}

// largeBatches joins batches until they are as large as ClickHouse wants them.
type largeBatches struct {
	*chstore.Sink
	waiting []logbuf.Entry
}

const largeBatch = 20_000

func (l *largeBatches) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	l.waiting = append(l.waiting, b.Entries...)
	if len(b.Entries) == batchSize && len(l.waiting) < largeBatch {
		return logbuf.Result{Stored: len(b.Entries)}, nil
	}
	_, err := l.Sink.Write(ctx, logbuf.Batch{Entries: l.waiting})
	l.waiting = l.waiting[:0]
	return logbuf.Result{Stored: len(b.Entries)}, err
}
