package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// TestDamage spoils what is published, and expects that readers notice, that
// Apply refuses and changes nothing, and that Replace repairs.
func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name        string
		spoil       func(ctx context.Context, c *redis.Client, tag string) error
		head, apply error // nil: goes unnoticed until it matters
	}{
		{"a document is gone", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.HDel(ctx, tag+"keys", "a").Err()
		}, snapshot.ErrCorrupt, snapshot.ErrCorrupt},
		{"a document too many", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.HSet(ctx, tag+"models", "x", "y").Err()
		}, snapshot.ErrCorrupt, snapshot.ErrCorrupt},
		{"all keys are gone", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.Del(ctx, tag+"keys").Err()
		}, snapshot.ErrCorrupt, snapshot.ErrCorrupt},
		{"the head is gone", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.Del(ctx, tag+"head").Err()
		}, snapshot.ErrNone, snapshot.ErrStale},
		{"the head has no position", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.HDel(ctx, tag+"head", "epoch").Err()
		}, snapshot.ErrCorrupt, snapshot.ErrStale},
		{"the head makes no sense", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.HSet(ctx, tag+"head", "revision", "many", "digest", "?", "counts", "[", "updated_at", "today").Err()
		}, snapshot.ErrCorrupt, snapshot.ErrStale},
		{"the head is no hash", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.Set(ctx, tag+"head", "x", 0).Err()
		}, snapshot.ErrCorrupt, snapshot.ErrStale},
		{"the documents are no hash", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.Set(ctx, tag+"models", "x", 0).Err()
		}, snapshot.ErrCorrupt, snapshot.ErrCorrupt},
		{"the stream is no stream", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.Set(ctx, tag+"changes", "x", 0).Err()
		}, nil, snapshot.ErrCorrupt},
		{"the stream is ahead", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.XAdd(ctx, &redis.XAddArgs{Stream: tag + "changes", ID: "1-99", Values: []string{"a", "b"}}).Err()
		}, nil, snapshot.ErrCorrupt},
		{"the stream is gone", func(ctx context.Context, c *redis.Client, tag string) error {
			return c.Del(ctx, tag+"changes").Err()
		}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, addr string) {
				f := newFixture(t, addr, redisstore.Options{})
				ctx := t.Context()
				s := whole(position(1, 1), "a", "b")
				must(t, f.Replace(ctx, s, nil))
				must(t, c.spoil(ctx, f.raw, f.tag))

				if _, err := f.Head(ctx); !errors.Is(err, c.head) {
					t.Errorf("Head: got %v, want %v", err, c.head)
				}
				if _, err := f.Load(ctx); !errors.Is(err, c.head) {
					t.Errorf("Load: got %v, want %v", err, c.head)
				}
				untouched := f.dump(t)
				if err := f.Apply(ctx, plus(s, "c")); !errors.Is(err, c.apply) {
					t.Errorf("Apply: got %v, want %v", err, c.apply)
				}
				if after := f.dump(t); c.apply != nil && after != untouched {
					t.Errorf("Apply failed and left %s, before there was %s", after, untouched)
				}

				must(t, f.Replace(ctx, whole(position(2, 1), "n"), nil))
				if head, err := f.Head(ctx); err != nil || head.Position != position(2, 1) {
					t.Errorf("Head after Replace: %v, %v", head.Position, err)
				}
				if got, err := f.Load(ctx); err != nil || len(got.Docs) != 1 {
					t.Errorf("Load after Replace: %v, %v", got, err)
				}
			})
		})
	}
}

// dump returns all that is published, as text.
func (f *fixture) dump(t testing.TB) string {
	var all []string
	for _, name := range []string{"head", "providers", "models", "bindings", "keys", "changes"} {
		kind := f.raw.Type(t.Context(), f.tag+name).Val()
		var content string
		switch kind {
		case "hash":
			content = fmt.Sprint(f.hash(t, name))
		case "stream":
			content = f.raw.XRange(t.Context(), f.tag+name, "-", "+").String()
		case "string":
			content = f.raw.Get(t.Context(), f.tag+name).String()
		}
		all = append(all, kind, content)
	}
	return strings.Join(all, "\n")
}

