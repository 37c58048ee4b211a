package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// TestApplyStopsAnywhere lets a publish in parts end before and after each of its commands: readers see nothing of it,
// the same publisher goes on at once, and another after TakeoverAfter.
func TestApplyStopsAnywhere(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		for nth := 1; nth <= 3; nth++ {
			for _, other := range []bool{false, true} {
				t.Run(fmt.Sprintf("part %d, another %t", nth, other), func(t *testing.T) {
					t.Parallel()
					f := newFixture(t, addr, redisstore.Options{})
					ctx := t.Context()
					w := newWorld(position(1, 1), keyDoc("a", `{}`))
					must(t, publish(ctx, f.Publisher, w))
					dying, cancel := context.WithCancel(ctx)
					n := 0
					f.client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
						if cmd.Name() == "evalsha" {
							if n++; n == nth {
								cancel()
							}
						}
					}))
					over := w.head.Base()
					dead := (&world{w.head, cloneDocs(w)}).next(many(1_200, 1)...)
					if err := f.Apply(dying, over, dead); err == nil {
						t.Fatal("Apply goes on without its context")
					}
					if head, err := f.Head(ctx); err != nil || head.Base() != over {
						t.Fatalf("the head is %+v, %v", head.Base(), err)
					}
					p := f.Publisher
					if other {
						p = f.other()
					}
					start := time.Now()
					d := w.next(append(many(1_200, 2), keyDoc("b", `{}`))...)
					for {
						err := p.Apply(ctx, over, d)
						if err == nil {
							break
						}
						if !errors.Is(err, snapshot.ErrBusy) || !other || time.Since(start) > 2*snapshot.TakeoverAfter {
							t.Fatalf("Apply after %s: %v", time.Since(start), err)
						}
						time.Sleep(50 * time.Millisecond)
					}
					holds(t, f.other(), w)
				})
			}
		}
	})
}

// TestADeadWaitIsNotShared: whoever was not told of a delta, because the connection is dead on which it waited, asks
// anew and is told at once.
func TestADeadWaitIsNotShared(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		w := newWorld(position(1, 1), keyDoc("a", `{}`))
		must(t, publish(ctx, f.Publisher, w))
		waits, dead := make(chan struct{}, 1), make(chan struct{})
		defer close(dead)
		var reads atomic.Int32
		f.client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
			if cmd.Name() == "xread" && reads.Add(1) == 1 {
				waits <- struct{}{}
				<-dead
			}
		}))
		waiting, end := context.WithCancelCause(ctx)
		untold := make(chan error, 1)
		go func() {
			_, err := f.Next(waiting, position(1, 1))
			untold <- err
		}()
		<-waits
		over := w.head.Base()
		must(t, f.other().Apply(ctx, over, w.next(keyDoc("b", `{}`))))
		end(snapshot.ErrUntold)
		if err := <-untold; !errors.Is(err, context.Canceled) {
			t.Errorf("Next after its context ended: %v", err)
		}
		d, err := f.Next(ctx, position(1, 1))
		if err != nil || d.Head.Position != w.head.Position {
			t.Errorf("asked anew, Next is %s, %v", d.Head.Position, err)
		}
	})
}

func cloneDocs(w *world) map[catalog.Kind]map[string]string {
	return newWorld(w.head.Position, w.whole()...).docs
}

// TestTakenOver: a publish that rests for longer than TakeoverAfter is over, even while the one
// that has taken its place
// is not finished: its next part goes nowhere, and the other's does.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		w := newWorld(position(1, 1), keyDoc("a", `{}`))
		must(t, publish(ctx, f.Publisher, w))
		over := w.head.Base()
		slow, taker := newResting(t, f, addr), newResting(t, f, addr)
		lost := (&world{w.head, cloneDocs(w)}).next(many(1_200, 1)...)
		d := w.next(many(1_200, 2)...)

		slow.armed.Store(true)
		slowDone := make(chan error, 1)
		go func() { slowDone <- slow.Apply(ctx, over, lost) }()
		<-slow.rests
		if err := taker.Apply(ctx, over, d); !errors.Is(err, snapshot.ErrBusy) {
			t.Fatalf("Apply during another: %v", err)
		}
		time.Sleep(snapshot.TakeoverAfter)
		taker.armed.Store(true)
		takerDone := make(chan error, 1)
		go func() { takerDone <- taker.Apply(ctx, over, d) }()
		<-taker.rests

		close(slow.goOn)
		if err := <-slowDone; !errors.Is(err, snapshot.ErrStale) {
			t.Errorf("the publish that was taken over: %v", err)
		}
		close(taker.goOn)
		must(t, <-takerDone)
		holds(t, f, w)
	})
}

