package storagetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func testNothingPublished(t testing.TB, h PublisherHarness) {
	_, err := h.Publisher.Head(t.Context())
	mustFail(t, "Head", err, snapshot.ErrNone)
	c, err := load(t.Context(), h.Publisher)
	mustFail(t, "Load", err, snapshot.ErrNone)
	if c.begins > 0 {
		t.Fatal("Load began without a head")
	}
	docs, err := h.Publisher.Lookup(t.Context(), catalog.KindKey, "k")
	if err != nil || len(docs) != 0 {
		t.Fatalf("Lookup: got %v, %v, want nothing", docs, err)
	}
	sameIDs(t, "nothing reported", mustNodes(t, h.Publisher, snapshot.NodeQuery{}))
	if b, err := h.Publisher.LastBeat(t.Context()); err != nil || !b.Equal(snapshot.Beat{}) {
		t.Fatalf("LastBeat: got %+v, %v, want none", b, err)
	}

	l := newLineage(at(10, 100))
	mustFail(
		t,
		"Apply",
		h.Publisher.Apply(t.Context(), l.base(), l.clone().next(someDocs()...)),
		snapshot.ErrStale,
	)
	mustFail(
		t,
		"a whole over a head",
		publishWhole(t.Context(), h.Publisher, l.base(), newLineage(at(11, 1))),
		snapshot.ErrStale,
	)
	_, err = h.Publisher.Head(t.Context())
	mustFail(t, "Head after publishes that were refused", err, snapshot.ErrNone)

	mustGap(t, h.Publisher, at(10, 100))
	arrived := waitNext(t, h.Publisher, snapshot.Position{})
	published(t, h)
	mustFail(t, "Next that waited for the first publish", (<-arrived).err, snapshot.ErrGap)
}

// testHead carries every field through a whole, Apply and Next.
func testHead(t testing.TB, h PublisherHarness) {
	l := newLineage(at(10, 100), someDocs()...)
	full := func() {
		l.head.Sig = strings.Repeat("c0ffee00", 8)
		l.head.Seal = "2026-01"
		l.head.Renderer = 7
		l.head.Forced = true
	}
	full()
	mustPublish(t, h.Publisher, snapshot.Base{}, l)
	mustHold(t, h.Second, l)

	over := l.base()
	l.head.Sig, l.head.Seal, l.head.Renderer, l.head.Forced = "", "", 0, false
	d := l.next()
	mustApply(t, h.Publisher, over, d)
	mustHold(t, h.Second, l)
	sameDelta(t, mustNext(t, h.Second, d.From), d)

	// Fields that this version does not know are carried as they are, and not beyond the publish.
	over = l.base()
	full()
	d = l.next(put(catalog.KindKey, "k", `{}`))
	fields := d.Head.Fields()
	fields["zz_later"], fields["a_later"] = "x=y é <&>", ""
	var err error
	if d.Head, err = snapshot.ParseHead(fields); err != nil {
		t.Fatal(err)
	}
	l.head = d.Head
	mustApply(t, h.Publisher, over, d)
	mustHold(t, h.Second, l)
	sameDelta(t, mustNext(t, h.Second, d.From), d)
	d = mustFollow(t, h.Publisher, l)
	mustHold(t, h.Second, l)
	sameDelta(t, mustNext(t, h.Second, d.From), d)
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
	mustPublish(t, h.Publisher, snapshot.Base{}, l)
	mustHold(t, h.Publisher, l)

	for i, doc := range docs {
		d := mustFollow(
			t,
			h.Publisher,
			l,
			put(catalog.KindKey, keys[len(keys)-1-i], doc),
			del(catalog.KindModel, keys[i]),
		)
		mustHold(t, h.Publisher, l)
		sameDelta(t, mustNext(t, h.Second, d.From), d)
	}
}

