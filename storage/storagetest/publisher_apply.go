package storagetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func testApply(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	steps := []struct {
		name    string
		changes []snapshot.Change
	}{
		{"create", []snapshot.Change{put(catalog.KindKey, "k1", `{"v":1}`)}},
		{"update", []snapshot.Change{put(catalog.KindKey, "k1", `{"v":2}`)}},
		{"update to the same", []snapshot.Change{put(catalog.KindKey, "k1", `{"v":2}`)}},
		{"several kinds", []snapshot.Change{
			put(catalog.KindProvider, "3", `{"id":3}`),
			put(catalog.KindModel, "default.new", `{}`),
			del(catalog.KindProvider, "1"),
		}},
		{"the same key in two kinds", []snapshot.Change{
			put(catalog.KindModel, "a.b", `{"is":"model"}`),
			put(catalog.KindBinding, "a.b", `{"is":"binding"}`),
		}},
		{"delete", []snapshot.Change{del(catalog.KindKey, "k1")}},
		{"delete what is not there", []snapshot.Change{del(catalog.KindKey, "k1"), del(catalog.KindKey, "never was")}},
		{"create again", []snapshot.Change{put(catalog.KindKey, "k1", `{"v":3}`)}},
		{"one document twice", []snapshot.Change{
			put(catalog.KindKey, "k2", `{"v":1}`), del(catalog.KindKey, "k2"), put(catalog.KindKey, "k2", `{"v":2}`),
		}},
		{"the last of a kind", []snapshot.Change{del(catalog.KindBinding, "a.b"), del(catalog.KindBinding, "default.gpt-4o")}},
		{"the first of a kind", []snapshot.Change{put(catalog.KindBinding, "x.y", `{}`)}},
	}
	for _, s := range steps {
		if err := h.Publisher.Apply(t.Context(), l.next(s.changes...)); err != nil {
			t.Fatalf("Apply, %s: %v", s.name, err)
		}
		mustHold(t, h.Publisher, l)
	}
	// A delta may lead over many revisions, and into a later epoch.
	mustApply(t, h.Publisher, l.moveTo(at(10, 5000), put(catalog.KindKey, "k3", `{}`)))
	mustApply(t, h.Publisher, l.moveTo(at(11, 2), put(catalog.KindKey, "k4", `{}`)))
	mustHold(t, h.Publisher, l)

	// Numbers are exact up to the end of int64.
	mustApply(t, h.Publisher, l.moveTo(at(1<<62, 1<<60), put(catalog.KindKey, "k5", `{}`)))
	mustApply(t, h.Publisher, l.moveTo(at(1<<62, 1<<60+1), put(catalog.KindKey, "k6", `{}`)))
	mustHold(t, h.Publisher, l)
}

func testApplyWithoutChanges(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	before := l.head.Position
	d := l.next()
	mustApply(t, h.Publisher, d)
	mustHold(t, h.Publisher, l)
	sameDelta(t, mustNext(t, h.Publisher, before), d)
}

func testApplyRefuses(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	mustApply(t, h.Publisher, l.next(put(catalog.KindKey, "k", `{}`)))

	good := l.clone().next(put(catalog.KindKey, "k2", `{}`))
	with := func(change func(*snapshot.Delta)) snapshot.Delta {
		d := l.clone().next(put(catalog.KindKey, "k2", `{}`))
		change(&d)
		return d
	}
	for _, c := range []struct {
		name  string
		delta snapshot.Delta
		want  error
	}{
		{"from an older revision", with(func(d *snapshot.Delta) { d.From.Revision-- }), snapshot.ErrStale},
		{"from a newer revision", with(func(d *snapshot.Delta) { d.From.Revision++; d.Head.Position.Revision++ }), snapshot.ErrStale},
		{"from an older epoch", with(func(d *snapshot.Delta) { d.From.Epoch-- }), snapshot.ErrStale},
		{"from a newer epoch", with(func(d *snapshot.Delta) { d.From.Epoch++; d.Head.Position.Epoch++ }), snapshot.ErrStale},
		{"from the zero position", with(func(d *snapshot.Delta) { d.From = snapshot.Position{} }), snapshot.ErrStale},
		{"from another store", with(func(d *snapshot.Delta) { d.Head.Store = "0197c0de-0000-7000-8000-00000000beef" }), snapshot.ErrStale},
		{"to where it starts", with(func(d *snapshot.Delta) { d.Head.Position = d.From }), snapshot.ErrStale},
		{"to an older revision", with(func(d *snapshot.Delta) { d.Head.Position.Revision = 1 }), snapshot.ErrStale},
		{"to an older epoch", with(func(d *snapshot.Delta) { d.Head.Position.Epoch-- }), snapshot.ErrStale},
		{"counts are too high", with(func(d *snapshot.Delta) { d.Head.Counts[catalog.KindKey]++ }), snapshot.ErrCorrupt},
		{"counts are too low", with(func(d *snapshot.Delta) { d.Head.Counts[catalog.KindKey]-- }), snapshot.ErrCorrupt},
		{"counts of another kind", with(func(d *snapshot.Delta) { delete(d.Head.Counts, catalog.KindModel) }), snapshot.ErrCorrupt},
	} {
		mustFail(t, "Apply, "+c.name, h.Publisher.Apply(t.Context(), c.delta), c.want)
		mustHold(t, h.Publisher, l)
		mustBlock(t, h.Publisher, l.head.Position)
	}
	mustApply(t, h.Publisher, good)
}

// testApplyRaces lets eight relays publish different deltas at once.
func testApplyRaces(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	const racers = 8
	for round := range 20 {
		after := make([]*lineage, racers)
		errs := make([]error, racers)
		start := make(chan struct{})
		var done sync.WaitGroup
		for i := range racers {
			after[i] = l.clone()
			d := after[i].next(
				put(catalog.KindProvider, "1", fmt.Sprintf(`{"round":%d,"racer":%d}`, round, i)),
				put(catalog.KindKey, fmt.Sprintf("%d-%d", round, i), `{}`))
			p := h.Publisher
			if i%2 == 1 {
				p = h.Second
			}
			done.Go(func() {
				<-start
				errs[i] = p.Apply(t.Context(), d)
			})
		}
		close(start)
		done.Wait()

		winners := 0
		for i, err := range errs {
			if err == nil {
				winners++
				l = after[i]
				continue
			}
			mustFail(t, "Apply that lost a race", err, snapshot.ErrStale)
		}
		if winners != 1 {
			t.Fatalf("%d of %d racing Applies succeeded, want exactly one", winners, racers)
		}
		mustHold(t, h.Publisher, l)
	}
}
