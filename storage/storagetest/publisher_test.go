package storagetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// TestPublisherSuiteCatches runs single tests of the suite against publishers
// that are broken in one way each: the test must fail.
func TestPublisherSuiteCatches(t *testing.T) {
	for _, c := range []struct {
		name   string // what is wrong
		caught string // by which test
		broken func(snapshot.Publisher) snapshot.Publisher
	}{
		{"Apply does not compare", "apply refuses", func(p snapshot.Publisher) snapshot.Publisher { return applyAnywhere{p} }},
		{"Apply takes any store", "apply refuses", func(p snapshot.Publisher) snapshot.Publisher { return applyAnyStore{p} }},
		{"Apply does not count", "apply refuses", func(p snapshot.Publisher) snapshot.Publisher { return swallow{p, snapshot.ErrCorrupt} }},
		{"Apply tells losers that they won", "apply races", func(p snapshot.Publisher) snapshot.Publisher { return swallow{p, snapshot.ErrStale} }},
		{"Apply skips empty deltas", "apply without changes", func(p snapshot.Publisher) snapshot.Publisher { return skipEmpty{p} }},
		{"Apply only acknowledges", "apply", func(p snapshot.Publisher) snapshot.Publisher { return onlyAcknowledge{p} }},
		{"Head forgets fields", "head", func(p snapshot.Publisher) snapshot.Publisher { return headForgets{p} }},
		{"Load mixes two publishes", "load is never torn", func(p snapshot.Publisher) snapshot.Publisher { return loadTorn{p} }},
		{"Load serialises anew", "bytes", func(p snapshot.Publisher) snapshot.Publisher { return loadCompact{p} }},
		{"Load shares memory", "aliasing", func(p snapshot.Publisher) snapshot.Publisher { return &loadShared{Publisher: p} }},
		{"Next shares memory", "aliasing", func(p snapshot.Publisher) snapshot.Publisher { return &nextShared{Publisher: p} }},
		{"Next returns the newest", "next follows", func(p snapshot.Publisher) snapshot.Publisher { return nextNewest{p} }},
		{"Next does not block", "next blocks", func(p snapshot.Publisher) snapshot.Publisher { return nextNever{p} }},
		{"Next outlives its context", "next ends with its context", func(p snapshot.Publisher) snapshot.Publisher { return nextOutlives{p} }},
		{"Next conceals gaps", "next finds gaps", func(p snapshot.Publisher) snapshot.Publisher { return nextGapless{p} }},
		{"Next conceals a Replace", "next after a replace", func(p snapshot.Publisher) snapshot.Publisher { return nextGapless{p} }},
		{"Next finds ends in old positions", "nothing published", func(p snapshot.Publisher) snapshot.Publisher { return nextGapless{p} }},
		{"Lookup sorts", "lookup", func(p snapshot.Publisher) snapshot.Publisher { return lookupSorted{p} }},
		{"Lookup fills in absent documents", "lookup", func(p snapshot.Publisher) snapshot.Publisher { return lookupFills{p} }},
		{"Nodes come in any order", "nodes", func(p snapshot.Publisher) snapshot.Publisher { return nodesReversed{p} }},
		{"Nodes say themselves when they were seen", "nodes", func(p snapshot.Publisher) snapshot.Publisher { return nodesTrusted{p} }},
		{"Nodes are never forgotten", "nodes are forgotten", func(p snapshot.Publisher) snapshot.Publisher { return &nodesKept{Publisher: p} }},
		{"Replace accepts what is stale", "replace refuses", func(p snapshot.Publisher) snapshot.Publisher { return swallow{p, snapshot.ErrStale} }},
		{"Replace does not count", "replace refuses", func(p snapshot.Publisher) snapshot.Publisher { return swallow{p, snapshot.ErrCorrupt} }},
		{"Replace only acknowledges", "replace", func(p snapshot.Publisher) snapshot.Publisher { return onlyAcknowledge{p} }},
		{"Replace ignores the catch-up", "replace catches up", func(p snapshot.Publisher) snapshot.Publisher { return replaceDeaf{p} }},
		{"Replace catches up once", "replace catches up", func(p snapshot.Publisher) snapshot.Publisher { return replaceOnce{p} }},
		{"Replace goes on after a failed catch-up", "replace and a failing catch-up", func(p snapshot.Publisher) snapshot.Publisher { return replaceEarly{p} }},
		{"Replace shows itself before it is done", "replace hides its work", func(p snapshot.Publisher) snapshot.Publisher { return replaceEarly{p} }},
		{"Replace of some kinds is of all", "replace of some kinds", func(p snapshot.Publisher) snapshot.Publisher { return replaceAllKinds{p} }},
		{"Replace of some kinds goes in anywhere", "replace of some kinds refuses", func(p snapshot.Publisher) snapshot.Publisher { return replaceKindsAnywhere{p} }},
		{"Replace undoes publishes", "replace loses no publish", func(p snapshot.Publisher) snapshot.Publisher { return replaceBlind{p} }},
		{"racing Replaces all win", "replace races", func(p snapshot.Publisher) snapshot.Publisher { return swallow{p, snapshot.ErrStale} }},
		{"big Replaces are cut short", "replace is big", func(p snapshot.Publisher) snapshot.Publisher { return replaceShort{p} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inner := memstore.NewPublisher()
			broken := c.broken(inner)
			h := PublisherHarness{Publisher: broken, Second: broken, History: 1000}
			if kept, ok := broken.(*nodesKept); ok {
				h.Age = kept.age
			}
			if !failsPublisherTest(t, c.caught, h) {
				t.Errorf("the test %q does not notice", c.caught)
			}
		})
	}
}

