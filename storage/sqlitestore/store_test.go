package sqlitestore_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/sqlitestore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens a store that is closed after the test.
func open(tb testing.TB, path string) *sqlitestore.Store {
	tb.Helper()
	store, err := sqlitestore.Open(path, &sqlitestore.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	tb.Cleanup(func() {
		if err := store.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return store
}

var now = time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC)

// key makes a key as package catalog would.
func key(id int64) catalog.Entity {
	return catalog.Entity{
		Kind: catalog.KindKey, ID: id, CreatedAt: now, UpdatedAt: now,
		Hashes: []string{fmt.Sprintf("%064x", id)}, Name: fmt.Sprintf("key-%d", id), Status: "active",
		Namespaces: []string{"default"}, Groups: []string{"default"}, Spec: json.RawMessage(`{"big":12345678901234567890}`),
	}
}

// create makes a commit that creates entities.
func create(entities ...catalog.Entity) catalog.Commit {
	c := catalog.Commit{Time: now, Actor: "tester"}
	for _, e := range entities {
		c.Writes = append(c.Writes, catalog.Write{Entity: e, Change: catalog.Change{
			Action: catalog.ActionCreate, Kind: e.Kind, ID: e.ID, After: json.RawMessage(`{}`),
		}})
	}
	return c
}

func head(tb testing.TB, store catalog.Store) (h catalog.Head) {
	tb.Helper()
	err := store.Read(tb.Context(), func(r catalog.Reader) error {
		h = r.Head()
		return nil
	})
	if err != nil {
		tb.Fatalf("read the head: %v", err)
	}
	return h
}

func TestStore(t *testing.T) {
	t.Parallel()
	storagetest.RunStore(t, func(t testing.TB) storagetest.StoreHarness {
		path := filepath.Join(t.TempDir(), "catalog.db")
		store := open(t, path)
		return storagetest.StoreHarness{Store: store, Second: open(t, path), Close: func(t testing.TB) {
			if err := store.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}}
	})
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	storagetest.RunOutbox(t, func(t testing.TB) storagetest.OutboxHarness {
		path := filepath.Join(t.TempDir(), "catalog.db")
		return storagetest.OutboxHarness{Outbox: open(t, path), Second: open(t, path)}
	})
}

// Everything is still there, under the same name, after a restart.
func TestReopen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "with space, 100%25 & question?#.db")
	first := open(t, path)
	id, err := first.NextIDs(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	want := key(id)
	if _, err := first.Commit(t.Context(), create(want)); err != nil {
		t.Fatal(err)
	}
	before := head(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := open(t, path)
	if diff := cmp.Diff(before, head(t, second)); diff != "" {
		t.Errorf("head (-before +after):\n%s", diff)
	}
	if next, err := second.NextIDs(t.Context(), 1); err != nil || next < id+3 {
		t.Errorf("next id %d, %v; want at least %d", next, err, id+3)
	}
	err = second.Read(t.Context(), func(r catalog.Reader) error {
		got, err := r.Get(t.Context(), catalog.KindKey, id)
		want.Revision = 1
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("key (-before +after):\n%s", diff)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Secrets are in the file, and in the two that SQLite makes beside it.
func TestFileMode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := open(t, filepath.Join(dir, "catalog.db"))
	if _, err := store.Commit(t.Context(), create(key(1))); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v, %v; want the database, its log and its index", files, err)
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", file.Name(), info.Mode(), err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	notADatabase := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(notADatabase, []byte("this is no database, and long enough to tell"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"no path":        "",
		"memory":         ":memory:",
		"no directory":   filepath.Join(t.TempDir(), "none", "catalog.db"),
		"a directory":    t.TempDir(),
		"not a database": notADatabase,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := sqlitestore.Open(path, &sqlitestore.Options{Logger: slog.New(slog.DiscardHandler)})
			if err == nil {
				store.Close()
				t.Errorf("opened %q", path)
			}
		})
	}
}

// Two processes that start at once on a new file agree on who migrates.
func TestOpenAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "catalog.db")
	names := make([]string, 4)
	var group sync.WaitGroup
	for i := range names {
		group.Go(func() {
			store, err := sqlitestore.Open(path, &sqlitestore.Options{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Errorf("open at once: %v", err)
				return
			}
			defer store.Close()
			names[i] = head(t, store).Store
		})
	}
	group.Wait()
	if slices.Sort(names); names[0] == "" || names[0] != names[3] {
		t.Errorf("stores called %q; want one name", names)
	}
}

// A commit that waits for another process' lock ends with its context, and has
// not happened.
func TestCommitCanceled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "catalog.db")
	store := open(t, path)
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	if _, err := other.Exec(`begin immediate`); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := store.Commit(ctx, create(key(1))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("commit: %v; want the context's error", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("canceling took %v", took)
	}
	if _, err := other.Exec(`rollback`); err != nil {
		t.Fatal(err)
	}
	if rev, err := store.Commit(t.Context(), create(key(1))); err != nil || rev != 1 {
		t.Errorf("commit afterwards: revision %d, %v; want 1", rev, err)
	}
}

// What the store keeps can be asked for in SQL.
func TestRows(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "catalog.db")
	store := open(t, path)
	if _, err := store.Commit(t.Context(), create(key(1))); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for query, want := range map[string]string{
		`pragma journal_mode`:    `wal`,
		`pragma integrity_check`: `ok`,
		`select revision || ' ' || name || ' ' || groups from keys`: `1 key-1 ["default"]`,
		`select spec from keys`: `{"big":12345678901234567890}`,
		`select action || ' ' || kind || ' ' || actor || ' ' || id from changes`: `create keys tester 1`,
	} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", query, got, err, want)
		}
	}
}

// A column that somebody else than a server has written, and that cannot be read, damages its record and no other.
func TestDamagedColumns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	store := open(t, path)
	if _, err := store.Commit(t.Context(), create(key(1), key(2))); err != nil {
		t.Fatal(err)
	}
	execute(t, connect(t, path), `update keys set labels = '{"team":7}' where id = 1`)
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
