package pgstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storagetest.RunStore(t, func(t testing.TB) storagetest.StoreHarness {
		cfg := leastRights(t, pgtest.Migrated(t))
		store := open(t, pgtest.Connect(t, cfg), nil)
		return storagetest.StoreHarness{Store: store, Second: open(t, pgtest.Connect(t, cfg), nil),
			Close: func(t testing.TB) {
				if err := store.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}}
	})
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	storagetest.RunOutbox(t, func(t testing.TB) storagetest.OutboxHarness {
		cfg := leastRights(t, pgtest.Migrated(t))
		return storagetest.OutboxHarness{
			Outbox: open(t, pgtest.Connect(t, cfg), nil), Second: open(t, pgtest.Connect(t, cfg), nil),
		}
	})
}

// The store works with whatever a pool is configured for: the modes that
// poolers need, and another isolation than a commit must run with.
func TestPoolConfigurations(t *testing.T) {
	t.Parallel()
	mode := func(m pgx.QueryExecMode) func(*pgxpool.Config) {
		return func(cfg *pgxpool.Config) { cfg.ConnConfig.DefaultQueryExecMode = m }
	}
	param := func(name, value string) func(*pgxpool.Config) {
		return func(cfg *pgxpool.Config) { cfg.ConnConfig.RuntimeParams[name] = value }
	}
	for name, configure := range map[string]func(*pgxpool.Config){
		"cache statement": mode(pgx.QueryExecModeCacheStatement),
		"cache describe":  mode(pgx.QueryExecModeCacheDescribe),
		"describe exec":   mode(pgx.QueryExecModeDescribeExec),
		"exec":            mode(pgx.QueryExecModeExec),
		"simple protocol": mode(pgx.QueryExecModeSimpleProtocol),
		"serializable":    param("default_transaction_isolation", "serializable"),
		"repeatable read": param("default_transaction_isolation", "repeatable read"),
		"time zone":       param("timezone", "Asia/Kathmandu"),
		"one connection":  func(cfg *pgxpool.Config) { cfg.MaxConns = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := pgtest.Migrated(t)
			configure(cfg)
			exercise(t, open(t, pgtest.Connect(t, cfg), nil))
		})
	}
}