// TestReplaceNeedsANewEpoch: with the head gone, the end of the stream still
// says what was published last.
func TestReplaceNeedsANewEpoch(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		must(t, f.Replace(t.Context(), whole(position(5, 5), "a"), nil))
		must(t, f.raw.Del(t.Context(), f.tag+"head").Err())
		if err := f.Replace(t.Context(), whole(position(5, 5), "a"), nil); !errors.Is(err, snapshot.ErrStale) {
			t.Errorf("Replace at the end of the stream: %v", err)
		}
		must(t, f.Replace(t.Context(), whole(position(6, 1), "a"), nil))
	})
}

// TestReplaceOvertaken publishes by another hand just before the swap.
func TestReplaceOvertaken(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		s := whole(position(1, 1), "a")
		must(t, f.Replace(t.Context(), s, nil))
		var once sync.Once
		f.client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
			if strings.HasPrefix(cmd.Name(), "eval") {
				once.Do(func() { must(t, f.other().Apply(t.Context(), plus(s, "b"))) })
			}
		}))
		if err := f.Replace(t.Context(), whole(position(2, 1), "n"), nil); !errors.Is(err, snapshot.ErrStale) {
			t.Errorf("Replace whose head moved: got %v, want ErrStale", err)
		}
		if docs, err := f.Lookup(t.Context(), catalog.KindKey, "b"); err != nil || len(docs) != 1 {
			t.Errorf("what the other published is %v, %v", docs, err)
		}
	})
}

// TestReplaceAlwaysOvertaken: a Replace ends even when others publish before
// every try.
func TestReplaceAlwaysOvertaken(t *testing.T) {
	f := newFixture(t, miniredis.RunT(t).Addr(), redisstore.Options{})
	s := whole(position(1, 1), "a")
	must(t, f.Replace(t.Context(), s, nil))
	n := 0
	f.client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
		if strings.HasPrefix(cmd.Name(), "eval") {
			n++
			must(t, f.other().Apply(t.Context(), plus(s, strings.Repeat("k", n))))
		}
	}))
	next := whole(position(2, 1), "n")
	err := f.Replace(t.Context(), next, func(_ context.Context, from snapshot.Position) (snapshot.Delta, error) {
		return snapshot.Delta{From: from, Head: next.Head}, nil
	})
	must(t, err)
	if head, err := f.Head(t.Context()); err != nil || head.Position != next.Head.Position {
		t.Errorf("Head: %v, %v", head.Position, err)
	}
}

// TestStagingExpires: what a dead process leaves behind has a time to live,
// and what a living one stages is checked before it counts.
func TestStagingExpires(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		old := whole(position(1, 1), "a")
		must(t, f.Replace(ctx, old, nil))
		s := whole(position(2, 1), "n", "m")
		err := f.Replace(ctx, s, func(_ context.Context, from snapshot.Position) (snapshot.Delta, error) {
			staged, err := f.raw.Keys(ctx, f.tag+"staging:*").Result()
			must(t, err)
			if len(staged) != 1 {
				t.Errorf("staged are %v, want one hash: kinds without documents have none", staged)
			}
			for _, key := range staged {
				if ttl := f.raw.TTL(ctx, key).Val(); ttl <= 0 || ttl > 10*time.Minute {
					t.Errorf("%s lives for %s", key, ttl)
				}
				must(t, f.raw.Del(ctx, key).Err()) // as if it had expired
			}
			return snapshot.Delta{From: from, Head: s.Head}, nil
		})
		if !errors.Is(err, snapshot.ErrCorrupt) {
			t.Errorf("Replace whose staging is gone: got %v, want ErrCorrupt", err)
		}
		if head, err := f.Head(ctx); err != nil || head.Position != old.Head.Position {
			t.Errorf("Head: %v, %v", head.Position, err)
		}
	})
}

