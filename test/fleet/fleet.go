// Package fleet measures what publishing costs a Redis: with many balancers that
// wait and are told of changes, with large changes among many keys, while everything is
// compared with the catalog, and with many reports. It prints a table.
package fleet

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// Options bound what is measured. A zero leaves the part out.
type Options struct {
	Redis     string        // host:port
	Regions   []string      // host:port of each Redis that a mirror fills, which balancers read
	Watchers  int           // balancers, each with connections of its own, spread over the regions
	FleetKeys int           // keys in the catalog that they follow
	Idle      time.Duration // for how long they are watched while nothing happens
	Publishes int           // changes that they are told of
	Every     time.Duration // from one change to the next, at least
	Keys      int           // keys among which 1, 1,000 and 10,000 change
	Scrub     time.Duration // for how long the comparing of those is watched
	Nodes     []int         // how many reports there are
}

// meter counts what goes between a client and Redis.
type meter struct {
	commands, sent, received atomic.Int64
}

type traffic struct {
	Commands, Sent, Received int64 // the latter two in bytes
}

func (m *meter) read() traffic {
	return traffic{m.commands.Load(), m.sent.Load(), m.received.Load()}
}

func (t traffic) minus(s traffic) traffic {
	return traffic{t.Commands - s.Commands, t.Sent - s.Sent, t.Received - s.Received}
}

// conn counts bytes.
type conn struct {
	net.Conn
	m *meter
}

func (c conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.m.sent.Add(int64(n))
	return n, err
}

func (c conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.m.received.Add(int64(n))
	return n, err
}

// counting is a hook that counts commands and bytes.
type counting struct{ m *meter }

func (h counting) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return conn{c, h.m}, nil
	}
}

func (h counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.m.commands.Add(1)
		return next(ctx, cmd)
	}
}

func (h counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.m.commands.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// bench is a prefix of a Redis, and who uses it.
type bench struct {
	o      Options
	out    io.Writer
	prefix string
	keys   *snapshot.Keys
	log    *slog.Logger
	close  []func()
}

func newBench(o Options, out io.Writer) (*bench, error) {
	keys, err := snapshot.NewKeys(catalog.NamedKey{ID: "s1", Key: [32]byte{1}})
	return &bench{o: o, out: out, keys: keys, log: slog.New(slog.DiscardHandler)}, err
}

// Run measures and prints. It leaves nothing behind in Redis. The program that calls it has to call
// [ServeRegion] where its first argument is [RegionCommand].
func Run(ctx context.Context, o Options, out io.Writer) error {
	b, err := newBench(o, out)
	if err != nil {
		return err
	}
	for _, address := range append(slices.Clone(o.Regions), o.Redis) {
		if _, err := redisstore.ParseAddress(address); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		wanted bool
		run    func(context.Context) error
	}{
		{o.Watchers > 0, b.fleet}, {o.Keys > 0, b.changes}, {len(o.Nodes) > 0, b.nodes},
	} {
		if !part.wanted {
			continue
		}
		b.prefix = "fleet-" + strings.ToLower(rand.Text())
		err := part.run(ctx)
		for _, f := range slices.Backward(b.close) {
			f()
		}
		b.close = nil
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format+"\n", args...) }

// open returns a publisher with a client of its own, as balancers have them, at the Redis that
// everybody else is filled from.
func (b *bench) open(m *meter) (*redisstore.Publisher, redis.UniversalClient) {
	return b.openAt(b.o.Redis, m)
}

func (b *bench) openAt(address string, m *meter) (*redisstore.Publisher, redis.UniversalClient) {
	client, err := redisstore.Open(address, &redisstore.OpenOptions{Logger: b.log})
	if err != nil {
		panic(err) // Run has parsed it before
	}
	client.AddHook(counting{m})
	b.close = append(b.close, func() { _ = client.Close() })
	return redisstore.New(client, &redisstore.Options{Prefix: b.prefix, Logger: b.log}), client
}

// cleanUp removes the prefix in the end.
func (b *bench) cleanUp(client redis.UniversalClient) {
	b.close = append(b.close, func() {
		ctx := context.Background()
		if keys, err := client.Keys(ctx, "{"+b.prefix+"}:*").Result(); err == nil && len(keys) > 0 {
			client.Unlink(ctx, keys...)
		}
	})
}

// background runs something until the part is over.
func (b *bench) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	b.close = append(b.close, stop)
	return stop
}

// busy returns for how long Redis has worked.
func busy(ctx context.Context, client redis.UniversalClient) time.Duration {
	return time.Duration(info(ctx, client, "cpu", `used_cpu_(?:user|sys)`) * 1e9)
}

// memoryOf returns how many bytes of memory Redis uses.
func memoryOf(ctx context.Context, client redis.UniversalClient) float64 {
	return info(ctx, client, "memory", "used_memory")
}

// info returns the sum of what a section of INFO says under a name.
func info(ctx context.Context, client redis.UniversalClient, section, name string) (sum float64) {
	text := client.Info(ctx, section).Val()
	for _, m := range regexp.MustCompile(`(?m)^`+name+`:([0-9.]+)`).FindAllStringSubmatch(text, -1) {
		n, _ := strconv.ParseFloat(m[1], 64)
		sum += n
	}
	return sum
}

func createKeys(ctx context.Context, tables *catalog.Tables, n int) error {
	for n > 0 {
		some := min(n, 10_000)
		n -= some
		_, err := tables.Update(ctx, func(tx *catalog.Tx) error {
			for range some {
				key := catalog.Key{
					Name:   "a client with a name of usual length",
					Models: []string{"large", "small"},
					Limits: catalog.Limits{RPMLimit: 600, TPMLimit: 100_000},
				}
				if _, err := tx.Keys.Create(ctx, key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func newTables() *catalog.Tables {
	return catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
}

func (b *bench) relay(tables *catalog.Tables, p snapshot.Publisher) *snapshot.Relay {
	return snapshot.NewRelay(tables, p, &snapshot.RelayOptions{Keys: b.keys, Logger: b.log})
}

// poll looks again and again, with a limit.
func poll(ctx context.Context, limit time.Duration, what string, ok func() bool) (time.Duration, error) {
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit || ctx.Err() != nil {
			return 0, fmt.Errorf("not within %s: %s", limit, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start), nil
}

func median(d []time.Duration) time.Duration { return quantile(d, 0.5) }

// quantile returns the time that a share of all does not exceed.
func quantile(d []time.Duration, share float64) time.Duration {
	slices.Sort(d)
	return d[min(int(share*float64(len(d))), len(d)-1)]
}
