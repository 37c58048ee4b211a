package redis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/redisstore"
	"github.com/ez-api/ez-api/test/certs"
)

// cluster is three masters, of which the one that has the keys has a replica.
type cluster struct {
	masters []*server
	replica *server
	clients []*redis.Client // of the masters, and then the replica
	address string
	opts    *redisstore.OpenOptions
}

// startCluster starts one. With an authority each node is at an address of its own, and its certificate is
// for that alone.
func startCluster(t testing.TB, ca *certs.Authority) *cluster {
	t.Helper()
	c := &cluster{}
	scheme := "redis://"
	args := []string{
		"cluster-enabled yes",
		"cluster-node-timeout 1500",
		"cluster-require-full-coverage no",
		"repl-diskless-sync-delay 0",
	}
	if ca != nil {
		scheme, c.opts = "rediss://", &redisstore.OpenOptions{CAFile: ca.File()}
	}
	node := func(host string) *server {
		own := append([]string{"cluster-announce-ip " + host}, args...)
		if ca != nil {
			own = append(append([]string{"tls-cluster yes", "tls-replication yes"}, own...), withTLS(t, ca, host)...)
		}
		s := start(t, "redis-server", host, own...)
		c.clients = append(c.clients, open(t, scheme+s.addr(), c.opts).(*redis.Client))
		return s
	}
	for i := range 3 {
		c.masters = append(c.masters, node(fmt.Sprintf("127.0.0.%d", i+1)))
	}
	c.replica = node("127.0.0.4")
	ctx := t.Context()
	for i := range c.masters {
		must(t, c.clients[i].ClusterAddSlotsRange(ctx, i*5461, []int{5460, 10921, 16383}[i]).Err())
		must(t, c.clients[i].Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
		if i > 0 {
			must(t, c.clients[i].ClusterMeet(ctx, c.masters[0].host, fmt.Sprint(c.masters[0].port)).Err())
		}
	}
	must(t, c.clients[3].ClusterMeet(ctx, c.masters[0].host, fmt.Sprint(c.masters[0].port)).Err())
	keeper := c.keeper(t)
	id := c.clients[keeper].Do(ctx, "CLUSTER", "MYID").Val().(string)
	eventually(t, 60*time.Second, "the replica knows its master", func() bool {
		return c.clients[3].ClusterReplicate(ctx, id).Err() == nil // saying it again would begin anew
	})
	eventually(t, 60*time.Second, "the replica follows its master", func() bool {
		return strings.Contains(c.clients[3].Info(ctx, "replication").Val(), "master_link_status:up")
	})
	t.Cleanup(func() {
		for _, client := range c.clients {
			if t.Failed() {
				t.Logf(
					"a node says:\n%s%s",
					client.ClusterNodes(context.Background()).Val(),
					client.ClusterInfo(context.Background()).Val(),
				)
			}
		}
	})
	eventually(t, 60*time.Second, "the cluster is whole", func() bool {
		for _, client := range c.clients {
			info := client.ClusterInfo(ctx).Val()
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:4") {
				return false
			}
		}
		nodes := c.clients[(keeper+1)%3].ClusterNodes(ctx).Val()
		return strings.Contains(nodes, "slave")
	})
	for _, s := range c.masters[:2] {
		c.address += scheme + s.addr() + ","
	}
	return c
}

// keeper returns the index of the master that has our keys.
func (c *cluster) keeper(t testing.TB) int {
	t.Helper()
	slot := c.clients[0].ClusterKeySlot(t.Context(), "{"+prefix+"}:head").Val()
	return min(int(slot)/5461, 2)
}

// TestClusterTLS: each node's certificate is checked against its own address, not that of the first.
func TestClusterTLS(t *testing.T) {
	t.Parallel()
	c := startCluster(t, certs.New(t))
	w := newWorld(t, open(t, c.address, c.opts), open(t, c.address, c.opts))
	w.run(t)
	if policy, err := w.publisher.Ready(t.Context()); err != nil || policy != "noeviction" {
		t.Errorf("Ready: %q, %v", policy, err)
	}
	err := open(t, c.address, c.opts).(*redis.ClusterClient).ForEachShard(t.Context(), ping)
	must(t, err)
}

// TestClusterFailover: the master that has the keys dies, or freezes with its connections open.
// Five seconds after its replica
// was promoted, publishing and reading go on.
func TestClusterFailover(t *testing.T) {
	for name, fail := range map[string]func(s *server, t testing.TB){"dies": (*server).kill, "freezes": (*server).freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, nil)
			w := newWorld(t, open(t, c.address, c.opts), open(t, c.address, c.opts))
			w.run(t)
			fail(c.masters[c.keeper(t)], t)
			meanwhile := w.createKey(t, "made while the master is away")
			eventually(
				t,
				60*time.Second,
				"the replica is promoted",
				func() bool { return role(c.clients[3]) == "master" },
			)
			took := w.sees(t, 5*time.Second, meanwhile)
			t.Logf("publishing went on %s after the promotion", took)
			w.sees(t, 5*time.Second, w.createKey(t, "made after that"))
		})
	}
}

// TestClusterMovesTheSlot: the slot that has all our keys moves to another master, key by key, while
// changes are published. Afterwards all goes on there, and the reader has missed nothing.
func TestClusterMovesTheSlot(t *testing.T) {
	t.Parallel()
	c := startCluster(t, nil)
	w := newWorld(t, open(t, c.address, c.opts), open(t, c.address, c.opts))
	w.run(t)
	ctx := t.Context()
	keeper := c.keeper(t)
	from, to := c.clients[keeper], c.clients[(keeper+1)%3]
	slot := from.ClusterKeySlot(ctx, "{"+prefix+"}:head").Val()
	id := func(client *redis.Client) string { return client.Do(ctx, "CLUSTER", "MYID").Val().(string) }
	source, target := id(from), id(to)
	must(t, to.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", source).Err())
	must(t, from.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", target).Err())
	var made []catalog.Key
	moved := 0
	for {
		made = append(made, w.createKey(t, fmt.Sprintf("made when %d keys were moved", moved)))
		keys := from.ClusterGetKeysInSlot(ctx, int(slot), 1).Val()
		if len(keys) == 0 {
			break
		}
		there := c.masters[(keeper+1)%3]
		must(t, from.Migrate(ctx, there.host, fmt.Sprint(there.port), keys[0], 0, 5*time.Second).Err())
		moved++
		time.Sleep(50 * time.Millisecond) // so that something is published while some keys are here and some there
	}
	for _, client := range []*redis.Client{to, from, c.clients[(keeper+2)%3]} {
		must(t, client.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", target).Err())
	}
	if moved < 5 {
		t.Errorf("%d keys were moved", moved)
	}
	made = append(made, w.createKey(t, "made after the slot has moved"))
	for _, k := range made {
		w.sees(t, 20*time.Second, k)
	}
	if n := to.ClusterCountKeysInSlot(ctx, int(slot)).Val(); n < 5 {
		t.Errorf("%d keys are in the slot at its new master", n)
	}
}
