package sqlitestore_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/sqlitestore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestSink(t *testing.T) {
	storagetest.RunSink(t, func(t testing.TB) storagetest.SinkHarness {
		path := filepath.Join(t.TempDir(), "logs.db")
		store := open(t, path)
		return storagetest.SinkHarness{
			Sink:   sqlitestore.NewSink(store),
			Second: sqlitestore.NewSink(open(t, path)),
			Poison: func(_ testing.TB, e *logbuf.Entry) { e.InputTokens = -1 },
			Dead: func(t testing.TB, id uuid.UUID) (n int) {
				db, err := sql.Open("sqlite", path)
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				if err := db.QueryRow(`select count(*) from log_dead_letter where id = ? and reason like '%CHECK%'`, id[:]).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			},
			Close: func(t testing.TB) {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			},
		}
	})
}
