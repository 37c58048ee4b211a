package pgstore_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// A commit through one store wakes those who wait at another.
func TestWaitAcrossStores(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		listen string
		within time.Duration
	}{
		"listening": {"", time.Second},
		"polling":   {pgstore.ListenNone, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := pgtest.Migrated(t)
			a := open(t, pgtest.Connect(t, cfg), &pgstore.Options{ListenDSN: tt.listen})
			b := open(t, pgtest.Connect(t, cfg), &pgstore.Options{ListenDSN: tt.listen})
			if tt.listen == "" {
				listeners(t, pgtest.Connect(t, cfg), 2)
			}
			rev := catalog.Revision(0)
			for from, to := range map[*pgstore.Store]*pgstore.Store{a: b, b: a} {
				wokeAt := make(chan time.Time, 1)
				go func() {
					got, err := to.Wait(t.Context(), rev)
					if err != nil || got != rev+1 {
						t.Errorf("waited for %d: %d, %v", rev+1, got, err)
					}
					wokeAt <- time.Now()
				}()
				time.Sleep(100 * time.Millisecond) // the first look finds nothing
				start := time.Now()
				if _, err := from.Commit(t.Context(), catalog.Commit{Sync: true, Time: now}); err != nil {
					t.Fatal(err)
				}
				if took := (<-wokeAt).Sub(start); took > tt.within {
					t.Errorf("the other store woke after %v; want %v", took, tt.within)
				}
				rev++
			}
		})
	}
}

// The listening connection may go another way than the pool, and so do
// migrations, which need a session as well.
func TestListenDSN(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	pooler := cfg.Copy()
	pooler.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pooler.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on" // it would not migrate
	open(t, pgtest.Connect(t, pooler), &pgstore.Options{ListenDSN: pgtest.DSN(cfg)})
	listeners(t, pgtest.Connect(t, cfg), 1)

	_, err := pgstore.Open(t.Context(), pgtest.Connect(t, cfg), &pgstore.Options{ListenDSN: "port=nonsense"})
	if err == nil {
		t.Error("opened with a DSN that is none")
	}
}

// listeners waits until n connections listen on the pool's database, and
// returns their process ids.
func listeners(t *testing.T, pool *pgxpool.Pool, n int, without ...int32) (pids []int32) {
	t.Helper()
	const query = `
select pid from pg_stat_activity
where datname = current_database() and query = 'listen ezapi_catalog' and state = 'idle' and pid <> all ($1)`
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		rows, err := pool.Query(t.Context(), query, append([]int32{}, without...))
		if err != nil {
			t.Fatal(err)
		}
		if pids, err = pgx.CollectRows(rows, pgx.RowTo[int32]); err != nil {
			t.Fatal(err)
		}
		if len(pids) == n {
			return pids
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections listen; want %d", len(pids), n)
		}
	}
}

// A listening connection that the server ends is made again.
func TestListenerRemade(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	pool := pgtest.Connect(t, cfg)
	a, b := open(t, pool, nil), open(t, pgtest.Connect(t, cfg), &pgstore.Options{ListenDSN: pgstore.ListenNone})
	old := listeners(t, pool, 1)
	if _, err := pool.Exec(t.Context(), `select pg_terminate_backend($1)`, old[0]); err != nil {
		t.Fatal(err)
	}
	listeners(t, pool, 1, old...)

	done := make(chan time.Time, 1)
	go func() {
		if _, err := a.Wait(t.Context(), 0); err != nil {
			t.Error(err)
		}
		done <- time.Now()
	}()
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	if _, err := b.Commit(t.Context(), catalog.Commit{Sync: true, Time: now}); err != nil {
		t.Fatal(err)
	}
	if took := (<-done).Sub(start); took > time.Second {
		t.Errorf("woke after %v: not by the new connection", took)
	}
}
