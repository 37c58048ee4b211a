package storagetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func testNothingPublished(t testing.TB, h PublisherHarness) {
	_, err := h.Publisher.Head(t.Context())
	mustFail(t, "Head", err, snapshot.ErrNone)
	_, err = h.Publisher.Load(t.Context())
	mustFail(t, "Load", err, snapshot.ErrNone)
	docs, err := h.Publisher.Lookup(t.Context(), catalog.KindKey, "k")
	if err != nil || len(docs) != 0 {
		t.Fatalf("Lookup: got %v, %v, want nothing", docs, err)
	}
	nodes, err := h.Publisher.Nodes(t.Context())
	if err != nil || len(nodes) != 0 {
		t.Fatalf("Nodes: got %v, %v, want nothing", nodes, err)
	}

	l := newLineage(snapshot.Position{})
	mustFail(t, "Apply from the zero position", h.Publisher.Apply(t.Context(), l.clone().next(someDocs()...)), snapshot.ErrStale)
	l.head.Position = at(10, 100)
	mustFail(t, "Apply", h.Publisher.Apply(t.Context(), l.clone().next(someDocs()...)), snapshot.ErrStale)
	_, err = h.Publisher.Head(t.Context())
	mustFail(t, "Head after an Apply that was refused", err, snapshot.ErrNone)

	mustFail(t, "Replace by the zero position", h.Publisher.Replace(t.Context(), newLineage(snapshot.Position{}).snapshot(), nil), snapshot.ErrStale)
	mustGap(t, h.Publisher, at(10, 100))
	arrived := waitNext(t, h.Publisher, snapshot.Position{})
	published(t, h)
	mustFail(t, "Next that waited for the first publish", (<-arrived).err, snapshot.ErrGap)
}

// testHead carries every field through Replace, Apply and Next.
func testHead(t testing.TB, h PublisherHarness) {
	l := newLineage(at(10, 100), someDocs()...)
	full := func() {
		l.head.Sig = strings.Repeat("c0ffee00", 8)
		l.head.Seal = "2026-01"
		l.head.Renderer = 7
		l.head.Forced = true
	}
	full()
	mustReplace(t, h.Publisher, l)
	mustHold(t, h.Second, l)

	l.head.Sig, l.head.Seal, l.head.Renderer, l.head.Forced = "", "", 0, false
	d := l.next()
	mustApply(t, h.Publisher, d)
	mustHold(t, h.Second, l)
	sameDelta(t, mustNext(t, h.Second, d.From), d)

	full()
	d = l.next(put(catalog.KindKey, "k", `{}`))
	mustApply(t, h.Publisher, d)
	mustHold(t, h.Second, l)
	sameDelta(t, mustNext(t, h.Second, d.From), d)

	// A kind that is counted as 0 is a kind without documents.
	d = l.next()
	d.Head.Counts["widgets"] = 0
	mustApply(t, h.Publisher, d)
	mustHold(t, h.Second, l)
}

// testBytes: documents come back byte for byte, because the digest covers the
// bytes, however JSON might otherwise be written.
func testBytes(t testing.TB, h PublisherHarness) {
	docs := []string{
		`{}`,
		`{"quotes":"\" \\ \/ \b\f\n\r\t","escaped":"\u0000\u001f\u2028\ud83d\ude00\u00e9"}`,
		`{"plain":"é 漢字 😀 ` + "\u2028\u2029\u007f\ufffd" + `"}`,
		`{"html":"<script>&'</script>"}`,
		"{ \"spaces\" :\t[ 1 ,2\n,\r3 ] }\n",
		`{"numbers":[1.0,1e400,-0,9007199254740993,0.10000000000000000000001]}`,
		`{"twice":1,"twice":2}`,
		`{"long":"` + strings.Repeat("0123456789", 20_000) + `"}`,
		`"a string"`, `null`, `0`,
	}
	keys := []string{
		"plain", "default.gpt-4o", "a/b/c", "with space", "{ezapi}:keys", "50%", `"quoted"`, "ключ", "😀", "*", "-1",
	}
	l := newLineage(at(10, 100))
	var changes []snapshot.Change
	for i, doc := range docs {
		changes = append(changes, put(catalog.KindModel, keys[i], doc))
	}
	l.moveTo(at(10, 101), changes...)
	mustReplace(t, h.Publisher, l)
	mustHold(t, h.Publisher, l)

	for i, doc := range docs {
		d := l.next(put(catalog.KindKey, keys[len(keys)-1-i], doc), del(catalog.KindModel, keys[i]))
		mustApply(t, h.Publisher, d)
		mustHold(t, h.Publisher, l)
		sameDelta(t, mustNext(t, h.Second, d.From), d)
	}
}

