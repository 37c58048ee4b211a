package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/chstore"
	"github.com/ez-api/ez-api/test/clickhouse"
)

// ClickHouse does what [Queries] does, and the same with ClickHouse after it, on the same machine. It needs
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
	sink, err := chstore.NewSink(server.DSN("bench"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	w := &world{Options: Options{Rows: rows, Out: out}}
	return newQueryBench(&largeBatches{Sink: sink}, rows).run(ctx, w, func(ctx context.Context) (string, error) {
		taken, err := server.Ask(ctx, "bench", `SELECT intDiv(sum(bytes_on_disk), 1048576), count() FROM system.parts
WHERE database = 'bench' AND table = 'access_logs' AND active FORMAT Values`)
		return fmt.Sprintf("ClickHouse, (MB, parts) = %s", taken), err
	})
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
