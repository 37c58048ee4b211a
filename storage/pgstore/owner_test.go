package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func ownedSink(pool *pgxpool.Pool, owner string) *pgstore.Sink {
	return pgstore.NewSink(pool, &pgstore.SinkOptions{
		Owner: func(context.Context) (string, error) { return owner, nil },
	})
}

// Logs are those of the catalog that came first: the sink of another one touches nothing, and says what to do.
func TestLogsOfAnotherCatalog(t *testing.T) {
	pool := pgtest.Connect(t, pgtest.Migrated(t))
	ours, theirs := ownedSink(pool, "ours"), ownedSink(pool, "theirs")
	store(t, ours, logEntries(0, 3)...)
	storagetest.SinkRefuses(t, theirs, logbuf.ErrForeign)
	storagetest.SinkRefuses(t, theirs, logbuf.ErrPaused)
	err := theirs.Claim(t.Context())
	if !errors.Is(err, logbuf.ErrForeign) || !strings.Contains(err.Error(), `"ours", and this is theirs`) ||
		!strings.Contains(err.Error(), "empty its table log_owner") {
		t.Errorf("Claim: %v", err)
	}
	if _, err := theirs.Clock(t.Context()); err != nil {
		t.Errorf("whoever waits may still ask for the time: %v", err)
	}
	if page, err := ours.Logs(t.Context(), logbuf.LogQuery{Since: logDay}); err != nil || len(page.Entries) != 3 {
		t.Errorf("%d entries, %v; want the 3 that were there", len(page.Entries), err)
	}

	if _, err := pool.Exec(t.Context(), `delete from log_owner`); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Claim(t.Context()); err != nil {
		t.Errorf("what was handed over: %v", err)
	}
	if err := ownedSink(pool, "ours").Claim(t.Context()); !errors.Is(err, logbuf.ErrForeign) {
		t.Errorf("whose it was before: %v, want ErrForeign", err)
	}
}

// Of many catalogs that come at the same time, one has the logs. Its role may have settings by which it only reads.
func TestOneClaims(t *testing.T) {
	cfg := leastRights(t, pgtest.Migrated(t))
	cfg.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	pool := pgtest.Connect(t, cfg)
	var mu sync.Mutex
	var won []string
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			name := fmt.Sprint("catalog ", i)
			err := ownedSink(pool, name).Claim(t.Context())
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, name)
			} else if !errors.Is(err, logbuf.ErrForeign) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(won) != 1 {
		t.Errorf("%q have the logs, want one", won)
	}
}