func testLookup(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	var changes []snapshot.Change
	var keys, want []string
	for i := range 2500 {
		key := fmt.Sprintf("%04x", i*7919%65536)
		keys = append(keys, key)
		if i%3 == 0 {
			continue // is asked for and does not exist
		}
		changes = append(changes, put(catalog.KindKey, key, fmt.Sprintf(`{"i":%d}`, i)))
		want = append(want, fmt.Sprintf(`keys/%s/{"i":%d}`, key, i))
	}
	for part := range slices.Chunk(changes, 500) {
		mustApply(t, h.Publisher, l.next(part...))
	}

	for _, c := range []struct {
		name string
		kind catalog.Kind
		keys []string
		want []string
	}{
		{"no keys", catalog.KindKey, nil, nil},
		{"only absent ones", catalog.KindKey, []string{"x", "", "y"}, nil},
		{"of another kind", catalog.KindModel, keys[:3], nil},
		{"in the order of the keys", catalog.KindProvider, []string{"2", "9", "1"}, []string{`providers/2/{"id":2,"name":"two"}`, `providers/1/{"id":1,"name":"one"}`}},
		{"many", catalog.KindKey, keys, want},
	} {
		docs, err := h.Second.Lookup(t.Context(), c.kind, c.keys...)
		if err != nil {
			t.Fatalf("Lookup, %s: %v", c.name, err)
		}
		var got []string
		for _, d := range docs {
			got = append(got, fmt.Sprintf("%s/%s/%s", d.Kind, d.Key, d.Doc))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Fatalf("Lookup, %s (-want +got):\n%s", c.name, diff)
		}
	}
}

