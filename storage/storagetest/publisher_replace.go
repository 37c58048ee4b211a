package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func testReplace(t testing.TB, h PublisherHarness) {
	l := published(t, h) // where there was nothing
	mustHold(t, h.Publisher, l)
	for _, c := range []struct {
		name string
		next *lineage
	}{
		{"other documents", newLineage(at(10, 200), put(catalog.KindKey, "k", `{}`), put(catalog.KindModel, "a.b", `{}`))},
		{"a kind less, a kind more", newLineage(at(10, 210), put(catalog.KindKey, "k", `{"v":2}`), put(catalog.KindProvider, "9", `{}`))},
		{"a higher epoch, a lower revision", newLineage(at(11, 3), someDocs()...)},
		{"the same documents", newLineage(at(11, 10), someDocs()...)},
		{"no documents", newLineage(at(11, 20))},
		{"documents where there were none", newLineage(at(11, 30), someDocs()...)},
	} {
		if err := h.Publisher.Replace(t.Context(), c.next.snapshot(), nil); err != nil {
			t.Fatalf("Replace, %s: %v", c.name, err)
		}
		mustHold(t, h.Publisher, c.next)
		mustBlock(t, h.Publisher, c.next.head.Position)
		mustApply(t, h.Publisher, c.next.next(put(catalog.KindKey, "after", `{}`)))
		mustHold(t, h.Publisher, c.next)
	}

	// Another catalog may take over.
	other := newLineage(at(12, 1), someDocs()...)
	other.head.Store = "0197c0de-0000-7000-8000-00000000beef"
	mustReplace(t, h.Publisher, other)
	mustHold(t, h.Publisher, other)
}

func testReplaceRefuses(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	mustApply(t, h.Publisher, l.next(put(catalog.KindKey, "k", `{}`)))
	noCatchUp := func(_ context.Context, from snapshot.Position) (snapshot.Delta, error) {
		return snapshot.Delta{From: from, Head: snapshot.Head{Position: from}}, nil
	}
	miscounted := newLineage(at(11, 1), someDocs()...).snapshot()
	miscounted.Head.Counts[catalog.KindKey]++
	missing := newLineage(at(11, 1), someDocs()...).snapshot()
	missing.Docs = missing.Docs[1:]
	for _, c := range []struct {
		name string
		by   *snapshot.Snapshot
		want error
	}{
		{"at the head's position", newLineage(l.head.Position).snapshot(), snapshot.ErrStale},
		{"before the head", newLineage(at(10, 100)).snapshot(), snapshot.ErrStale},
		{"of an older epoch", newLineage(at(9, 1000)).snapshot(), snapshot.ErrStale},
		{"counts are wrong", miscounted, snapshot.ErrCorrupt},
		{"a document is missing", missing, snapshot.ErrCorrupt},
	} {
		mustFail(t, "Replace, "+c.name, h.Publisher.Replace(t.Context(), c.by, nil), c.want)
		mustHold(t, h.Publisher, l)
		mustFail(t, "Replace with a catch-up, "+c.name, h.Publisher.Replace(t.Context(), c.by, noCatchUp), c.want)
		mustHold(t, h.Publisher, l)
		mustBlock(t, h.Publisher, l.head.Position)
	}
	mustNext(t, h.Publisher, at(10, 100)) // the history is still there

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Publisher.Replace(ctx, newLineage(at(11, 1)).snapshot(), noCatchUp); err != nil {
		mustFail(t, "Replace with a context that has ended", err, context.Canceled)
		mustHold(t, h.Publisher, l)
	}
}

