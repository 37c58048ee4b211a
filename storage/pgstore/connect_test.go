package pgstore_test

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// A haltable is a way to PostgreSQL that can be halted: then it takes connections and what is sent,
// as the kernel of a machine does whose processes are stopped, and nothing comes back.
type haltable struct {
	listener net.Listener
	halted   atomic.Bool
	mu       sync.Mutex
	conns    []net.Conn
}

func newHaltable(tb testing.TB, cfg *pgxpool.Config) *haltable {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	h := &haltable{listener: listener}
	var running sync.WaitGroup
	server := net.JoinHostPort(cfg.ConnConfig.Host, strconv.Itoa(int(cfg.ConnConfig.Port)))
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			h.mu.Lock()
			h.conns = append(h.conns, client, upstream)
			h.mu.Unlock()
			running.Go(func() { h.pass(upstream, client) })
			running.Go(func() { h.pass(client, upstream) })
		}
	})
	tb.Cleanup(func() {
		listener.Close()
		h.mu.Lock()
		for _, c := range h.conns {
			c.Close()
		}
		h.mu.Unlock()
		running.Wait()
	})
	return h
}

func (h *haltable) pass(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if h.halted.Load() {
			io.Copy(io.Discard, from) //nolint:errcheck // until the client gives up
			return
		}
		if err == nil {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

func (h *haltable) port() string {
	_, port, _ := net.SplitHostPort(h.listener.Addr().String())
	return port
}

// A server whose first host is halted, with statements under way and connections idle, goes on with
// the second within 20 s.
func TestHaltedHost(t *testing.T) {
	t.Parallel()
	direct := pgtest.Config(t)
	first := newHaltable(t, direct)
	c := direct.ConnConfig
	config, err := pgstore.PoolConfig("host=127.0.0.1,"+c.Host+" port="+first.port()+","+strconv.Itoa(int(c.Port))+
		" user="+c.User+" dbname="+c.Database+" sslmode=disable", nil)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.Password = c.Password
	pool := pgtest.Connect(t, config)
	catalogs := open(t, pool, nil)
	sink := newSink(pool)
	store(t, sink, logEntry(1))

	waiting := make(chan error, 1)
	go func() {
		_, err := pool.Exec(context.Background(), `select pg_sleep(60)`)
		waiting <- err
	}()
	time.Sleep(200 * time.Millisecond)
	first.halted.Store(true)
	begin := time.Now()
	deadline := begin.Add(60 * time.Second)
	for n := 2; time.Now().Before(deadline); n++ {
		if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: logEntries(n, n+1)}); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for time.Now().Before(deadline) {
		if _, err := catalogs.Commit(t.Context(), commit(write(key(1)))); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	took := time.Since(begin)
	t.Logf("back after %v", took.Round(time.Millisecond))
	if took > 20*time.Second {
		t.Errorf("back after %v; want 20s", took)
	}
	if err := <-waiting; err == nil {
		t.Error("a statement on the halted host: no error")
	}
}

// A long statement on a server that is alive is left alone.
func TestLongStatementStays(t *testing.T) {
	t.Parallel()
	config, err := pgstore.PoolConfig(pgtest.DSN(pgtest.Config(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pgtest.Connect(t, config).Exec(t.Context(), `select pg_sleep(9)`); err != nil {
		t.Errorf("a statement that takes 9 s: %v", err)
	}
}

func TestPoolConfigDefaults(t *testing.T) {
	for _, c := range []struct {
		dsn     string
		timeout time.Duration
		conns   int32
		name    string
		path    string
		primary bool
	}{
		{"host=db", 5 * time.Second, 16, "ezapi", `"ez"`, true},
		{"postgres://db/x?connect_timeout=17&pool_max_conns=3", 17 * time.Second, 3, "ezapi", `"ez"`, true},
		{"host=db connect_timeout = 0 application_name=mine search_path=own", 0, 16, "mine", "own", true},
		{"postgres://db/x?options=-csearch_path%3Down", 5 * time.Second, 16, "ezapi", "", true},
		{"host=db options='-c jit=off --Search-Path=own'", 5 * time.Second, 16, "ezapi", "", true},
		{"host=db options='-c jit=off'", 5 * time.Second, 16, "ezapi", `"ez"`, true},
		{"postgres://db/x?target_session_attrs=any", 5 * time.Second, 16, "ezapi", `"ez"`, false},
	} {
		config, err := pgstore.PoolConfig(c.dsn, &pgstore.PoolOptions{Schema: "ez"})
		if err != nil {
			t.Fatal(err)
		}
		conn := config.ConnConfig
		if conn.ConnectTimeout != c.timeout || config.MaxConns != c.conns || (conn.ValidateConnect != nil) != c.primary ||
			conn.RuntimeParams["application_name"] != c.name || conn.RuntimeParams["search_path"] != c.path {
			t.Errorf("%s: timeout %v, %d connections, primary only %t, %v", c.dsn, conn.ConnectTimeout, config.MaxConns,
				conn.ValidateConnect != nil, conn.RuntimeParams)
		}
	}
	if _, err := pgstore.PoolConfig("host=db port=x", nil); err == nil {
		t.Error("a connection string that cannot be read: no error")
	}
}