// TestStagingIsKeptAlive: a catch-up may take longer than the time to live.
func TestStagingIsKeptAlive(t *testing.T) {
	test := func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		f.SetStagingTTL(400 * time.Millisecond)
		s := whole(position(1, 1), "a")
		err := f.Replace(t.Context(), s, func(_ context.Context, from snapshot.Position) (snapshot.Delta, error) {
			time.Sleep(1200 * time.Millisecond)
			return snapshot.Delta{From: from, Head: s.Head}, nil
		})
		must(t, err)
		time.Sleep(500 * time.Millisecond) // and what is live never expires
		if _, err := f.Head(t.Context()); err != nil {
			t.Errorf("Head: %v", err)
		}
	}
	onBoth(t, test)
	t.Run("miniredis with a clock", func(t *testing.T) {
		server := miniredis.RunT(t)
		server.ClockTTL(true)
		test(t, server.Addr())
	})
}

// TestLoadWhileOthersPublish lets an Apply or a Replace happen at each command
// of a Load.
func TestLoadWhileOthersPublish(t *testing.T) {
	for _, c := range []struct {
		name    string
		publish func(t *testing.T, f *fixture, s *snapshot.Snapshot)
	}{
		{"apply", func(t *testing.T, f *fixture, s *snapshot.Snapshot) {
			must(t, f.other().Apply(t.Context(), plus(s, s.Docs[0].Key+"x")))
		}},
		{"replace", func(t *testing.T, f *fixture, s *snapshot.Snapshot) {
			*s = *whole(position(s.Head.Position.Epoch+1, 1), s.Docs[0].Key+"x")
			must(t, f.other().Replace(t.Context(), s, nil))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, addr string) {
				for nth := 1; nth <= 6; nth++ { // two heads and four scans
					f := newFixture(t, addr, redisstore.Options{})
					s := whole(position(1, 1), "a", "b")
					must(t, f.Replace(t.Context(), s, nil))
					n := 0
					f.client.AddHook(before(func(context.Context, redis.Cmder) {
						if n++; n == nth {
							c.publish(t, f, s)
						}
					}))
					got, err := f.Load(t.Context())
					must(t, err)
					if got.Head.Digest != digest(got.Docs) || len(got.Docs) != got.Head.Counts[catalog.KindKey] {
						t.Errorf("published before command %d: Load is torn: %+v", nth, got)
					}
					if n < nth {
						t.Errorf("Load took %d commands", n)
					}
				}
			})
		})
	}
}

// TestLoadGivesUp: a publisher that replaces all the time does not hold a
// Load for ever.
func TestLoadGivesUp(t *testing.T) {
	f := newFixture(t, miniredis.RunT(t).Addr(), redisstore.Options{})
	epoch := catalog.Epoch(1)
	must(t, f.Replace(t.Context(), whole(position(epoch, 1), "a"), nil))
	f.client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
		if cmd.Name() == "hscan" {
			epoch++
			must(t, f.other().Replace(t.Context(), whole(position(epoch, 1), "a"), nil))
		}
	}))
	if _, err := f.Load(t.Context()); !errors.Is(err, snapshot.ErrGap) {
		t.Errorf("Load: got %v, want ErrGap", err)
	}
}

// TestScriptsAreSentAgain: a Redis that was restarted has forgotten them.
func TestScriptsAreSentAgain(t *testing.T) {
	f := newFixture(t, miniredis.RunT(t).Addr(), redisstore.Options{})
	s := whole(position(1, 1), "a")
	must(t, f.Replace(t.Context(), s, nil))
	must(t, f.Apply(t.Context(), plus(s, "b")))
	must(t, f.raw.ScriptFlush(t.Context()).Err())
	must(t, f.Apply(t.Context(), plus(s, "c")))
	must(t, f.Report(t.Context(), snapshot.Node{ID: "n"}))
}