// TestPublisherSuiteCatchesHarness: broken in what is not a method.
func TestPublisherSuiteCatchesHarness(t *testing.T) {
	for _, c := range []struct {
		name, caught string
		spoil        func(*PublisherHarness)
	}{
		{"handles do not share data", "two handles", func(h *PublisherHarness) { h.Second = memstore.NewPublisher() }},
		{"deltas are kept for ever", "next after trimming", func(h *PublisherHarness) { h.History = 10 }},
		{"closing does nothing", "closed", func(h *PublisherHarness) { h.Close = func(testing.TB) {} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := memstore.NewPublisher()
			h := PublisherHarness{Publisher: p, Second: p}
			c.spoil(&h)
			if !failsPublisherTest(t, c.caught, h) {
				t.Errorf("the test %q does not notice", c.caught)
			}
		})
	}
}

// failsPublisherTest runs one test of the suite, and reports whether it fails.
func failsPublisherTest(t *testing.T, name string, h PublisherHarness) bool {
	t.Helper()
	i := slices.IndexFunc(publisherCases, func(c publisherCase) bool { return c.name == name })
	if i < 0 {
		t.Fatalf("the suite has no test %q", name)
	}
	r := &failureRecorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.cleanUp()
		publisherCases[i].test(r, h)
	}()
	<-done
	return r.Failed()
}

// failureRecorder is a testing.TB that may fail without harm.
type failureRecorder struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	cleanups []func()
}

func (r *failureRecorder) Fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *failureRecorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *failureRecorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *failureRecorder) cleanUp() {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
}

func (r *failureRecorder) FailNow()              { r.Fail(); runtime.Goexit() }
func (r *failureRecorder) Error(...any)          { r.Fail() }
func (r *failureRecorder) Errorf(string, ...any) { r.Fail() }
func (r *failureRecorder) Fatal(...any)          { r.FailNow() }
func (r *failureRecorder) Fatalf(string, ...any) { r.FailNow() }
func (r *failureRecorder) Log(...any)            {}
func (r *failureRecorder) Logf(string, ...any)   {}

// The broken publishers.

type applyAnywhere struct{ snapshot.Publisher }

func (p applyAnywhere) Apply(ctx context.Context, d snapshot.Delta) error {
	if head, err := p.Head(ctx); err == nil {
		d.From = head.Position
	}
	return p.Publisher.Apply(ctx, d)
}

type applyAnyStore struct{ snapshot.Publisher }

func (p applyAnyStore) Apply(ctx context.Context, d snapshot.Delta) error {
	d.Head.Store = storeID
	return p.Publisher.Apply(ctx, d)
}

// swallow turns one error of Apply and Replace into success.
type swallow struct {
	snapshot.Publisher
	err error
}

func (p swallow) Apply(ctx context.Context, d snapshot.Delta) error {
	return p.filter(p.Publisher.Apply(ctx, d))
}

func (p swallow) Replace(ctx context.Context, s *snapshot.Snapshot, fn snapshot.CatchUp) error {
	return p.filter(p.Publisher.Replace(ctx, s, fn))
}

func (p swallow) filter(err error) error {
	if errors.Is(err, p.err) {
		return nil
	}
	return err
}

type skipEmpty struct{ snapshot.Publisher }

