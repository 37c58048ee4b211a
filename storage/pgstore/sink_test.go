package pgstore_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestSink(t *testing.T) {
	t.Parallel()
	storagetest.RunSink(t, func(t testing.TB) storagetest.SinkHarness {
		cfg := leastRights(t, pgtest.Migrated(t))
		pool, other := pgtest.Connect(t, cfg), pgtest.Connect(t, cfg)
		return storagetest.SinkHarness{
			Days:   scaled(0, 400),
			Sink:   newSink(pool),
			Second: newSink(other),
			Poison: func(_ testing.TB, e *logbuf.Entry) { e.Model = "not UTF-8: \xff" },
			Dead: func(t testing.TB, id uuid.UUID) (n int) {
				err := pool.QueryRow(t.Context(), `select count(*) from log_dead_letter where id = $1 and sqlstate = '22021'`, id).Scan(&n)
				if err != nil {
					t.Fatal(err)
				}
				return n
			},
			Close: func(testing.TB) { pool.Close() },
			Reopen: func(t testing.TB) (logbuf.Sink, logbuf.Archive) {
				pool.Close()
				again := newSink(pgtest.Connect(t, cfg))
				return again, again
			},
		}
	})
}
