package distribution

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/redisstore"
)

var long = flag.Bool("long", false, "take the time for the full figures")

// scaled returns full with -long, otherwise short.
func scaled(short, full int) int {
	if *long {
		return full
	}
	return short
}

const syncKey = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// world is a catalog and a prefix of a real Redis.
type world struct {
	tables *catalog.Tables
	rdb    *redis.Client
	pub    *redisstore.Publisher
	prefix string
	keys   *snapshot.Keys
	log    *slog.Logger
	sent   atomic.Int64 // bytes to Redis
}

// counted is a connection that counts what is sent.
type counted struct {
	net.Conn
	sent *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

func newWorld(t *testing.T) *world {
	t.Helper()
	addr := os.Getenv("EZ_TEST_REDIS_ADDR")
	if addr == "" {
		t.Fatal("EZ_TEST_REDIS_ADDR is not set: run test/integration.sh, which sets it")
	}
	options := &redis.Options{Addr: addr}
	var err error
	if strings.Contains(addr, "://") {
		if options, err = redis.ParseURL(addr); err != nil {
			t.Fatal("EZ_TEST_REDIS_ADDR cannot be read")
		}
	}
	w := &world{
		tables: catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil),
		prefix: "dist-" + strings.ToLower(rand.Text()),
		log:    slog.New(slog.DiscardHandler),
	}
	options.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return counted{conn, &w.sent}, err
	}
	w.rdb = redis.NewClient(options)
	if w.keys, err = snapshot.ParseKeys(syncKey); err != nil {
		t.Fatal(err)
	}
	w.pub = redisstore.New(w.rdb, &redisstore.Options{Prefix: w.prefix, Logger: w.log})
	t.Cleanup(func() {
		w.destroy(t)
		if err := w.rdb.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// destroy removes everything under the prefix, as FLUSHALL would.
func (w *world) destroy(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	keys, err := w.rdb.Keys(ctx, "{"+w.prefix+"}:*").Result()
	if err == nil && len(keys) > 0 {
		err = w.rdb.Unlink(ctx, keys...).Err()
	}
	if err != nil {
		t.Errorf("empty Redis: %v", err)
	}
}

func (w *world) key(name string) string { return "{" + w.prefix + "}:" + name }

func (w *world) newRelay(pub snapshot.Publisher) *snapshot.Relay {
	return snapshot.NewRelay(w.tables, pub, &snapshot.RelayOptions{Keys: w.keys, Logger: w.log})
}

// background runs something until the test is over, or until the returned function is called.
func background(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// createKeys makes n keys.
func (w *world) createKeys(t *testing.T, n int) {
	t.Helper()
	for n > 0 {
		some := min(n, 10_000)
		n -= some
		_, err := w.tables.Update(t.Context(), func(tx *catalog.Tx) error {
			for range some {
				key := catalog.Key{
					Name:   "a client with a name of usual length",
					Models: []string{"large", "small"},
					Limits: catalog.Limits{RPMLimit: 600, TPMLimit: 100_000},
				}
				if _, err := tx.Keys.Create(t.Context(), key); err != nil {
					return err
				}
			}
			return nil
		})
		must(t, err)
	}
}

// createPair makes two models that always change together.
func (w *world) createPair(t *testing.T) (ids [2]int64) {
	t.Helper()
	for i := range ids {
		m, err := w.tables.Models.Create(t.Context(), catalog.Model{Name: fmt.Sprint("twin", i), ContextWindow: 1})
		must(t, err)
		ids[i] = m.ID
	}
	return ids
}

// changePair gives both models the same new number, in one revision.
func (w *world) changePair(ctx context.Context, ids [2]int64, n int64) error {
	_, err := w.tables.Update(ctx, func(tx *catalog.Tx) error {
		for _, id := range ids {
			if _, err := tx.Models.Edit(ctx, id, func(m *catalog.Model) error { m.ContextWindow = n; return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within waits until a condition holds, and returns how long that took.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !holds() {
		if time.Since(start) > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start)
}
