package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// values are what a field may be spoilt with.
var values = map[string]string{
	"empty": "", "no number": "x", "negative": "-1", "a fraction": "0.5", "signed": "+1", "infinite": "inf",
	"not a number":             "nan",
	"too large for an integer": "99999999999999999999", "the largest integer": "9223372036854775807",
	"a line feed": "1\n2", "binary": "\xff\x00", "long": strings.Repeat("9", 300), "huge": strings.Repeat("x", 1<<20),
}

// TestSpoiltHead spoils each field of the head in each way. Head then says that it is damaged, or it is a head
// whose signature cannot be right; in either case it can be named, and a whole published over it, as
// the only thing that a relay does with such a head.
func TestSpoiltHead(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		epoch := catalog.Epoch(1)
		check := func(name string, spoil func() error) {
			t.Helper()
			w := newWorld(position(epoch, 1), keyDoc("a", `{}`), keyDoc("b", `{}`))
			must(t, publish(ctx, f.Publisher, w))
			must(t, spoil())
			head, err := f.Head(ctx)
			if err == nil && head.Equal(w.head) {
				t.Fatalf("%s: the head is as it was", name)
			}
			if err != nil && !errors.Is(err, snapshot.ErrCorrupt) && !errors.Is(err, snapshot.ErrNone) {
				t.Fatalf("%s: Head: %v", name, err)
			}
			// Whoever still builds on the head as it was has to look again.
			if head.Base() != w.head.Base() {
				d := (&world{w.head, w.docs}).next()
				if err := f.Apply(ctx, w.head.Base(), d); !errors.Is(err, snapshot.ErrStale) {
					t.Fatalf("%s: Apply over the head as it was: %v", name, err)
				}
			}
			epoch++
			next := newWorld(position(epoch, 1), keyDoc("a", `{}`))
			if err := publish(ctx, f.Publisher, next); err != nil {
				t.Fatalf("%s: a whole over the damaged head: %v", name, err)
			}
			holds(t, f, next)
			follow(t, f, next, keyDoc("c", `{}`))
			holds(t, f, next)
			epoch++
		}
		fields := []string{
			"format", "store", "epoch", "revision", "mark", "counts", "digest", "sig", "seal", "renderer", "updated_at",
			"forced",
		}
		for _, field := range fields {
			for name, value := range values {
				if (field == "sig" || field == "seal") && value == "" {
					continue // as it is
				}
				check(field+" is "+name, func() error { return f.raw.HSet(ctx, f.tag+"head", field, value).Err() })
			}
			if field != "sig" && field != "seal" {
				check(field+" is missing", func() error { return f.raw.HDel(ctx, f.tag+"head", field).Err() })
			}
		}
		for name, counts := range map[string]string{
			"negative": `{"keys":-1}`, "too large": `{"keys":99999999999999999999}`, "a string": `{"keys":"2"}`,
			"of a kind that is none": `{"head":1}`, "of no kind": `{"":1}`, "nested": `{"keys":{"a":1}}`, "a list": `[1]`,
		} {
			check("counts are "+name, func() error { return f.raw.HSet(ctx, f.tag+"head", "counts", counts).Err() })
		}
		check(
			"a field with a strange name",
			func() error { return f.raw.HSet(ctx, f.tag+"head", "Not-a name\n", "x").Err() },
		)
		check("a field more", func() error { return f.raw.HSet(ctx, f.tag+"head", "more", "x").Err() })
		check("a thousand fields more", func() error {
			var more []any
			for i := range 1000 {
				more = append(more, fmt.Sprint("more_", i), "x")
			}
			return f.raw.HSet(ctx, f.tag+"head", more...).Err()
		})
		check("only one field", func() error {
			must(t, f.raw.Del(ctx, f.tag+"head").Err())
			return f.raw.HSet(ctx, f.tag+"head", "stream_bytes", "5").Err()
		})
		check("no head", func() error { return f.raw.Del(ctx, f.tag+"head").Err() })
		check("a string", func() error { return f.raw.Set(ctx, f.tag+"head", "x", 0).Err() })
		check("a list", func() error {
			must(t, f.raw.Del(ctx, f.tag+"head").Err())
			return f.raw.LPush(ctx, f.tag+"head", "x").Err()
		})
	})
}