// testAliasing scribbles over all that went in and all that came out.
func testAliasing(t testing.TB, h PublisherHarness) {
	scribbleHead := func(head snapshot.Head) {
		for k := range head.Counts {
			head.Counts[k] = 99
		}
		head.Counts["scribble"] = 1
	}
	scribbleDocs := func(docs []snapshot.Document) {
		for i := range docs {
			clear(docs[i].Doc)
			docs[i].Key = "scribble"
		}
	}
	scribbleDelta := func(d snapshot.Delta) {
		scribbleHead(d.Head)
		for i := range d.Changes {
			clear(d.Changes[i].Doc)
			d.Changes[i].Key = "scribble"
		}
	}

	l := newLineage(at(10, 100), someDocs()...)
	s := l.snapshot()
	if err := h.Publisher.Replace(t.Context(), s, nil); err != nil {
		t.Fatalf("Replace: %v", err)
	}
	scribbleHead(s.Head)
	scribbleDocs(s.Docs)
	mustHold(t, h.Publisher, l)

	d := l.next(put(catalog.KindKey, "k", `{}`))
	want := l.clone()
	same := func() snapshot.Delta { // d again, in other memory
		return snapshot.Delta{From: d.From, Head: want.snapshot().Head, Changes: []snapshot.Change{put(catalog.KindKey, "k", `{}`)}}
	}
	mustApply(t, h.Publisher, d)
	scribbleDelta(d)
	mustHold(t, h.Publisher, l)
	for range 2 {
		got := mustNext(t, h.Publisher, d.From)
		sameDelta(t, got, same())
		scribbleDelta(got)
	}
	waiting := []<-chan arrival{waitNext(t, h.Publisher, l.head.Position), waitNext(t, h.Publisher, l.head.Position)}
	mustApply(t, h.Publisher, l.next(put(catalog.KindKey, "k2", `{}`)))
	for _, arrived := range waiting {
		a := <-arrived
		if a.err != nil || string(a.delta.Changes[0].Doc) != `{}` || a.delta.Head.Counts["scribble"] != 0 {
			t.Fatalf("one of two that waited got %+v, %v, what another scribbled over", a.delta, a.err)
		}
		scribbleDelta(a.delta)
	}

	whole, err := h.Publisher.Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	scribbleHead(whole.Head)
	scribbleDocs(whole.Docs)
	head, err := h.Publisher.Head(t.Context())
	if err != nil {
		t.Fatalf("Head: %v", err)
	}
	scribbleHead(head)
	docs, err := h.Publisher.Lookup(t.Context(), catalog.KindProvider, "1", "2")
	if err != nil {
		t.Fatalf("Lookup: %v", err)
	}
	scribbleDocs(docs)
	mustHold(t, h.Publisher, l)

	// What a catch-up returned is its own as well.
	l = newLineage(at(11, 1), someDocs()...)
	var late snapshot.Delta
	err = h.Publisher.Replace(t.Context(), l.snapshot(), func(_ context.Context, from snapshot.Position) (snapshot.Delta, error) {
		if late.Head.Format != 0 {
			scribbleDelta(late)
			return snapshot.Delta{From: from, Head: l.snapshot().Head}, nil
		}
		late = l.next(put(catalog.KindKey, "k3", `{}`))
		return late, nil
	})
	if err != nil {
		t.Fatalf("Replace: %v", err)
	}
	mustHold(t, h.Publisher, l)
}

// testTwoHandles: what one handle publishes, the other serves.
func testTwoHandles(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	mustHold(t, h.Second, l)
	mustApply(t, h.Second, l.next(put(catalog.KindKey, "k", `{}`)))
	mustHold(t, h.Publisher, l)
	mustFail(t, "Apply by one who has not seen the other's", h.Publisher.Apply(t.Context(),
		newLineage(at(10, 100), someDocs()...).next()), snapshot.ErrStale)
	mustApply(t, h.Publisher, l.next(del(catalog.KindKey, "k")))
	mustHold(t, h.Second, l)

	arrived := waitNext(t, h.Publisher, l.head.Position)
	d := l.next()
	mustApply(t, h.Second, d)
	a := <-arrived
	if a.err != nil {
		t.Fatalf("Next: %v", a.err)
	}
	sameDelta(t, a.delta, d)

	l = newLineage(at(11, 1), someDocs()...)
	mustReplace(t, h.Second, l)
	mustHold(t, h.Publisher, l)
	if err := h.Second.Report(t.Context(), snapshot.Node{ID: "n"}); err != nil {
		t.Fatalf("Report: %v", err)
	}
	if nodes, err := h.Publisher.Nodes(t.Context()); err != nil || len(nodes) != 1 {
		t.Fatalf("Nodes: got %v, %v, want the one that reported to the other handle", nodes, err)
	}
}

