package pgstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.Tests{M: m, Migrate: func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := pgstore.Migrate(ctx, pool, nil)
		return err
	}})
}

// open opens a store that is closed after the test.
func open(tb testing.TB, pool *pgxpool.Pool, opts *pgstore.Options) *pgstore.Store {
	tb.Helper()
	if opts == nil {
		opts = &pgstore.Options{}
	}
	opts.Logger = slog.New(slog.DiscardHandler)
	store, err := pgstore.Open(tb.Context(), pool, opts)
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

// leastRights migrates a database, and returns the configuration of a role that has the rights which
// [pgstore.Migrate] grants.
func leastRights(tb testing.TB, cfg *pgxpool.Config) *pgxpool.Config {
	tb.Helper()
	least := pgtest.Role(tb, cfg)
	owner := pgtest.Connect(tb, cfg)
	defer owner.Close()
	if _, err := pgstore.Migrate(tb.Context(), owner, &pgstore.MigrateOptions{Grant: least.ConnConfig.User}); err != nil {
		tb.Fatal(err)
	}
	return least
}

var now = time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC)

// key makes a key as package catalog would, changed by edits.
func key(id int64, edits ...func(*catalog.Entity)) catalog.Entity {
	e := catalog.Entity{
		Kind: catalog.KindKey, ID: id, CreatedAt: now, UpdatedAt: now,
		Hashes: []string{fmt.Sprintf("%064x", id)}, Name: fmt.Sprintf("key-%d", id), Status: "active",
		Namespaces: []string{"default"}, Groups: []string{"default"}, Spec: json.RawMessage(`{}`),
	}
	for _, edit := range edits {
		edit(&e)
	}
	return e
}

// write makes the write that creates an entity.
func write(e catalog.Entity) catalog.Write {
	return catalog.Write{Entity: e, Change: catalog.Change{
		Action: catalog.ActionCreate, Kind: e.Kind, ID: e.ID, After: json.RawMessage(`{}`),
		Touches: catalog.Touches{Hashes: e.Hashes, Groups: e.Groups},
	}}
}

// commit makes a commit of writes.
func commit(writes ...catalog.Write) catalog.Commit {
	return catalog.Commit{Writes: writes, Time: now, Actor: "tester", Reason: "a test"}
}

// head returns the store's head.
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