func (p skipEmpty) Apply(ctx context.Context, d snapshot.Delta) error {
	if len(d.Changes) == 0 {
		return nil
	}
	return p.Publisher.Apply(ctx, d)
}

// onlyAcknowledge lets the first Replace through.
type onlyAcknowledge struct{ snapshot.Publisher }

func (p onlyAcknowledge) Apply(context.Context, snapshot.Delta) error { return nil }

func (p onlyAcknowledge) Replace(ctx context.Context, s *snapshot.Snapshot, fn snapshot.CatchUp) error {
	if _, err := p.Head(ctx); err == nil {
		return nil
	}
	return p.Publisher.Replace(ctx, s, fn)
}

type headForgets struct{ snapshot.Publisher }

func (p headForgets) Head(ctx context.Context) (snapshot.Head, error) {
	h, err := p.Publisher.Head(ctx)
	h.UpdatedAt, h.Forced = h.UpdatedAt.Truncate(time.Second), false
	return h, err
}

type loadTorn struct{ snapshot.Publisher }

func (p loadTorn) Load(ctx context.Context) (*snapshot.Snapshot, error) {
	head, err := p.Head(ctx)
	if err != nil {
		return nil, err
	}
	s, err := p.Publisher.Load(ctx)
	if err == nil {
		s.Head = head
	}
	return s, err
}

type loadCompact struct{ snapshot.Publisher }

func (p loadCompact) Load(ctx context.Context) (*snapshot.Snapshot, error) {
	s, err := p.Publisher.Load(ctx)
	if err != nil {
		return nil, err
	}
	for i, d := range s.Docs {
		var compact bytes.Buffer
		if err := json.Compact(&compact, d.Doc); err != nil {
			return nil, err
		}
		s.Docs[i].Doc = compact.Bytes()
	}
	return s, nil
}

type loadShared struct {
	snapshot.Publisher
	last *snapshot.Snapshot
}

func (p *loadShared) Load(ctx context.Context) (*snapshot.Snapshot, error) {
	head, err := p.Head(ctx)
	if err != nil {
		return nil, err
	}
	if p.last == nil || p.last.Head.Position != head.Position {
		p.last, err = p.Publisher.Load(ctx)
	}
	return p.last, err
}

type nextShared struct {
	snapshot.Publisher
	deltas sync.Map
}

func (p *nextShared) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	d, err := p.Publisher.Next(ctx, after)
	if err != nil {
		return d, err
	}
	shared, _ := p.deltas.LoadOrStore(after, d)
	return shared.(snapshot.Delta), nil
}

type nextNewest struct{ snapshot.Publisher }

func (p nextNewest) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	d, err := p.Publisher.Next(ctx, after)
	for err == nil {
		head, headErr := p.Head(ctx)
		if headErr != nil || d.Head.Position == head.Position {
			break
		}
		d, err = p.Publisher.Next(ctx, d.Head.Position)
	}
	return d, err
}

type nextNever struct{ snapshot.Publisher }

func (p nextNever) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	head, err := p.Head(ctx)
	if err == nil && head.Position == after {
		return snapshot.Delta{From: after, Head: head}, nil
	}
	return p.Publisher.Next(ctx, after)
}

type nextOutlives struct{ snapshot.Publisher }

func (p nextOutlives) Next(_ context.Context, after snapshot.Position) (snapshot.Delta, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return p.Publisher.Next(ctx, after)
}

// nextGapless waits instead of telling of a gap.
type nextGapless struct{ snapshot.Publisher }

func (p nextGapless) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	d, err := p.Publisher.Next(ctx, after)
	if errors.Is(err, snapshot.ErrGap) {
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-time.After(time.Second):
			return d, errors.New("nothing came")
		}
	}
	return d, err
}

type lookupSorted struct{ snapshot.Publisher }

func (p lookupSorted) Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
	docs, err := p.Publisher.Lookup(ctx, k, keys...)
	slices.SortFunc(docs, func(a, b snapshot.Document) int { return strings.Compare(a.Key, b.Key) })
	return docs, err
}

type lookupFills struct{ snapshot.Publisher }

func (p lookupFills) Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
	var all []snapshot.Document
	for _, key := range keys {
		docs, err := p.Publisher.Lookup(ctx, k, key)
		if err != nil {
			return nil, err
		}
		if len(docs) == 0 {
			docs = []snapshot.Document{{Kind: k, Key: key}}
		}
		all = append(all, docs...)
	}
	return all, nil
}

