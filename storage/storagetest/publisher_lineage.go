package storagetest

import (
	"bytes"
	"context"
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

// unsigned makes hashes and digests without a key.
var unsigned *snapshot.Keys

// docName is the identity of a document.
type docName struct {
	kind catalog.Kind
	key  string
}

// lineage plays the catalog and its relay: it knows what is published, and
// makes correct heads and deltas, digests and counts included. It is the
// model that publishers are compared with.
type lineage struct {
	head snapshot.Head
	docs map[docName][]byte
	sums map[catalog.Kind]snapshot.Digest
}

// newLineage starts with changes, which must be puts, at a position.
func newLineage(at snapshot.Position, changes ...snapshot.Change) *lineage {
	l := &lineage{
		head: snapshot.Head{Format: snapshot.Format, Store: storeID},
		docs: make(map[docName][]byte),
		sums: make(map[catalog.Kind]snapshot.Digest),
	}
	l.moveTo(at, changes...)
	return l
}

func (l *lineage) clone() *lineage {
	return &lineage{l.head, maps.Clone(l.docs), maps.Clone(l.sums)}
}

// next makes the delta to the next revision, and is there afterwards.
func (l *lineage) next(changes ...snapshot.Change) snapshot.Delta {
	at := l.head.Position
	at.Revision++
	return l.moveTo(at, changes...)
}

func (l *lineage) moveTo(to snapshot.Position, changes ...snapshot.Change) snapshot.Delta {
	from := l.head.Position
	for _, c := range changes {
		l.change(c)
	}
	// A new one each time: heads that were given away do not change.
	l.head = snapshot.Head{
		Format: l.head.Format, Store: l.head.Store, Position: to, Mark: catalog.Mark(fmt.Sprintf("%032x", to.Revision)),
		Seal: l.head.Seal, Renderer: l.head.Renderer, Forced: l.head.Forced, Sig: l.head.Sig,
		UpdatedAt: time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC).
			Add(time.Duration(to.Revision%1e9) * time.Millisecond),
		Counts: make(snapshot.Counts), Digest: make(snapshot.Digests),
	}
	for _, kind := range snapshot.Kinds() {
		l.head.Counts[kind] = 0
	}
	for name := range l.docs {
		l.head.Counts[name.kind]++
	}
	for kind := range l.head.Counts {
		l.head.Digest[kind] = unsigned.Digest(kind, l.sums[kind])
	}
	return snapshot.Delta{From: from, Head: l.head, Changes: changes}
}

func (l *lineage) change(c snapshot.Change) {
	name := docName{c.Kind, c.Key}
	if old, ok := l.docs[name]; ok {
		l.sums[c.Kind] = l.sums[c.Kind].Sub(unsigned.Hash(c.Kind, c.Key, old))
		delete(l.docs, name)
	}
	if c.Doc != nil {
		l.sums[c.Kind] = l.sums[c.Kind].Add(unsigned.Hash(c.Kind, c.Key, c.Doc))
		l.docs[name] = slices.Clone(c.Doc)
	}
}

// base names the head as it is published.
func (l *lineage) base() snapshot.Base { return l.head.Base() }

