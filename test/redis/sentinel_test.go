package redis_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func ping(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }

// TestSentinelFailover: the master that Sentinels watch dies or freezes. Five seconds after its replica was promoted,
// publishing and reading go on.
func TestSentinelFailover(t *testing.T) {
	for name, fail := range map[string]func(s *server, t testing.TB){"dies": (*server).kill, "freezes": (*server).freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			auth := []string{"requirepass red-secret", "masterauth red-secret", "repl-diskless-sync-delay 0"}
			master := start(t, "redis-server", "127.0.0.1", auth...)
			replica := start(
				t,
				"redis-server",
				"127.0.0.1",
				append(auth, fmt.Sprintf("replicaof 127.0.0.1 %d", master.port))...)
			second := open(t, "redis://:red-secret@"+replica.addr(), nil).(*redis.Client)
			watched := fmt.Sprintf("sentinel monitor main 127.0.0.1 %d 2", master.port)
			addresses := ""
			var first *redis.SentinelClient
			for i := range 3 {
				s := start(
					t,
					"redis-sentinel",
					"127.0.0.1",
					watched,
					"sentinel auth-pass main red-secret",
					"sentinel down-after-milliseconds main 1500",
					"sentinel failover-timeout main 5000",
					"requirepass sent-secret",
				)
				if addresses += s.addr(); i < 2 {
					addresses += ","
				}
				if i == 0 {
					first = redis.NewSentinelClient(&redis.Options{Addr: s.addr(), Password: "sent-secret"})
					t.Cleanup(func() { _ = first.Close() })
				}
			}
			eventually(t, 40*time.Second, "the Sentinels know the replica and each other", func() bool {
				replicas, err := first.Replicas(t.Context(), "main").Result()
				others, err2 := first.Sentinels(t.Context(), "main").Result()
				return err == nil && err2 == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok" &&
					len(others) == 2
			})

			address := "redis+sentinel://:red-secret@" + addresses + "/main/0?sentinel_password=sent-secret"
			w := newWorld(t, open(t, address, nil), open(t, address, nil))
			w.run(t)
			fail(master, t)
			meanwhile := w.createKey(t, "made while the master is away")
			eventually(t, 40*time.Second, "the replica is promoted", func() bool { return role(second) == "master" })
			took := w.sees(t, 5*time.Second, meanwhile)
			t.Logf("publishing went on %s after the promotion", took)
			w.sees(t, 5*time.Second, w.createKey(t, "made after that"))
		})
	}
}
