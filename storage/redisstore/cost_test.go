package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// TestApplySendsTheDeltaAlone counts bytes: one more key costs the same in a
// catalog of ten and of ten thousand.
func TestApplySendsTheDeltaAlone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		sent := make(map[int]int64)
		for _, keys := range []int{10, 10_000} {
			client, bytes := countedClient(t, addr)
			prefix := newPrefix()
			p := redisstore.New(client, &redisstore.Options{Prefix: prefix, Logger: quietly()})
			t.Cleanup(func() { removeAll(t, newClient(t, addr), prefix) })
			w := newWorld(position(1000000000+catalog.Epoch(keys), 10_000), many(keys, 1)...)
			must(t, publish(t.Context(), p, w))
			for range 2 { // the first sends the script
				start := bytes.Load()
				follow(t, p, w, keyDoc(fmt.Sprintf("%064x", 3), `{"changed":true}`))
				sent[keys] = bytes.Load() - start
			}
		}
		t.Logf("bytes for one key: %d among 10, %d among 10,000", sent[10], sent[10_000])
		// The counts in the head are numbers, and longer by their digits.
		if grown := sent[10_000] - sent[10]; grown > 20 || sent[10] > 4000 {
			t.Errorf("one key takes %d bytes among 10, and %d among 10,000", sent[10], sent[10_000])
		}
	})
}

// TestPartsAreReadOnce: whoever waits while a large publish comes in parts gets each of them once.
func TestPartsAreReadOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		w := newWorld(position(1, 1), keyDoc("a", `{}`))
		must(t, publish(t.Context(), f.Publisher, w))
		client, _, received := metered(t, addr)
		reader := redisstore.New(client, &f.opts)
		arrived := make(chan error, 1)
		after := w.head.Position
		go func() {
			_, err := nextSoon(t, reader, after)
			arrived <- err
		}()
		time.Sleep(100 * time.Millisecond)
		changes := many(8_000, 1)
		follow(t, f, w, changes...)
		must(t, <-arrived)
		size := 0
		for _, e := range f.raw.XRange(t.Context(), f.tag+"changes", "("+after.String()+"999", "+").Val() {
			for name, v := range e.Values {
				size += len(name) + len(v.(string))
			}
		}
		if got := received.Load(); got > int64(size)*11/10+10_000 {
			t.Errorf("a publish of %d bytes takes a reader %d", size, got)
		}
	})
}

// TestNextSharesConnections: readers that wait at one place take one
// connection and one command, not one each.
func TestNextSharesConnections(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		w := newWorld(position(1, 1), keyDoc("a", `{}`))
		must(t, publish(t.Context(), f.Publisher, w))
		after := w.head.Position
		var waiting sync.WaitGroup
		for range 200 {
			waiting.Go(func() {
				if _, err := f.Next(t.Context(), after); err != nil {
					t.Errorf("Next: %v", err)
				}
			})
		}
		time.Sleep(200 * time.Millisecond)
		if n := f.client.PoolStats().TotalConns; n > 3 {
			t.Errorf("200 readers take %d connections", n)
		}
		follow(t, f, w, keyDoc("b", `{}`))
		waiting.Wait()
	})
}

// TestFollowingCostsACommand: who follows asks once where the head is, and then for nothing but what comes next.
func TestFollowingCostsACommand(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		w := newWorld(position(1, 1), keyDoc("a", `{}`))
		must(t, publish(t.Context(), f.Publisher, w))
		var commands atomic.Int64
		f.client.AddHook(before(func(context.Context, redis.Cmder) { commands.Add(1) }))
		const publishes = 8
		for range publishes {
			after := w.head.Position
			follow(t, f.other(), w, keyDoc("a", `{"v":2}`))
			_, err := nextSoon(t, f.Publisher, after)
			must(t, err)
		}
		if n := commands.Load(); n > publishes+3 { // a step may have taken long
			t.Errorf("%d publishes take a reader %d commands", publishes, n)
		}
	})
}

// TestGapAfterADelta: what comes after a delta may be gone before the reader asks for it.
func TestGapAfterADelta(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		w := newWorld(position(1, 1), keyDoc("a", `{}`))
		must(t, publish(t.Context(), f.Publisher, w))
		after := w.head.Position
		follow(t, f.other(), w, keyDoc("a", `{"v":2}`))
		d, err := nextSoon(t, f.Publisher, after)
		must(t, err)
		for range 2 {
			must(t, f.raw.XTrimMaxLen(t.Context(), f.tag+"changes", 0).Err())
			follow(t, f.other(), w, keyDoc("a", `{"v":3}`))
		}
		waits := 0
		f.client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
			if slices.Contains(cmd.Args(), any("block")) {
				waits++
			}
		}))
		if _, err := nextSoon(t, f.Publisher, d.Head.Position); !errors.Is(err, snapshot.ErrGap) {
			t.Errorf("Next: %v, want ErrGap", err)
		}
		if waits != 1 {
			t.Errorf("it waited %d times", waits)
		}
	})
}

// TestIdleReader counts the commands of a reader while nothing happens: a look at the head and a
// blocking read in 20 to 30 s, so 0.1 a second.
func TestIdleReader(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		const block = 600 * time.Millisecond // in place of 30 s
		f.SetBlock(block)
		w := newWorld(position(1, 1), keyDoc("a", `{}`))
		must(t, publish(t.Context(), f.Publisher, w))
		var mu sync.Mutex
		commands := make(map[string]int)
		f.client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
			mu.Lock()
			defer mu.Unlock()
			commands[cmd.Name()]++
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 5*block)
		defer cancel()
		_, _ = f.Next(ctx, w.head.Position)
		mu.Lock()
		defer mu.Unlock()
		total := 0
		for _, n := range commands {
			total += n
		}
		if total > 2*9 || total < 6 {
			t.Errorf("while five such times went by, a reader sent %v", commands)
		}
	})
}