// whole returns everything as puts.
func (l *lineage) whole() []snapshot.Change {
	var all []snapshot.Change
	for name, doc := range l.docs {
		all = append(all, snapshot.Change{Kind: name.kind, Key: name.key, Doc: slices.Clone(doc)})
	}
	return all
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

// someDocs are a few documents of several kinds.
func someDocs() []snapshot.Change {
	return []snapshot.Change{
		put(catalog.KindProvider, "1", `{"id":1,"name":"one"}`),
		put(catalog.KindProvider, "2", `{"id":2,"name":"two"}`),
		put(catalog.KindModel, "default.gpt-4o", `{"name":"gpt-4o"}`),
		put(catalog.KindBinding, "default.gpt-4o", `{"public_model":"gpt-4o"}`),
		put(catalog.KindKey, strings.Repeat("ab", 32), `{"id":7,"status":"active"}`),
	}
}

// published publishes a new lineage with someDocs at 10-100, where nothing was.
func published(t testing.TB, h PublisherHarness) *lineage {
	t.Helper()
	l := newLineage(at(10, 100), someDocs()...)
	mustPublish(t, h.Publisher, snapshot.Base{}, l)
	return l
}

// publishWhole stages a lineage and publishes it over a head.
func publishWhole(ctx context.Context, p snapshot.Publisher, over snapshot.Base, l *lineage) error {
	staged, err := p.Stage(ctx)
	if err != nil {
		return err
	}
	defer staged.Discard(ctx)
	for docs := range slices.Chunk(l.whole(), 700) {
		if err := staged.Add(ctx, docs); err != nil {
			return err
		}
	}
	return staged.Publish(ctx, over, l.head)
}

func mustPublish(t testing.TB, p snapshot.Publisher, over snapshot.Base, l *lineage) {
	t.Helper()
	if err := publishWhole(t.Context(), p, over, l); err != nil {
		t.Fatalf("publish the whole at %s: %v", l.head.Position, err)
	}
}

func mustApply(t testing.TB, p snapshot.Publisher, over snapshot.Base, d snapshot.Delta) {
	t.Helper()
	if err := p.Apply(t.Context(), over, d); err != nil {
		t.Fatalf("Apply from %s to %s: %v", d.From, d.Head.Position, err)
	}
}

// mustFollow applies the delta to the next revision.
func mustFollow(t testing.TB, p snapshot.Publisher, l *lineage, changes ...snapshot.Change) snapshot.Delta {
	t.Helper()
	over := l.base()
	d := l.next(changes...)
	mustApply(t, p, over, d)
	return d
}

// collector is a loader that keeps what it is given, and verifies it at the end.
type collector struct {
	head   snapshot.Head
	docs   map[docName][]byte
	kinds  []catalog.Kind // asked for; nil: all that the head counts
	begins int
	ended  bool
}

func (c *collector) Begin(head snapshot.Head) ([]catalog.Kind, error) {
	c.head, c.docs, c.ended = head, make(map[docName][]byte), false
	c.begins++
	if c.kinds != nil {
		return c.kinds, nil
	}
	return slices.Sorted(maps.Keys(head.Counts)), nil
}

func (c *collector) Add(changes []snapshot.Change) error {
	for _, ch := range changes {
		if ch.Doc == nil {
			delete(c.docs, docName{ch.Kind, ch.Key})
		} else {
			c.docs[docName{ch.Kind, ch.Key}] = ch.Doc
		}
	}
	return nil
}

func (c *collector) End(head snapshot.Head) error {
	c.head, c.ended = head, true
	sums, counts := make(map[catalog.Kind]snapshot.Digest), make(snapshot.Counts)
	for name, doc := range c.docs {
		sums[name.kind] = sums[name.kind].Add(unsigned.Hash(name.kind, name.key, doc))
		counts[name.kind]++
	}
	for kind, n := range head.Counts {
		if c.kinds != nil && !slices.Contains(c.kinds, kind) {
			continue
		}
		if counts[kind] != n || unsigned.Digest(kind, sums[kind]) != head.Digest[kind] {
			return fmt.Errorf("%d %s, the head says %d: %w", counts[kind], kind, n, snapshot.ErrCorrupt)
		}
	}
	return nil
}

func load(ctx context.Context, s snapshot.Source) (*collector, error) {
	c := new(collector)
	return c, s.Load(ctx, c)
}

// mustHold checks that s serves exactly what l holds, by Head, Load and Lookup.
func mustHold(t testing.TB, s snapshot.Source, l *lineage) {
	t.Helper()
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatalf("Head: %v", err)
	}
	sameHead(t, "Head", head, l.head)
	whole, err := load(t.Context(), s)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	sameHead(t, "the head that is loaded", whole.head, l.head)
	if diff := differ(l.docs, whole.docs, equal()); diff != "" {
		t.Fatalf("Load is not what was published (-want +got):\n%s", diff)
	}
	for kind := range l.head.Counts {
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
		if diff := differ(want, docs, equal()); diff != "" {
			t.Fatalf("Lookup is not what was published (-want +got):\n%s", diff)
		}
	}
}

// sameHead compares all fields as they are published, and what is read in them.
func sameHead(t testing.TB, what string, got, want snapshot.Head) {
	t.Helper()
	if diff := differ(want.Fields(), got.Fields()); diff != "" {
		t.Fatalf("%s is not what was published (-want +got):\n%s", what, diff)
	}
	if got.Position != want.Position || !got.Counts.Equal(want.Counts) || got.Base() != want.Base() {
		t.Fatalf("%s is read as %+v, want %+v", what, got, want)
	}
}

// equal lets cmp compare what publishers return: nil and empty are one but for
// documents, whose bytes are compared as such, because cmp would look at each.
func equal() cmp.Option {
	someBytes := func(a, b []byte) bool { return len(a)+len(b) > 0 }
	sameBytes := func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
	return cmp.Options{
		cmpopts.EquateEmpty(), cmp.FilterValues(someBytes, cmp.Comparer(sameBytes)), cmp.AllowUnexported(docName{}),
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
	sameHead(t, "the head of Next's delta", got.Head, want.Head)
	if got.From != want.From {
		t.Fatalf("Next's delta starts at %s, want %s", got.From, want.From)
	}
	if diff := differ(want.Changes, got.Changes, equal()); diff != "" {
		t.Fatalf("Next from %s is not what was applied (-want +got):\n%s", want.From, diff)
	}
}