// TestSpoiltStreamBytes: the size of the stream steers nothing but the trimming, and heals.
func TestSpoiltStreamBytes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{StreamMaxBytes: 5_000})
		w := newWorld(position(1, 1), keyDoc("a", `{}`))
		must(t, publish(t.Context(), f.Publisher, w))
		for name, value := range values {
			must(t, f.raw.HSet(t.Context(), f.tag+"head", "stream_bytes", value).Err())
			holds(t, f, w)
			for range 20 {
				follow(t, f, w, keyDoc("a", fmt.Sprintf(`{"is":%q}`, name)))
			}
			holds(t, f, w)
			got, err := strconv.Atoi(f.hash(t, "head")["stream_bytes"].(string))
			if err != nil || got < 100 || got > 5_000 {
				t.Errorf("%s: the head says %d bytes, %v", name, got, err)
			}
			if n := f.raw.XLen(t.Context(), f.tag+"changes").Val(); n < 1 ||
				n > 60 { // 20 fit, and as many as a number that is too small hides
				t.Errorf("%s: the stream has %d entries", name, n)
			}
		}
	})
}

// TestSpoiltStream: whatever is done to the stream, publishing goes on within seconds and at the next position,
// readers who are not behind get the delta, and others a gap.
func TestSpoiltStream(t *testing.T) {
	t.Parallel()
	const highest = "18446744073709551615-18446744073709551615"
	add := func(id string, values ...string) func(ctx context.Context, c *redis.Client, stream string) error {
		return func(ctx context.Context, c *redis.Client, stream string) error {
			return c.XAdd(ctx, &redis.XAddArgs{Stream: stream, ID: id, Values: values}).Err()
		}
	}
	forged := func(change map[string]string) func(ctx context.Context, c *redis.Client, stream string) error {
		fields := map[string]string{
			"from": "7-3", "to": "7-4", "chain": strings.Repeat("ab", 16), "part": "1", "last": "0", "reset": "0",
			"changes": `[{"kind":"keys","key":"forged","op":"put","doc":"{}"}]`,
		}
		for name, value := range change {
			fields[name] = value
		}
		var values []string
		for name, value := range fields {
			values = append(values, name, value)
		}
		return add("7-4000", values...)
	}
	cases := map[string]func(ctx context.Context, c *redis.Client, stream string) error{
		"is gone": func(ctx context.Context, c *redis.Client,
			s string) error {
			return c.Del(ctx, s).Err()
		},
		"is a string": func(ctx context.Context, c *redis.Client,
			s string) error {
			return c.Set(ctx, s, "x", 0).Err()
		},
		"has lost its end": func(ctx context.Context, c *redis.Client,
			s string) error {
			return c.XDel(ctx, s, "7-3999").Err()
		},
		"has lost its entries": func(ctx context.Context, c *redis.Client,
			s string) error {
			return c.XTrimMaxLen(ctx, s, 0).Err()
		},
		"has an entry that is nobody's": add("7-99999999", "x", "y"),
		"has an entry of a later epoch": add("99999999999999-0", "x", "y"),
		"has the last of all ids":       add(highest, "x", "y"),
		"had the last of all ids": func(ctx context.Context, c *redis.Client, s string) error {
			must2(add(highest, "x", "y")(ctx, c, s))
			return c.XDel(ctx, s, highest).Err()
		},
		"has an open part":               forged(nil),
		"has a part of no number":        forged(map[string]string{"part": "x"}),
		"has a part of a huge number":    forged(map[string]string{"part": "99999999999999999999"}),
		"has a part of a negative one":   forged(map[string]string{"part": "-1"}),
		"has a second part":              forged(map[string]string{"part": "2"}),
		"has a part without a chain":     forged(map[string]string{"chain": ""}),
		"has a part whose changes are x": forged(map[string]string{"changes": "x"}),
		"has a part with an unknown op": forged(
			map[string]string{"changes": `[{"kind":"keys","key":"k","op":"melt","doc":"{}"}]`},
		),
		"has a last part without a head": forged(map[string]string{"last": "1"}),
		"has a part from nowhere":        forged(map[string]string{"from": "x"}),
		"has a part from before":         forged(map[string]string{"from": "7-1"}),
		"has a part to nowhere":          forged(map[string]string{"to": "y"}),
	}
	onBoth(t, func(t *testing.T, addr string) {
		for name, spoil := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, addr, redisstore.Options{})
				ctx := t.Context()
				w := newWorld(position(7, 1), keyDoc("a", `{}`))
				must(t, publish(ctx, f.Publisher, w))
				follow(t, f, w, keyDoc("b", `{}`))
				follow(t, f, w, keyDoc("c", `{}`))
				here := w.head.Position
				waited := make(chan error, 1)
				go func() {
					_, err := nextSoon(t, f.other(), here)
					waited <- err
				}()
				time.Sleep(20 * time.Millisecond)
				must(t, spoil(ctx, f.raw, f.tag+"changes"))
				holds(t, f, w)

				over := w.head.Base()
				d := w.next(keyDoc("d", `{}`))
				for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
					err := f.Apply(ctx, over, d)
					if err == nil {
						break
					}
					if !errors.Is(err, snapshot.ErrBusy) {
						t.Fatalf("Apply: %v", err)
					}
					if time.Since(start) > 2*snapshot.TakeoverAfter {
						t.Fatalf("publishing still stands after %s", time.Since(start))
					}
				}
				holds(t, f, w)
				got, err := nextSoon(t, f, here)
				if err != nil || got.Head.Base() != d.Head.Base() || len(got.Changes) != 1 {
					t.Errorf("Next from where the head was: %+v, %v", got, err)
				}
				if err := <-waited; err != nil {
					t.Errorf("Next that waited: %v", err)
				}
				follow(t, f, w, keyDoc("e", `{}`))
				holds(t, f, w)
			})
		}
	})
}

