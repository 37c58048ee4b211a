package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	// patience is how long a test waits for what must happen.
	patience = 10 * time.Second

	// quiet is how long a test waits to see that something does not happen.
	quiet = 100 * time.Millisecond

	storeID = "0197c0de-0000-7000-8000-000000000001"
)

// docName is the identity of a document.
type docName struct {
	kind catalog.Kind
	key  string
}

// lineage plays the catalog and its relay: it knows what is published, and
// makes correct snapshots and deltas, digest and counts included. It is the
// model that publishers are compared with.
type lineage struct {
	head snapshot.Head
	docs map[docName][]byte
}

// newLineage starts with changes, which must be puts, at a position.
func newLineage(at snapshot.Position, changes ...snapshot.Change) *lineage {
	l := &lineage{
		head: snapshot.Head{Format: 1, Store: storeID, Counts: snapshot.Counts{}},
		docs: make(map[docName][]byte),
	}
	l.moveTo(at, changes...)
	return l
}

func (l *lineage) clone() *lineage {
	c := *l
	c.docs = maps.Clone(l.docs)
	c.head.Counts = maps.Clone(l.head.Counts)
	return &c
}

// next makes the delta to the next revision, and is there afterwards.
func (l *lineage) next(changes ...snapshot.Change) snapshot.Delta {
	at := l.head.Position
	at.Revision++
	return l.moveTo(at, changes...)
}

func (l *lineage) moveTo(to snapshot.Position, changes ...snapshot.Change) snapshot.Delta {
	from := l.head.Position
	l.head.Counts = maps.Clone(l.head.Counts)
	for _, c := range changes {
		name := docName{c.Kind, c.Key}
		if old, ok := l.docs[name]; ok {
			l.head.Digest = l.head.Digest.Sub(plainHash(c.Kind, c.Key, old))
			l.head.Counts[c.Kind]--
			delete(l.docs, name)
		}
		if c.Doc != nil {
			l.head.Digest = l.head.Digest.Add(plainHash(c.Kind, c.Key, c.Doc))
			l.head.Counts[c.Kind]++
			l.docs[name] = slices.Clone(c.Doc)
		}
	}
	maps.DeleteFunc(l.head.Counts, func(_ catalog.Kind, n int) bool { return n == 0 })
	l.head.Position = to
	l.head.Mark = catalog.Mark(fmt.Sprintf("%032x", to.Revision))
	l.head.UpdatedAt = time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC).Add(time.Duration(to.Revision) * time.Millisecond)
	head := l.head
	head.Counts = maps.Clone(head.Counts)
	return snapshot.Delta{From: from, Head: head, Changes: changes}
}

// snapshot returns the whole.
func (l *lineage) snapshot() *snapshot.Snapshot {
	s := &snapshot.Snapshot{Head: l.head}
	s.Head.Counts = maps.Clone(l.head.Counts)
	for name, doc := range l.docs {
		s.Docs = append(s.Docs, snapshot.Document{Kind: name.kind, Key: name.key, Doc: slices.Clone(doc)})
	}
	return s
}

// plainHash is the hash of a document without a digest key.
func plainHash(k catalog.Kind, key string, doc []byte) snapshot.Digest {
	return sha256.Sum256(slices.Concat([]byte(k), []byte{0}, []byte(key), []byte{0}, doc))
}

// plainDigest is computed over documents, whatever their head says.
func plainDigest(docs []snapshot.Document) (sum snapshot.Digest) {
	for _, d := range docs {
		sum = sum.Add(plainHash(d.Kind, d.Key, d.Doc))
	}
	return sum
}

func at(epoch catalog.Epoch, revision catalog.Revision) snapshot.Position {
	return snapshot.Position{Epoch: epoch, Revision: revision}
}

func put(k catalog.Kind, key, doc string) snapshot.Change {
	return snapshot.Change{Kind: k, Key: key, Doc: []byte(doc)}
}

func del(k catalog.Kind, key string) snapshot.Change {
	return snapshot.Change{Kind: k, Key: key}
}

// someDocs are a few documents of every kind.
func someDocs() []snapshot.Change {
	return []snapshot.Change{
		put(catalog.KindProvider, "1", `{"id":1,"name":"one"}`),
		put(catalog.KindProvider, "2", `{"id":2,"name":"two"}`),
		put(catalog.KindModel, "default.gpt-4o", `{"name":"gpt-4o"}`),
		put(catalog.KindBinding, "default.gpt-4o", `{"public_model":"gpt-4o"}`),
		put(catalog.KindKey, strings.Repeat("ab", 32), `{"id":7,"status":"active"}`),
	}
}

