package e2e_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/postgres"
	"github.com/ez-api/ez-api/test/process"
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
	primary := postgres.New(t, nil)
	standby := postgres.NewStandby(t, primary, "standby")
	redisAddr, prefix, _ := process.Redis(t)
	token := process.NewToken()
	server := process.Start(t, "server", []string{
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_REDIS_ADDR=" + redisAddr, "EZ_REDIS_PREFIX=" + prefix,
		fmt.Sprintf("EZ_PG_DSN=postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable", primary.Port,
			standby.Port),
		"EZ_ADMIN_TOKEN=" + token, "EZ_DB_KEYS=" + process.NewKey("k1"), "EZ_SYNC_KEYS=" + process.NewKey("s1"),
		"EZ_DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
	})
	l := &ledger{acked: map[uuid.UUID]bool{}, token: token}
	l.url.Store(&server.URL)
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
	first, second := process.Connect(t, primary.DSN()), process.Connect(t, standby.DSN())
	defer first.Close(context.Background())
	defer second.Close(context.Background())
	process.Eventually(t, time.Minute, "the standby has entries", func() bool {
		var there bool
		err := second.QueryRow(t.Context(), `select to_regclass('access_logs') is not null`).Scan(&there)
		return err == nil && there && stored(t, second) > 0
	})

	// From here on the primary commits for itself alone.
	execute(t, second, `alter system set primary_conninfo = ''`, `select pg_reload_conf()`)
	process.Eventually(t, time.Minute, "the standby is cut off", func() bool {
		var receiving bool
		err := second.QueryRow(t.Context(), `select exists (select from pg_stat_wal_receiver)`).Scan(&receiving)
		return err == nil && !receiving
	})
	had := stored(t, second)
	process.Eventually(t, time.Minute, "the primary has more", func() bool { return stored(t, first) > had+1000 })
	time.Sleep(scaled(time.Second, 10*time.Second))
	lost := stored(t, first) - had
	primary.Kill()
	execute(t, second, `select pg_promote()`)
	promoted := time.Now()
	process.Eventually(t, time.Minute, "the new primary takes entries", func() bool { return stored(t, second) > had })
	t.Logf("%d entries were committed and lost; stored again %s after the promotion", lost,
		time.Since(promoted).Round(time.Millisecond))
	time.Sleep(scaled(time.Second, 10*time.Second))
	stop()
	writers.Wait()
	took := process.Eventually(t, 2*time.Minute, "all is stored", func() bool { return stored(t, second) >= l.size() })
	t.Logf("all %d are stored %s after the end", l.size(), took)
	process.Eventually(t, time.Minute, "nothing is pending",
		func() bool { return logCounter(t, server.URL, token, "pending") == 0 })
	server.Stop(t)
	l.audit(t, second)
}
