package sqlitestore

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"
)

// Durability and integrity hang on settings that SQLite forgets with each connection.
func TestSettings(t *testing.T) {
	t.Parallel()
	store, err := Open(filepath.Join(t.TempDir(), "catalog.db"), &Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, tt := range []struct {
		db           *sqlx.DB
		pragma, want string
	}{
		{store.write, "journal_mode", "wal"},
		{store.write, "synchronous", "2"}, // FULL
		{store.write, "foreign_keys", "1"},
		{store.write, "busy_timeout", "10000"},
		{store.read, "journal_mode", "wal"},
		{store.read, "query_only", "1"},
		{store.read, "busy_timeout", "10000"},
	} {
		var got string
		if err := tt.db.Get(&got, "pragma "+tt.pragma); err != nil || got != tt.want {
			t.Errorf("%s is %q, %v; want %q", tt.pragma, got, err, tt.want)
		}
	}
	if _, err := store.read.Exec(`pragma query_only = 0; delete from catalog_head`); err == nil {
		t.Error("a reader wrote")
	}
}
