package redisstore_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/storage/redisstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestOnMiniredis(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.ClockTTL(true) // else what expires never does
	addr := server.Addr()
	storagetest.RunPublisher(t, func(t testing.TB) storagetest.PublisherHarness { return harness(t, addr) })
}

// TestOnCluster sees to it that every command names keys of one slot, on a
// real cluster where EZ_TEST_REDIS_CLUSTER_ADDR names one.
func TestOnCluster(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.ClockTTL(true)
	addr := server.Addr()
	if cluster := os.Getenv("EZ_TEST_REDIS_CLUSTER_ADDR"); cluster != "" {
		addr = cluster
	}
	storagetest.RunPublisher(t, func(t testing.TB) storagetest.PublisherHarness {
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}})
		t.Cleanup(func() { must(t, client.Close()) })
		p := redisstore.New(client, &redisstore.Options{Prefix: newPrefix(), Logger: quietly()})
		if _, err := p.Ready(t.Context()); err != nil {
			t.Errorf("Ready: %v", err)
		}
		return storagetest.PublisherHarness{Publisher: p}
	})
}

func TestOnRedis(t *testing.T) {
	t.Parallel()
	if realRedis == "" {
		t.Skip("EZ_TEST_REDIS_ADDR is not set: nothing here was tested on a real Redis")
	}
	storagetest.RunPublisher(t, func(t testing.TB) storagetest.PublisherHarness { return harness(t, realRedis) })
	t.Run("ready", func(t *testing.T) {
		if policy, err := newFixture(t, realRedis, redisstore.Options{}).Ready(t.Context()); err != nil ||
			policy != "noeviction" {
			t.Errorf("Ready: %q, %v", policy, err)
		}
	})
}

// harness is two publishers with clients of their own and a new prefix.
func harness(t testing.TB, addr string) storagetest.PublisherHarness {
	prefix := newPrefix()
	client, second := newClient(t, addr), newClient(t, addr)
	t.Cleanup(func() { removeAll(t, second, prefix) })
	opts := &redisstore.Options{Prefix: prefix, StreamMaxEntries: 100, Logger: quietly()}
	tag := "{" + prefix + "}:"
	return storagetest.PublisherHarness{
		Publisher: redisstore.New(client, opts),
		Second:    redisstore.New(second, opts),
		History:   100,
		Age:       func(t testing.TB, by time.Duration) { age(t, second, tag, by) },
		Interrupt: func(t testing.TB) { interrupt(t, second, tag) },
		Close: func(t testing.TB) {
			if err := client.Close(); err != nil {
				t.Errorf("close the client: %v", err)
			}
		},
	}
}

// interrupt writes the first part of a publish, and no more.
func interrupt(t testing.TB, client *redis.Client, tag string) {
	ctx := t.Context()
	at, err := client.HMGet(ctx, tag+"head", "epoch", "revision").Result()
	must(t, err)
	must(t, client.XAdd(ctx, &redis.XAddArgs{
		Stream: tag + "changes", ID: fmt.Sprintf("%s-%s0000", at[0], at[1]),
		Values: []string{
			"from", fmt.Sprintf("%s-%s", at[0], at[1]), "to", fmt.Sprintf("%s-%s0", at[0], at[1]), "reset", "0",
			"chain", "0123456789abcdef0123456789abcdef", "part", "1", "last", "0",
			"changes", `[{"kind":"keys","key":"never","op":"put","doc":"{}"}]`,
		},
	}).Err())
}

func newPrefix() string { return "test-" + rand.Text() }

func quietly() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newClient(t testing.TB, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = client.Close() }) // a test may have closed it
	return client
}

// removeAll checks that a test leaves no staging behind, and cleans up.
func removeAll(t testing.TB, client *redis.Client, prefix string) {
	ctx := context.Background()
	tag := "{" + prefix + "}:"
	var known []string
	for _, name := range []string{
		"head", "changes", "beat", "nodes", "nodes:seen", "nodes:crowded", "nodes:left",
		"providers", "models", "bindings", "keys", "projects", "holds", "gizmos", "widgets",
	} {
		known = append(known, tag+name)
	}
	leases, err := client.Keys(ctx, tag+"lease:*").Result()
	if err != nil {
		t.Errorf("clean up: %v", err)
	}
	if err := client.Unlink(ctx, append(known, leases...)...).Err(); err != nil {
		t.Errorf("clean up: %v", err)
	}
	left, _, err := client.Scan(ctx, 0, tag+"*", 10_000_000).Result()
	if err != nil || len(left) > 0 {
		t.Errorf("keys that nobody owns: %v, %v", left, err)
	}
}

// age makes every report look older: it rewrites when they came, and when the nodes were seen.
func age(t testing.TB, client *redis.Client, tag string, by time.Duration) {
	ctx := t.Context()
	scores, err := client.ZRangeWithScores(ctx, tag+"nodes:seen", 0, -1).Result()
	must(t, err)
	for _, z := range scores {
		id := z.Member.(string)
		must(t, client.ZAdd(ctx, tag+"nodes:seen", redis.Z{Score: z.Score - by.Seconds(), Member: id}).Err())
		text, err := client.HGet(ctx, tag+"nodes", id).Result()
		must(t, err)
		var n map[string]any
		must(t, json.Unmarshal([]byte(text), &n))
		n["seen_at"] = n["seen_at"].(float64) - by.Seconds()
		older, err := json.Marshal(n)
		must(t, err)
		must(t, client.HSet(ctx, tag+"nodes", id, older).Err())
	}
}
