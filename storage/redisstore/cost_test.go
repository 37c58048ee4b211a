package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
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
	onBoth(t, func(t *testing.T, addr string) {
		sent := make(map[int]int64)
		for _, keys := range []int{10, 10_000} {
			client, bytes := countedClient(t, addr)
			prefix := "test-bytes-" + strings.Repeat("x", 10)
			p := redisstore.New(client, &redisstore.Options{Prefix: prefix, Logger: quietly()})
			t.Cleanup(func() { removeAll(t, newClient(t, addr), prefix) })
			s := manyKeys(position(1000000000+catalog.Epoch(keys), 10_000), keys)
			must(t, p.Replace(t.Context(), s, nil))
			for range 2 { // the first sends the script
				d := snapshot.Delta{From: s.Head.Position, Head: s.Head}
				d.Head.Position.Revision++
				d.Changes = []snapshot.Change{{Kind: catalog.KindKey, Key: s.Docs[0].Key, Doc: []byte(`{"changed":true}`)}}
				start := bytes.Load()
				must(t, p.Apply(t.Context(), d))
				sent[keys] = bytes.Load() - start
				s.Head = d.Head
			}
		}
		t.Logf("bytes for one key: %d among 10, %d among 10,000", sent[10], sent[10_000])
		// The counts in the head are numbers, and longer by their digits.
		if grown := sent[10_000] - sent[10]; grown > 20 || sent[10] > 2000 {
			t.Errorf("one key takes %d bytes among 10, and %d among 10,000", sent[10], sent[10_000])
		}
	})
}

// TestNextSharesConnections: readers that wait at one place take one
// connection, not one each.
func TestNextSharesConnections(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		s := whole(position(1, 1), "a")
		must(t, f.Replace(t.Context(), s, nil))
		after := s.Head.Position
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
		must(t, f.Apply(t.Context(), plus(s, "b")))
		waiting.Wait()
	})
}

// testLongestCommand measures how long Redis is busy with any single command
// while 100,000 keys are replaced twice. The bound is loose, the figure printed.
func testLongestCommand(t *testing.T, addr string) {
	f := newFixture(t, addr, redisstore.Options{})
	ctx := t.Context()
	before := f.raw.ConfigGet(ctx, "slowlog-log-slower-than").Val()["slowlog-log-slower-than"]
	must(t, f.raw.ConfigSet(ctx, "slowlog-log-slower-than", "200").Err())
	t.Cleanup(func() { must(t, f.raw.ConfigSet(context.Background(), "slowlog-log-slower-than", before).Err()) })

	for epoch := range catalog.Epoch(2) {
		s := manyKeys(position(1+epoch, 1), 100_000)
		start := time.Now()
		must(t, f.Replace(ctx, s, nil))
		t.Logf("Replace took %s", time.Since(start))
		start = time.Now()
		_, err := f.Load(ctx)
		must(t, err)
		t.Logf("Load took %s", time.Since(start))
	}
	logged, err := f.raw.SlowLogGet(ctx, -1).Result()
	must(t, err)
	logged = slices.DeleteFunc(logged, func(l redis.SlowLog) bool { return !strings.Contains(strings.Join(l.Args, " "), f.tag) })
	var longest redis.SlowLog
	for _, l := range logged {
		if l.Duration > longest.Duration {
			longest = l
		}
	}
	if len(longest.Args) > 0 {
		t.Logf("longest command: %s, %s", longest.Duration, longest.Args[0])
	}
	if longest.Duration > 100*time.Millisecond {
		t.Errorf("Redis was busy for %s with %s", longest.Duration, longest.Args[0])
	}
}

// manyKeys makes a snapshot of key documents of a typical size.
func manyKeys(at snapshot.Position, n int) *snapshot.Snapshot {
	s := &snapshot.Snapshot{Head: snapshot.Head{Format: 1, Store: "store", Position: at, Counts: snapshot.Counts{catalog.KindKey: n}}}
	s.Docs = make([]snapshot.Document, n)
	for i := range s.Docs {
		s.Docs[i] = snapshot.Document{Kind: catalog.KindKey, Key: fmt.Sprintf("%064x", i), Doc: fmt.Appendf(nil, `{"id":%d,"name":"a typical key","status":"active","group":"default","namespaces":["default"],"default_namespace":"default","models":["gpt-4o","gpt-4o-mini"],"labels":{"team":"search"}}`, i)}
	}
	return s
}
