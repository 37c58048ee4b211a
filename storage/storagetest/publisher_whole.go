package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// testWhole publishes wholes over nothing, over another, empty ones and ones over those.
func testWhole(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	mustHold(t, h.Publisher, l)
	mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", `{}`))
	for _, next := range []*lineage{
		newLineage(at(11, 1), put(catalog.KindModel, "only.one", `{}`)),
		newLineage(at(11, 2)),
		newLineage(at(12, 0), someDocs()...),
		newLineage(at(12, 5), someDocs()[1:]...),
	} {
		mustPublish(t, h.Second, l.base(), next)
		mustHold(t, h.Publisher, next)
		l = next
	}
	// A publisher does not judge positions: what is forged may be later than all that comes.
	back := newLineage(at(3, 7), someDocs()...)
	mustPublish(t, h.Publisher, l.base(), back)
	mustHold(t, h.Second, back)
	mustFollow(t, h.Second, back, put(catalog.KindKey, "k", `{}`))
	mustHold(t, h.Publisher, back)
}

func testWholeRefuses(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	next := newLineage(at(11, 1), put(catalog.KindKey, "k", `{}`))
	staged, err := h.Publisher.Stage(t.Context())
	if err != nil {
		t.Fatalf("Stage: %v", err)
	}
	defer staged.Discard(t.Context())
	for name, bad := range map[string]snapshot.Change{
		"a kind that is none":           put("beat", "k", `{}`),
		"a document that is not UTF-8":  put(catalog.KindKey, "k", "\xff"),
		"a document's name that is not": put(catalog.KindKey, "\xff", `{}`),
	} {
		mustFail(t, "Add of "+name, staged.Add(t.Context(), []snapshot.Change{bad}), catalog.ErrInvalid)
	}
	if err := staged.Add(t.Context(), next.whole()); err != nil {
		t.Fatalf("Add: %v", err)
	}
	for name, over := range map[string]snapshot.Base{
		"nothing":           {},
		"another epoch":     {Epoch: "9", Revision: "100"},
		"another revision":  {Epoch: "10", Revision: "101"},
		"another signature": {Epoch: "10", Revision: "100", Sig: "00"},
	} {
		mustFail(t, "Publish over "+name, staged.Publish(t.Context(), over, next.head), snapshot.ErrStale)
		mustHold(t, h.Publisher, l)
	}
	for name, spoil := range map[string]func(h *snapshot.Head){
		"too many":     func(h *snapshot.Head) { h.Counts[catalog.KindKey] = 2 },
		"too few":      func(h *snapshot.Head) { h.Counts[catalog.KindKey] = 0 },
		"another kind": func(h *snapshot.Head) { h.Counts[catalog.KindModel] = 1 },
	} {
		head := newLineage(at(11, 1), put(catalog.KindKey, "k", `{}`)).head
		spoil(&head)
		mustFail(t, "Publish of "+name, staged.Publish(t.Context(), l.base(), head), snapshot.ErrCorrupt)
		mustHold(t, h.Publisher, l)
	}
	unreadable := newLineage(at(11, 1), put(catalog.KindKey, "k", `{}`)).head
	unreadable.Store = ""
	mustFail(
		t,
		"Publish of a head that nobody can read",
		staged.Publish(t.Context(), l.base(), unreadable),
		catalog.ErrInvalid,
	)
	mustBlock(t, h.Publisher, l.head.Position)
	if err := staged.Publish(t.Context(), l.base(), next.head); err != nil {
		t.Fatalf("Publish after refusals: %v", err)
	}
	mustHold(t, h.Publisher, next)
}

// testWholeOnce: a staging that was published or given up is of no more use.
func testWholeOnce(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	for name, end := range map[string]func(s snapshot.Staging, next *lineage) error{
		"published": func(s snapshot.Staging, next *lineage) error { return s.Publish(t.Context(), l.base(), next.head) },
		"discarded": func(s snapshot.Staging, _ *lineage) error { s.Discard(t.Context()); return nil },
	} {
		next := newLineage(at(l.head.Position.Epoch+1, 1), someDocs()...)
		staged, err := h.Publisher.Stage(t.Context())
		if err != nil {
			t.Fatalf("Stage: %v", err)
		}
		if err := staged.Add(t.Context(), next.whole()); err != nil {
			t.Fatalf("Add: %v", err)
		}
		if err := end(staged, next); err != nil {
			t.Fatalf("a staging that is %s: %v", name, err)
		}
		if name == "published" {
			l = next
		}
		mustFail(t, "Add to what was "+name, staged.Add(t.Context(), someDocs()), catalog.ErrInvalid)
		mustFail(
			t,
			"Publish of what was "+name,
			staged.Publish(t.Context(), l.base(), next.head),
			catalog.ErrInvalid,
		)
		staged.Discard(t.Context())
		staged.Discard(t.Context())
		mustHold(t, h.Publisher, l)
	}
}

