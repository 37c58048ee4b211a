package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// with returns a pool whose connections have some settings.
func with(tb testing.TB, cfg *pgxpool.Config, settings map[string]string) *pgxpool.Pool {
	tb.Helper()
	cfg = cfg.Copy()
	for name, value := range settings {
		cfg.ConnConfig.RuntimeParams[name] = value
	}
	return pgtest.Connect(tb, cfg)
}

// However short a role's timeouts are, a commit waits its turn behind others: one write, several,
// and many.
func TestCommitsOutlastShortTimeouts(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	plain := pgtest.Connect(t, cfg)
	open(t, plain, nil)
	for name, settings := range map[string]map[string]string{
		"lock_timeout":      {"lock_timeout": "20ms"},
		"statement_timeout": {"statement_timeout": "200ms"},
		"both":              {"lock_timeout": "20ms", "statement_timeout": "200ms"},
	} {
		hasty := open(t, with(t, cfg, settings), nil)
		for i, n := range []int{1, 3, 150, 1} {
			t.Run(fmt.Sprint(name, " ", i), func(t *testing.T) {
				first, err := hasty.NextIDs(t.Context(), n)
				if err != nil {
					t.Fatal(err)
				}
				var writes []catalog.Write
				for id := first; id < first+int64(n); id++ {
					writes = append(writes, write(key(id)))
				}
				tx, err := plain.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer tx.Rollback(context.Background()) //nolint:errcheck // it is over by then
				if _, err := tx.Exec(t.Context(), `select from catalog_head for update`); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() {
					_, err := hasty.Commit(context.WithoutCancel(t.Context()), commit(writes...))
					ended <- err
				}()
				select {
				case err := <-ended:
					t.Fatalf("the commit did not wait: %v", err)
				case <-time.After(700 * time.Millisecond):
				}
				if err := tx.Rollback(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := <-ended; err != nil {
					t.Errorf("a commit of %d: %v", n, err)
				}
			})
		}
	}
}

// What was answered is on the server's disk, also for a role that does not ask for that: commits of
// the catalog, in whatever form, and entries, with duplicates or without. What a role wants beyond
// that stays as it is.
func TestCommitsAreDurable(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]string{"off": "on", "local": "local", "on": "on"} {
		cfg := pgtest.Migrated(t)
		plain := pgtest.Connect(t, cfg)
		open(t, plain, nil)
		execute(t, plain, `create table commits (what text, setting text);
create function note() returns trigger language plpgsql as $$
begin insert into commits values (tg_table_name, current_setting('synchronous_commit')); return null; end $$;
create constraint trigger note after update on catalog_head deferrable initially deferred
    for each row execute function note();
create constraint trigger note after insert or update on log_checkpoints deferrable initially deferred
    for each row execute function note()`)
		pool := with(t, cfg, map[string]string{"synchronous_commit": asked})
		store, sink := open(t, pool, nil), newSink(pool)
		var many []catalog.Write
		for id := range int64(150) {
			many = append(many, write(key(1000+id)))
		}
		for _, writes := range [][]catalog.Write{{write(key(1))}, {write(key(2)), write(key(3))}, many} {
			if _, err := store.Commit(t.Context(), commit(writes...)); err != nil {
				t.Fatal(err)
			}
		}
		entries := logEntries(0, 20)
		for i := range 2 { // the second is one of duplicates
			if _, err := sink.Write(t.Context(), logbuf.Batch{Segment: uuid.New(), To: 20, Entries: entries}); err != nil {
				t.Fatal(i, err)
			}
		}
		seen := collect[string](t, plain, `select what || ' ' || setting from commits`)
		if len(seen) < 5 {
			t.Errorf("%v; want all commits", seen)
		}
		for _, s := range seen {
			if s != "catalog_head "+want && s != "log_checkpoints "+want {
				t.Errorf("with synchronous_commit %s: %s; want %s", asked, s, want)
			}
		}
	}
}