// testReplaceCatchUp: deltas that arise during the Replace are part of it.
func testReplaceCatchUp(t testing.TB, h PublisherHarness) {
	published(t, h)
	l := newLineage(at(11, 200), someDocs()...)
	s := l.snapshot()
	pending := [][]snapshot.Change{
		{put(catalog.KindKey, "k1", `{"v":1}`), put(catalog.KindProvider, "1", `{"changed":true}`)},
		{put(catalog.KindKey, "k1", `{"v":2}`), del(catalog.KindProvider, "2")},
		{del(catalog.KindModel, "default.gpt-4o"), del(catalog.KindBinding, "default.gpt-4o")},
		{put(catalog.KindModel, "default.back", `{}`), put(catalog.KindKey, "k2", `{}`), del(catalog.KindKey, "k2")},
	}
	asked := 0
	err := h.Publisher.Replace(t.Context(), s, func(_ context.Context, from snapshot.Position) (snapshot.Delta, error) {
		asked++
		if from != l.head.Position {
			t.Errorf("catchUp is asked for what came after %s, want %s", from, l.head.Position)
		}
		if len(pending) == 0 {
			return snapshot.Delta{From: from, Head: l.head}, nil
		}
		d := l.next(pending[0]...)
		pending = pending[1:]
		return d, nil
	})
	if err != nil {
		t.Fatalf("Replace: %v", err)
	}
	if len(pending) > 0 || asked < 5 {
		t.Fatalf("catchUp was called %d times, and %d deltas were not asked for", asked, len(pending))
	}
	mustHold(t, h.Publisher, l)
	mustBlock(t, h.Publisher, l.head.Position)
	mustApply(t, h.Publisher, l.next(put(catalog.KindKey, "k3", `{}`)))
	mustHold(t, h.Publisher, l)

	// A delta without changes moves the head all the same.
	l = newLineage(at(12, 300), someDocs()...)
	s = l.snapshot()
	moved := false
	err = h.Publisher.Replace(t.Context(), s, func(_ context.Context, from snapshot.Position) (snapshot.Delta, error) {
		if moved {
			return snapshot.Delta{From: from, Head: l.head}, nil
		}
		moved = true
		return l.next(), nil
	})
	if err != nil {
		t.Fatalf("Replace: %v", err)
	}
	mustHold(t, h.Publisher, l)
}

func testReplaceCatchUpFails(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	failure := errors.New("the catalog is away")
	err := h.Publisher.Replace(t.Context(), newLineage(at(11, 1)).snapshot(),
		func(context.Context, snapshot.Position) (snapshot.Delta, error) { return snapshot.Delta{}, failure })
	mustFail(t, "Replace whose catch-up fails", err, failure)
	mustHold(t, h.Publisher, l)

	next := newLineage(at(11, 1), someDocs()...)
	miscounted := next.clone().next(put(catalog.KindKey, "k", `{}`))
	miscounted.Head.Counts[catalog.KindKey]++
	err = h.Publisher.Replace(t.Context(), next.snapshot(),
		func(_ context.Context, from snapshot.Position) (snapshot.Delta, error) {
			if from == miscounted.From {
				return miscounted, nil
			}
			return snapshot.Delta{From: from, Head: miscounted.Head}, nil
		})
	mustFail(t, "Replace whose catch-up miscounts", err, snapshot.ErrCorrupt)
	mustHold(t, h.Publisher, l)
	mustReplace(t, h.Publisher, next)
	mustHold(t, h.Publisher, next)
}

// testReplaceHidden looks on while a Replace is at work.
func testReplaceHidden(t testing.TB, h PublisherHarness) {
	old := published(t, h)
	l := newLineage(at(11, 1), put(catalog.KindKey, "new", `{}`))
	looked := false
	err := h.Publisher.Replace(t.Context(), l.snapshot(), func(_ context.Context, from snapshot.Position) (snapshot.Delta, error) {
		mustHold(t, h.Second, old)
		mustBlock(t, h.Second, old.head.Position)
		if looked {
			return snapshot.Delta{From: from, Head: l.head}, nil
		}
		looked = true
		return l.next(put(catalog.KindKey, "newer", `{}`)), nil
	})
	if err != nil {
		t.Fatalf("Replace: %v", err)
	}
	mustHold(t, h.Second, l)
}