// testWholeCatchesUp: what is staged may be changed until it is published, and after the head has moved it is
// published over that.
func testWholeCatchesUp(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	next := newLineage(at(11, 1), someDocs()...)
	staged, err := h.Publisher.Stage(t.Context())
	if err != nil {
		t.Fatalf("Stage: %v", err)
	}
	defer staged.Discard(t.Context())
	seen := l.base()
	if err := staged.Add(t.Context(), next.whole()); err != nil {
		t.Fatalf("Add: %v", err)
	}
	mustFollow(t, h.Second, l, put(catalog.KindKey, "meanwhile", `{}`))
	mustFail(
		t,
		"Publish over a head that has moved",
		staged.Publish(t.Context(), seen, next.head),
		snapshot.ErrStale,
	)
	changes := []snapshot.Change{
		put(
			catalog.KindKey,
			"meanwhile",
			`{}`,
		), del(catalog.KindProvider, "1"), put(catalog.KindProvider, "2", `{"v":2}`),
		del(catalog.KindModel, "never was"),
	}
	d := next.next(changes...)
	if err := staged.Add(t.Context(), d.Changes); err != nil {
		t.Fatalf("Add: %v", err)
	}
	if err := staged.Publish(t.Context(), l.base(), next.head); err != nil {
		t.Fatalf("Publish after a catch-up: %v", err)
	}
	mustHold(t, h.Second, next)
}

// testWholeHidden: nobody sees what is staged.
func testWholeHidden(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	staged, err := h.Publisher.Stage(t.Context())
	if err != nil {
		t.Fatalf("Stage: %v", err)
	}
	defer staged.Discard(t.Context())
	next := newLineage(at(11, 1), manyKeys(2_000, 1)...)
	for docs := range slices.Chunk(next.whole(), 500) {
		if err := staged.Add(t.Context(), docs); err != nil {
			t.Fatalf("Add: %v", err)
		}
		mustHold(t, h.Second, l)
	}
	mustBlock(t, h.Second, l.head.Position)
	// Others publish meanwhile.
	mustFollow(t, h.Second, l, put(catalog.KindKey, "k", `{}`))
	mustHold(t, h.Publisher, l)
	if err := staged.Publish(t.Context(), l.base(), next.head); err != nil {
		t.Fatalf("Publish: %v", err)
	}
	mustHold(t, h.Second, next)
}

func testWholeDiscarded(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	staged, err := h.Publisher.Stage(t.Context())
	if err != nil {
		t.Fatalf("Stage: %v", err)
	}
	if err := staged.Add(t.Context(), manyKeys(1_000, 1)); err != nil {
		t.Fatalf("Add: %v", err)
	}
	staged.Discard(t.Context())
	mustHold(t, h.Publisher, l)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if staged, err = h.Publisher.Stage(ctx); err == nil {
		err = staged.Add(ctx, manyKeys(1_000, 1))
		staged.Discard(ctx)
	}
	mustFail(t, "staging with a context that has ended", err, context.Canceled)
	mustHold(t, h.Publisher, l)
}

// testWholeRaces lets wholes and deltas race over the same head: one wins.
func testWholeRaces(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	const racers = 6
	for round := range 10 {
		after := make([]*lineage, racers)
		errs := make([]error, racers)
		start := make(chan struct{})
		var done sync.WaitGroup
		over := l.base()
		for i := range racers {
			p := h.Publisher
			if i%2 == 1 {
				p = h.Second
			}
			var publish func() error
			if i < 2 {
				after[i] = l.clone()
				d := after[i].next(put(catalog.KindKey, fmt.Sprint(round, "-", i), `{}`))
				publish = func() error { return p.Apply(t.Context(), over, d) }
			} else {
				after[i] = newLineage(at(l.head.Position.Epoch+1, catalog.Revision(i)), put(catalog.KindKey, fmt.Sprint(i), `{}`))
				publish = func() error { return publishWhole(t.Context(), p, over, after[i]) }
			}
			done.Go(func() {
				<-start
				errs[i] = publish()
			})
		}
		close(start)
		done.Wait()
		winners := 0
		for i, err := range errs {
			if err == nil {
				winners++
				l = after[i]
			} else if !errors.Is(err, snapshot.ErrStale) {
				t.Fatalf("a publish that lost a race: %v", err)
			}
		}
		if winners != 1 {
			t.Fatalf("%d of %d racing publishes succeeded, want exactly one", winners, racers)
		}
		mustHold(t, h.Publisher, l)
	}
}

func testWholeBig(t testing.TB, h PublisherHarness) {
	l := newLineage(at(10, 100), append(manyKeys(20_000, 1), someDocs()...)...)
	mustPublish(t, h.Publisher, snapshot.Base{}, l)
	mustHold(t, h.Second, l)
	next := newLineage(at(11, 1), manyKeys(19_000, 2)...)
	mustPublish(t, h.Publisher, l.base(), next)
	mustHold(t, h.Second, next)
}
