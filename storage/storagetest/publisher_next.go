package storagetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// testNextFollows reads the deltas in order, from the start and from each
// place between.
func testNextFollows(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	var deltas []snapshot.Delta
	for i := range 20 {
		changes := []snapshot.Change{
			put(catalog.KindKey, fmt.Sprint(i), fmt.Sprintf(`{"i":%d}`, i)),
			del(catalog.KindKey, fmt.Sprint(i-3)),
		}
		over := l.base()
		l.head.Sig, l.head.Seal, l.head.Renderer = fmt.Sprintf("%064x", i), fmt.Sprint("seal", i), i
		to := l.head.Position
		to.Revision += catalog.Revision(1 + i%3)
		d := l.moveTo(to, changes[:i%3]...)
		deltas = append(deltas, d)
		mustApply(t, h.Publisher, over, d)
	}
	for start := range deltas {
		position := deltas[start].From
		for _, want := range deltas[start:] {
			got := mustNext(t, h.Second, position)
			sameDelta(t, got, want)
			position = got.Head.Position
		}
	}
	mustBlock(t, h.Second, l.head.Position)
}

// testNextBlocks wakes several readers by one publish.
func testNextBlocks(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	var waiting []<-chan arrival
	for i := range 6 {
		s := h.Publisher
		if i%2 == 1 {
			s = h.Second
		}
		waiting = append(waiting, waitNext(t, s, l.head.Position))
	}
	d := mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", `{}`))
	applied := time.Now()
	for _, arrived := range waiting {
		a := <-arrived
		if a.err != nil {
			t.Fatalf("Next that waited for an Apply: %v", a.err)
		}
		sameDelta(t, a.delta, d)
	}
	if took := time.Since(applied); took > patience/2 {
		t.Errorf("Next came %s after the Apply", took)
	}
}

func testNextCancel(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	arrived := make(chan error, 1)
	go func() {
		_, err := h.Publisher.Next(ctx, l.head.Position)
		arrived <- err
	}()
	time.Sleep(quiet)
	cancel()
	select {
	case err := <-arrived:
		mustFail(t, "Next that was cancelled", err, context.Canceled)
	case <-time.After(time.Second):
		t.Fatal("Next did not return within a second of being cancelled")
	}
	_, err := h.Publisher.Next(ctx, l.head.Position)
	mustFail(t, "Next with a context that has ended", err, context.Canceled)

	ctx, cancel = context.WithTimeout(t.Context(), quiet)
	defer cancel()
	_, err = h.Publisher.Next(ctx, l.head.Position)
	mustFail(t, "Next past its deadline", err, context.DeadlineExceeded)

	// None of that used anything up.
	d := mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", `{}`))
	sameDelta(t, mustNext(t, h.Publisher, d.From), d)
}

func testNextGaps(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	for i, to := range []snapshot.Position{at(10, 105), at(10, 110)} {
		over := l.base()
		mustApply(t, h.Publisher, over, l.moveTo(to, put(catalog.KindKey, fmt.Sprint(i), `{}`)))
	}
	for _, foreign := range []snapshot.Position{
		{}, at(10, 0), at(10, 99), at(10, 101), at(10, 104), at(10, 107), at(10, 111), at(10, 1<<60), at(10, 1<<63-1),
		at(9, 105), at(9, 110), at(9, 200), at(11, 0), at(11, 110), at(1<<60, 1), at(1<<63-1, 1<<63-1), at(-1, 0),
	} {
		mustGap(t, h.Publisher, foreign)
	}
	mustNext(t, h.Publisher, at(10, 100))
	mustNext(t, h.Publisher, at(10, 105))
	mustBlock(t, h.Publisher, at(10, 110))
}

// testNextAfterWhole: whoever was anywhere before a whole was published loads again,
// also who was waiting.
func testNextAfterWhole(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", `{}`))
	old := l.head.Position
	waiting := []<-chan arrival{waitNext(t, h.Publisher, old), waitNext(t, h.Second, old)}

	next := newLineage(at(11, 101), someDocs()...)
	mustPublish(t, h.Publisher, l.base(), next)
	for _, arrived := range waiting {
		mustFail(t, "Next that waited when the whole was published", (<-arrived).err, snapshot.ErrGap)
	}
	mustGap(t, h.Publisher, at(10, 100))
	mustGap(t, h.Publisher, old)
	mustBlock(t, h.Publisher, next.head.Position)

	d := mustFollow(t, h.Publisher, next, put(catalog.KindKey, "k", `{}`))
	sameDelta(t, mustNext(t, h.Second, d.From), d)
	mustGap(t, h.Publisher, old)

	// Within an epoch it is no different.
	again := newLineage(at(11, 105), someDocs()...)
	mustPublish(t, h.Publisher, next.base(), again)
	mustGap(t, h.Second, d.From) // where nobody waits from before that, who may have been answered only now
	mustGap(t, h.Publisher, d.Head.Position)
}

func testNextTrimmed(t testing.TB, h PublisherHarness) {
	if h.History == 0 {
		t.Log("this engine forgets no deltas")
	}
	l := published(t, h)
	first := l.head.Position
	for i := range h.History + 1 {
		mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", fmt.Sprintf(`{"i":%d}`, i)))
	}
	if h.History > 0 {
		mustGap(t, h.Publisher, first)
	}
	last := mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", `{"i":"last"}`))
	sameDelta(t, mustNext(t, h.Publisher, last.From), last)
	mustHold(t, h.Publisher, l)
}
