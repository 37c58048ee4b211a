package redisstore_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
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
	addr := miniredis.RunT(t).Addr()
	storagetest.RunPublisher(t, func(t testing.TB) storagetest.PublisherHarness { return harness(t, addr) })
}

// TestOnCluster sees to it that every command names keys of one slot, on a
// real cluster where EZ_TEST_REDIS_CLUSTER_ADDR names one.
func TestOnCluster(t *testing.T) {
	t.Parallel()
	addr := miniredis.RunT(t).Addr()
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
	if realRedis == "" {
		t.Skip("EZ_TEST_REDIS_ADDR is not set: nothing here was tested on a real Redis")
	}
	storagetest.RunPublisher(t, func(t testing.TB) storagetest.PublisherHarness { return harness(t, realRedis) })
	t.Run("ready", func(t *testing.T) {
		if policy, err := newFixture(t, realRedis, redisstore.Options{}).Ready(t.Context()); err != nil || policy != "noeviction" {
			t.Errorf("Ready: %q, %v", policy, err)
		}
	})
	t.Run("longest command", func(t *testing.T) { testLongestCommand(t, realRedis) })
}

// harness is two publishers with clients of their own and a new prefix.
func harness(t testing.TB, addr string) storagetest.PublisherHarness {
	prefix := newPrefix()
	client, second := newClient(t, addr), newClient(t, addr)
	t.Cleanup(func() { removeAll(t, second, prefix) })
	opts := &redisstore.Options{Prefix: prefix, StreamMaxEntries: 100, Logger: quietly()}
	return storagetest.PublisherHarness{
		Publisher: redisstore.New(client, opts),
		Second:    redisstore.New(second, opts),
		History:   100,
		Age:       func(t testing.TB, by time.Duration) { age(t, second, "{"+prefix+"}:nodes", by) },
		Close: func(t testing.TB) {
			if err := client.Close(); err != nil {
				t.Errorf("close the client: %v", err)
			}
		},
	}
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
	known := []string{tag + "head", tag + "changes", tag + "nodes", tag + "providers", tag + "models", tag + "bindings", tag + "keys"}
	if err := client.Unlink(ctx, known...).Err(); err != nil {
		t.Errorf("clean up: %v", err)
	}
	left, _, err := client.Scan(ctx, 0, tag+"*", 10_000_000).Result()
	if err != nil || len(left) > 0 {
		t.Errorf("keys that nobody owns: %v, %v", left, err)
	}
}

// age rewrites seen_at in every report.
func age(t testing.TB, client *redis.Client, key string, by time.Duration) {
	ctx := t.Context()
	nodes, err := client.HGetAll(ctx, key).Result()
	if err != nil {
		t.Fatal(err)
	}
	for id, text := range nodes {
		var n map[string]any
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			t.Fatal(err)
		}
		n["seen_at"] = n["seen_at"].(float64) - by.Seconds()
		older, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.HSet(ctx, key, id, older).Err(); err != nil {
			t.Fatal(err)
		}
	}
}