// published replaces what is published by a new lineage with someDocs at
// 10-100, and returns it.
func published(t testing.TB, h PublisherHarness) *lineage {
	t.Helper()
	l := newLineage(at(10, 100), someDocs()...)
	mustReplace(t, h.Publisher, l)
	return l
}

func mustReplace(t testing.TB, p snapshot.Publisher, l *lineage) {
	t.Helper()
	if err := p.Replace(t.Context(), l.snapshot(), nil); err != nil {
		t.Fatalf("Replace by %s: %v", l.head.Position, err)
	}
}

func mustApply(t testing.TB, p snapshot.Publisher, d snapshot.Delta) {
	t.Helper()
	if err := p.Apply(t.Context(), d); err != nil {
		t.Fatalf("Apply from %s to %s: %v", d.From, d.Head.Position, err)
	}
}

// mustHold checks that s serves exactly what l holds, by Head, Load and Lookup.
func mustHold(t testing.TB, s snapshot.Source, l *lineage) {
	t.Helper()
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatalf("Head: %v", err)
	}
	if diff := cmp.Diff(l.head, head, equal()); diff != "" {
		t.Fatalf("Head is not what was published (-want +got):\n%s", diff)
	}
	whole, err := s.Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	mustEqual(t, "Load", whole, l.snapshot())
	for _, kind := range catalog.Kinds() {
		var want []snapshot.Document
		var keys []string
		for name, doc := range l.docs {
			if name.kind == kind {
				want = append(want, snapshot.Document{Kind: kind, Key: name.key, Doc: doc})
				keys = append(keys, name.key)
			}
		}
		docs, err := s.Lookup(t.Context(), kind, keys...)
		if err != nil {
			t.Fatalf("Lookup: %v", err)
		}
		if diff := cmp.Diff(want, docs, equal()); diff != "" {
			t.Fatalf("Lookup is not what was published (-want +got):\n%s", diff)
		}
	}
}

// equal lets cmp compare what publishers return: nil and empty are one but for
// documents, whose bytes are compared as such, because cmp would look at each.
func equal() cmp.Option {
	someBytes := func(a, b []byte) bool { return len(a)+len(b) > 0 }
	sameBytes := func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
	return cmp.Options{cmpopts.EquateEmpty(), cmp.FilterValues(someBytes, cmp.Comparer(sameBytes))}
}

// mustEqual compares snapshots, in which the order of documents is free.
func mustEqual(t testing.TB, what string, got, want *snapshot.Snapshot) {
	t.Helper()
	byName := cmpopts.SortSlices(func(a, b snapshot.Document) bool {
		return a.Kind < b.Kind || a.Kind == b.Kind && a.Key < b.Key
	})
	if diff := cmp.Diff(want, got, byName, equal()); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func mustFail(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want one that wraps %q", what, err, want)
	}
}

// mustNext returns the delta after a position, which must come in time.
func mustNext(t testing.TB, s snapshot.Source, after snapshot.Position) snapshot.Delta {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d, err := s.Next(ctx, after)
	if err != nil {
		t.Fatalf("Next after %s: %v", after, err)
	}
	return d
}

// mustGap checks that Next finds a gap after a position, in time.
func mustGap(t testing.TB, s snapshot.Source, after snapshot.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := s.Next(ctx, after)
	mustFail(t, "Next after "+after.String(), err, snapshot.ErrGap)
}

// mustBlock checks that Next finds nothing after a position.
func mustBlock(t testing.TB, s snapshot.Source, after snapshot.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), quiet)
	defer cancel()
	d, err := s.Next(ctx, after)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Next after %s: got %+v, %v, want it to block", after, d, err)
	}
}

// arrival is what Next returned.
type arrival struct {
	delta snapshot.Delta
	err   error
}

// waitNext calls Next in the background, and returns when that probably blocks.
func waitNext(t testing.TB, s snapshot.Source, after snapshot.Position) <-chan arrival {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	arrived := make(chan arrival, 1)
	go func() {
		d, err := s.Next(ctx, after)
		arrived <- arrival{d, err}
	}()
	select {
	case a := <-arrived:
		t.Fatalf("Next after %s: got %+v, %v, want it to block", after, a.delta, a.err)
	case <-time.After(quiet):
	}
	return arrived
}

// sameDelta compares what Next returned with what was applied.
func sameDelta(t testing.TB, got, want snapshot.Delta) {
	t.Helper()
	if diff := cmp.Diff(want, got, equal()); diff != "" {
		t.Fatalf("Next from %s is not what was applied (-want +got):\n%s", want.From, diff)
	}
}
