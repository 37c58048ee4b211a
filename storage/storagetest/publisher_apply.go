package storagetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

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
		{
			"delete what is not there",
			[]snapshot.Change{del(catalog.KindKey, "k1"), del(catalog.KindKey, "never was")},
		},
		{"create again", []snapshot.Change{put(catalog.KindKey, "k1", `{"v":3}`)}},
		{
			"the last of a kind",
			[]snapshot.Change{del(catalog.KindBinding, "a.b"), del(catalog.KindBinding, "default.gpt-4o")},
		},
		{"the first of a kind", []snapshot.Change{put(catalog.KindBinding, "x.y", `{}`)}},
	}
	for _, s := range steps {
		over := l.base()
		if err := h.Publisher.Apply(t.Context(), over, l.next(s.changes...)); err != nil {
			t.Fatalf("Apply, %s: %v", s.name, err)
		}
		mustHold(t, h.Publisher, l)
	}
	// A delta may lead over many revisions, and into a later epoch. Numbers are exact beyond 2^53,
	// and a revision's three digits more are, too.
	for i, to := range []snapshot.Position{at(10, 5000), at(11, 2), at(1<<62, 1<<53/1000), at(1<<62, 1<<53),
		at(1<<62, 1<<53+1)} {
		over := l.base()
		mustApply(t, h.Publisher, over, l.moveTo(to, put(catalog.KindKey, fmt.Sprint("far-", i), `{}`)))
		mustHold(t, h.Publisher, l)
	}
}

func testApplyWithoutChanges(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	d := mustFollow(t, h.Publisher, l)
	mustHold(t, h.Publisher, l)
	sameDelta(t, mustNext(t, h.Publisher, d.From), d)
}

func testApplyRefuses(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	start := l.base()
	l.head.Sig = strings.Repeat("5e", 32)
	mustApply(t, h.Publisher, start, l.next(put(catalog.KindKey, "k", `{}`)))

	type attempt struct {
		over snapshot.Base
		d    snapshot.Delta
	}
	with := func(change func(a *attempt)) attempt {
		a := attempt{l.base(), l.clone().next(put(catalog.KindKey, "k2", `{}`))}
		change(&a)
		return a
	}
	move := func(by snapshot.Position) attempt {
		return with(func(a *attempt) {
			a.d.From.Epoch += by.Epoch
			a.d.From.Revision += by.Revision
			a.d.Head.Position.Epoch += by.Epoch
			a.d.Head.Position.Revision += by.Revision
			sig := a.over.Sig
			a.over = snapshot.Head{Position: a.d.From}.Base()
			a.over.Sig = sig
		})
	}
	for _, c := range []struct {
		name string
		attempt
		want error
	}{
		{"over an older revision", move(at(0, -1)), snapshot.ErrStale},
		{"over a newer revision", move(at(0, 1)), snapshot.ErrStale},
		{"over an older epoch", move(at(-1, 0)), snapshot.ErrStale},
		{"over a newer epoch", move(at(1, 0)), snapshot.ErrStale},
		{"over another signature", with(func(a *attempt) { a.over.Sig = strings.Repeat("00", 32) }), snapshot.ErrStale},
		{"over no signature", with(func(a *attempt) { a.over.Sig = "" }), snapshot.ErrStale},
		{"over nothing", with(func(a *attempt) { a.over = snapshot.Base{} }), catalog.ErrInvalid},
		{"from elsewhere", with(func(a *attempt) { a.d.From.Revision-- }), catalog.ErrInvalid},
		{"to where it starts", with(func(a *attempt) { a.d.Head.Position = a.d.From }), catalog.ErrInvalid},
		{"to an older revision", with(func(a *attempt) { a.d.Head.Position.Revision = 1 }), catalog.ErrInvalid},
		{"to an older epoch", with(func(a *attempt) { a.d.Head.Position.Epoch-- }), catalog.ErrInvalid},
		{"to a revision that has no room for parts", with(func(a *attempt) { a.d.Head.Position.Revision = 1<<63 - 1 }),
			catalog.ErrInvalid},
		{"a kind that is none", with(func(a *attempt) { a.d.Changes[0].Kind = "head" }), catalog.ErrInvalid},
		{"a document that is not UTF-8", with(func(a *attempt) { a.d.Changes[0].Doc = []byte("\xff") }), catalog.ErrInvalid},
		{"a head that nobody can read", with(func(a *attempt) { a.d.Head.Store = "" }), catalog.ErrInvalid},
		{"counts are too high", with(func(a *attempt) { a.d.Head.Counts[catalog.KindKey]++ }), snapshot.ErrCorrupt},
		{"counts are too low", with(func(a *attempt) { a.d.Head.Counts[catalog.KindKey]-- }), snapshot.ErrCorrupt},
		{"counts of another kind", with(func(a *attempt) { a.d.Head.Counts[catalog.KindModel]++ }), snapshot.ErrCorrupt},
	} {
		err := h.Publisher.Apply(t.Context(), c.over, c.d)
		mustFail(t, "Apply, "+c.name, err, c.want)
		if errors.Is(err, snapshot.ErrCorrupt) { // documents may have been written
			if err := h.Publisher.Repair(t.Context(), l.base(), []snapshot.Change{del(catalog.KindKey, "k2")}); err != nil {
				t.Fatalf("Repair after counts that were wrong: %v", err)
			}
		}
		mustHold(t, h.Publisher, l)
		mustBlock(t, h.Publisher, l.head.Position)
	}
	mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k2", `{}`))
	mustHold(t, h.Publisher, l)
}