func must2(err error) {
	if err != nil {
		panic(err)
	}
}

// TestSpoiltDocuments: Load and Apply notice, and Repair mends.
func TestSpoiltDocuments(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		for name, spoil := range map[string]func(ctx context.Context, c *redis.Client, tag string) error{
			"a document is gone": func(ctx context.Context, c *redis.Client, tag string) error {
				return c.HDel(ctx, tag+"keys", "a").Err()
			},
			"a document too many": func(ctx context.Context, c *redis.Client, tag string) error {
				return c.HSet(ctx, tag+"models", "x", "y").Err()
			},
			"a document is another": func(ctx context.Context, c *redis.Client, tag string) error {
				return c.HSet(ctx, tag+"keys", "a", `{"x":1}`).Err()
			},
			"a document is huge": func(ctx context.Context, c *redis.Client, tag string) error {
				return c.HSet(ctx, tag+"keys", "a", values["huge"]).Err()
			},
			"a document is binary": func(ctx context.Context, c *redis.Client, tag string) error {
				return c.HSet(ctx, tag+"keys", "\xff", "\xff").Err()
			},
			"all keys are gone": func(ctx context.Context, c *redis.Client,
				tag string) error {
				return c.Del(ctx, tag+"keys").Err()
			},
			"the keys are no hash": func(ctx context.Context, c *redis.Client, tag string) error {
				return c.Set(ctx, tag+"keys", "x", 0).Err()
			},
			"the models are no hash": func(ctx context.Context, c *redis.Client, tag string) error {
				return c.Set(ctx, tag+"models", "x", 0).Err()
			},
			"nothing is as it was": func(ctx context.Context, c *redis.Client, tag string) error {
				return c.HSet(ctx, tag+"keys", "a", "1", "b", "2").Err()
			},
			"ten thousand are surplus": func(ctx context.Context, c *redis.Client, tag string) error {
				var more []any
				for i := range 10_000 {
					more = append(more, fmt.Sprint("more-", i), "x")
				}
				return c.HSet(ctx, tag+"keys", more...).Err()
			},
		} {
			f := newFixture(t, addr, redisstore.Options{})
			ctx := t.Context()
			w := newWorld(position(1, 1), keyDoc("a", `{}`), keyDoc("b", `{}`))
			must(t, publish(ctx, f.Publisher, w))
			must(t, spoil(ctx, f.raw, f.tag))
			if err := f.Load(ctx, new(loaded)); !errors.Is(err, snapshot.ErrCorrupt) {
				t.Errorf("%s: Load: %v", name, err)
			}
			if head, err := f.Head(ctx); err != nil || head.Base() != w.head.Base() {
				t.Errorf("%s: Head: %v", name, err)
			}
			// What a relay does: it compares what is there with what there should be.
			var mend []snapshot.Change
			for _, kind := range snapshot.Kinds() {
				seen := map[string]bool{}
				for d, err := range f.Documents(ctx, kind) {
					if err != nil {
						if !errors.Is(err, snapshot.ErrCorrupt) {
							t.Errorf("%s: Documents: %v", name, err)
						}
						break
					}
					want, ok := w.docs[kind][d.Key]
					if seen[d.Key] = true; !ok {
						mend = append(mend, snapshot.Change{Kind: kind, Key: d.Key})
					} else if want != string(d.Doc) {
						mend = append(mend, snapshot.Change{Kind: kind, Key: d.Key, Doc: []byte(want)})
					}
				}
				for key, doc := range w.docs[kind] {
					if !seen[key] {
						mend = append(mend, snapshot.Change{Kind: kind, Key: key, Doc: []byte(doc)})
					}
				}
				if len(w.docs[kind]) == 0 && len(seen) == 0 { // a key of another type: nothing is there
					mend = append(mend, snapshot.Change{Kind: kind, Key: "none"})
				}
			}
			mend = withoutBinary(mend)
			must(t, f.Repair(ctx, w.head.Base(), mend))
			if name == "a document is binary" { // whose name cannot be sent: the whole is published anew
				must(t, publish(ctx, f.Publisher, func() *world { w.next(); return w }()))
			}
			holds(t, f, w)
			follow(t, f, w, keyDoc("c", `{}`))
			holds(t, f, w)
		}
	})
}

