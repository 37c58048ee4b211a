package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

var long = flag.Bool("long", false, "take the time for the full figures")

// scaled returns full with -long, otherwise short.
func scaled[T any](short, full T) T {
	if *long {
		return full
	}
	return short
}

// A ledger knows every log entry that a server has acknowledged.
type ledger struct {
	url    atomic.Pointer[string] // of the server, which changes when it restarts
	token  string
	mu     sync.Mutex
	acked  map[uuid.UUID]bool
	unsure int // batches that were sent again because no answer came
}

// write posts batches of entries until ctx ends, each again until it is acknowledged,
// with a pause after each.
func (l *ledger) write(ctx context.Context, pause time.Duration) error {
	client := &http.Client{Timeout: 5 * time.Second}
	for ctx.Err() == nil {
		var batch bytes.Buffer
		ids := make([]uuid.UUID, 100)
		for i := range ids {
			id, err := uuid.NewV7()
			if err != nil {
				return err
			}
			ids[i] = id
			fmt.Fprintf(&batch, `{"id":"%s","ts":"%s","key_id":%d,"model":"m%d","status":200,"input_tokens":3,"output_tokens":2,"cost_nano_usd":7}`+"\n",
				id, time.Now().UTC().Format(time.RFC3339Nano), 1+rand.IntN(50), rand.IntN(20))
		}
		for tries := 0; ; tries++ {
			if err := l.post(client, batch.Bytes()); err == nil {
				break
			}
			if tries > 1000 {
				return fmt.Errorf("a batch was never acknowledged")
			}
			time.Sleep(20 * time.Millisecond) // even when ctx has ended: it may have been stored
		}
		l.mu.Lock()
		for _, id := range ids {
			l.acked[id] = true
		}
		l.mu.Unlock()
		time.Sleep(pause)
	}
	return nil
}

func (l *ledger) post(client *http.Client, batch []byte) error {
	req, err := http.NewRequest(http.MethodPost, *l.url.Load()+"/logs", bytes.NewReader(batch))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+l.token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := client.Do(req)
	if err != nil {
		l.mu.Lock()
		l.unsure++
		l.mu.Unlock()
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Accepted   int
		Durability string
	}
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Accepted != 100 || answer.Durability != "disk" {
		return fmt.Errorf("answer %s", text)
	}
	return nil
}

func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// resent returns how many batches were sent again.
func (l *ledger) resent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unsure
}

// TestAcknowledgedLogsAreKept: the server is killed again and again, the
// database goes away, and every entry that was ever acknowledged is stored, once.
func TestAcknowledgedLogsAreKept(t *testing.T) {
	dsn, db := process.Postgres(t)
	redisAddr, prefix, _ := process.Redis(t)
	database, through := newDatabaseOutage(t, dsn)
	env := []string{
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_PG_DSN=" + through, "EZ_REDIS_ADDR=" + redisAddr,
		"EZ_REDIS_PREFIX=" + prefix,
		"EZ_ADMIN_TOKEN=" + process.NewToken(), "EZ_DB_KEYS=" + process.NewKey("k1"), "EZ_SYNC_KEYS=" + process.NewKey("s1"),
		"EZ_DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
	}
	l := &ledger{acked: map[uuid.UUID]bool{}, token: env[5][len("EZ_ADMIN_TOKEN="):]}
	server := process.Start(t, "server", env)
	l.url.Store(&server.URL)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	write := func(n int, pause time.Duration) {
		for range n {
			writers.Go(func() {
				if err := l.write(ctx, pause); err != nil {
					t.Error(err)
				}
			})
		}
	}
	write(4, time.Millisecond)

	kills := scaled(4, 50)
	for range kills {
		time.Sleep(500*time.Millisecond + rand.N(time.Second))
		process.Eventually(t, 30*time.Second, "1,000 entries in flight",
			func() bool { return l.size()-stored(t, db) >= 1000 })
		if err := server.Cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-server.Done
		server = process.Start(t, "server", env)
		l.url.Store(&server.URL)
	}
	t.Logf("%d kills: %d entries acknowledged, %d batches sent again", kills, l.size(), l.resent())

	before := l.size()
	database.begin()
	time.Sleep(scaled(4*time.Second, 30*time.Second))
	if server.Cmd.ProcessState != nil {
		t.Fatal("the server did not survive the outage of its database")
	}
	if l.size() == before {
		t.Error("nothing was taken while the database was away")
	}
	t.Logf("%d entries acknowledged during the outage", l.size()-before)
	database.end()
	stop()
	writers.Wait()
	took := process.Eventually(t, time.Minute, "the backlog is stored", func() bool { return stored(t, db) >= l.size() })
	t.Logf("backlog stored %s after the database's return", took)

	begin := time.Now()
	server.Stop(t)
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("the server took %s to stop", took)
	}
	l.audit(t, db)
}