// TestLongestCommand measures how long Redis is busy with any single command while much is published and
// many nodes are read. What is printed is wall time, which on a machine that does other things is mostly waiting; so
// the bound is on the processor time of a command on average.
func TestLongestCommand(t *testing.T) {
	if realRedis == "" {
		t.Skip("EZ_TEST_REDIS_ADDR is not set: what commands cost a Redis is NOT TESTED")
	}
	f := newFixture(t, realRedis, redisstore.Options{StreamMaxBytes: 16 << 20})
	ctx := t.Context()
	slower := f.raw.ConfigGet(ctx, "slowlog-log-slower-than").Val()["slowlog-log-slower-than"]
	must(t, f.raw.ConfigSet(ctx, "slowlog-log-slower-than", "200").Err())
	t.Cleanup(func() { must(t, f.raw.ConfigSet(context.Background(), "slowlog-log-slower-than", slower).Err()) })

	typical := func(n, version int) []snapshot.Change {
		changes := make([]snapshot.Change, n)
		for i := range changes {
			changes[i] = keyDoc(
				fmt.Sprintf("%064x", i),
				fmt.Sprintf(`{"id":%d,"version":%d,"name":"a typical key","status":"active",`+
					`"group":"default","namespaces":["default"],"default_namespace":"default","models":["gpt-4o","gpt-4o-mini"],`+
					`"labels":{"team":"search","for":%q}}`, i, version, strings.Repeat("x", 200)),
			)
		}
		return changes
	}
	cpu := func() (total time.Duration) {
		for line := range strings.Lines(f.raw.Info(ctx, "cpu").Val()) {
			for _, name := range []string{"used_cpu_sys:", "used_cpu_user:"} {
				if text, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
					seconds, err := strconv.ParseFloat(text, 64)
					must(t, err)
					total += time.Duration(seconds * 1e9)
				}
			}
		}
		return total
	}
	commands := 0
	f.client.AddHook(before(func(context.Context, redis.Cmder) { commands++ }))
	phase := func(name string, work func()) {
		must(t, f.raw.SlowLogReset(ctx).Err())
		busy := cpu()
		commands = 0
		start := time.Now()
		work()
		took := time.Since(start)
		busy = cpu() - busy
		logged, err := f.raw.SlowLogGet(ctx, -1).Result()
		must(t, err)
		logged = slices.DeleteFunc(
			logged,
			func(l redis.SlowLog) bool { return !strings.Contains(strings.Join(l.Args, " "), f.tag) },
		)
		var longest redis.SlowLog
		for _, l := range logged {
			if l.Duration > longest.Duration {
				longest = l
			}
		}
		average := busy / time.Duration(commands)
		t.Logf("%s took %s, %d commands of %s processor time on average, the longest took %s",
			name, took, commands, average, longest.Duration)
		if average > 8*time.Millisecond { // 3.7 ms where nothing else runs; other packages' tests do
			t.Errorf("%s: a command takes %s of processor time on average", name, average)
		}
	}
	w := newWorld(position(1, 1), typical(50_000, 1)...)
	phase("a whole", func() { must(t, publish(ctx, f.Publisher, w)) })
	phase("another whole", func() {
		w = newWorld(position(2, 1), typical(50_000, 2)...)
		must(t, publish(ctx, f.Publisher, w))
	})
	phase("a load", func() { holds(t, f, w) })
	for version := range 4 { // the later ones trim what came before, whole
		phase("10,000 changes", func() { follow(t, f, w, typical(10_000, 10+version)...) })
	}
	phase("10,000 reports", func() {
		for i := range 10_000 {
			if _, err := f.Report(ctx, snapshot.Node{ID: fmt.Sprint("node-", i), Version: "v1.2.3"}); err != nil {
				t.Fatalf("Report: %v", err)
			}
		}
	})
	phase("10,000 reports at once", func() {
		must(t, errors.Join(f.ReportAll(ctx, manyNodes(10_000, time.Second))...))
	})
	phase("reading 10,000 nodes", func() {
		list, err := f.Nodes(ctx, snapshot.NodeQuery{})
		if err != nil || len(list.Nodes) != 10_000 {
			t.Errorf("Nodes: %d, %v", len(list.Nodes), err)
		}
	})
	phase("the latest 100 nodes", func() {
		list, err := f.Nodes(ctx, snapshot.NodeQuery{Limit: 100})
		if err != nil || len(list.Nodes) != 100 {
			t.Errorf("Nodes: %d, %v", len(list.Nodes), err)
		}
	})
}

// A Redis whose clock is off counts by its own clock all the same.
func TestNodesOnAnotherClock(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		_, err := f.Report(t.Context(), snapshot.Node{ID: "a"})
		must(t, err)
		age(t, f.raw, f.tag, time.Hour) // as a Redis whose clock has gone forward by an hour has it
		list, err := f.Nodes(t.Context(), snapshot.NodeQuery{})
		must(t, err)
		if age := list.Now.Sub(list.Nodes[0].SeenAt); age < time.Hour || age > time.Hour+time.Minute {
			t.Errorf("seen %s ago", age)
		}
	})
}