// manyKeys are puts of documents of a typical size.
func manyKeys(n, version int) []snapshot.Change {
	changes := make([]snapshot.Change, n)
	filler := strings.Repeat("f", 200)
	for i := range changes {
		changes[i] = put(
			catalog.KindKey,
			fmt.Sprintf("%064x", i),
			fmt.Sprintf(`{"id":%d,"version":%d,"filler":%q}`, i, version, filler),
		)
	}
	return changes
}

// testApplyLarge: what is published in many parts is seen as one, also by who waits, in the order in
// which it was given.
func testApplyLarge(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	start := l.head.Position
	arrived := waitNext(t, h.Second, start)
	d := mustFollow(t, h.Publisher, l, manyKeys(4_000, 1)...)
	a := <-arrived
	if a.err != nil {
		t.Fatalf("Next that waited: %v", a.err)
	}
	sameDelta(t, a.delta, d)
	mustHold(t, h.Second, l)

	// One document may be larger than a part is otherwise.
	huge := put(catalog.KindModel, "huge", `"`+strings.Repeat("h", snapshot.MaxPartBytes)+`"`)
	d2 := mustFollow(
		t,
		h.Publisher,
		l,
		append(append(manyKeys(600, 2), huge), del(catalog.KindKey, fmt.Sprintf("%064x", 3999)))...)
	sameDelta(t, mustNext(t, h.Second, start), d)
	sameDelta(t, mustNext(t, h.Second, d.Head.Position), d2)
	mustHold(t, h.Second, l)
}