func withoutBinary(changes []snapshot.Change) (valid []snapshot.Change) {
	for _, c := range changes {
		if snapshot.CheckChanges([]snapshot.Change{c}) == nil {
			valid = append(valid, c)
		}
	}
	return valid
}

// TestApplyNoticesDocuments: with a number of documents that is not the head's, nothing is published.
func TestApplyNoticesDocuments(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		w := newWorld(position(1, 1), keyDoc("a", `{}`), keyDoc("b", `{}`))
		must(t, publish(ctx, f.Publisher, w))
		for name, spoil := range map[string]error{
			"gone":    f.raw.HDel(ctx, f.tag+"keys", "a").Err(),
			"no hash": f.raw.Set(ctx, f.tag+"models", "x", 0).Err(),
		} {
			must(t, spoil)
			d := (&world{w.head, w.docs}).next(keyDoc("c", `{}`))
			delete(w.docs[catalog.KindKey], "c")
			before := f.dump(t)
			if err := f.Apply(ctx, w.head.Base(), d); !errors.Is(err, snapshot.ErrCorrupt) {
				t.Errorf("%s: Apply: %v", name, err)
			}
			if after := f.dump(t); after != before {
				t.Errorf("%s: Apply that was refused wrote something", name)
			}
		}
	})
}