// An index that is told to find some rows only still finds all.
func TestIndexesFindAll(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	store := open(t, with(t, cfg, map[string]string{"gin_fuzzy_search_limit": "1", "enable_seqscan": "off"}), nil)
	var writes []catalog.Write
	for id := range int64(400) {
		writes = append(writes, write(key(id+1, func(e *catalog.Entity) { e.Groups = []string{"batch"} })))
	}
	if _, err := store.Commit(t.Context(), commit(writes...)); err != nil {
		t.Fatal(err)
	}
	execute(t, pgtest.Connect(t, cfg), "vacuum analyze keys") // which moves all into the tree of the index
	if err := store.Read(t.Context(), func(r catalog.Reader) error {
		n, err := r.Count(t.Context(), catalog.KindKey, catalog.Query{Groups: []string{"batch"}})
		if n != int64(len(writes)) {
			t.Errorf("%d keys of the group; want %d", n, len(writes))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// A connection that converts texts, or whose changes nothing checks, is refused.
func TestSettingsThatNobodyCanLiveWith(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	for setting, value := range map[string]string{"client_encoding": "LATIN1", "session_replication_role": "replica"} {
		pool := with(t, cfg, map[string]string{setting: value})
		_, err := pgstore.Open(t.Context(), pool, &pgstore.Options{ListenDSN: pgstore.ListenNone})
		if !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s = %s: %v; want ErrInvalid that names it", setting, value, err)
		}
	}
	config, err := pgstore.PoolConfig(pgtest.DSN(cfg)+" client_encoding=LATIN1", nil)
	if err != nil {
		t.Fatal(err)
	}
	open(t, pgtest.Connect(t, config), nil)
}

// The tables can be made by a role with every hostile setting.
func TestMigratesAsHostileRole(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Config(t)
	admin := pgtest.Connect(t, cfg)
	hostile := pgtest.Role(t, cfg)
	execute(t, admin, "grant create on database "+cfg.ConnConfig.Database+" to "+hostile.ConnConfig.User)
	hostileRole(t, admin, hostile.ConnConfig.User)
	hostile.ConnConfig.RuntimeParams["search_path"] = "ezapi"
	open(t, pgtest.Connect(t, hostile), &pgstore.Options{Schema: "ezapi", ListenDSN: pgstore.ListenNone})
}

// Each table can be replicated logically: it has a primary key, or says that a row is told by all of it.
func TestTablesHaveIdentity(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	store(t, newSink(pool), logEntry(1)) // makes a partition
	without := collect[string](t, pool, `
select relname::text from pg_class c where relkind in ('r', 'p') and relpersistence = 'p'
    and relnamespace = current_schema()::regnamespace and relreplident <> 'f'
    and not exists (select from pg_index where indrelid = c.oid and indisprimary)`)
	if len(without) > 0 {
		t.Errorf("without a primary key or replica identity full: %v", without)
	}
}

// Where there is no connection left, nothing is wrong with what was asked.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	owned := pgtest.Migrated(t)
	admin := pgtest.Connect(t, owned)
	cfg := leastRights(t, owned)
	pool := pgtest.Connect(t, cfg)
	store, sink := open(t, pool, &pgstore.Options{ListenDSN: pgstore.ListenNone}), newSink(pool)
	execute(t, admin, "alter role "+cfg.ConnConfig.User+" connection limit 0")
	pool.Reset()
	_, err := store.Commit(t.Context(), commit(write(key(1))))
	if !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("commit: %v; want ErrUnavailable", err)
	}
	err = store.Read(t.Context(), func(catalog.Reader) error { return nil })
	if !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("read: %v; want ErrUnavailable", err)
	}
	if _, err = sink.Usage(t.Context(), logbuf.UsageQuery{Since: logDay}); !errors.Is(err, logbuf.ErrUnavailable) {
		t.Errorf("usage: %v; want ErrUnavailable", err)
	}
	execute(t, admin, "alter role "+cfg.ConnConfig.User+" connection limit -1")
	if _, err := store.Commit(t.Context(), commit(write(key(1)))); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
