package pgstore_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// Servers that start on an empty database at once, behind a pooler which has fewer connections than
// there are servers and gives each transaction another one, agree on who migrates.
func TestMigrateBehindPooler(t *testing.T) {
	t.Parallel()
	for range scaled(3, 10) {
		direct := pgtest.Config(t)
		cfg := pgtest.Pooler(t, direct, 3)
		ids := make([]string, 5)
		var servers sync.WaitGroup
		for i := range ids {
			pool := pgtest.Connect(t, cfg)
			servers.Go(func() {
				store, err := pgstore.Open(t.Context(), pool, &pgstore.Options{
					ListenDSN: pgstore.ListenNone, Logger: slog.New(slog.DiscardHandler),
				})
				if err != nil {
					t.Errorf("server %d: %v", i, err)
					return
				}
				defer store.Close()
				ids[i] = head(t, store).Store
			})
		}
		servers.Wait()
		if slices.Sort(ids); ids[0] == "" || ids[0] != ids[4] {
			t.Errorf("stores called %q; want one name", ids)
		}
		pool := pgtest.Connect(t, direct)
		if n := count(t, pool, `select count(*) from pg_locks where locktype = 'advisory' and database =
			(select oid from pg_database where datname = current_database())`); n != 0 {
			t.Errorf("%d advisory locks stayed behind", n)
		}
		if twice := count(t, pool, `select count(*) - count(distinct version) from ezapi_migrations`); twice != 0 {
			t.Errorf("%d migrations were applied twice", twice)
		}
	}
}

// A migration that fails leaves nothing behind, and the next start does all of it.
func TestMigrateAllOrNothing(t *testing.T) {
	t.Parallel()
	pool := pgtest.Connect(t, pgtest.Config(t))
	// An index of this name is in the way of the last migration, but no table is.
	execute(t, pool, `create sequence log_blocks_by_time`)
	if _, err := pgstore.Open(t.Context(), pool, nil); err == nil {
		t.Fatal("open with something in the way: no error")
	}
	const ours = `select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')`
	if n := count(t, pool, ours); n != 0 {
		t.Errorf("%d tables stayed behind", n)
	}
	execute(t, pool, `drop sequence log_blocks_by_time`)
	open(t, pool, nil)
}

// A host program's own tables are not touched, and the message says how to live beside them.
func TestSchemaOfItsOwn(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Config(t)
	host := pgtest.Connect(t, cfg)
	execute(t, host, `create table keys (theirs int); create table models (theirs int)`)
	_, err := pgstore.Open(t.Context(), host, nil)
	if !errors.Is(err, pgstore.ErrForeignTables) || !strings.Contains(err.Error(), "keys, models") ||
		!strings.Contains(err.Error(), "search_path") {
		t.Errorf("open beside tables of the same names: %v; want them, and the remedy, named", err)
	}

	// A pool that looks elsewhere is told so, before anything is written.
	_, err = pgstore.Open(t.Context(), host, &pgstore.Options{Schema: "ez api"})
	if err == nil || !strings.Contains(err.Error(), "set search_path = ez api") {
		t.Errorf("open with a schema that the pool does not look into: %v; want the remedy", err)
	}

	config, err := pgstore.PoolConfig(pgtest.DSN(cfg), &pgstore.PoolOptions{Schema: "ez api"})
	if err != nil {
		t.Fatal(err)
	}
	pool := pgtest.Connect(t, config)
	var servers sync.WaitGroup
	for range 4 {
		servers.Go(func() {
			store, err := pgstore.Open(t.Context(), pool, &pgstore.Options{Schema: "ez api", ListenDSN: pgstore.ListenNone})
			if err != nil {
				t.Error(err)
				return
			}
			store.Close()
		})
	}
	servers.Wait()
	store(t, newSink(pool), logEntries(0, 10)...)
	if n := count(t, host, `select count(*) from "ez api".access_logs`); n != 10 {
		t.Errorf("%d entries in the schema; want 10", n)
	}
	if n := count(t, host, `select count(*) from pg_class where relnamespace = 'public'::regnamespace`); n != 2 {
		t.Errorf("%d relations in the host's schema; want its own two", n)
	}
}

// Whoever may not create anything opens what is migrated already, and is told what to do about what
// is not.
func TestOpenWithoutRights(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Config(t)
	owner := pgtest.Connect(t, cfg)
	role := pgtest.Role(t, cfg)
	least := pgtest.Connect(t, role)
	refused := func(when string) {
		t.Helper()
		_, err := pgstore.Open(t.Context(), least, &pgstore.Options{Logger: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), "-migrate") {
			t.Errorf("%s: %v", when, err)
		}
	}
	execute(t, owner, `revoke create on schema public from public`) // before version 15 everybody has it
	refused("an empty database")
	applied, err := pgstore.Migrate(t.Context(), owner, nil)
	if err != nil || len(applied) < 4 {
		t.Fatalf("%v, %v", applied, err)
	}
	refused("tables without rights")
	opts := &pgstore.MigrateOptions{Grant: role.ConnConfig.User}
	if applied, err := pgstore.Migrate(t.Context(), owner, opts); err != nil || len(applied) != 0 {
		t.Fatalf("the second time: %v, %v", applied, err)
	}
	exercise(t, open(t, least, nil))
	execute(t, owner, `delete from ezapi_migrations where version = 1`)
	refused("a version that is missing")

	open(t, readOnly(t, cfg), &pgstore.Options{SkipMigrations: true})
	opts.Grant = "nobody of this name"
	if _, err := pgstore.Migrate(t.Context(), owner, opts); err == nil {
		t.Error("rights are granted to a role that does not exist")
	}
}