// testKinds: a kind is known by its name alone, and one that the head does not count has no documents.
func testKinds(t testing.TB, h PublisherHarness) {
	l := newLineage(at(10, 100), put("gizmos", "a", `{}`), put(catalog.KindKey, "a", `{}`))
	mustPublish(t, h.Publisher, snapshot.Base{}, l)
	mustHold(t, h.Publisher, l)
	d := mustFollow(t, h.Publisher, l, put("gizmos", "b", `{}`), put("widgets", "a", `{}`))
	mustHold(t, h.Second, l)
	sameDelta(t, mustNext(t, h.Second, d.From), d)
	c := &collector{kinds: []catalog.Kind{"gizmos", "trinkets"}}
	if err := h.Second.Load(t.Context(), c); err != nil {
		t.Fatalf("Load of a kind that has documents, and one that has none: %v", err)
	}
	if diff := differ([]docName{{"gizmos", "a"}, {"gizmos", "b"}},
		slices.SortedFunc(maps.Keys(c.docs), compareNames), equal()); diff != "" {
		t.Fatalf("Load of two kinds (-want +got):\n%s", diff)
	}
	next := newLineage(at(11, 1), someDocs()...)
	mustPublish(t, h.Second, l.base(), next)
	mustHold(t, h.Publisher, next)
	for _, kind := range []catalog.Kind{"gizmos", "widgets"} {
		if docs, err := h.Publisher.Lookup(t.Context(), kind, "a", "b"); err != nil || len(docs) > 0 {
			t.Errorf("documents of a kind that is not published any more: %v, %v", docs, err)
		}
	}
	for _, kind := range []catalog.Kind{"", "head", "changes", "beat", "nodes", "sum", "Keys", "a-b",
		catalog.Kind(strings.Repeat("k", 33))} {
		_, err := h.Publisher.Lookup(t.Context(), kind, "a")
		mustFail(t, fmt.Sprintf("Lookup of the kind %q", kind), err, catalog.ErrInvalid)
	}
}

func compareNames(a, b docName) int {
	return strings.Compare(string(a.kind)+"\x00"+a.key, string(b.kind)+"\x00"+b.key)
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
	mustFollow(t, h.Publisher, l, changes...)
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
		if diff := differ(c.want, got); diff != "" {
			t.Fatalf("Lookup, %s (-want +got):\n%s", c.name, diff)
		}
	}
}

