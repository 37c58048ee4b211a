package redis_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// world is a catalog whose relay publishes to Redis, and a balancer that reads there, each with a client of its own.
type world struct {
	tables *catalog.Tables
	keys   *snapshot.Keys

	relay     *snapshot.Relay
	publisher *redisstore.Publisher
	watcher   *snapshot.Watcher
	reader    *redisstore.Publisher
}

const prefix = "ezapi"

func newWorld(t testing.TB, control, balancer redis.UniversalClient) *world {
	t.Helper()
	keys, err := snapshot.NewKeys(catalog.NamedKey{ID: "s1", Key: [32]byte{1}})
	must(t, err)
	w := &world{keys: keys, tables: catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)}
	opts := &redisstore.Options{Prefix: prefix, Logger: quiet()}
	w.publisher, w.reader = redisstore.New(control, opts), redisstore.New(balancer, opts)
	w.relay = snapshot.NewRelay(w.tables, w.publisher, &snapshot.RelayOptions{Keys: keys, Logger: quiet()})
	w.watcher = snapshot.NewWatcher(
		w.reader,
		&snapshot.WatcherOptions{Keys: keys, Name: "balancer", Logger: quiet()},
	)
	return w
}

// run runs both until the test ends.
func (w *world) run(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("relay %+v\nwatcher %+v", w.relay.Status(), w.watcher.Status())
		}
	})
	background(t, w.relay.Run)
	background(t, w.watcher.Run)
	w.sees(t, 60*time.Second, w.createKey(t, "first"))
}

// background runs something until the test ends, or until what it returns is called.
func background(t testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = run(ctx)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// createKey makes a key and returns its token.
func (w *world) createKey(t testing.TB, name string) catalog.Key {
	t.Helper()
	k, err := w.tables.Keys.Create(t.Context(), catalog.Key{Name: name})
	must(t, err)
	return k
}

// sees waits until the balancer knows a key.
func (w *world) sees(t testing.TB, limit time.Duration, k catalog.Key) time.Duration {
	t.Helper()
	return eventually(t, limit, fmt.Sprintf("the balancer knows key %q", k.Name), func() bool {
		_, ok := w.watcher.View().Key(k.Token.Reveal())
		return ok
	})
}