// Who owns nothing can grant nothing, and is told so: PostgreSQL itself only warns.
func TestGrantWithoutRights(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Config(t)
	server, other := pgtest.Connect(t, leastRights(t, cfg)), pgtest.Role(t, cfg).ConnConfig.User
	_, err := pgstore.Migrate(t.Context(), server, &pgstore.MigrateOptions{Grant: other})
	if err == nil || !strings.Contains(err.Error(), "connect as "+cfg.ConnConfig.User) {
		t.Errorf("rights are granted by who has none to grant: %v; want an error that names the owner", err)
	}
	owner := pgtest.Connect(t, cfg)
	if _, err := pgstore.Migrate(t.Context(), owner, &pgstore.MigrateOptions{Grant: other}); err != nil {
		t.Fatal(err)
	}
	if _, err := pgstore.Migrate(t.Context(), server, &pgstore.MigrateOptions{Grant: other}); err != nil {
		t.Errorf("a role that has all rights already: %v", err)
	}
}

// What the owner's functions do, nobody else may ask for; and a caller cannot lead them elsewhere.
func TestOwnersFunctions(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Config(t)
	least := pgtest.Connect(t, leastRights(t, cfg))
	stranger := pgtest.Connect(t, pgtest.Role(t, cfg))
	owner := pgtest.Connect(t, cfg)
	execute(t, owner, `create table precious (ts timestamptz); create table access_logs_20260101 ();
create table access_logs_20260105 partition of access_logs for values from ('2026-01-05Z') to ('2026-01-12Z');
create table access_logs_20260106 partition of access_logs default`)
	for name, sql := range map[string]string{
		"a name that is there":           `select ezapi_add_log_partition('precious', '2026-01-02Z', '2026-01-03Z')`,
		"a day that is there":            `select ezapi_add_log_partition('x', '2026-01-11Z', '2026-01-13Z')`,
		"deleting from the table itself": `delete from access_logs_20260101`,
	} {
		if _, err := least.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s: %s", name, sql)
		}
	}
	drop := func(table, before string) (dropped bool) {
		t.Helper()
		err := least.QueryRow(t.Context(), `select ezapi_drop_log_partition($1::text::regclass, $2::text::timestamptz)`,
			table, before).Scan(&dropped)
		if err != nil {
			t.Errorf("drop %s: %v", table, err)
		}
		return dropped
	}
	for _, table := range []string{"precious", "access_logs_20260101", "access_logs", "access_logs_20260106"} {
		if drop(table, "infinity") {
			t.Errorf("%s is dropped, which holds no time of access_logs", table)
		}
	}
	if drop("access_logs_20260105", "2026-01-11 23:59:59.999999Z") {
		t.Error("a partition is dropped that holds a later entry")
	}
	if !drop("access_logs_20260105", "2026-01-12Z") {
		t.Error("a partition stays that holds only entries from before the time")
	}
	if _, err := least.Exec(t.Context(), `create temporary table access_logs (ts timestamptz);
		select ezapi_add_log_partition('access_logs_20260103', '2026-01-03Z', '2026-01-04Z')`); err != nil {
		t.Errorf("a caller with a table of that name: %v", err)
	}
	if n := count(t, owner, `select count(*) from pg_inherits where inhparent = 'access_logs'::regclass`); n != 2 {
		t.Errorf("%d partitions; want the one, and the DEFAULT one", n)
	}
	for _, sql := range []string{
		`select ezapi_log_partitions()`, `select ezapi_drop_log_partition('access_logs_20260103'::regclass, now())`,
		`select ezapi_add_log_partition('x', '2026-01-02Z', '2026-01-03Z')`, `select ezapi_delete_other_logs(now(), 10)`,
	} {
		if _, err := stranger.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("a stranger: %s: %v", sql, err)
		}
	}
}

// readOnly returns a pool whose transactions only read unless they say otherwise.
func readOnly(tb testing.TB, cfg *pgxpool.Config) *pgxpool.Pool {
	tb.Helper()
	cfg = cfg.Copy()
	cfg.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	return pgtest.Connect(tb, cfg)
}

// A database whose text is not UTF-8 would store what is no text, and is refused.
func TestOtherEncoding(t *testing.T) {
	t.Parallel()
	cfg := pgtest.ConfigEncoded(t, "SQL_ASCII")
	_, err := pgstore.Open(t.Context(), pgtest.Connect(t, cfg), &pgstore.Options{ListenDSN: pgstore.ListenNone})
	if !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), "encoding 'UTF8'") {
		t.Errorf("Open on a database in SQL_ASCII: %v; want ErrInvalid that names the remedy", err)
	}
}