func testDocuments(t testing.TB, h PublisherHarness) {
	l := newLineage(at(10, 100), append(manyKeys(3_000, 1), someDocs()...)...)
	mustPublish(t, h.Publisher, snapshot.Base{}, l)
	for _, kind := range append(snapshot.Kinds(), "gizmos") {
		got := make(map[docName][]byte)
		for d, err := range h.Second.Documents(t.Context(), kind) {
			if err != nil {
				t.Fatalf("Documents of %s: %v", kind, err)
			}
			got[docName{d.Kind, d.Key}] = d.Doc
		}
		want := maps.Clone(l.docs)
		maps.DeleteFunc(want, func(n docName, _ []byte) bool { return n.kind != kind })
		if diff := differ(want, got, equal()); diff != "" {
			t.Fatalf("Documents of %s (-want +got):\n%s", kind, diff)
		}
	}
	n := 0
	for range h.Publisher.Documents(t.Context(), catalog.KindKey) {
		if n++; n == 3 {
			break
		}
	}
	failed := func(ctx context.Context, kind catalog.Kind) (last error) {
		for _, err := range h.Publisher.Documents(ctx, kind) {
			if last != nil {
				t.Fatal("Documents goes on after an error")
			}
			last = err
		}
		return last
	}
	mustFail(t, "Documents of a kind that is none", failed(t.Context(), "nodes"), catalog.ErrInvalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	mustFail(t, "Documents with a context that has ended", failed(ctx, catalog.KindKey), context.Canceled)
}

// testAliasing changes what goes in and what comes out: nobody else sees it.
func testAliasing(t testing.TB, h PublisherHarness) {
	l := newLineage(at(10, 100), someDocs()...)
	staged, err := h.Publisher.Stage(t.Context())
	if err != nil {
		t.Fatalf("Stage: %v", err)
	}
	defer staged.Discard(t.Context())
	docs := l.whole()
	if err := staged.Add(t.Context(), docs); err != nil {
		t.Fatalf("Add: %v", err)
	}
	scribbleOver(docs)
	given := clonedHead(t, l.head)
	if err := staged.Publish(t.Context(), snapshot.Base{}, given); err != nil {
		t.Fatalf("Publish: %v", err)
	}
	scribbleHead(given)
	mustHold(t, h.Publisher, l)

	over := l.base()
	d := l.next(put(catalog.KindKey, "k", `{"mine":true}`), put(catalog.KindModel, "m", `{}`))
	applied := snapshot.Delta{From: d.From, Head: clonedHead(t, d.Head), Changes: []snapshot.Change{
		put(catalog.KindKey, "k", `{"mine":true}`), put(catalog.KindModel, "m", `{}`),
	}}
	mustApply(t, h.Publisher, over, applied)
	scribbleOver(applied.Changes)
	scribbleHead(applied.Head)
	mustHold(t, h.Publisher, l)

	for range 2 {
		sameDelta(t, mustNext(t, h.Publisher, d.From), d)
		got := mustNext(t, h.Publisher, d.From)
		scribbleOver(got.Changes)
		scribbleHead(got.Head)

		whole, err := load(t.Context(), h.Publisher)
		if err != nil {
			t.Fatalf("Load: %v", err)
		}
		for _, doc := range whole.docs {
			overwrite(doc)
		}
		scribbleHead(whole.head)
		found, err := h.Publisher.Lookup(t.Context(), catalog.KindKey, "k")
		if err != nil || len(found) != 1 {
			t.Fatalf("Lookup: %v, %v", found, err)
		}
		overwrite(found[0].Doc)
		for d, err := range h.Publisher.Documents(t.Context(), catalog.KindKey) {
			if err != nil {
				t.Fatalf("Documents: %v", err)
			}
			overwrite(d.Doc)
		}
		head, err := h.Publisher.Head(t.Context())
		if err != nil {
			t.Fatalf("Head: %v", err)
		}
		scribbleHead(head)
		mustHold(t, h.Publisher, l)
	}

	mended := []snapshot.Change{put(catalog.KindKey, "k", `{"mine":true}`)}
	if err := h.Publisher.Repair(t.Context(), l.base(), mended); err != nil {
		t.Fatalf("Repair: %v", err)
	}
	scribbleOver(mended)
	mustHold(t, h.Publisher, l)

	kinds := []catalog.Kind{"keys"}
	mustReport(t, h.Publisher, snapshot.Node{ID: "n", Kinds: kinds})
	kinds[0] = "scribble"
	for range 2 {
		n := mustNodes(t, h.Publisher, snapshot.NodeQuery{}).Nodes[0]
		if n.Kinds[0] != "keys" {
			t.Fatalf("the kinds of a report became %v", n.Kinds)
		}
		n.Kinds[0] = "scribble"
	}
}

func overwrite(doc []byte) {
	for i := range doc {
		doc[i] = '!'
	}
}

func scribbleOver(changes []snapshot.Change) {
	for i := range changes {
		overwrite(changes[i].Doc)
		changes[i].Key = "scribble"
	}
}

func clonedHead(t testing.TB, h snapshot.Head) snapshot.Head {
	t.Helper()
	c, err := snapshot.ParseHead(h.Fields())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func scribbleHead(h snapshot.Head) {
	for kind := range h.Counts {
		h.Counts[kind] = -1
		h.Digest[kind] = snapshot.Digest{}
	}
}

func testTwoHandles(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	mustHold(t, h.Second, l)
	mustFollow(t, h.Second, l, put(catalog.KindKey, "k", `{}`))
	mustHold(t, h.Publisher, l)
	mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", `{"v":2}`))
	mustHold(t, h.Second, l)
	mustReport(t, h.Publisher, snapshot.Node{ID: "n"})
	sameIDs(t, "on the other handle", mustNodes(t, h.Second, snapshot.NodeQuery{}), "n")
}

// testBeat: a beat comes back field for field, and the last that was written counts, whatever it says.
func testBeat(t testing.TB, h PublisherHarness) {
	keys, err := snapshot.NewKeys(catalog.NamedKey{ID: "s1", Key: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range []snapshot.Position{at(10, 100), at(11, 1<<60), at(9, 0)} {
		b := snapshot.Beat{Store: storeID, Position: at, At: time.Unix(1_790_000_000-int64(i), 123456000).UTC()}
		keys.SignBeat(&b)
		if err := h.Publisher.SetBeat(t.Context(), b); err != nil {
			t.Fatalf("SetBeat: %v", err)
		}
		got, err := h.Second.LastBeat(t.Context())
		if err != nil || !got.Equal(b) || got.Position != at || !got.At.Equal(b.At) {
			t.Fatalf("LastBeat: got %+v, %v, want %+v", got, err, b)
		}
		if err := keys.VerifyBeat(got); err != nil {
			t.Errorf("a beat that comes back: %v", err)
		}
	}
}

// testClosed: everything fails after the end, and nothing panics or hangs.
func testClosed(t testing.TB, h PublisherHarness) {
	if h.Close == nil {
		t.Log("this engine cannot be closed")
		return
	}
	l := published(t, h)
	staged, err := h.Publisher.Stage(t.Context())
	if err != nil {
		t.Fatalf("Stage: %v", err)
	}
	arrived := waitNext(t, h.Publisher, l.head.Position)
	h.Close(t)
	select {
	case a := <-arrived:
		if a.err == nil {
			t.Error("Next that waited returned a delta when it was closed")
		}
	case <-time.After(patience / 2):
		t.Error("Next waits on after it was closed")
	}
	over := l.base()
	for name, call := range map[string]func() error{
		"Head": func() error { _, err := h.Publisher.Head(t.Context()); return err },
		"Load": func() error { _, err := load(t.Context(), h.Publisher); return err },
		"Next": func() error {
			ctx, cancel := context.WithTimeout(t.Context(), patience/2)
			defer cancel()
			_, err := h.Publisher.Next(ctx, l.head.Position)
			if ctx.Err() != nil {
				return nil // it waits
			}
			return err
		},
		"Lookup":   func() error { _, err := h.Publisher.Lookup(t.Context(), catalog.KindKey, "k"); return err },
		"Apply":    func() error { return h.Publisher.Apply(t.Context(), over, l.clone().next()) },
		"Repair":   func() error { return h.Publisher.Repair(t.Context(), over, someDocs()) },
		"Add":      func() error { return staged.Add(t.Context(), manyKeys(2000, 1)) },
		"Publish":  func() error { return staged.Publish(t.Context(), over, l.head) },
		"SetBeat":  func() error { return h.Publisher.SetBeat(t.Context(), snapshot.Beat{}) },
		"LastBeat": func() error { _, err := h.Publisher.LastBeat(t.Context()); return err },
		"Report":   func() error { _, err := h.Publisher.Report(t.Context(), snapshot.Node{ID: "n"}); return err },
		"Nodes":    func() error { _, err := h.Publisher.Nodes(t.Context(), snapshot.NodeQuery{}); return err },
		"Documents": func() error {
			for _, err := range h.Publisher.Documents(t.Context(), catalog.KindKey) {
				return err
			}
			return nil
		},
	} {
		if call() == nil {
			t.Errorf("%s succeeds after it was closed", name)
		}
	}
	staged.Discard(t.Context())
}
