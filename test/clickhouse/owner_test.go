//go:build clickhouse

package clickhouse_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/chstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func ownedSink(t testing.TB, database, owner string) *chstore.Sink {
	t.Helper()
	s, err := chstore.NewSink(server.DSN(database), &chstore.SinkOptions{
		Settle: -1, Owner: func(context.Context) (string, error) { return owner, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Logs are those of the catalog that came first: the sink of another one touches nothing.
func TestLogsOfAnotherCatalog(t *testing.T) {
	t.Parallel()
	database := newDatabase()
	ours, theirs := ownedSink(t, database, "ours"), ownedSink(t, database, "theirs")
	batch := logbuf.Batch{Segment: uuid.New(), To: 1, Entries: []logbuf.Entry{spent(1)}}
	if _, err := ours.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	storagetest.SinkRefuses(t, theirs, logbuf.ErrForeign)
	storagetest.SinkRefuses(t, theirs, logbuf.ErrPaused)
	if _, err := theirs.Ready(t.Context()); !errors.Is(err, logbuf.ErrForeign) {
		t.Errorf("Ready: %v, want ErrForeign", err)
	}
	if _, err := theirs.Clock(t.Context()); err != nil {
		t.Errorf("whoever waits may still ask for the time: %v", err)
	}
	if n := query(t, database, "SELECT count() FROM access_logs"); n != "1" {
		t.Errorf("%s entries, want the one that was there", n)
	}

	query(t, database, "TRUNCATE TABLE log_owner")
	if err := theirs.Claim(t.Context()); err != nil {
		t.Errorf("what was handed over: %v", err)
	}
	if err := ownedSink(t, database, "ours").Claim(t.Context()); !errors.Is(err, logbuf.ErrForeign) {
		t.Errorf("whose it was before: %v, want ErrForeign", err)
	}
}