// testReplaceLosesNothing publishes on the old lineage after the catch-up has
// looked and before it answers: the worst moment.
func testReplaceLosesNothing(t testing.TB, h PublisherHarness) {
	old := published(t, h)
	fresh := old.clone()
	fresh.moveTo(at(11, old.head.Position.Revision))
	l := fresh.clone()
	acknowledged, asked := 0, 0
	err := h.Publisher.Replace(t.Context(), fresh.snapshot(), func(_ context.Context, from snapshot.Position) (snapshot.Delta, error) {
		var d snapshot.Delta
		if from.Revision < old.head.Position.Revision {
			var missed []snapshot.Change
			for r := from.Revision + 1; r <= old.head.Position.Revision; r++ {
				missed = append(missed, put(catalog.KindKey, fmt.Sprint("r", r), `{}`))
			}
			d = l.moveTo(at(11, old.head.Position.Revision), missed...)
		} else {
			d = snapshot.Delta{From: from, Head: l.head}
		}
		if asked++; asked%2 == 1 && acknowledged < 3 {
			r := old.head.Position.Revision + 1
			mustApply(t, h.Second, old.next(put(catalog.KindKey, fmt.Sprint("r", r), `{}`)))
			acknowledged++
		}
		return d, nil
	})
	if err != nil {
		// Giving way to the others is no loss either.
		mustFail(t, "Replace that others overtake", err, snapshot.ErrStale)
		mustHold(t, h.Publisher, old)
		return
	}
	mustHold(t, h.Publisher, l)
	if len(l.docs) != len(old.docs) {
		t.Fatalf("Replace undid publishes: there are %d documents, %d were published", len(l.docs), len(old.docs))
	}
}

// testReplaceRaces lets Replaces race: each wins as a whole or is stale.
func testReplaceRaces(t testing.TB, h PublisherHarness) {
	published(t, h)
	for round := range 5 {
		const racers = 4
		candidates := make([]*lineage, racers)
		errs := make([]error, racers)
		var done sync.WaitGroup
		for i := range racers {
			var docs []snapshot.Change
			for n := range 200 {
				docs = append(docs, put(catalog.KindKey, fmt.Sprint(n), fmt.Sprintf(`{"by":%d}`, i)))
			}
			docs = append(docs, put(catalog.KindModel, fmt.Sprint("only.", i), `{}`))
			candidates[i] = newLineage(at(catalog.Epoch(11+round), 1), docs...)
			p := h.Publisher
			if i%2 == 1 {
				p = h.Second
			}
			done.Go(func() { errs[i] = p.Replace(t.Context(), candidates[i].snapshot(), nil) })
		}
		done.Wait()
		var winner *lineage
		for i, err := range errs {
			if err == nil {
				if winner != nil {
					t.Fatal("two Replaces to one position both succeeded")
				}
				winner = candidates[i]
				continue
			}
			mustFail(t, "Replace that lost a race", err, snapshot.ErrStale)
		}
		if winner == nil {
			t.Fatal("of racing Replaces none succeeded")
		}
		mustHold(t, h.Publisher, winner)
	}
}

// testReplaceBig goes up to many documents and down again.
func testReplaceBig(t testing.TB, h PublisherHarness) {
	published(t, h)
	docs := someDocs()
	for i := range 10_000 {
		docs = append(docs, put(catalog.KindKey, fmt.Sprintf("%064x", i), fmt.Sprintf(`{"id":%d,"pad":%q}`, i, strings.Repeat("x", i%300))))
	}
	docs = append(docs, put(catalog.KindProvider, "big", `{"key":"`+strings.Repeat("k", 600_000)+`"}`))
	big := newLineage(at(11, 1), docs...)
	mustReplace(t, h.Publisher, big)
	whole, err := h.Second.Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	if n := len(whole.Docs); n != len(big.docs) || plainDigest(whole.Docs) != big.head.Digest {
		t.Fatalf("Load returned %d documents, want the %d that were published", n, len(big.docs))
	}
	if diff := cmp.Diff(big.head, whole.Head, equal()); diff != "" {
		t.Fatalf("Load (-want +got):\n%s", diff)
	}

	mustApply(t, h.Publisher, big.next(put(catalog.KindKey, "one more", `{}`)))
	small := newLineage(at(12, 1), someDocs()...)
	mustReplace(t, h.Publisher, small)
	mustHold(t, h.Second, small)
}