// TestWithoutADatabase: a server starts while its database is away, takes logs,
// ends soon and well when it is told to, and what it has not stored is stored by the next. The
// catalog works as soon as the database is there.
func TestWithoutADatabase(t *testing.T) {
	dsn, db := process.Postgres(t)
	redisAddr, prefix, _ := process.Redis(t)
	database, through := newDatabaseOutage(t, dsn)
	env := []string{
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_PG_DSN=" + through, "EZ_REDIS_ADDR=" + redisAddr,
		"EZ_REDIS_PREFIX=" + prefix,
		"EZ_ADMIN_TOKEN=" + process.NewToken(), "EZ_DB_KEYS=" + process.NewKey("k1"), "EZ_SYNC_KEYS=" + process.NewKey("s1"),
		"EZ_DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
	}
	l := &ledger{acked: map[uuid.UUID]bool{}, token: env[5][len("EZ_ADMIN_TOKEN="):]}
	process.Start(t, "server", env).Stop(t) // once, so that there is a schema
	database.begin()
	server := process.Start(t, "server", env)
	process.API{URL: server.URL}.Call(t, "GET", "/readyz", nil, http.StatusServiceUnavailable, nil)
	l.url.Store(&server.URL)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			if err := l.write(ctx, 0); err != nil {
				t.Error(err)
			}
		})
	}
	process.Eventually(t, time.Minute, "100,000 entries are pending", func() bool { return l.size() >= 100_000 })
	stop()
	writers.Wait()
	begin := time.Now()
	server.Stop(t)
	took := time.Since(begin)
	// Requests at work have 5 s, a commit under way 5, the queue 7, and connections 1.
	if took > 20*time.Second {
		t.Errorf("the server took %s to stop without its database", took)
	}
	t.Logf("stopped after %s with %d entries pending", took, l.size())

	server = process.Start(t, "server", env)
	plane := process.API{URL: server.URL, Token: l.token}
	plane.Call(t, "GET", "/keys", nil, http.StatusServiceUnavailable, nil)
	database.end()
	process.Eventually(t, time.Minute, "the catalog works", func() bool {
		resp := plane.Send(t, "GET", "/keys", nil)
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	plane.Call(t, "GET", "/readyz", nil, http.StatusOK, nil)
	process.Eventually(t, time.Minute, "the server says that it is ready", func() bool {
		return strings.Contains(server.Out.String(), `"msg":"ready"`)
	})
	plane.Call(t, "POST", "/keys?wait=published", object{"name": "alice"}, http.StatusCreated, nil)
	process.Eventually(t, time.Minute, "all is stored", func() bool { return stored(t, db) >= l.size() })
	server.Stop(t)
	l.audit(t, db)
}

// TestDatabaseFreezes: a server whose database answers nothing any more, and
// does not even hang up, ends as soon as another, and the next starts; what the first
// could not store is stored by that.
func TestDatabaseFreezes(t *testing.T) {
	dsn, db := process.Postgres(t)
	redisAddr, prefix, _ := process.Redis(t)
	database, through := newDatabaseOutage(t, dsn)
	env := []string{
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_PG_DSN=" + through, "EZ_REDIS_ADDR=" + redisAddr,
		"EZ_REDIS_PREFIX=" + prefix,
		"EZ_ADMIN_TOKEN=" + process.NewToken(), "EZ_DB_KEYS=" + process.NewKey("k1"), "EZ_SYNC_KEYS=" + process.NewKey("s1"),
		"EZ_DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
	}
	l := &ledger{acked: map[uuid.UUID]bool{}, token: env[5][len("EZ_ADMIN_TOKEN="):]}
	server := process.Start(t, "server", env)
	l.url.Store(&server.URL)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			if err := l.write(ctx, 0); err != nil {
				t.Error(err)
			}
		})
	}
	process.Eventually(t, time.Minute, "entries are stored", func() bool { return stored(t, db) > 0 })
	database.freeze()
	before := l.size()
	process.Eventually(t, time.Minute, "entries are taken all the same", func() bool { return l.size() >= before+20_000 })
	stop()
	writers.Wait()
	var reader sync.WaitGroup
	reader.Go(func() { // waits for what does not come
		req, err := http.NewRequest(http.MethodGet, server.URL+"/keys", nil)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+l.token)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	})
	defer reader.Wait()
	time.Sleep(100 * time.Millisecond)
	begin := time.Now()
	server.Stop(t)
	took := time.Since(begin)
	if took > 15*time.Second {
		t.Errorf("the server took %s to stop while its database was frozen", took)
	}
	t.Logf("stopped after %s", took)

	begin = time.Now()
	server = process.Start(t, "server", env)
	l.url.Store(&server.URL)
	t.Logf("started after %s", time.Since(begin))
	ctx, stop = context.WithTimeout(t.Context(), time.Second)
	defer stop()
	before = l.size()
	if err := l.write(ctx, 0); err != nil || l.size() == before {
		t.Errorf("%d entries are taken by a server that starts while its database is frozen, %v; want some",
			l.size()-before, err)
	}
	database.thaw()
	process.Eventually(t, time.Minute, "all is stored", func() bool { return stored(t, db) >= l.size() })
	server.Stop(t)
	l.audit(t, db)
}

func stored(t *testing.T, db *pgx.Conn) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), `select count(*) from access_logs`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// audit compares the ledger with the rows, and the usage with both.
func (l *ledger) audit(t *testing.T, db *pgx.Conn) {
	t.Helper()
	rows, err := db.Query(t.Context(), `select id from access_logs`)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		if seen[id] {
			t.Errorf("%s is stored twice", id)
		}
		seen[id] = true
	}
	lost := 0
	for id := range l.acked {
		if !seen[id] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged entries are lost", lost, len(l.acked))
	}
	var dead, requests, cost int64
	if err := db.QueryRow(t.Context(), `select count(*) from log_dead_letter`).Scan(&dead); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow(t.Context(), `select coalesce(sum(requests), 0), coalesce(sum(cost_nano_usd), 0) from
		(select requests, cost_nano_usd from usage_pending union all select requests, cost_nano_usd from usage_quarters) u`).Scan(&requests, &cost); err != nil {
		t.Fatal(err)
	}
	if dead != 0 || requests != int64(len(ids)) || cost != 7*int64(len(ids)) {
		t.Errorf("%d rows, %d dead, usage of %d requests and %d nano USD", len(ids), dead, requests, cost)
	}
}
