package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// regions is an origin, and a region to which a mirror carries what it has.
type regions struct {
	*stage
	t      *testing.T
	region *memstore.Publisher
	mirror *snapshot.Mirror
}

func newRegions(t *testing.T) *regions {
	r := &regions{stage: newStage(t), t: t, region: memstore.NewPublisher()}
	r.now.put(snapshot.Change{Kind: "teams", Key: "1", Doc: []byte("of a later version")})
	r.now.move(1, 2)
	r.put(r.now)
	return r
}

// carry runs a mirror until what it returns is called.
func (r *regions) carry(keys *snapshot.Keys) (stop func()) {
	m := snapshot.NewMirror(r.stage, r.region, &snapshot.MirrorOptions{Keys: keys, Logger: quiet()})
	r.mirror = m
	stop = running(r.t, m.Run)
	r.t.Cleanup(stop)
	return stop
}

// same fails the test unless the region has what the origin has, byte for byte.
func (r *regions) same() {
	r.t.Helper()
	read := func(p *memstore.Publisher) (snapshot.Fields, map[string]string) {
		c := &collected{}
		if err := p.Load(context.Background(), c); err != nil {
			r.t.Fatal(err)
		}
		docs := map[string]string{}
		for _, d := range c.changes {
			docs[string(d.Kind)+"/"+d.Key] = string(d.Doc)
		}
		return c.head.Fields(), docs
	}
	wantHead, want := read(r.Publisher)
	gotHead, got := read(r.region)
	if diff := cmp.Diff(wantHead, gotHead) + cmp.Diff(want, got); diff != "" {
		r.t.Errorf("the region is not as the origin (-origin +region): %+v\n%s", r.mirror.Status(), diff)
	}
}

func TestMirrorCarries(t *testing.T) {
	for name, list := range map[string]string{"with keys": keyA, "without": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegions(t)
				var keys *snapshot.Keys
				if list != "" {
					keys = mustKeys(t, list)
				}
				r.carry(keys)
				time.Sleep(time.Second)
				r.same()
				w := watch(t, r.region, snapshot.WatcherOptions{Name: "there"})
				<-w.Ready()
				for i := range 5 {
					r.delta(fmt.Sprint(i))
					r.change(snapshot.Change{Kind: "teams", Key: fmt.Sprint(i), Doc: []byte("x")}, keyGone(fmt.Sprint(i-1)))
					synctest.Wait()
					r.same()
				}
				serves(t, w, "first", "4")
				if s := r.mirror.Status(); s.Wholes != 1 || s.Deltas != 10 || w.Status().Loads != 1 {
					t.Errorf("mirror %+v, watcher %+v", s, w.Status())
				}
				r.replace(2, 1, "first", "new epoch")
				time.Sleep(3 * time.Second)
				r.same()
				serves(t, w, "first", "new epoch")
			})
		})
	}
}

// A wait at the source that is never told of a delta, because its connection is dead, keeps a region behind for
// seconds only, and makes nobody load.
func TestMirrorAsksAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegions(t)
		r.set(func() { r.stuck = 1 })
		r.carry(r.keys)
		time.Sleep(time.Second)
		w := watch(t, r.region, snapshot.WatcherOptions{})
		<-w.Ready()
		r.delta("second")
		time.Sleep(7 * time.Second)
		r.same()
		serves(t, w, "first", "second")
		if s := r.mirror.Status(); s.Wholes != 1 || s.Deltas != 1 || w.Status().Loads != 1 {
			t.Errorf("mirror %+v, watcher %+v", s, w.Status())
		}
	})
}

// cutRegion is a region whose connection is cut while something is written.
type cutRegion struct {
	*memstore.Publisher
	cuts int // that come
	done int // 1 when they come after what was asked for was done
}

func (c *cutRegion) Apply(ctx context.Context, over snapshot.Base, d snapshot.Delta) error {
	if c.cuts == 0 {
		return c.Publisher.Apply(ctx, over, d)
	}
	c.cuts--
	if c.done == 1 {
		_ = c.Publisher.Apply(ctx, over, d)
	}
	return errFault
}