// resting is a publisher that rests between the first and the second part of a publish, once it is armed.
type resting struct {
	*redisstore.Publisher
	armed       atomic.Bool
	rests, goOn chan struct{}
}

func newResting(t *testing.T, f *fixture, addr string) *resting {
	client := newClient(t, addr)
	r := &resting{rests: make(chan struct{}), goOn: make(chan struct{})}
	var n atomic.Int32
	client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
		if cmd.Name() == "evalsha" && r.armed.Load() && n.Add(1) == 2 {
			close(r.rests)
			<-r.goOn
		}
	}))
	r.Publisher = redisstore.New(client, &f.opts)
	return r
}

// TestLostAnswers: a command whose answer was lost runs again, and does its work once.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		var lost atomic.Int32
		f.client.AddHook(twice{&lost})
		w := newWorld(position(1, 1), keyDoc("a", `{}`))
		must(t, publish(ctx, f.Publisher, w))
		holds(t, f, w)
		follow(t, f, w, keyDoc("b", `{}`))
		follow(t, f, w, many(1_200, 1)...)
		must(t, f.Repair(ctx, w.head.Base(), many(1_200, 1)))
		holds(t, f, w)
		next := newWorld(position(2, 1), keyDoc("c", `{}`))
		must(t, publish(ctx, f.Publisher, next))
		holds(t, f, next)
		follow(t, f, next, keyDoc("d", `{}`))
		holds(t, f, next)
		if lost.Load() < 10 {
			t.Errorf("only %d scripts ran twice", lost.Load())
		}
	})
}

// twice is a hook that runs every script a second time, as a client does that did not hear the first answer.
type twice struct{ n *atomic.Int32 }

func (twice) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h twice) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") {
			if err := next(ctx, cmd); err != nil {
				return err
			}
			h.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (twice) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestStagingExpires: what a dead process leaves behind has a time to live,
// and what a living one stages is checked before it counts.
func TestStagingExpires(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		f.SetStagingTTL(300 * time.Millisecond)
		ctx := t.Context()
		w := newWorld(position(1, 1), many(700, 1)...)
		staged, err := f.Stage(ctx)
		must(t, err)
		must(t, staged.Add(ctx, w.whole()))
		keys := f.raw.Keys(ctx, f.tag+"staging:*").Val()
		if len(keys) != 1 {
			t.Fatalf("staged are %v", keys)
		}
		if ttl := f.raw.PTTL(ctx, keys[0]).Val(); ttl <= 0 || ttl > 300*time.Millisecond {
			t.Errorf("what is staged lives for %s", ttl)
		}
		must(t, f.raw.Del(ctx, keys[0]).Err())
		if err := staged.Publish(ctx, snapshot.Base{}, w.head); !errors.Is(err, snapshot.ErrCorrupt) {
			t.Errorf("Publish of what has expired: %v", err)
		}
		staged.Discard(ctx)
	})
}