func testNodes(t testing.TB, h PublisherHarness) {
	a := snapshot.Node{ID: "a-1", Position: at(10, 100), Digest: plainHash(catalog.KindKey, "k", nil), Version: "v1.2.3", Error: "bad \"doc\"\n é"}
	b := snapshot.Node{ID: "b", Position: at(1<<62, 1<<60+1)}
	c := snapshot.Node{ID: "a-0"}
	report := func(n snapshot.Node) {
		n.SeenAt = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) // is not the node's to say
		if err := h.Publisher.Report(t.Context(), n); err != nil {
			t.Fatalf("Report: %v", err)
		}
	}
	check := func(want ...snapshot.Node) []snapshot.Node {
		got, err := h.Second.Nodes(t.Context())
		if err != nil {
			t.Fatalf("Nodes: %v", err)
		}
		opaque := slices.Clone(got)
		for i := range opaque {
			if since := time.Since(opaque[i].SeenAt); since > time.Hour || since < -time.Hour {
				t.Errorf("node %s was seen at %s, want about now", opaque[i].ID, opaque[i].SeenAt)
			}
			if opaque[i].SeenAt != opaque[i].SeenAt.UTC().Truncate(time.Microsecond) {
				t.Errorf("node %s was seen at %s, want whole microseconds in UTC", opaque[i].ID, opaque[i].SeenAt)
			}
			opaque[i].SeenAt = time.Time{}
		}
		if diff := cmp.Diff(want, opaque); diff != "" {
			t.Fatalf("Nodes (-want +got):\n%s", diff)
		}
		return got
	}
	report(b)
	report(a)
	report(c)
	first := check(c, a, b)

	time.Sleep(2 * time.Millisecond)
	a.Position, a.Error = at(10, 101), ""
	report(a)
	second := check(c, a, b)
	if !second[1].SeenAt.After(first[1].SeenAt) {
		t.Errorf("a node that reported again was seen at %s, before at %s", second[1].SeenAt, first[1].SeenAt)
	}
	if second[0] != first[0] {
		t.Errorf("a node that did not report is %+v, was %+v", second[0], first[0])
	}

	// Publishing has nothing to do with it.
	published(t, h)
	check(c, a, b)
}

func testNodesForgotten(t testing.TB, h PublisherHarness) {
	if h.Age == nil {
		t.Log("this engine's clock cannot be moved")
		return
	}
	report := func(id string) {
		if err := h.Publisher.Report(t.Context(), snapshot.Node{ID: id}); err != nil {
			t.Fatalf("Report: %v", err)
		}
	}
	check := func(want ...string) {
		for range 2 {
			nodes, err := h.Publisher.Nodes(t.Context())
			if err != nil {
				t.Fatalf("Nodes: %v", err)
			}
			var got []string
			for _, n := range nodes {
				got = append(got, n.ID)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("Nodes: got %v, want %v", got, want)
			}
		}
	}
	report("a")
	report("b")
	h.Age(t, 23*time.Hour)
	report("b")
	check("a", "b")
	h.Age(t, 2*time.Hour)
	check("b")
	report("a")
	check("a", "b")
	h.Age(t, 25*time.Hour)
	check()
}

func testClosed(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	if h.Close == nil {
		t.Log("this engine is not closed")
		return
	}
	arrived := waitNext(t, h.Publisher, l.head.Position)
	h.Close(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	select {
	case a := <-arrived:
		if a.err == nil {
			t.Error("Next that waited when the publisher was closed succeeded")
		}
	case <-ctx.Done():
		t.Fatal("Next that waited when the publisher was closed still waits")
	}
	errs := map[string]error{}
	_, errs["Head"] = h.Publisher.Head(ctx)
	_, errs["Load"] = h.Publisher.Load(ctx)
	_, errs["Next"] = h.Publisher.Next(ctx, l.head.Position)
	_, errs["Lookup"] = h.Publisher.Lookup(ctx, catalog.KindKey, "k")
	errs["Report"] = h.Publisher.Report(ctx, snapshot.Node{ID: "n"})
	errs["Apply"] = h.Publisher.Apply(ctx, l.clone().next())
	errs["Replace"] = h.Publisher.Replace(ctx, newLineage(at(11, 1)).snapshot(), nil)
	_, errs["Nodes"] = h.Publisher.Nodes(ctx)
	if ctx.Err() != nil {
		t.Fatal("a closed publisher keeps its callers waiting")
	}
	for method, err := range errs {
		if err == nil {
			t.Errorf("%s of a closed publisher succeeded", method)
		}
	}
}
