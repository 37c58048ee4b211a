package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// user makes a user with the rights that docs/operations.md gives to one of this name, and returns a
// client that is it.
func user(t *testing.T, admin *redis.Client, addr, name, prefix string) *redis.Client {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.ReplaceAll(string(text), "\\\n", " ")
	rule := regexp.MustCompile(`(?m)^ACL SETUSER ` + name + ` (.*)$`).FindStringSubmatch(joined)
	if rule == nil {
		t.Fatalf("docs/operations.md has no ACL SETUSER %s", name)
	}
	words := strings.Fields(strings.NewReplacer("{ezapi}", "{"+prefix+"}", "PASSWORD", "secret").Replace(rule[1]))
	id := name + "-" + prefix
	args := []any{"ACL", "SETUSER", id}
	for _, w := range words {
		args = append(args, w)
	}
	if err := admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	t.Cleanup(func() { admin.Do(context.Background(), "ACL", "DELUSER", id) })
	rdb := redis.NewClient(&redis.Options{Addr: addr, Username: id, Password: "secret"})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// The rights in docs/operations.md are enough, and no more than that for what is published.
func TestTheLeastRights(t *testing.T) {
	t.Parallel()
	admin, addr := connect(t)
	ctx, origin, region := t.Context(), "rights-"+strings.ToLower(rand.Text()), "rights-"+strings.ToLower(rand.Text())
	t.Cleanup(func() {
		for _, prefix := range []string{origin, region} {
			keys, _ := admin.Keys(context.Background(), "{"+prefix+"}:*").Result()
			admin.Unlink(context.Background(), keys...)
		}
	})
	keys, err := snapshot.ParseKeys(SyncKeys)
	if err != nil {
		t.Fatal(err)
	}
	pub := redisstore.New(admin, &redisstore.Options{Prefix: origin, Logger: quiet()})
	tables := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
	relay := snapshot.NewRelay(tables, pub, &snapshot.RelayOptions{Keys: keys, Logger: quiet()})
	publish := func() snapshot.Head {
		if _, err := tables.Keys.Create(ctx, catalog.Key{Name: "k"}); err != nil {
			t.Fatal(err)
		}
		head, err := relay.Sync(ctx)
		if err != nil {
			t.Fatal(err)
		}
		b := snapshot.Beat{Store: head.Store, Position: head.Position, At: time.Now().UTC()}
		if keys.SignBeat(&b); pub.SetBeat(ctx, b) != nil {
			t.Fatal("no beat")
		}
		return head
	}
	publish()

	background := func(run func(context.Context) error) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	watch := func(prefix string) *snapshot.Watcher {
		rdb := user(t, admin, addr, "ezapi-balancer", prefix)
		src := redisstore.New(rdb, &redisstore.Options{Prefix: prefix, Logger: quiet()})
		w := snapshot.NewWatcher(src, &snapshot.WatcherOptions{Keys: keys, MaxStale: time.Minute, Logger: quiet()})
		background(w.Run)
		if err := rdb.HSet(ctx, "{"+prefix+"}:head", "store", "evil").Err(); !redis.HasErrorPrefix(err, "NOPERM") {
			t.Errorf("a balancer may write what is published: %v", err)
		}
		return w
	}
	mirror := snapshot.NewMirror(
		redisstore.New(user(t, admin, addr, "ezapi-balancer", origin), &redisstore.Options{Prefix: origin, Logger: quiet()}),
		redisstore.New(user(t, admin, addr, "ezapi-control", region), &redisstore.Options{Prefix: region, Logger: quiet()}),
		&snapshot.MirrorOptions{Logger: quiet()})
	background(mirror.Run)
	here, there := watch(origin), watch(region)
	for range 3 {
		head := publish()
		deadline := time.Now().Add(patience)
		for here.View().Position() != head.Position || there.View().Position() != head.Position {
			if time.Now().After(deadline) {
				t.Fatalf("published is %s; here %+v, mirror %+v, there %+v", head.Position, here.Status(), mirror.Status(),
					there.Status())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	deadline := time.Now().Add(patience)
	for {
		list, err := pub.Nodes(ctx, snapshot.NodeQuery{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Nodes) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d nodes have reported; here %+v, mirror %+v, there %+v", len(list.Nodes), here.Status(),
				mirror.Status(), there.Status())
		}
		time.Sleep(100 * time.Millisecond)
	}
	for what, problem := range map[string]string{
		"here": here.Status().ReportError, "there": there.Status().ReportError, "mirror": mirror.Status().ReportError +
			mirror.Status().Error,
	} {
		if problem != "" {
			t.Errorf("%s: %s", what, problem)
		}
	}
}

// There is one list, and its user can run each command that docs/balancers.md tells a balancer to run.
func TestTheCommandsOfABalancer(t *testing.T) {
	t.Parallel()
	admin, addr := connect(t)
	prefix := "rights-" + strings.ToLower(rand.Text())
	rdb, key := user(t, admin, addr, "ezapi-balancer",
		prefix), func(name string) string { return "{" + prefix + "}:" + name }
	for _, args := range [][]any{
		{"HGET", key("keys"), "x"}, {"HMGET", key("bindings"), "x"}, {"HSCAN", key("keys"), 0}, {"GET", key("beat")},
		{"HGETALL", key("head")}, {"HMGET", key("head"), "epoch", "revision", "sig"}, {"TIME"},
		{"XREAD", "COUNT", 1, "STREAMS", key("changes"), "0-0"}, {"HSET", key("nodes"), "n", "{}"},
		{"ZADD", key("nodes:seen"), 1, "n"}, {"ZCOUNT", key("nodes:seen"), 1, "+inf"}, {"HDEL", key("nodes"), "n"},
		{"ZREM", key("nodes:seen"), "n"},
	} {
		if err := rdb.Do(t.Context(), args...).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Errorf("%v: %v", args, err)
		}
	}
	text, err := os.ReadFile("../../docs/balancers.md")
	if err != nil || strings.Contains(string(text), "ACL SETUSER") {
		t.Errorf("docs/balancers.md has a list of its own (%v)", err)
	}
}