// TestStagingIsKeptAlive: a whole takes as long as it takes, and what is live never expires.
func TestStagingIsKeptAlive(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		f.SetStagingTTL(2 * time.Second) // a machine may be busy for a while
		ctx := t.Context()
		w := newWorld(position(1, 1), many(700, 1)...)
		staged, err := f.Stage(ctx)
		must(t, err)
		defer staged.Discard(ctx)
		must(t, staged.Add(ctx, w.whole()))
		time.Sleep(5 * time.Second)
		must(t, staged.Publish(ctx, snapshot.Base{}, w.head))
		time.Sleep(2500 * time.Millisecond)
		holds(t, f, w)
	}
	onBoth(t, test)
	t.Run("miniredis with a clock", func(t *testing.T) {
		server := miniredis.RunT(t)
		server.ClockTTL(true)
		test(t, server.Addr())
	})
}

// TestLoadWhileOthersPublish lets a publish happen at each command of a Load.
func TestLoadWhileOthersPublish(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(t *testing.T, f *fixture, w *world){
		"a delta":          func(t *testing.T, f *fixture, w *world) { follow(t, f.other(), w, keyDoc("x", `{"v":2}`)) },
		"a delta in parts": func(t *testing.T, f *fixture, w *world) { follow(t, f.other(), w, many(1_200, 2)...) },
		"two deltas": func(t *testing.T, f *fixture, w *world) {
			follow(t, f.other(), w, keyDoc("x", `1`))
			follow(t, f.other(), w, keyDoc("x", `2`))
		},
		"a whole": func(t *testing.T, f *fixture, w *world) {
			*w = *newWorld(position(w.head.Position.Epoch+1, 1), many(800, 3)...)
			must(t, publish(t.Context(), f.other(), w))
		},
		"a part that stays": func(t *testing.T, f *fixture, w *world) { halfAPublish(t, f, w) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, addr string) {
				for nth := 1; nth <= 6; nth++ { // two heads, and a scan of each kind
					f := newFixture(t, addr, redisstore.Options{})
					w := newWorld(position(1, 1), many(700, 1)...)
					must(t, publish(t.Context(), f.Publisher, w))
					n := 0
					f.client.AddHook(before(func(context.Context, redis.Cmder) {
						if n++; n == nth {
							act(t, f, w)
						}
					}))
					l := new(loaded)
					if err := f.Load(t.Context(), l); err != nil {
						t.Errorf("published before command %d: Load: %v", nth, err)
					}
					if name == "a part that stays" {
						time.Sleep(350 * time.Millisecond) // that is closed in the background
					}
					if n < nth {
						t.Errorf("Load took %d commands", n)
					}
				}
			})
		})
	}
}

// halfAPublish writes the first parts of a publish, and the last ones a little later.
func halfAPublish(t *testing.T, f *fixture, w *world) {
	client := newClient(t, f.client.Options().Addr)
	slow := redisstore.New(client, &f.opts)
	var n atomic.Int32
	halfway, done := make(chan struct{}), make(chan struct{})
	client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
		if strings.HasPrefix(cmd.Name(), "eval") && n.Add(1) == 3 {
			close(halfway)
			time.Sleep(300 * time.Millisecond)
		}
	}))
	go func() {
		defer close(done)
		over := w.head.Base()
		if err := slow.Apply(context.Background(), over, w.next(many(1_200, 2)...)); err != nil {
			t.Errorf("Apply: %v", err)
		}
	}()
	<-halfway
	t.Cleanup(func() { <-done })
}

// TestLoadGivesUp: a publisher that replaces all the time does not hold a
// Load for ever.
func TestLoadGivesUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t, miniredis.RunT(t).Addr(), redisstore.Options{})
	epoch := catalog.Epoch(1)
	must(t, publish(t.Context(), f.Publisher, newWorld(position(epoch, 1), keyDoc("a", `{}`))))
	f.client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
		if cmd.Name() == "hscan" {
			epoch++
			must(t, publish(t.Context(), f.other(), newWorld(position(epoch, 1), keyDoc("a", `{}`))))
		}
	}))
	if err := f.Load(t.Context(), new(loaded)); !errors.Is(err, snapshot.ErrGap) {
		t.Errorf("Load: got %v, want ErrGap", err)
	}
}

