package sqlitestore_test

import (
	"database/sql"
	"path/filepath"
	"strings"
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

// Pages are read from an index, whichever filter a query has.
func TestLogQueriesUseIndexes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs.db")
	open(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for where, index := range map[string]string{
		"ts >= 1 and (ts, id) < (9, x'00')":                                           "PRIMARY KEY",
		"ts >= 1 and (ts, id) < (9, x'00') and key_id = 7":                            "access_logs_key",
		"ts >= 1 and (ts, id) < (9, x'00') and request_id = 'r' and request_id <> ''": "access_logs_request",
	} {
		var id, parent, unused int
		var plan string
		query := `explain query plan select * from access_logs where ` + where + ` order by ts desc, id desc limit 10`
		if err := db.QueryRow(query).Scan(&id, &parent, &unused, &plan); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(plan, index) {
			t.Errorf("%s: %s, want %s", where, plan, index)
		}
	}
}
