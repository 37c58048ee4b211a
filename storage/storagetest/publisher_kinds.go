package storagetest

import (
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// of returns the snapshot of some kinds alone, after a position.
func (l *lineage) of(from snapshot.Position, kinds ...catalog.Kind) *snapshot.Snapshot {
	whole := l.snapshot()
	s := &snapshot.Snapshot{Head: whole.Head, Kinds: kinds, From: from}
	for _, d := range whole.Docs {
		for _, k := range kinds {
			if d.Kind == k {
				s.Docs = append(s.Docs, d)
			}
		}
	}
	return s
}

// testReplaceKinds: some kinds are replaced, the others stay as they are.
func testReplaceKinds(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	for _, c := range []struct {
		name    string
		changes []snapshot.Change
		kinds   []catalog.Kind
	}{
		{"one kind", []snapshot.Change{put(catalog.KindKey, "k1", `{}`), put(catalog.KindKey, "k2", `{}`)}, []catalog.Kind{catalog.KindKey}},
		{
			"two kinds",
			[]snapshot.Change{put(catalog.KindProvider, "1", `{"v":2}`), put(catalog.KindBinding, "default.gpt-4o", `{"v":2}`)},
			[]catalog.Kind{catalog.KindBinding, catalog.KindProvider},
		},
		{"a kind that loses all", []snapshot.Change{del(catalog.KindModel, "default.gpt-4o")}, []catalog.Kind{catalog.KindModel}},
		{"a kind that had none", []snapshot.Change{put(catalog.KindModel, "default.new", `{}`)}, []catalog.Kind{catalog.KindModel}},
		{"all kinds", []snapshot.Change{put(catalog.KindKey, "k3", `{}`)}, catalog.Kinds()},
	} {
		from := l.head.Position
		waiting := waitNext(t, h.Second, from)
		l.next(c.changes...)
		if err := h.Publisher.Replace(t.Context(), l.of(from, c.kinds...), nil); err != nil {
			t.Fatalf("Replace, %s: %v", c.name, err)
		}
		mustHold(t, h.Publisher, l)
		mustFail(t, "Next that waited for a Replace, "+c.name, (<-waiting).err, snapshot.ErrGap)
		mustGap(t, h.Publisher, from)
		mustApply(t, h.Publisher, l.next(put(catalog.KindKey, "after", `{"after":"`+c.name+`"}`)))
		mustHold(t, h.Publisher, l)
	}
}

// testReplaceKindsRefuses: what stays must be what the snapshot was made beside.
func testReplaceKindsRefuses(t testing.TB, h PublisherHarness) {
	nothing := newLineage(at(10, 5), someDocs()...)
	mustFail(t, "Replace of a kind where nothing was published",
		h.Publisher.Replace(t.Context(), nothing.of(snapshot.Position{}, catalog.KindKey), nil), snapshot.ErrStale)

	l := published(t, h)
	from := l.head.Position
	early := l.clone()
	early.moveTo(at(10, 300), put(catalog.KindKey, "k", `{}`))
	mustApply(t, h.Publisher, l.next(put(catalog.KindProvider, "1", `{"v":3}`)))
	foreign, miscounted := l.clone(), l.clone()
	foreign.moveTo(at(10, 301), put(catalog.KindKey, "k", `{}`))
	foreign.head.Store = "0197c0de-0000-7000-8000-00000000beef"
	miscounted.moveTo(at(10, 302), put(catalog.KindKey, "k", `{}`))
	miscounted.head.Counts[catalog.KindProvider]++
	old := l.clone()
	for _, c := range []struct {
		name string
		by   *snapshot.Snapshot
		want error
	}{
		{"after another position", early.of(from, catalog.KindKey), snapshot.ErrStale},
		{"beside another catalog's", foreign.of(l.head.Position, catalog.KindKey), snapshot.ErrStale},
		{"at the head's position", old.of(l.head.Position, catalog.KindKey), snapshot.ErrStale},
		{"what stays is not as many", miscounted.of(l.head.Position, catalog.KindKey), snapshot.ErrCorrupt},
	} {
		mustFail(t, "Replace of a kind, "+c.name, h.Publisher.Replace(t.Context(), c.by, nil), c.want)
		mustHold(t, h.Publisher, l)
	}
	mustNext(t, h.Publisher, from) // the history is still there
}