// exercise takes a key through its life.
func exercise(t *testing.T, store catalog.Store) {
	t.Helper()
	ctx := t.Context()
	first, err := store.NextIDs(ctx, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := key(first, func(e *catalog.Entity) {
		e.ExternalID, e.Name = `ext "1"`, `it's \ {odd},"na;me"`
		e.Hashes = []string{"bb", "aa"}
		e.Namespaces, e.Groups = []string{"z", "a", `{"x",}`}, []string{"g"}
		e.Labels = map[string]string{"team": `a"b'c`}
		e.DueAt = now.Add(time.Hour)
		e.Spec = json.RawMessage(`{"big": 12345678901234567890}`)
	})
	rev, err := store.Commit(ctx, commit(write(want), write(key(first+1))))
	if err != nil || rev != 1 {
		t.Fatalf("create: revision %d, %v", rev, err)
	}
	want.Revision = 1

	want.Hashes, want.Revision = []string{"aa", "cc"}, 0
	rev, err = store.Commit(ctx, commit(catalog.Write{Entity: want, If: 1}))
	if err != nil || rev != 2 {
		t.Fatalf("update: revision %d, %v", rev, err)
	}
	want.Revision = 2
	rev, err = store.Commit(ctx, commit(catalog.Write{Entity: key(first + 1), If: 1, Delete: true}))
	if err != nil || rev != 3 {
		t.Fatalf("delete: revision %d, %v", rev, err)
	}
	for name, tt := range map[string]struct {
		commit catalog.Commit
		want   error
	}{
		"another revision": {commit(catalog.Write{Entity: want, If: 1}), catalog.ErrConflict},
		"exists":           {commit(write(want)), catalog.ErrConflict},
		"token taken": {commit(write(key(first+2, func(e *catalog.Entity) { e.Hashes = []string{"cc"} }))),
			catalog.ErrExists},
		"external id " +
			"taken": {commit(write(key(first+2, func(e *catalog.Entity) { e.ExternalID = want.ExternalID }))),
			catalog.ErrExists},
		"no model": {commit(write(catalog.Entity{Kind: catalog.KindBinding, ID: first + 2,
			Ref: "default.none"})), catalog.ErrReferenced},
		"another base":        {catalog.Commit{Base: 2, Sync: true}, catalog.ErrConflict},
		"another base, empty": {catalog.Commit{Base: 2}, catalog.ErrConflict},
	} {
		if _, err := store.Commit(ctx, tt.commit); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", name, err, tt.want)
		}
	}

	err = store.Read(ctx, func(r catalog.Reader) error {
		if r.Head().Revision != 3 {
			t.Errorf("head at %d; want 3: no failed commit moves it", r.Head().Revision)
		}
		got, err := r.Find(ctx, catalog.KindKey, catalog.ByHash, "cc")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("found by token (-want +got):\n%s", diff)
		}
		_, gone := r.Find(ctx, catalog.KindKey, catalog.ByHash, "bb")
		if !errors.Is(gone, catalog.ErrNotFound) {
			t.Errorf("find a token that was replaced: %v; want ErrNotFound", gone)
		}
		all, listErr := r.List(ctx, catalog.KindKey, catalog.Query{
			IDs: []int64{first, first + 1}, Names: []string{want.Name}, Status: "active", Namespace: `{"x",}`,
			Groups: []string{"other", "g"}, Labels: want.Labels, DueBefore: now.Add(2 * time.Hour), Limit: 9,
		})
		if diff := cmp.Diff([]catalog.Entity{want}, all); diff != "" {
			t.Errorf("listed (-want +got):\n%s", diff)
		}
		for kinds, want := range map[[2]catalog.Kind]int{
			{catalog.KindKey, catalog.KindHold}: 2, {catalog.KindHold, catalog.KindModel}: 0,
		} {
			changes, changesErr := r.Changes(ctx, catalog.Cursor{}, 9, kinds[:]...)
			if len(changes) != want || changesErr != nil {
				t.Errorf("%d changes of %v, %v; want %d", len(changes), kinds, changesErr, want)
			}
		}
		if all, allErr := r.Changes(ctx, catalog.Cursor{}, 9); len(all) != 4 || allErr != nil {
			t.Errorf("%d changes of all kinds, %v; want 4", len(all), allErr)
		}
		return errors.Join(err, listErr)
	})
	if err != nil {
		t.Error(err)
	}
	if p, ok := store.(catalog.Pruner); ok {
		if _, err := p.ThinChanges(ctx, now.Add(-time.Hour)); err != nil {
			t.Errorf("thin the change feed: %v", err)
		}
		if _, err := p.PruneChanges(ctx, now.Add(-time.Hour)); err != nil {
			t.Errorf("prune the change feed: %v", err)
		}
	}
}

// What the store keeps can be asked for in SQL.
func TestRows(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	store := open(t, pool, nil)
	e := key(7, func(e *catalog.Entity) {
		e.Labels = map[string]string{"team": "blue"}
		e.Spec = json.RawMessage(`{"n": 9007199254740993}`)
	})
	if _, err := store.Commit(t.Context(), commit(write(e))); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Commit(t.Context(), catalog.Commit{Sync: true, Epoch: 5, Time: now,
		Actor: "operator"}); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		`select id || ' ' || revision || ' ' || name from keys where labels @> '{"team": "blue"}'`: `7 1 key-7`,
		`select spec ->> 'n' from keys`:                                                                                                      `9007199254740993`,
		`select groups[1] || ' ' || namespaces[1] from keys`:                                                                                 `default default`,
		`select owner || ' ' || (hash = keys.hashes[1]) from key_hashes join keys on id = owner`:                                             `7 true`,
		`select (natural_key is null and external_id is null and ref is null and due_at is null)::text from keys`:                            `true`,
		`select string_agg(revision || ' ' || action || ' ' || kind || ' ' || id || ' ' || actor, ', ' order by revision, seq) from changes`: `1 create keys 7 tester, 2 sync  0 operator`,
		`select touches ->> 'groups' from changes where revision = 1`:                                                                        `["default"]`,
		`select time::text from changes where revision = 1`:                                                                                  now.Format("2006-01-02 15:04:05.000000+00"),
		`select revision || ' ' || epoch || ' ' || (mark = (select mark from changes where revision = 2)) from catalog_head`:                 `2 5 true`,
	} {
		var got string
		if err := pool.QueryRow(t.Context(), query).Scan(&got); err != nil {
			t.Errorf("%s: %v", query, err)
		} else if got != want {
			t.Errorf("%s\n got %s\nwant %s", query, got, want)
		}
	}
}

