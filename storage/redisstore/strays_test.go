package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// part is what somebody writes into the stream after a head at 7-3.
func part(change map[string]string) map[string]string {
	fields := map[string]string{
		"from": "7-3", "to": "7-4", "chain": strings.Repeat("ab", 16), "part": "1", "last": "0", "reset": "0",
		"changes": `[{"kind":"keys","key":"forged","op":"put","doc":"{}"}]`,
	}
	maps.Copy(fields, change)
	return fields
}

// closing is an entry that closes a publish from 7-3 to a position.
func closing(to snapshot.Position) map[string]string {
	fields := part(map[string]string{"to": to.String(), "last": "1", "bytes": "1"})
	maps.Copy(fields, newWorld(to, keyDoc("a", `{}`)).head.Fields())
	return fields
}

func (f *fixture) add(t testing.TB, id string, values map[string]string) {
	t.Helper()
	must(t, f.raw.XAdd(t.Context(), &redis.XAddArgs{Stream: f.tag + "changes", ID: id, Values: values}).Err())
}

// TestReaderBesideStrays: whatever follows the head and leads nowhere is no gap, costs a waiting reader a command a
// second or two while nobody clears it away, and does not keep it from what is published next.
func TestReaderBesideStrays(t *testing.T) {
	t.Parallel()
	for name, stray := range map[string]struct {
		epoch  int64
		id     int
		fields map[string]string
		times  int
	}{
		"nobody's":              {7, 99999999, map[string]string{"x": "y"}, 1},
		"of the end of all ids": {99999999999999, 0, map[string]string{"x": "y"}, 1},
		"of a later position":   {7, 7000, part(map[string]string{"from": "7-6", "to": "7-7"}), 1},
		"of later positions":    {7, 7000, part(map[string]string{"from": "7-6", "to": "7-7"}), 300},
		"a whole":               {8, 7000, part(map[string]string{"to": "8-7", "reset": "1"}), 1},
		"a part without a last": {7, 4000, part(nil), 1},
		"to its own position":   {7, 4000, closing(position(7, 3)), 1},
		"back":                  {7, 4000, closing(position(7, 2)), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, addr string) {
				f := newFixture(t, addr, redisstore.Options{})
				f.SetBlock(6 * time.Second)
				w := newWorld(position(7, 3), keyDoc("a", `{}`))
				must(t, publish(t.Context(), f.Publisher, w))
				var commands atomic.Int64
				f.client.AddHook(before(func(context.Context, redis.Cmder) { commands.Add(1) }))
				got := make(chan error, 1)
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				go func() {
					d, err := f.Next(ctx, w.head.Position)
					if err == nil && d.Head.Position != position(7, 4) {
						err = fmt.Errorf("a delta to %s", d.Head.Position)
					}
					got <- err
				}()
				_, err := f.raw.TxPipelined(t.Context(), func(p redis.Pipeliner) error { // the reader is told once
					for i := range stray.times {
						id := fmt.Sprintf("%d-%d", stray.epoch, stray.id+i)
						p.XAdd(t.Context(), &redis.XAddArgs{Stream: f.tag + "changes", ID: id, Values: stray.fields})
					}
					return nil
				})
				must(t, err)
				time.Sleep(8 * time.Second)
				if n := commands.Load(); n > 30 {
					t.Errorf("%d commands in 8 s", n)
				}
				other := f.other()
				for {
					err := other.Repair(t.Context(), w.head.Base(), nil)
					if err == nil {
						break
					}
					if !errors.Is(err, snapshot.ErrBusy) {
						t.Fatal(err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if n := f.raw.XLen(t.Context(), f.tag+"changes").Val(); n != 0 {
					t.Errorf("%d entries are left", n)
				}
				follow(t, other, w, keyDoc("a", `{"v":2}`))
				select {
				case err := <-got:
					must(t, err)
				case <-time.After(6 * time.Second):
					t.Fatal("the reader is not told what was published next")
				}
			})
		})
	}
}

// TestOpenPublishIsReadOnce: the parts of a publish that was given up are read once by who waits for the rest, for as
// long as nobody clears them away.
func TestOpenPublishIsReadOnce(t *testing.T) {
	t.Parallel()
	if realRedis == "" {
		t.Skip("EZ_TEST_REDIS_ADDR names no server: strays in the stream of a real Redis are NOT TESTED")
	}
	f := newFixture(t, realRedis, redisstore.Options{})
	client, _, received := metered(t, realRedis)
	opts := f.opts
	reader := redisstore.New(client, &opts)
	reader.SetBlock(2 * time.Second) // so that a read ends, and another goes on, several times
	w := newWorld(position(7, 3), keyDoc("a", `{}`))
	must(t, publish(t.Context(), f.Publisher, w))
	const size = 20_000
	changes := fmt.Sprintf(`[{"kind":"keys","key":"k","op":"put","doc":%q}]`, strings.Repeat("x", size))
	const parts = 40
	for i := range parts {
		f.add(t, fmt.Sprintf("7-4%03d", i), part(map[string]string{"part": fmt.Sprint(i + 1), "changes": changes}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
	defer cancel()
	if d, err := reader.Next(ctx, w.head.Position); err == nil || ctx.Err() == nil {
		t.Fatalf("a delta to %s: %v", d.Head.Position, err)
	}
	if n := received.Load(); n > parts*size*3/2 {
		t.Errorf("%d bytes were read of %d", n, parts*size)
	}
}

// never is a loader that takes nothing for what the head says.
type never struct{ loaded }

func (n *never) End(h snapshot.Head) error {
	return fmt.Errorf("the documents are not those of %s: %w", h.Position, snapshot.ErrCorrupt)
}

// TestLoadEndsBesideAStray: an entry that leads to where it begins makes no load go on for ever.
func TestLoadEndsBesideAStray(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		must(t, publish(t.Context(), f.Publisher, newWorld(position(7, 3), keyDoc("a", `{}`))))
		f.add(t, "7-4000", closing(position(7, 3)))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := f.Load(ctx, &never{}); !errors.Is(err, snapshot.ErrCorrupt) {
			t.Errorf("load: %v", err)
		}
	})
}
