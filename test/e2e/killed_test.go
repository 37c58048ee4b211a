package e2e_test

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/postgres"
	"github.com/ez-api/ez-api/test/process"
	"github.com/google/uuid"
)

// TestDatabaseIsKilled: PostgreSQL is killed under 5,000 entries/s and stays away;
// all that was acknowledged is stored, once, within a minute of its return.
func TestDatabaseIsKilled(t *testing.T) {
	v := postgres.New(t, nil)
	redisAddr, prefix, _ := process.Redis(t)
	token := process.NewToken()
	server := process.Start(t, "server", []string{
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_PG_DSN=" + v.DSN(), "EZ_REDIS_ADDR=" + redisAddr,
		"EZ_REDIS_PREFIX=" + prefix,
		"EZ_ADMIN_TOKEN=" + token, "EZ_DB_KEYS=" + process.NewKey("k1"), "EZ_SYNC_KEYS=" + process.NewKey("s1"),
		"EZ_DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
	})
	l := &ledger{acked: map[uuid.UUID]bool{}, token: token}
	l.url.Store(&server.URL)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for range 10 { // each 100 entries every 200 ms
		writers.Go(func() {
			if err := l.write(ctx, 195*time.Millisecond); err != nil {
				t.Error(err)
			}
		})
	}
	for range scaled(2, 3) {
		time.Sleep(scaled(2*time.Second, 10*time.Second))
		v.Kill()
		before, away := l.size(), scaled(3*time.Second, 30*time.Second)
		time.Sleep(away)
		t.Logf("%.0f entries/s acknowledged while PostgreSQL was away", float64(l.size()-before)/away.Seconds())
		if l.size() == before {
			t.Error("nothing was taken while PostgreSQL was away")
		}
		v.Start(t)
	}
	stop()
	writers.Wait()
	db := process.Connect(t, v.DSN())
	defer db.Close(context.Background())
	took := process.Eventually(t, time.Minute, "the backlog is stored", func() bool { return stored(t, db) >= l.size() })
	t.Logf("backlog stored %s after the end", took)
	process.Eventually(t, time.Minute, "nothing is pending",
		func() bool { return logCounter(t, server.URL, token, "pending") == 0 })
	var sum float64
	for _, name := range []string{"stored_total", "duplicate_total", "dead_total", "damaged_total"} {
		sum += logCounter(t, server.URL, token, name)
	}
	if accepted := logCounter(t, server.URL, token, "accepted_total"); accepted != sum || accepted < float64(l.size()) {
		t.Errorf("%v entries are accepted, %v became of them, %d were acknowledged", accepted, sum, l.size())
	}
	server.Stop(t)
	l.audit(t, db)
}

// logCounter reads one of the metrics ezapi_logs_….
func logCounter(t *testing.T, url, token, name string) float64 {
	t.Helper()
	resp := process.API{URL: url, Token: token}.Send(t, http.MethodGet, "/metrics", nil)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "ezapi_logs_"+name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("there is no metric ezapi_logs_%s", name)
	return 0
}