func testApplyTooLarge(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	doc := `"` + strings.Repeat("x", 1<<20) + `"`
	var changes []snapshot.Change
	for i := range snapshot.MaxChainBytes >> 20 {
		changes = append(changes, put(catalog.KindModel, fmt.Sprint(i), doc))
	}
	err := h.Publisher.Apply(t.Context(), l.base(), l.clone().next(changes...))
	mustFail(t, "Apply of too many bytes", err, snapshot.ErrTooLarge)
	err = h.Publisher.Apply(t.Context(), l.base(), l.clone().next(make([]snapshot.Change, 0)...))
	if err != nil {
		t.Fatalf("Apply after one that was too large: %v", err)
	}
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
		over := l.base()
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
				errs[i] = p.Apply(t.Context(), over, d)
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

// testInterrupted: a publish that was not finished is nothing to readers, and keeps others from publishing
// for a while only.
func testInterrupted(t testing.TB, h PublisherHarness) {
	if h.Interrupt == nil {
		t.Log("no publish of this engine can be interrupted")
		return
	}
	l := published(t, h)
	mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", `{}`))
	h.Interrupt(t)
	mustHold(t, h.Second, l)
	mustBlock(t, h.Second, l.head.Position)

	over := l.base()
	d := l.clone().next(put(catalog.KindKey, "k", `{"v":2}`))
	start := time.Now()
	mustFail(t, "Apply during somebody else's", h.Publisher.Apply(t.Context(), over, d), snapshot.ErrBusy)
	mustFail(
		t,
		"Repair during somebody else's",
		h.Publisher.Repair(t.Context(), over, d.Changes),
		snapshot.ErrBusy,
	)
	for {
		err := h.Publisher.Apply(t.Context(), over, d)
		if err == nil {
			break
		}
		mustFail(t, "Apply during somebody else's", err, snapshot.ErrBusy)
		if time.Since(start) > patience {
			t.Fatalf("an interrupted publish keeps others from publishing for longer than %s", patience)
		}
		time.Sleep(quiet)
	}
	if took := time.Since(start); took < snapshot.TakeoverAfter*9/10 {
		t.Fatalf("an interrupted publish was cleared away after %s, want %s", took, snapshot.TakeoverAfter)
	}
	l.next(put(catalog.KindKey, "k", `{"v":2}`))
	mustHold(t, h.Second, l)
	sameDelta(t, mustNext(t, h.Second, d.From), d)
	mustFollow(t, h.Second, l, put(catalog.KindKey, "k", `{"v":3}`))

	// Repair clears away, too: there may be nothing to publish, and nothing to mend.
	mended := []snapshot.Change{put(catalog.KindKey, "k", string(l.docs[docName{catalog.KindKey, "k"}]))}
	for _, changes := range [][]snapshot.Change{mended, nil} {
		h.Interrupt(t)
		for start := time.Now(); ; time.Sleep(quiet) {
			err := h.Publisher.Repair(t.Context(), l.base(), changes)
			if err == nil {
				break
			}
			mustFail(t, "Repair during somebody else's", err, snapshot.ErrBusy)
			if time.Since(start) > patience {
				t.Fatalf("an interrupted publish keeps others from repairing for longer than %s", patience)
			}
		}
		if err := h.Publisher.Repair(t.Context(), l.base(), nil); err != nil {
			t.Fatalf("Repair where there is nothing to clear away: %v", err)
		}
		mustHold(t, h.Publisher, l)
	}
	mustFail(t, "Repair over another head", h.Publisher.Repair(t.Context(), over, nil), snapshot.ErrStale)
	mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", `{"v":4}`))
	mustHold(t, h.Publisher, l)
}

// testRepair: documents are written where they are wrong, and the head and the deltas stay.
func testRepair(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	d := mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", `{}`))
	wrong := []snapshot.Change{
		put(
			catalog.KindKey,
			"k",
			`{"spoilt":true}`,
		), del(catalog.KindProvider, "1"), put(catalog.KindModel, "surplus", `{}`),
	}
	if err := h.Publisher.Repair(t.Context(), l.base(), wrong); err != nil {
		t.Fatalf("Repair: %v", err)
	}
	if _, err := load(t.Context(), h.Second); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Fatalf("Load of documents that are not the head's: %v", err)
	}
	right := []snapshot.Change{put(catalog.KindKey, "k", `{}`), someDocs()[0], del(catalog.KindModel, "surplus")}
	if err := h.Second.Repair(t.Context(), l.base(), right); err != nil {
		t.Fatalf("Repair: %v", err)
	}
	mustHold(t, h.Publisher, l)
	sameDelta(t, mustNext(t, h.Publisher, d.From), d)
	mustBlock(t, h.Publisher, l.head.Position)

	// Any number, in one call.
	many := manyKeys(3_000, 1)
	if err := h.Publisher.Repair(t.Context(), l.base(), many); err != nil {
		t.Fatalf("Repair of many: %v", err)
	}
	for i := range many {
		many[i].Doc = nil
	}
	if err := h.Publisher.Repair(t.Context(), l.base(), many); err != nil {
		t.Fatalf("Repair of many: %v", err)
	}
	mustHold(t, h.Publisher, l)
}

func testRepairRefuses(t testing.TB, h PublisherHarness) {
	change := []snapshot.Change{put(catalog.KindKey, "k", `{"spoilt":true}`)}
	mustFail(
		t,
		"Repair of nothing",
		h.Publisher.Repair(t.Context(), newLineage(at(10, 100)).base(), change),
		snapshot.ErrStale,
	)
	l := published(t, h)
	for name, spoil := range map[string]func(b *snapshot.Base){
		"another epoch":     func(b *snapshot.Base) { b.Epoch = "11" },
		"another revision":  func(b *snapshot.Base) { b.Revision = "99" },
		"another signature": func(b *snapshot.Base) { b.Sig = "00" },
		"nothing":           func(b *snapshot.Base) { *b = snapshot.Base{} },
	} {
		over := l.base()
		spoil(&over)
		mustFail(t, "Repair over "+name, h.Publisher.Repair(t.Context(), over, change), snapshot.ErrStale)
		mustHold(t, h.Publisher, l)
	}
	none := []snapshot.Change{put("nodes", "k", `{}`)}
	mustFail(
		t,
		"Repair of a kind that is none",
		h.Publisher.Repair(t.Context(), l.base(), none),
		catalog.ErrInvalid,
	)
	mustHold(t, h.Publisher, l)
}