type nodesReversed struct{ snapshot.Publisher }

func (p nodesReversed) Nodes(ctx context.Context) ([]snapshot.Node, error) {
	nodes, err := p.Publisher.Nodes(ctx)
	slices.Reverse(nodes)
	return nodes, err
}

type nodesTrusted struct{ snapshot.Publisher }

func (p nodesTrusted) Nodes(ctx context.Context) ([]snapshot.Node, error) {
	nodes, err := p.Publisher.Nodes(ctx)
	for i := range nodes {
		nodes[i].SeenAt = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return nodes, err
}

type nodesKept struct{ snapshot.Publisher }

func (*nodesKept) age(testing.TB, time.Duration) {}

type replaceDeaf struct{ snapshot.Publisher }

func (p replaceDeaf) Replace(ctx context.Context, s *snapshot.Snapshot, _ snapshot.CatchUp) error {
	return p.Publisher.Replace(ctx, s, nil)
}

type replaceOnce struct{ snapshot.Publisher }

func (p replaceOnce) Replace(ctx context.Context, s *snapshot.Snapshot, fn snapshot.CatchUp) error {
	if fn == nil {
		return p.Publisher.Replace(ctx, s, nil)
	}
	d, err := fn(ctx, s.Head.Position)
	if err != nil {
		return err
	}
	return p.Publisher.Replace(ctx, merge(s, d), nil)
}

// replaceEarly publishes first and catches up afterwards.
type replaceEarly struct{ snapshot.Publisher }

func (p replaceEarly) Replace(ctx context.Context, s *snapshot.Snapshot, fn snapshot.CatchUp) error {
	if err := p.Publisher.Replace(ctx, s, nil); err != nil || fn == nil {
		return err
	}
	for at := s.Head.Position; ; {
		d, err := fn(ctx, at)
		if err != nil || len(d.Changes) == 0 {
			return err
		}
		if err := p.Apply(ctx, d); err != nil {
			return err
		}
		at = d.Head.Position
	}
}

// replaceBlind does not look whether the head has moved while it caught up.
type replaceBlind struct{ snapshot.Publisher }

func (p replaceBlind) Replace(ctx context.Context, s *snapshot.Snapshot, fn snapshot.CatchUp) error {
	for fn != nil {
		d, err := fn(ctx, s.Head.Position)
		if err != nil {
			return err
		}
		if len(d.Changes) == 0 {
			break
		}
		s = merge(s, d)
	}
	return p.Publisher.Replace(ctx, s, nil)
}

type replaceAllKinds struct{ snapshot.Publisher }

func (p replaceAllKinds) Replace(ctx context.Context, s *snapshot.Snapshot, fn snapshot.CatchUp) error {
	whole := *s
	whole.Kinds = nil
	return p.Publisher.Replace(ctx, &whole, fn)
}

type replaceKindsAnywhere struct{ snapshot.Publisher }

func (p replaceKindsAnywhere) Replace(ctx context.Context, s *snapshot.Snapshot, fn snapshot.CatchUp) error {
	anywhere := *s
	if h, err := p.Head(ctx); err == nil && len(s.Kinds) > 0 {
		anywhere.From = h.Position
	}
	return p.Publisher.Replace(ctx, &anywhere, fn)
}

type replaceShort struct{ snapshot.Publisher }

func (p replaceShort) Replace(ctx context.Context, s *snapshot.Snapshot, fn snapshot.CatchUp) error {
	if len(s.Docs) > 10_000 {
		cut := *s
		cut.Docs = s.Docs[:10_000]
		cut.Head.Counts = make(snapshot.Counts)
		for _, d := range cut.Docs {
			cut.Head.Counts[d.Kind]++
		}
		s = &cut
	}
	return p.Publisher.Replace(ctx, s, fn)
}

// merge returns s with d applied.
func merge(s *snapshot.Snapshot, d snapshot.Delta) *snapshot.Snapshot {
	docs := make(map[docName]snapshot.Document)
	for _, doc := range s.Docs {
		docs[docName{doc.Kind, doc.Key}] = doc
	}
	for _, c := range d.Changes {
		if c.Doc == nil {
			delete(docs, docName{c.Kind, c.Key})
		} else {
			docs[docName{c.Kind, c.Key}] = snapshot.Document(c)
		}
	}
	merged := &snapshot.Snapshot{Head: d.Head}
	for _, doc := range docs {
		merged.Docs = append(merged.Docs, doc)
	}
	return merged
}
