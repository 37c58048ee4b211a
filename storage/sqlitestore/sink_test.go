package sqlitestore_test

import (
	"database/sql"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// Sums stop at the largest integer, as they are stored and as they are read.
func TestSumsStop(t *testing.T) {
	t.Parallel()
	sink := sqlitestore.NewSink(open(t, filepath.Join(t.TempDir(), "logs.db")))
	const most = math.MaxInt64
	want := logbuf.Usage{
		Start:       now.Truncate(24 * time.Hour),
		InputTokens: most, CacheReadTokens: most, CacheWriteTokens: most, OutputTokens: most, CostNanoUSD: most,
	}
	since := map[int64]time.Time{0: {}}
	for hour := range 3 { // of one hour, then of several
		for _, e := range logEntries(2) {
			e.KeyID, e.Time = 0, now.Add(time.Duration(hour)*time.Hour)
			e.InputTokens, e.CacheReadTokens, e.CacheWriteTokens, e.OutputTokens, e.CostNanoUSD = most, most, most, most, new(int64(most))
			if r, err := sink.Write(t.Context(), logbuf.Batch{Entries: []logbuf.Entry{e}}); err != nil || r.Stored != 1 {
				t.Fatalf("Write: %+v, %v", r, err)
			}
			want.Requests++
			got, err := sink.Usage(t.Context(), logbuf.UsageQuery{Since: want.Start, Until: want.Start.Add(24 * time.Hour)})
			if diff := cmp.Diff([]logbuf.Usage{want}, got.Rows); err != nil || diff != "" {
				t.Fatalf("Usage: %v (-want +got):\n%s", err, diff)
			}
			used, err := sink.KeyUsage(t.Context(), since)
			if err != nil || used[0].CostNanoUSD != most {
				t.Fatalf("KeyUsage: %+v, %v", used, err)
			}
		}
	}
}
