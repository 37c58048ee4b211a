package e2e_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

func execute(t *testing.T, db *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// TestFailoverLosesCommits: the primary is lost under load together with seconds of commits that
// its standby never had. What was acknowledged is stored again from the spool: none is lost, and
// none is there twice.
func TestFailoverLosesCommits(t *testing.T) {
	primary := newVictim(t)
	standby := newStandby(t, primary)
	redisAddr, prefix, _ := redisServer(t)
	token := newToken()
	server := start(t, "server", []string{
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_REDIS_ADDR=" + redisAddr, "EZ_REDIS_PREFIX=" + prefix,
		fmt.Sprintf("EZ_PG_DSN=postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable", primary.port,
			standby.port),
		"EZ_ADMIN_TOKEN=" + token, "EZ_DB_KEYS=" + newKey("k1"), "EZ_SYNC_KEYS=" + newKey("s1"),
		"EZ_DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
	})
	l := &ledger{acked: map[uuid.UUID]bool{}, token: token}
	l.url.Store(&server.url)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			if err := l.write(ctx, 195*time.Millisecond); err != nil {
				t.Error(err)
			}
		})
	}
	first, second := connect(t, primary.dsn()), connect(t, standby.dsn())
	defer first.Close(context.Background())
	defer second.Close(context.Background())
	eventually(t, time.Minute, "the standby has entries", func() bool {
		var there bool
		err := second.QueryRow(t.Context(), `select to_regclass('access_logs') is not null`).Scan(&there)
		return err == nil && there && stored(t, second) > 0
	})

	// From here on the primary commits for itself alone.
	execute(t, second, `alter system set primary_conninfo = ''`, `select pg_reload_conf()`)
	eventually(t, time.Minute, "the standby is cut off", func() bool {
		var receiving bool
		err := second.QueryRow(t.Context(), `select exists (select from pg_stat_wal_receiver)`).Scan(&receiving)
		return err == nil && !receiving
	})
	had := stored(t, second)
	eventually(t, time.Minute, "the primary has more", func() bool { return stored(t, first) > had+1000 })
	time.Sleep(scaled(time.Second, 10*time.Second))
	lost := stored(t, first) - had
	primary.kill()
	execute(t, second, `select pg_promote()`)
	promoted := time.Now()
	eventually(t, time.Minute, "the new primary takes entries", func() bool { return stored(t, second) > had })
	t.Logf("%d entries were committed and lost; stored again %s after the promotion", lost,
		time.Since(promoted).Round(time.Millisecond))
	time.Sleep(scaled(time.Second, 10*time.Second))
	stop()
	writers.Wait()
	took := eventually(t, 2*time.Minute, "all is stored", func() bool { return stored(t, second) >= l.size() })
	t.Logf("all %d are stored %s after the end", l.size(), took)
	eventually(t, time.Minute, "nothing is pending",
		func() bool { return logCounter(t, server.url, token, "pending") == 0 })
	server.stop(t)
	l.audit(t, second)
}
