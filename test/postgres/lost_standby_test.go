package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/pgstore"
	"github.com/ez-api/ez-api/test/postgres"
	"github.com/ez-api/ez-api/test/process"
)

// loseStandby has a primary wait for a synchronous standby that there is none of, until bring is called.
func loseStandby(t *testing.T, s *postgres.Server) (bring func()) {
	t.Helper()
	set := func(sql string) {
		s.Exec(t, "postgres", sql, `select pg_reload_conf()`)
	}
	set(`alter system set synchronous_standby_names = 'gone'`)
	process.Eventually(t, time.Minute, "the primary waits for a standby", func() bool {
		var names string
		s.Query(t, "postgres", `show synchronous_standby_names`, &names)
		return names == "gone"
	})
	return func() { set(`alter system reset synchronous_standby_names`) }
}

// TestLostStandby: while a synchronous standby is gone, writes are answered in time with what is known of them, and
// readiness says so. Once it is back, the one that waited for it is done.
func TestLostStandby(t *testing.T) {
	t.Parallel()
	s := postgres.New(t, nil)
	c := start(t, environment(t, s.DSN()))
	c.lives(t) // the first publish, which is a commit, is done
	bring := loseStandby(t, s)

	type answer struct {
		status int
		kind   string
		took   time.Duration
	}
	create := func(name string) answer {
		begun := time.Now()
		var problem struct {
			Type string `json:"type"`
		}
		resp := c.Send(t, "POST", "/keys", object{"name": name})
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
			t.Error(err)
		}
		return answer{resp.StatusCode, problem.Type, time.Since(begun)}
	}
	first := make(chan answer, 1)
	go func() { first <- create("the first") }()
	process.Eventually(t, time.Minute, "the first waits for the standby", func() bool {
		var waits bool
		s.Query(t, "postgres", `select exists (select from pg_stat_activity where wait_event = 'SyncRep')`, &waits)
		return waits
	})
	if a := create("the second"); a.status != http.StatusServiceUnavailable || a.kind != "urn:ezapi:unavailable" ||
		a.took > 23*time.Second { // who stands in line behind another that waits has two locks to wait for
		t.Errorf("the second: %+v, want 503 unavailable after 10 s, or 20 s", a)
	}
	if a := <-first; a.status != http.StatusServiceUnavailable || a.kind != "urn:ezapi:unconfirmed" ||
		a.took < 25*time.Second || a.took > 35*time.Second {
		t.Errorf("the first: %+v, want 503 unconfirmed after 25 s", a)
	}
	status, body := c.readiness(t)
	if status != http.StatusOK || !strings.Contains(body, "is a synchronous standby gone?") {
		t.Errorf("readiness: %d %s", status, body)
	}

	bring()
	process.Eventually(t, time.Minute, "the first is done, and the second is not", func() bool {
		var page struct {
			Data []struct {
				Name string `json:"name"`
			} `json:"data"`
		}
		c.Call(t, "GET", "/keys", nil, http.StatusOK, &page)
		return len(page.Data) == 1 && page.Data[0].Name == "the first"
	})
	process.Eventually(t, time.Minute, "the database confirms what is written", func() bool {
		_, body := c.readiness(t)
		return !strings.Contains(body, "standby")
	})
	c.lives(t)
}

// TestLostStandbyGivenUp: whoever gives up while a commit waits for a standby is not told that all is well, though
// PostgreSQL answers so. A batch of logs counts as stored only once a standby has it.
func TestLostStandbyGivenUp(t *testing.T) {
	t.Parallel()
	s := postgres.New(t, nil)
	connect := func(user string) *pgxpool.Pool {
		dsn := strings.Replace(s.DSN(), "postgres://postgres@", "postgres://"+user+"@", 1)
		config, err := pgstore.PoolConfig(dsn, &pgstore.PoolOptions{Schema: "ezapi"})
		if err != nil {
			t.Fatal(err)
		}
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return pool
	}
	pool := connect("postgres")
	store, err := pgstore.Open(t.Context(), pool, &pgstore.Options{Schema: "ezapi"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	// Where a role may make temporary tables, that is written down, and has each commit wait.
	s.Exec(t, "postgres", `create role least login`, `revoke temporary on database postgres from public`)
	if _, err := pgstore.Migrate(t.Context(), pool, &pgstore.MigrateOptions{Schema: "ezapi", Grant: "least"}); err != nil {
		t.Fatal(err)
	}
	sink := pgstore.NewSink(connect("least"), nil)
	batch := logbuf.Batch{Segment: uuid.New(), To: 1, Entries: []logbuf.Entry{
		{ID: uuid.New(), Time: time.Now(), Status: 200, Namespace: "default"},
	}}
	fromMemory := logbuf.Batch{Entries: []logbuf.Entry{
		{ID: uuid.New(), Time: time.Now(), Status: 200, Namespace: "default"},
	}}
	if _, err := sink.Write(t.Context(), logbuf.Batch{Segment: uuid.New(), To: 1, Entries: []logbuf.Entry{
		{ID: uuid.New(), Time: time.Now(), Status: 200, Namespace: "default"},
	}}); err != nil { // makes the partition
		t.Fatal(err)
	}
	bring := loseStandby(t, s)
	giveUp := func(do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return do(ctx)
	}

	err = giveUp(func(ctx context.Context) error {
		_, err := store.Commit(ctx, catalog.Commit{Sync: true, Time: time.Now()})
		return err
	})
	if !errors.Is(err, catalog.ErrUnconfirmed) {
		t.Errorf("a commit that is given up: %v, want ErrUnconfirmed", err)
	}
	for i := range 3 {
		for _, b := range []logbuf.Batch{batch, fromMemory} {
			err := giveUp(func(ctx context.Context) error {
				_, err := sink.Write(ctx, b)
				return err
			})
			if err == nil {
				t.Errorf("write %d says that the batch %s is stored", i, b.Segment)
			}
		}
		process.Eventually(t, time.Minute, "the primary has the batches", func() bool {
			var n int
			s.Query(t, "postgres", `select count(*) from ezapi.access_logs`, &n)
			return n == 3
		})
	}
	bring()
	for _, b := range []logbuf.Batch{batch, fromMemory} {
		if r, err := sink.Write(t.Context(), b); err != nil || r.Duplicate != 1 {
			t.Errorf("with the standby: %+v, %v", r, err)
		}
	}
}
