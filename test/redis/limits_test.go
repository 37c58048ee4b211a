package redis_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// reads calls everything that reads, and fails unless all of it works.
func (w *world) reads(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	head, err := w.reader.Head(ctx)
	must(t, err)
	must(t, w.keys.VerifyHead(head))
	fresh := snapshot.NewWatcher(
		w.reader,
		&snapshot.WatcherOptions{Keys: w.keys, Name: "fresh", Logger: quiet()},
	)
	stop := background(t, fresh.Run)
	select {
	case <-fresh.Ready():
	case <-time.After(20 * time.Second):
		t.Fatalf("a balancer that starts loads nothing: %+v", fresh.Status())
	}
	stop()
	_, err = w.reader.LastBeat(ctx)
	must(t, err)
	_, err = w.publisher.Nodes(ctx, snapshot.NodeQuery{})
	must(t, err)
	_, err = w.reader.Lookup(ctx, catalog.KindKey, "none")
	must(t, err)
	for _, err := range w.publisher.Documents(ctx, catalog.KindKey) {
		must(t, err)
	}
}

// fails calls everything that writes, and expects an error of a kind, and that nothing has changed.
func (w *world) fails(t testing.TB, raw *redis.Client, want error) {
	t.Helper()
	ctx := t.Context()
	head, err := w.publisher.Head(ctx)
	must(t, err)
	before := dump(t, raw)
	d := snapshot.Delta{
		From:    head.Position,
		Head:    head,
		Changes: []snapshot.Change{{Kind: catalog.KindKey, Key: "k", Doc: []byte(`{}`)}},
	}
	fields := head.Fields()
	fields["revision"] = fmt.Sprint(head.Position.Revision + 1)
	d.Head, err = snapshot.ParseHead(fields)
	must(t, err)
	d.Head.Counts[catalog.KindKey]++
	_, report := w.reader.Report(ctx, snapshot.Node{ID: "n"})
	whole := func() error {
		staged, err := w.publisher.Stage(ctx)
		if err != nil {
			return err
		}
		defer staged.Discard(ctx)
		if err := staged.Add(ctx, d.Changes); err != nil {
			return err
		}
		return staged.Publish(ctx, head.Base(), d.Head)
	}
	for name, err := range map[string]error{
		"Apply":   w.publisher.Apply(ctx, head.Base(), d),
		"Repair":  w.publisher.Repair(ctx, head.Base(), d.Changes),
		"a whole": whole(),
		"SetBeat": w.publisher.SetBeat(ctx, snapshot.Beat{Store: "s"}),
		"Report":  report,
	} {
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if after := dump(t, raw); after != before {
		t.Errorf("what was refused has changed\n%s\nto\n%s", before, after)
	}
}

// dump returns everything that Redis holds but reports.
func dump(t testing.TB, c *redis.Client) string {
	t.Helper()
	ctx := t.Context()
	var text strings.Builder
	keys, err := c.Keys(ctx, "{"+prefix+"}:*").Result()
	must(t, err)
	for _, key := range keys {
		if strings.Contains(key, ":nodes") || strings.Contains(key, ":lease") {
			continue
		}
		fmt.Fprintf(&text, "%s %x\n", key, c.Dump(ctx, key).Val())
	}
	return text.String()
}

// TestMemoryUsedUp: reads work, writes say why they do not, readiness too; and all goes on when there is room again.
func TestMemoryUsedUp(t *testing.T) {
	t.Parallel()
	s := start(t, "redis-server", "127.0.0.1")
	raw := s.client(t)
	w := newWorld(t, s.client(t), s.client(t))
	w.run(t)
	ctx := t.Context()
	must(t, raw.ConfigSet(ctx, "maxmemory", "1").Err())
	err := raw.Set(ctx, "x", "y", 0).Err()
	if !redis.HasErrorPrefix(err, "OOM") {
		t.Fatalf("the memory is not used up: %v", err)
	}
	w.reads(t)
	w.fails(t, raw, redisstore.ErrMemory)
	note, err := w.publisher.Ready(ctx)
	if !errors.Is(err, redisstore.ErrMemory) || !strings.HasPrefix(note, "noeviction; ") ||
		!strings.Contains(note, "raise maxmemory") {
		t.Errorf("Ready: %q, %v", note, err)
	}
	meanwhile := w.createKey(t, "made while there is no room")
	time.Sleep(500 * time.Millisecond)
	must(t, raw.ConfigSet(ctx, "maxmemory", "0").Err())
	w.sees(t, 10*time.Second, meanwhile)
	if _, err := w.publisher.Ready(ctx); err != nil {
		t.Errorf("Ready: %v", err)
	}

	must(t, raw.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err())
	if policy, err := w.publisher.Ready(ctx); !errors.Is(err, redisstore.ErrEvicts) || policy != "allkeys-lru" {
		t.Errorf("Ready where keys may be evicted: %q, %v", policy, err)
	}
}

// TestReadOnlyReplica: a replica serves readers, and says why nothing can be written.
func TestReadOnlyReplica(t *testing.T) {
	t.Parallel()
	s := start(t, "redis-server", "127.0.0.1", "repl-diskless-sync-delay 0")
	w := newWorld(t, s.client(t), s.client(t))
	w.run(t)
	replica := start(t, "redis-server", "127.0.0.1", fmt.Sprintf("replicaof 127.0.0.1 %d", s.port))
	raw := replica.client(t)
	eventually(t, 20*time.Second, "the replica follows", func() bool {
		return strings.Contains(raw.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	r := *w
	opts := &redisstore.Options{Prefix: prefix, Logger: quiet()}
	r.publisher, r.reader = redisstore.New(replica.client(t), opts), redisstore.New(replica.client(t), opts)
	r.reads(t)
	// Its master's beat comes while it is compared, so it is cut off.
	must(t, raw.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
	r.fails(t, raw, redisstore.ErrReadOnly)
	if policy, err := r.publisher.Ready(t.Context()); !errors.Is(err, redisstore.ErrReadOnly) {
		t.Errorf("Ready: %q, %v", policy, err)
	}
}

// TestRestartWithoutPersistence: a Redis that comes back empty is filled again, and the balancer, which
// has served what it had, goes on with what is new.
func TestRestartWithoutPersistence(t *testing.T) {
	t.Parallel()
	s := start(t, "redis-server", "127.0.0.1")
	w := newWorld(t, s.client(t), s.client(t))
	w.run(t)
	kept := w.createKey(t, "kept")
	w.sees(t, 10*time.Second, kept)
	revoked := w.createKey(t, "revoked")
	w.sees(t, 10*time.Second, revoked)

	s.kill(t)
	_, err := w.tables.Keys.Delete(t.Context(), revoked.ID, revoked.Revision)
	must(t, err)
	meanwhile := w.createKey(t, "made while Redis is away")
	if _, ok := w.watcher.View().Key(kept.Token.Reveal()); !ok {
		t.Error("the balancer forgets what it had")
	}
	s.again(t)
	w.sees(t, 20*time.Second, meanwhile)
	w.sees(t, time.Second, kept)
	if _, ok := w.watcher.View().Key(revoked.Token.Reveal()); ok {
		t.Error("a key that was revoked while Redis was away works again")
	}
	w.sees(t, 10*time.Second, w.createKey(t, "made after that"))
}