// A region whose connection is cut while a delta is written there needs no whole, for which
// all its data planes would load.
func TestMirrorIsCutWhileItWrites(t *testing.T) {
	for cuts := range 4 {
		for done := range 2 {
			synctest.Test(t, func(t *testing.T) {
				r := newRegions(t)
				region := &cutRegion{Publisher: r.region, done: done}
				m := snapshot.NewMirror(r.stage, region, &snapshot.MirrorOptions{Keys: r.keys, Logger: quiet()})
				r.mirror = m
				t.Cleanup(running(t, m.Run))
				time.Sleep(time.Second)
				w := watch(t, r.region, snapshot.WatcherOptions{})
				<-w.Ready()
				region.cuts = cuts
				r.delta("second")
				time.Sleep(3 * time.Second)
				r.same()
				serves(t, w, "first", "second")
				if s := m.Status(); s.Wholes != 1 || w.Status().Loads != 1 {
					t.Errorf("%d cuts, done %d: mirror %+v, watcher %+v", cuts, done, s, w.Status())
				}
			})
		}
	}
}

// A mirror that starts anew over a region that is as it left it, or behind, makes nobody load.
func TestMirrorStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegions(t)
		stop := r.carry(nil)
		time.Sleep(time.Second)
		w := watch(t, r.region, snapshot.WatcherOptions{})
		<-w.Ready()
		stop()
		stop = r.carry(nil)
		time.Sleep(time.Second)
		r.same()
		stop()
		for i := range 1500 { // more than the origin keeps deltas of
			r.delta(fmt.Sprint(i % 10))
			r.change(keyGone(fmt.Sprint(i % 10)))
		}
		r.delta("last")
		r.carry(nil)
		time.Sleep(5 * time.Second)
		r.same()
		serves(t, w, "first", "last")
		if s := w.Status(); s.Loads != 1 {
			t.Errorf("a data plane loaded %d times", s.Loads)
		}
	})
}

// Whatever is spoilt in the region is as it was within 10 s.
func TestMirrorRepairs(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(c *memstore.Contents)
	}{
		{"a document", func(c *memstore.Contents) { c.Docs["keys"][catalog.HashToken("first")] = []byte("{}") }},
		{"a document missing", func(c *memstore.Contents) { delete(c.Docs["keys"], catalog.HashToken("first")) }},
		{"a document too many", func(c *memstore.Contents) { c.Docs["keys"][strings.Repeat("0", 64)] = []byte("{}") }},
		{"a kind gone", func(c *memstore.Contents) { delete(c.Docs, "teams") }},
		{"a field of the head", func(c *memstore.Contents) { c.Head["mark"] = strings.Repeat("f", 32) }},
		{"a field that cannot be read", func(c *memstore.Contents) { c.Head["counts"] = "?" }},
		{"a signature", func(c *memstore.Contents) { c.Head["sig"] = strings.Repeat("0", 64) }},
		{"another catalog", func(c *memstore.Contents) { c.Head["store"] = "evil" }},
		{"a later position", func(c *memstore.Contents) { c.Head["revision"] = "9223372036854775807" }},
		{"the head gone", func(c *memstore.Contents) { c.Head = nil }},
		{"all gone", func(c *memstore.Contents) { *c = memstore.Contents{Docs: map[catalog.Kind]map[string][]byte{}} }},
		{"a stray entry", func(c *memstore.Contents) { c.Stray = "x" }},
		{"no deltas", func(c *memstore.Contents) { c.Deltas = nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegions(t)
				r.carry(r.keys)
				time.Sleep(time.Second)
				w := watch(t, r.region, snapshot.WatcherOptions{})
				<-w.Ready()
				r.region.Tamper(tc.spoil)
				time.Sleep(10 * time.Second)
				if tc.name == "a stray entry" {
					r.delta("second")
					time.Sleep(5 * time.Second)
				}
				r.same()
				r.delta("third")
				time.Sleep(5 * time.Second)
				r.same()
				if got := r.mirror.Status(); got.Error != "" {
					t.Errorf("status %+v", got)
				}
				if w.View().Position() != r.now.head.Position {
					t.Errorf("a data plane is at %s: %+v", w.View().Position(), w.Status())
				}
			})
		})
	}
}

// Damage beyond what is mended by name.
func TestMirrorRepairsMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegions(t)
		var many []snapshot.Change
		for i := range 12_000 {
			many = append(many, snapshot.Change{Kind: "teams", Key: fmt.Sprint(i), Doc: []byte("x")})
		}
		r.change(many...)
		r.carry(r.keys)
		time.Sleep(time.Second)
		r.region.Tamper(func(c *memstore.Contents) {
			for key := range c.Docs["teams"] {
				c.Docs["teams"][key] = []byte("y")
			}
		})
		time.Sleep(10 * time.Second)
		r.same()
	})
}

func TestMirrorWaitsForItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegions(t)
		r.replace(2, 5, "first", "second")
		r.carry(r.keys)
		time.Sleep(time.Second)
		r.rewind() // an old backup
		r.replace(2, 3, "first")
		w := watch(t, r.region, snapshot.WatcherOptions{})
		time.Sleep(time.Minute)
		serves(t, w, "first", "second")
		if s := r.mirror.Status(); s.Position.Revision != 5 {
			t.Errorf("status %+v", s)
		}
		r.carry(r.keys)()
		stop := r.carry(r.keys)
		time.Sleep(10 * time.Second)
		if s := r.mirror.Status(); !strings.Contains(s.Error, "before what the region has") {
			t.Errorf("status %+v", s)
		}
		stop()
		r.carry(r.keys)
		r.replace(3, 1, "third")
		time.Sleep(10 * time.Second)
		r.same()
		serves(t, w, "third")
	})
}

// With keys a mirror passes on what is signed, and nothing else.
func TestMirrorWithKeysVerifies(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(c *memstore.Contents)
	}{
		{"a forged head", func(c *memstore.Contents) { c.Head["revision"] = "99" }},
		{"a head without signature", func(c *memstore.Contents) { c.Head["sig"], c.Head["seal"] = "", "" }},
		{"a document that was not signed", func(c *memstore.Contents) {
			c.Docs["keys"][catalog.HashToken(
				"first")] = []byte("{}")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegions(t)
				r.Tamper(tc.spoil)
				r.carry(r.keys)
				time.Sleep(10 * time.Second)
				if h, err := r.region.Head(t.Context()); !errors.Is(err, snapshot.ErrNone) {
					t.Errorf("it was carried: %v", h)
				}
				if s := r.mirror.Status(); s.Error == "" {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

// A delta whose head nobody signed is not carried; what the source has is.
func TestMirrorWithKeysVerifiesDeltas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegions(t)
		r.carry(r.keys)
		time.Sleep(time.Second)
		r.set(func() {
			r.spoilNext = func(d *snapshot.Delta) {
				f := d.Head.Fields()
				f["mark"] = strings.Repeat("f", 32)
				d.Head, _ = snapshot.ParseHead(f)
			}
		})
		r.delta("second")
		time.Sleep(5 * time.Second)
		r.same()
	})
}

// strayDelta has a delta at one position which is not published.
type strayDelta struct {
	*stage
	delta snapshot.Delta
	loads atomic.Int64
}

func (s *strayDelta) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	if after == s.delta.From {
		return s.delta, nil
	}
	return s.stage.Next(ctx, after)
}

func (s *strayDelta) Load(ctx context.Context, l snapshot.Loader) error {
	if s.loads.Add(1) > 100 { // they come without a pause
		<-ctx.Done()
		return ctx.Err()
	}
	return s.stage.Load(ctx, l)
}

// A delta that nobody signed, and that stays in the stream, is told of. It has the whole carried once, and then
// only when the source has moved.
func TestMirrorWithKeysPassesAStrayDelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegions(t)
		head := ok[snapshot.Head](t)(r.stage.Head(t.Context()))
		stray := head.Fields()
		stray["revision"] = "77"
		src := &strayDelta{stage: r.stage, delta: snapshot.Delta{
			From: head.Position, Head: ok[snapshot.Head](t)(snapshot.ParseHead(stray)),
		}}
		m := snapshot.NewMirror(src, r.region, &snapshot.MirrorOptions{Keys: r.keys, Logger: quiet()})
		r.mirror = m
		t.Cleanup(running(t, m.Run))
		time.Sleep(time.Minute)
		r.same()
		if loads := src.loads.Load(); loads > 2 {
			t.Errorf("the whole was loaded %d times, want 2", loads)
		}
		if s := m.Status(); s.Error == "" {
			t.Error("the status has no error")
		}
		r.delta("second")
		time.Sleep(2 * time.Second)
		r.same()
		r.delta("third")
		time.Sleep(time.Second)
		r.same()
		if s := m.Status(); s.Error != "" || src.loads.Load() > 3 {
			t.Errorf("the status is %+v after %d loads", s, src.loads.Load())
		}
	})
}