// TestLoadOfAnAbandonedPublish: documents of a publish that was given up are damage in the end, and Load says so
// after OpenGrace.
func TestLoadOfAnAbandonedPublish(t *testing.T) {
	t.Parallel()
	f := newFixture(t, miniredis.RunT(t).Addr(), redisstore.Options{})
	ctx := t.Context()
	w := newWorld(position(1, 1), keyDoc("a", `{}`))
	must(t, publish(ctx, f.Publisher, w))
	dying, cancel := context.WithCancel(ctx)
	n := 0
	f.client.AddHook(before(func(_ context.Context, cmd redis.Cmder) {
		if cmd.Name() == "evalsha" {
			if n++; n == 2 {
				cancel()
			}
		}
	}))
	_ = f.Apply(dying, w.head.Base(), (&world{w.head, cloneDocs(w)}).next(many(1_200, 1)...))
	start := time.Now()
	if err := f.other().Load(ctx, new(loaded)); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Errorf("Load: %v", err)
	}
	if took := time.Since(start); took < snapshot.OpenGrace-time.Second ||
		took > snapshot.OpenGrace+5*time.Second {
		t.Errorf("Load gave up after %s", took)
	}
}

// TestWholeWinsInTheEnd: where others publish whenever a whole is about to be published, it keeps them from that
// for a moment.
func TestWholeWinsInTheEnd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		w := newWorld(position(1, 1), keyDoc("a", `{}`))
		must(t, publish(ctx, f.Publisher, w))
		next := newWorld(position(2, 1), keyDoc("b", `{}`))
		staged, err := f.Stage(ctx)
		must(t, err)
		defer staged.Discard(ctx)
		must(t, staged.Add(ctx, next.whole()))
		other := f.other()
		tries, kept := 0, 0
		for {
			base := w.head.Base()
			d := (&world{w.head, cloneDocs(w)}).next(keyDoc("c", fmt.Sprint(tries)))
			switch err := other.Apply(ctx, base, d); {
			case err == nil:
				follow := w.next(keyDoc("c", fmt.Sprint(tries)))
				if follow.Head.Base() != d.Head.Base() {
					t.Fatal("the test has lost its way")
				}
			case errors.Is(err, snapshot.ErrBusy):
				kept++
				base = w.head.Base()
			default:
				t.Fatalf("Apply: %v", err)
			}
			if tries++; tries > 10 {
				t.Fatal("a whole is overtaken for ever")
			}
			err := staged.Publish(ctx, base, next.head)
			if err == nil {
				break
			}
			if !errors.Is(err, snapshot.ErrStale) {
				t.Fatalf("Publish: %v", err)
			}
		}
		if kept != 1 {
			t.Errorf("others were kept from publishing %d times", kept)
		}
		holds(t, f, next)
		follow(t, other, next, keyDoc("d", `{}`))

		// One that nobody has put up like this keeps nobody.
		for _, fence := range []time.Duration{0, time.Hour} {
			must(t, f.raw.Set(ctx, f.tag+"fence", "x", fence).Err())
			follow(t, other, next, keyDoc("d", `{}`))
		}
		must(t, f.raw.Del(ctx, f.tag+"fence").Err())
	})
}

// TestScriptsAreSentAgain: a Redis that was restarted has forgotten them.
func TestScriptsAreSentAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, miniredis.RunT(t).Addr(), redisstore.Options{})
	w := newWorld(position(1, 1), keyDoc("a", `{}`))
	must(t, publish(t.Context(), f.Publisher, w))
	follow(t, f, w, keyDoc("b", `{}`))
	must(t, f.raw.ScriptFlush(t.Context()).Err())
	follow(t, f, w, keyDoc("c", `{}`))
	_, err := f.Report(t.Context(), snapshot.Node{ID: "n"})
	must(t, err)
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"a prefix with a brace": redisstore.CheckPrefix("a}b"),
		"no prefix":             redisstore.CheckPrefix(""),
		"a long prefix":         redisstore.CheckPrefix(strings.Repeat("a", 65)),
	} {
		if !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	must(t, redisstore.CheckPrefix("a.B_9:-"))
}

func TestReady(t *testing.T) {
	t.Parallel()
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
