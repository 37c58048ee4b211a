package redisstore_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// The tests wait much and work little.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// realRedis is the address of a real server, if there is one. Where there is
// none, TestOnRedis says so.
var realRedis = os.Getenv("EZ_TEST_REDIS_ADDR")

// onBoth runs a test on miniredis, and on a real Redis where there is one.
func onBoth(t *testing.T, test func(t *testing.T, addr string)) {
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, miniredis.RunT(t).Addr())
	})
	if realRedis != "" {
		t.Run("redis", func(t *testing.T) {
			t.Parallel()
			test(t, realRedis)
		})
	}
}

// fixture is a publisher and what a test may do behind its back.
type fixture struct {
	*redisstore.Publisher
	client *redis.Client // of the publisher
	raw    *redis.Client
	tag    string // "{prefix}:"
	opts   redisstore.Options
}

func newFixture(t testing.TB, addr string, opts redisstore.Options) *fixture {
	opts.Prefix, opts.Logger = newPrefix(), quietly()
	f := &fixture{client: newClient(t, addr), raw: newClient(t, addr), tag: "{" + opts.Prefix + "}:", opts: opts}
	f.Publisher = redisstore.New(f.client, &opts)
	t.Cleanup(func() { removeAll(t, f.raw, opts.Prefix) })
	return f
}

// other returns a publisher whose commands no hook sees.
func (f *fixture) other() *redisstore.Publisher { return redisstore.New(f.raw, &f.opts) }

func position(epoch catalog.Epoch, revision catalog.Revision) snapshot.Position {
	return snapshot.Position{Epoch: epoch, Revision: revision}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// before is a hook that is called ahead of each command, also those in
// pipelines.
type before func(ctx context.Context, cmd redis.Cmder)

func (before) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h before) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h(ctx, cmd)
		return next(ctx, cmd)
	}
}

func (h before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			h(ctx, cmd)
		}
		return next(ctx, cmds)
	}
}

// countedClient counts the bytes that it sends.
func countedClient(t testing.TB, addr string) (*redis.Client, *atomic.Int64) {
	client, sent, _ := metered(t, addr)
	return client, sent
}

// metered counts the bytes that a client sends and receives.
func metered(t testing.TB, addr string) (client *redis.Client, sent, received *atomic.Int64) {
	sent, received = new(atomic.Int64), new(atomic.Int64)
	client = redis.NewClient(
		&redis.Options{Addr: addr, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return countedConn{conn, sent, received}, err
		}},
	)
	t.Cleanup(func() { must(t, client.Close()) })
	return client, sent, received
}

type countedConn struct {
	net.Conn
	sent, received *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// syncBuffer is a buffer that goroutines share.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// dump returns all that is published, as text.
func (f *fixture) dump(t testing.TB) string {
	ctx := t.Context()
	var text strings.Builder
	keys, err := f.raw.Keys(ctx, f.tag+"*").Result()
	must(t, err)
	slices.Sort(keys)
	for _, key := range keys {
		switch kind := f.raw.Type(ctx, key).Val(); kind {
		case "hash":
			fmt.Fprintln(&text, key, f.raw.HGetAll(ctx, key).Val())
		case "stream":
			fmt.Fprintln(&text, key, f.raw.XRange(ctx, key, "-", "+").Val())
		default:
			fmt.Fprintln(&text, key, kind)
		}
	}
	return text.String()
}