// Several processes that start on an empty database at once agree on who migrates.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	ids := make([]string, 4)
	var group sync.WaitGroup
	for i := range ids {
		pool := pgtest.Connect(t, cfg)
		group.Go(func() {
			store, err := pgstore.Open(t.Context(), pool, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer store.Close()
			ids[i] = head(t, store).Store
		})
	}
	group.Wait()
	if slices.Sort(ids); ids[0] == "" || ids[0] != ids[3] {
		t.Errorf("stores called %q; want one name", ids)
	}
}

func TestSkipMigrations(t *testing.T) {
	t.Parallel()
	_, err := pgstore.Open(t.Context(), pgtest.Connect(t, pgtest.Config(t)), &pgstore.Options{SkipMigrations: true})
	if err == nil || !strings.Contains(err.Error(), "SkipMigrations") {
		t.Errorf("open on an empty database: %v; want an error that names the option", err)
	}
}

// The caller's connections are left as they were, and the pool open.
func TestPoolIsTheCallers(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	cfg.ConnConfig.RuntimeParams["lock_timeout"] = "1234ms"
	cfg.MaxConns = 1
	pool := pgtest.Connect(t, cfg)
	store := open(t, pool, nil)
	settings := func() (s string) {
		err := pool.QueryRow(t.Context(), `
select string_agg(name || '=' || setting, ' ' order by name) from pg_settings
where name ~ '^(lock_timeout|statement_timeout|idle_in_.*|tcp_.*|.*transaction_.*|search_path)$'`).Scan(&s)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := settings()
	for i := range 3 { // one write, several, and one that fails
		writes := []catalog.Write{write(key(int64(2*i + 1))), write(key(int64(2*i + 2)))}
		if _, err := store.Commit(t.Context(), commit(writes[:1+i%2]...)); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Commit(t.Context(), commit(writes...)); !errors.Is(err, catalog.ErrConflict) {
			t.Fatalf("commit the same again: %v", err)
		}
	}
	if diff := cmp.Diff(before, settings()); diff != "" {
		t.Errorf("settings changed (-before +after):\n%s", diff)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pool.Ping(t.Context()); err != nil {
		t.Errorf("ping after Close: %v", err)
	}
}

// A restored backup takes the head back; nobody is woken for what is gone.
func TestHistoryGoesBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	store := open(t, pool, &pgstore.Options{ListenDSN: pgstore.ListenNone})
	for i := range 3 {
		if _, err := store.Commit(t.Context(), commit(write(key(int64(i+1))))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pool.Exec(t.Context(), `update catalog_head set revision = 1`); err != nil {
		t.Fatal(err)
	}
	if h := head(t, store); h.Revision != 1 {
		t.Fatalf("head at %d; want 1", h.Revision)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if rev, err := store.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for what is gone: %d, %v", rev, err)
	}
}

// A column that somebody else than a server has written, and that cannot be read, damages its record and no other.
func TestDamagedColumns(t *testing.T) {
	pool := pgtest.Connect(t, pgtest.Migrated(t))
	store := open(t, pool, nil)
	if _, err := store.Commit(t.Context(), commit(write(key(1)), write(key(2)))); err != nil {
		t.Fatal(err)
	}
	execute(t, pool, `update keys set labels = '{"team":7}' where id = 1`)
	var all []catalog.Entity
	if err := store.Read(t.Context(), func(r catalog.Reader) (err error) {
		all, err = r.List(t.Context(), catalog.KindKey, catalog.Query{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || json.Valid(all[0].Spec) || all[0].Name != "key-1" || !json.Valid(all[1].Spec) {
		t.Errorf("%+v", all)
	}
}
