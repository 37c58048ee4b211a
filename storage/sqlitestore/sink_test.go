package sqlitestore_test

import (
	"database/sql"
	"flag"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/sqlitestore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

var long = flag.Bool("long", false, "take the time for the full figures")

func TestSink(t *testing.T) {
	storagetest.RunSink(t, func(t testing.TB) storagetest.SinkHarness {
		path := filepath.Join(t.TempDir(), "logs.db")
		store := open(t, path)
		execute(t, connect(t, path), refusePoison)
		days := 0
		if *long {
			days = 400
		}
		second := open(t, path)
		return storagetest.SinkHarness{
			Days:   days,
			Sink:   sqlitestore.NewSink(store, nil),
			Second: sqlitestore.NewSink(second, nil),
			Poison: func(_ testing.TB, e *logbuf.Entry) { e.Endpoint = "poison" },
			Dead: func(t testing.TB, id uuid.UUID) (n int) {
				db, err := sql.Open("sqlite", path)
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				if err := db.QueryRow(`select count(*) from log_dead_letter where id = ? and reason like '%not wanted%'`, id[:]).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			},
			Close: func(t testing.TB) {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			},
			Reopen: func(t testing.TB) (logbuf.Sink, logbuf.Archive) {
				for _, s := range []*sqlitestore.Store{store, second} { // nobody has the file open any more
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				}
				again := sqlitestore.NewSink(open(t, path), nil)
				return again, again
			},
		}
	})
}

// refusePoison refuses some entries.
const refusePoison = `create trigger refuse before insert on access_logs when new.endpoint = 'poison'
begin select raise(abort, 'not wanted'); end`