// A mirror without keys carries what somebody has put into the stream of its source. That keeps its region from
// nothing for longer than a failover of the source may take, as long as control planes are alive there.
func TestMirrorWithoutKeysOutlastsAForgedDelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegions(t)
		r.carry(nil)
		time.Sleep(time.Second)
		r.set(func() {
			r.spoilNext = func(d *snapshot.Delta) {
				f := d.Head.Fields()
				f["revision"] = fmt.Sprint(1 << 50)
				d.Head, _ = snapshot.ParseHead(f)
				r.spoilNext = nil
			}
		})
		r.delta("second")
		synctest.Wait()
		if at := r.mirror.Status().Position; at.Revision != 1<<50 {
			t.Fatalf("the forged delta was not carried, the region is at %s", at)
		}
		time.Sleep(time.Minute)
		if at := ok[snapshot.Head](t)(r.region.Head(t.Context())).Position; at.Revision != 1<<50 {
			t.Errorf("while no control plane was alive the region went back to %s", at)
		}
		r.beats()
		time.Sleep(25 * time.Second)
		r.same()
		r.delta("third")
		time.Sleep(time.Second)
		r.same()
	})
}

// The origin knows what the region's data planes have applied, and is not kept waiting by those that left.
func TestMirrorPassesReportsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegions(t)
		stop := r.beats()
		r.carry(nil)
		w := snapshot.NewWatcher(r.region, &snapshot.WatcherOptions{Name: "there", Keys: r.keys, MaxStale: 15 * time.Second})
		other := watch(t, r.region, snapshot.WatcherOptions{Name: "other"})
		fleet := snapshot.NewFleet(r.Publisher, r.keys)
		run(t, w, func() {
			<-w.Ready()
			for i := range 5 {
				r.delta(fmt.Sprint(i))
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				s, err := fleet.Applied(ctx, r.now.head, catalog.KindKey)
				cancel()
				if err != nil || s.Lagging != 0 || i > 0 && s.Applied != 2 {
					t.Errorf("standing %+v, %v", s, err)
				}
				if v := w.View(); s.Applied == 2 && v.Position() != r.now.head.Position {
					t.Errorf("it is said to be applied, but %s is served", v.Position())
				}
				time.Sleep(3 * time.Second)
			}
			for range 60 {
				time.Sleep(time.Second)
				serves(t, w, "first", "0", "1", "2", "3", "4")
			}
			for _, n := range nodes(t, r.Publisher) {
				if age := time.Since(n.SeenAt); age > 8*time.Second || r.keys.VerifyNode(n) != nil ||
					n.Position != r.now.head.Position {
					t.Errorf("the origin has %+v", n)
				}
			}
			// Control planes die, and all else is well.
			stop()
			time.Sleep(20 * time.Second)
			if _, err := w.View().Authenticate("first", netip.Addr{}, time.Now()); !errors.Is(err, snapshot.ErrOutdated) {
				t.Errorf("Authenticate: %v", err)
			}
		})
		time.Sleep(3 * time.Second)
		if got := nodes(t, r.Publisher); len(got) != 1 || got[0].ID != other.Status().Node {
			t.Errorf("the origin has %+v", got)
		}
		list := ok[snapshot.NodeList](t)(r.Nodes(t.Context(), snapshot.NodeQuery{}))
		if len(list.Left) != 1 || list.Left[0].ID != w.Status().Node || r.keys.VerifyNode(list.Left[0]) != nil {
			t.Errorf("the farewells that the origin has are %+v", list.Left)
		}
	})
}

// A beat of a position that the region has not reached says nothing about it.
func TestMirrorPassesABeatAfterItsPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegions(t)
		r.carry(r.keys)
		time.Sleep(time.Second)
		b := snapshot.Beat{Store: "s", Position: snapshot.Position{Epoch: 1, Revision: 3}, At: time.Now().UTC()}
		r.keys.SignBeat(&b)
		if err := r.SetBeat(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if got, err := r.region.LastBeat(t.Context()); err != nil || !got.At.IsZero() {
			t.Errorf("the beat %+v came before its position, %v", got, err)
		}
		r.delta("second")
		time.Sleep(3 * time.Second)
		if got, err := r.region.LastBeat(t.Context()); err != nil || !got.Equal(b) {
			t.Errorf("beat %+v, %v", got, err)
		}
	})
}

func TestMirrorRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegions(t)
		r.carry(nil)
		synctest.Wait()
		if err := r.mirror.Run(t.Context()); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("a second Run: %v", err)
		}
	})
}