// TestSpoiltBeat: what cannot be read is none, and the next one is written over it.
func TestSpoiltBeat(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		good := snapshot.Beat{Store: "store", Position: position(1, 2), At: time.Unix(1_790_000_000, 0).UTC()}
		for name, spoil := range map[string]func() error{
			"no JSON":    func() error { return f.raw.Set(ctx, f.tag+"beat", "x", 0).Err() },
			"no object":  func() error { return f.raw.Set(ctx, f.tag+"beat", "[1]", 0).Err() },
			"no strings": func() error { return f.raw.Set(ctx, f.tag+"beat", `{"position":1}`, 0).Err() },
			"no time":    func() error { return f.raw.Set(ctx, f.tag+"beat", `{"position":"1-2","at":"soon"}`, 0).Err() },
			"huge":       func() error { return f.raw.Set(ctx, f.tag+"beat", values["huge"], 0).Err() },
			"huge and OK": func() error {
				return f.raw.Set(ctx, f.tag+"beat", string(good.Encode())+strings.Repeat(" ", 1<<20), 0).Err()
			},
			"a hash": func() error {
				must(t, f.raw.Del(ctx, f.tag+"beat").Err())
				return f.raw.HSet(ctx, f.tag+"beat", "a", "b").Err()
			},
		} {
			must(t, spoil())
			if b, err := f.LastBeat(ctx); err != nil || !b.Equal(snapshot.Beat{}) {
				t.Errorf("%s: LastBeat: %+v, %v", name, b, err)
			}
			a, err := f.Report(ctx, snapshot.Node{ID: "n"})
			if err != nil || !a.Beat.Equal(snapshot.Beat{}) {
				t.Errorf("%s: the answer to a report: %+v, %v", name, a, err)
			}
			must(t, f.SetBeat(ctx, good))
			if b, err := f.LastBeat(ctx); err != nil || !b.Equal(good) {
				t.Errorf("%s: LastBeat after the next one: %+v, %v", name, b, err)
			}
		}
	})
}

// TestSpoiltNodes: reports that make no sense hold up nobody, and go.
func TestSpoiltNodes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		ctx := t.Context()
		now := float64(time.Now().Unix())
		put := func(id, text string, score float64) {
			must(t, f.raw.HSet(ctx, f.tag+"nodes", id, text).Err())
			must(t, f.raw.ZAdd(ctx, f.tag+"nodes:seen", redis.Z{Score: score, Member: id}).Err())
		}
		good := func(id string, seen float64) string {
			return fmt.Sprintf(`{"seen_at":%f,"id":%q,"position":"1-2"}`, seen, id)
		}
		_, err := f.Report(ctx, snapshot.Node{ID: "honest"})
		must(t, err)
		put("no JSON", "x", now)
		put("no object", "[1]", now)
		put("no position", `{"id":"no position"}`, now)
		put("huge position", `{"id":"huge position","position":"99999999999999999999-1"}`, now)
		put("another's", good("honest", now), now)
		put("huge", `{"id":"huge","position":"1-2","error":"`+values["huge"]+`"}`, now)
		put("from the future", good("from the future", now+3600), now+3600)
		put("for ever", good("for ever", now), 1e18)
		put("from the beginning", good("from the beginning", now), -1e18)
		must(t, f.raw.ZAdd(ctx, f.tag+"nodes:seen", redis.Z{Score: now, Member: "without a report"}).Err())
		must(t, f.raw.HSet(ctx, f.tag+"nodes", "without an index", good("without an index", now)).Err())
		// These are as other programs may write them.
		put("seen later", good("seen later", now+3600), now)
		put("seen in words", `{"position":"1-2","id":"seen in words","seen_at":"soon"}`, now)
		put("seen never", `{"position":"1-2","id":"seen never"}`, now)
		put("seen text", fmt.Sprintf(`{"position":"1-2","id":"seen text","seen_at":"%f"}`, now-7), now)

		want := map[string]bool{
			"honest":        true,
			"seen later":    true,
			"seen in words": true,
			"seen never":    true,
			"seen text":     true,
		}
		for range 2 {
			list, err := f.Nodes(ctx, snapshot.NodeQuery{})
			must(t, err)
			for _, n := range list.Nodes {
				if !want[n.ID] {
					t.Errorf("Nodes has %+v", n)
				}
				if n.SeenAt.After(list.Now.Add(time.Second)) || list.Now.Sub(n.SeenAt) > time.Minute {
					t.Errorf("%s was seen at %s, it is %s", n.ID, n.SeenAt, list.Now)
				}
			}
			if len(list.Nodes) != len(want) {
				t.Errorf("Nodes has %d, want %d", len(list.Nodes), len(want))
			}
		}
		if fields := f.raw.HLen(ctx, f.tag+"nodes").Val(); fields != int64(len(want)) {
			t.Errorf("%d reports are kept, want %d: %v", fields, len(want), f.raw.HKeys(ctx, f.tag+"nodes").Val())
		}
		if indexed := f.raw.ZCard(ctx, f.tag+"nodes:seen").Val(); indexed != int64(len(want)) {
			t.Errorf("%d reports are indexed, want %d", indexed, len(want))
		}
		a, err := f.Report(
			ctx,
			snapshot.Node{ID: "seen later", Position: position(5, 5)},
		) // it has lied, and is right now
		if err != nil || a.Live != len(want) {
			t.Errorf("Report: %+v, %v, want %d live nodes", a, err, len(want))
		}
		for name, spoil := range map[string]func(key string) error{
			"a string": func(key string) error { return f.raw.Set(ctx, key, "x", 0).Err() },
			"a list":   func(key string) error { return f.raw.LPush(ctx, key, "x").Err() },
		} {
			for _, key := range []string{"nodes", "nodes:seen"} {
				must(t, f.raw.Del(ctx, f.tag+key).Err())
				must(t, spoil(f.tag+key))
				if list, err := f.Nodes(ctx, snapshot.NodeQuery{}); err != nil || len(list.Nodes) > 0 {
					t.Errorf("%s is %s: Nodes: %+v, %v", key, name, list, err)
				}
				if a, err := f.Report(ctx, snapshot.Node{ID: "again"}); err != nil || a.Live != 1 {
					t.Errorf("%s is %s: Report: %+v, %v", key, name, a, err)
				}
				if list, err := f.Nodes(ctx, snapshot.NodeQuery{}); err != nil || len(list.Nodes) != 1 {
					t.Errorf("%s was %s: Nodes: %+v, %v", key, name, list, err)
				}
			}
		}
	})
}