func TestInvalid(t *testing.T) {
	f := newFixture(t, miniredis.RunT(t).Addr(), redisstore.Options{})
	ctx := t.Context()
	s := whole(position(1, 1), "a")
	must(t, f.Replace(ctx, s, nil))
	foreign := plus(whole(position(1, 1), "a"), "b")
	foreign.Changes[0].Kind = "head"
	binary := plus(whole(position(1, 1), "a"), "b")
	binary.Changes[0].Doc = []byte("\xff")
	reset := plus(whole(position(1, 1), "a"), "b")
	reset.Reset = true
	_, lookup := f.Lookup(ctx, "nodes", "n")
	binaryWhole, foreignWhole := whole(position(2, 1), "a"), whole(position(2, 1), "a")
	binaryWhole.Docs[0].Doc = []byte("\xff")
	foreignWhole.Docs[0].Kind = "changes"
	for name, err := range map[string]error{
		"Apply of a kind that is none":   f.Apply(ctx, foreign),
		"Apply of what is not UTF-8":     f.Apply(ctx, binary),
		"Apply of a reset":               f.Apply(ctx, reset),
		"Lookup of a kind that is none":  lookup,
		"Replace of what is not UTF-8":   f.Replace(ctx, binaryWhole, nil),
		"Replace of a kind that is none": f.Replace(ctx, foreignWhole, nil),
		"a prefix with a brace":          redisstore.CheckPrefix("a}b"),
		"no prefix":                      redisstore.CheckPrefix(""),
	} {
		if !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	must(t, f.Apply(ctx, plus(s, "b")))
}

func TestReady(t *testing.T) {
	t.Run("unknown", func(t *testing.T) {
		f := newFixture(t, miniredis.RunT(t).Addr(), redisstore.Options{})
		if policy, err := f.Ready(t.Context()); err != nil || policy != redisstore.PolicyUnknown {
			t.Errorf("Ready: %q, %v", policy, err)
		}
	})
	t.Run("evicts", func(t *testing.T) {
		f := newFixture(t, miniredis.RunT(t).Addr(), redisstore.Options{})
		f.client.AddHook(answerInfo("# Memory\r\nused_memory:1\r\nmaxmemory_policy:allkeys-lru\r\n"))
		if policy, err := f.Ready(t.Context()); !errors.Is(err, redisstore.ErrEvicts) || policy != "allkeys-lru" {
			t.Errorf("Ready: %q, %v", policy, err)
		}
	})
	t.Run("away", func(t *testing.T) {
		server := miniredis.RunT(t)
		client := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: "sesame-open", MaxRetries: -1})
		t.Cleanup(func() { must(t, client.Close()) })
		server.Close()
		_, err := redisstore.New(client, nil).Ready(t.Context())
		if err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("Ready: %v", err)
		}
	})
}

// answerInfo is a hook that answers INFO itself.
type answerInfo string

func (answerInfo) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a answerInfo) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if info, ok := cmd.(*redis.StringCmd); ok && cmd.Name() == "info" {
			info.SetVal(string(a))
			return nil
		}
		return next(ctx, cmd)
	}
}

func (answerInfo) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A Redis whose clock is an hour off says when nodes were seen, all the same.
func TestNodesAreSeenOnOurClock(t *testing.T) {
	server := miniredis.RunT(t)
	p := newFixture(t, server.Addr(), redisstore.Options{})
	server.SetTime(time.Now().Add(-time.Hour))
	if err := p.Report(t.Context(), snapshot.Node{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	server.SetTime(time.Now().Add(-time.Hour).Add(10 * time.Second))
	nodes, err := p.Nodes(t.Context())
	if err != nil || len(nodes) != 1 {
		t.Fatalf("nodes %v, %v", nodes, err)
	}
	if age := time.Since(nodes[0].SeenAt); age < 9*time.Second || age > 15*time.Second {
		t.Errorf("seen %s ago, want about 10s", age)
	}
}
