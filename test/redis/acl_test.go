package redis_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// documented returns the words of an ACL SETUSER line of the manual.
func documented(t testing.TB, user string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	joined := strings.ReplaceAll(string(text), "\\\n", " ")
	line := regexp.MustCompile(`(?m)^ACL SETUSER ` + user + ` .*$`).FindString(joined)
	if line == "" {
		t.Fatalf("the manual has no line for the user %s", user)
	}
	return strings.Fields(strings.ReplaceAll(line, "PASSWORD", "secret-of-"+user))
}

func setUser(t testing.TB, c *redis.Client, words ...string) {
	t.Helper()
	args := make([]any, len(words))
	for i, w := range words {
		args[i] = w
	}
	must(t, c.Do(t.Context(), args...).Err())
}

// TestRights runs everything with users who have the rights of the manual and no others.
func TestRights(t *testing.T) {
	t.Parallel()
	s := start(t, "redis-server", "127.0.0.1", "acllog-max-len 1000")
	raw := s.client(t)
	ctx := t.Context()
	for _, user := range []string{"ezapi-control", "ezapi-balancer"} {
		setUser(t, raw, documented(t, user)...)
	}
	as := func(user string) redis.UniversalClient {
		return open(t, "redis://"+user+":secret-of-"+user+"@"+s.addr(), &redisstore.OpenOptions{Name: "tests"})
	}
	w := newWorld(t, as("ezapi-control"), as("ezapi-balancer"))
	w.publisher = redisstore.New(
		as("ezapi-control"),
		&redisstore.Options{Prefix: prefix, Logger: quiet(), StreamMaxEntries: 5},
	)
	w.relay = snapshot.NewRelay(w.tables, w.publisher, &snapshot.RelayOptions{Keys: w.keys, Logger: quiet()})
	w.run(t)
	if policy, err := w.publisher.Ready(ctx); err != nil || policy != "noeviction" {
		t.Errorf("Ready: %q, %v", policy, err)
	}
	mirrored := snapshot.NewWatcher(
		redisstore.New(as("ezapi-balancer"), &redisstore.Options{Prefix: prefix, Logger: quiet()}),
		&snapshot.WatcherOptions{Keys: w.keys, Name: "mirror", Logger: quiet()},
	)
	background(t, mirrored.Run)

	for range 12 { // more than the stream holds
		w.sees(t, 10*time.Second, w.createKey(t, "one of many"))
	}
	_, err := w.tables.Update(ctx, func(tx *catalog.Tx) error { // in parts
		for range 1200 {
			if _, err := tx.Keys.Create(ctx, catalog.Key{Name: "one of a thousand"}); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
	w.sees(t, 10*time.Second, w.createKey(t, "after parts"))
	_, err = w.relay.Resync(ctx, snapshot.ResyncOptions{NewEpoch: true})
	must(t, err)
	w.sees(t, 10*time.Second, w.createKey(t, "after a whole"))
	must(t, raw.HSet(ctx, "{"+prefix+"}:keys", "surplus", "{}").Err())
	eventually(t, 15*time.Second, "what is surplus is taken away", func() bool {
		return !raw.HExists(ctx, "{"+prefix+"}:keys", "surplus").Val()
	})
	eventually(t, 15*time.Second, "the beat is written", func() bool {
		b, err := w.reader.LastBeat(ctx)
		return err == nil && w.keys.VerifyBeat(b) == nil && !b.At.IsZero()
	})
	eventually(t, 15*time.Second, "both have reported that they have applied it", func() bool {
		list, err := w.publisher.Nodes(ctx, snapshot.NodeQuery{})
		must(t, err)
		return len(list.Nodes) == 2 && !slices.ContainsFunc(list.Nodes, func(n snapshot.Node) bool {
			return n.Position != w.relay.Status().Published || n.Error != ""
		})
	})
	w.reads(t)
	for name, status := range map[string]string{
		"relay": w.relay.Status().LastError, "scrub": w.relay.Status().ScrubError, "beat": w.relay.Status().BeatError,
		"watcher": w.watcher.Status().Error, "report": w.watcher.Status().ReportError,
	} {
		if status != "" {
			t.Errorf("%s: %s", name, status)
		}
	}
	refusals, err := raw.Do(ctx, "ACL", "LOG").Slice()
	if err != nil || len(refusals) > 0 {
		t.Errorf("somebody lacked a right: %v, %v", refusals, err)
	}

	// The balancer may write nothing but its reports.
	for _, key := range []string{"head", "keys", "changes", "beat"} {
		if err := as("ezapi-balancer").HSet(ctx, "{"+prefix+"}:"+key, "a", "b").Err(); !redis.HasErrorPrefix(
			err,
			"NOPERM",
		) {
			t.Errorf("a balancer writes to %s: %v", key, err)
		}
	}
}

// TestMissingRight takes one right after the other away: readiness names it, and nothing is left half done.
func TestMissingRight(t *testing.T) {
	t.Parallel()
	s := start(t, "redis-server", "127.0.0.1")
	raw := s.client(t)
	ctx := t.Context()
	words := documented(t, "ezapi-control")
	setUser(t, raw, words...)
	client := open(t, "redis://ezapi-control:secret-of-ezapi-control@"+s.addr(), nil)
	w := newWorld(t, client, s.client(t))
	w.publisher = redisstore.New(
		client,
		&redisstore.Options{Prefix: prefix, Logger: quiet(), StreamMaxEntries: 2},
	)
	for range 3 {
		w.createKey(t, "before")
		w.relay = snapshot.NewRelay(w.tables, w.publisher, &snapshot.RelayOptions{Keys: w.keys, Logger: quiet()})
		_, err := w.relay.Sync(ctx)
		must(t, err)
	}
	// What is asked of a connection before it is used, and what only hurries or describes.
	optional := []string{
		"hello",
		"auth",
		"ping",
		"select",
		"client|setname",
		"info",
		"publish", // see TestMissingMessage
		"cluster|slots",
		"command",
		"eval",
	}
	tried := 0
	for _, word := range words {
		command, isRight := strings.CutPrefix(word, "+")
		if !isRight || slices.Contains(optional, command) {
			continue
		}
		tried++
		setUser(t, raw, "ACL", "SETUSER", "ezapi-control", "-"+command)
		note, err := w.publisher.Ready(ctx)
		if !errors.Is(err, redisstore.ErrRights) || !strings.Contains(err.Error(), command) ||
			!strings.Contains(note, command) {
			t.Errorf("without %s: Ready: %q, %v", command, note, err)
		}
		before, restore := dump(t, raw), keep(t, raw)
		head, err := w.reader.Head(ctx)
		must(t, err)
		fields := head.Fields()
		fields["revision"] = "999999"
		d := snapshot.Delta{
			From:    head.Position,
			Changes: []snapshot.Change{{Kind: catalog.KindKey, Key: "k", Doc: []byte(`{}`)}},
		}
		d.Head, err = snapshot.ParseHead(fields)
		must(t, err)
		fields["counts"] = strings.Replace(fields["counts"], `"keys":3`, `"keys":4`, 1)
		d.Head, err = snapshot.ParseHead(fields)
		must(t, err)
		if err := w.publisher.Apply(ctx, head.Base(), d); err != nil {
			if !errors.Is(err, redisstore.ErrRights) {
				t.Errorf("without %s: Apply: %v", command, err)
			}
			if after := dump(t, raw); after != before {
				t.Errorf("without %s: Apply was refused and left something behind", command)
			}
		} else { // the right is of use elsewhere: undo
			restore()
		}
		setUser(t, raw, "ACL", "SETUSER", "ezapi-control", "+"+command)
	}
	if tried < 30 {
		t.Errorf("only %d rights were taken away", tried)
	}
	if _, err := w.publisher.Ready(ctx); err != nil {
		t.Errorf("Ready with all rights: %v", err)
	}
	setUser(t, raw, "ACL", "SETUSER", "ezapi-control", "resetkeys", "~{"+prefix+"}:head")
	if _, err := w.publisher.Ready(ctx); !errors.Is(err, redisstore.ErrRights) {
		t.Errorf("Ready of a user who may touch the head alone: %v", err)
	}
}

// keep returns what puts everything back as it is.
func keep(t testing.TB, c *redis.Client) (restore func()) {
	t.Helper()
	ctx := t.Context()
	keys, err := c.Keys(ctx, "*").Result()
	must(t, err)
	kept := make(map[string]string)
	for _, key := range keys {
		kept[key] = c.Dump(ctx, key).Val()
	}
	return func() {
		must(t, c.FlushAll(ctx).Err())
		for key, value := range kept {
			must(t, c.Restore(ctx, key, 0, value).Err())
		}
	}
}

// TestMissingRightIsNamed: the relay says which right is missing, also where Redis does not say it of a script.
func TestMissingRightIsNamed(t *testing.T) {
	t.Parallel()
	s := start(t, "redis-server", "127.0.0.1")
	raw := s.client(t)
	ctx := t.Context()
	setUser(t, raw, documented(t, "ezapi-control")...)
	w := newWorld(t, open(t, "redis://ezapi-control:secret-of-ezapi-control@"+s.addr(), nil), s.client(t))
	_, err := w.relay.Sync(ctx)
	must(t, err)
	for _, command := range []string{"type", "pttl", "hmget", "hexists", "xadd", "unlink", "evalsha"} {
		setUser(t, raw, "ACL", "SETUSER", "ezapi-control", "-"+command)
		w.createKey(t, "one more")
		_, err := w.relay.Sync(ctx)
		if !errors.Is(err, redisstore.ErrRights) || !strings.Contains(err.Error(), command) {
			t.Errorf("without %s: %v", command, err)
		}
		if said := w.relay.Status().LastError; !strings.Contains(said, command) {
			t.Errorf("without %s the relay says %q", command, said)
		}
		setUser(t, raw, "ACL", "SETUSER", "ezapi-control", "+"+command)
	}
	_, err = w.relay.Sync(ctx)
	must(t, err)
}

// TestMissingMessage: what is published reaches readers without the Pub/Sub message, but that nobody is told is said
// by the relay, by readiness and in the log, whether the command or the channel is forbidden.
func TestMissingMessage(t *testing.T) {
	t.Parallel()
	s := start(t, "redis-server", "127.0.0.1")
	raw := s.client(t)
	ctx := t.Context()
	words := documented(t, "ezapi-control")
	setUser(t, raw, words...)
	listener := raw.Subscribe(ctx, redisstore.Channel)
	defer listener.Close()
	_, err := listener.Receive(ctx)
	must(t, err)
	client := open(t, "redis://ezapi-control:secret-of-ezapi-control@"+s.addr(), nil)
	w := newWorld(t, client, s.client(t))
	var logged strings.Builder
	w.publisher = redisstore.New(client, &redisstore.Options{
		Prefix: prefix, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	w.relay = snapshot.NewRelay(w.tables, w.publisher, &snapshot.RelayOptions{Keys: w.keys, Logger: quiet()})
	publish := func() {
		t.Helper()
		w.createKey(t, "one more")
		_, err := w.relay.Sync(ctx)
		must(t, err)
	}
	publish()
	for _, c := range []struct{ take, give, said string }{
		{"-publish", "+publish", "publish"},
		{"resetchannels", "&" + redisstore.Channel, "channel"},
	} {
		setUser(t, raw, "ACL", "SETUSER", "ezapi-control", c.take)
		publish()
		if said := w.relay.Status().HintError; !strings.Contains(said, c.said) {
			t.Errorf("with %s the relay says %q", c.take, said)
		}
		note, err := w.publisher.Ready(ctx)
		if !errors.Is(err, redisstore.ErrRights) || !strings.Contains(note, c.said) {
			t.Errorf("with %s: Ready: %q, %v", c.take, note, err)
		}
		if !strings.Contains(logged.String(), "level=WARN") {
			t.Errorf("with %s the log says %q", c.take, logged.String())
		}
		setUser(t, raw, "ACL", "SETUSER", "ezapi-control", c.give)
		_, err = w.relay.Sync(ctx) // sends what was not sent
		must(t, err)
		if said := w.relay.Status().HintError; said != "" {
			t.Errorf("with %s the relay says %q", c.give, said)
		}
		if note, err := w.publisher.Ready(ctx); err != nil || note != "noeviction" {
			t.Errorf("with %s: Ready: %q, %v", c.give, note, err)
		}
		logged.Reset()
	}
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for range 3 { // what was sent with the right to do so
		if _, err := listener.ReceiveMessage(within); err != nil {
			t.Fatal(err)
		}
	}
}