// TestCrowded: beyond the bound the longest unseen goes, and when that was live, the list says so.
func TestCrowded(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		f := newFixture(t, addr, redisstore.Options{})
		f.SetMaxNodes(5)
		ctx := t.Context()
		for i := range 5 {
			_, err := f.Report(ctx, snapshot.Node{ID: fmt.Sprint("n", i)})
			must(t, err)
		}
		age(t, f.raw, f.tag, snapshot.Liveness+time.Second)
		list, err := f.Nodes(ctx, snapshot.NodeQuery{})
		must(t, err)
		if list.Crowded || list.Total != 5 {
			t.Fatalf("five nodes: %+v", list)
		}
		for i := range 5 { // take the place of those that are lost
			_, err := f.Report(ctx, snapshot.Node{ID: fmt.Sprint("m", i)})
			must(t, err)
		}
		if list, err = f.Nodes(ctx, snapshot.NodeQuery{}); err != nil || list.Crowded || list.Total != 5 ||
			list.Nodes[0].ID != "m0" {
			t.Fatalf("after lost nodes had to go: %+v, %v", list, err)
		}
		_, err = f.Report(ctx, snapshot.Node{ID: "one too many"})
		must(t, err)
		if list, err = f.Nodes(ctx, snapshot.NodeQuery{}); err != nil || !list.Crowded || list.Total != 5 ||
			list.Nodes[0].ID != "m1" {
			t.Fatalf("after a live node had to go: %+v, %v", list, err)
		}
		if ttl := f.raw.TTL(ctx, f.tag+"nodes:crowded").Val(); ttl <= 0 || ttl > snapshot.Liveness {
			t.Errorf("that is said for %s", ttl)
		}
	})
}
