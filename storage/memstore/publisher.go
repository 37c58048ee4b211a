package memstore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	// maxDeltas bounds the history that Next serves.
	maxDeltas = 1000

	// maxCatchUps bounds how often a Replace starts its catch-up anew because
	// others have published meanwhile.
	maxCatchUps = 16

	// nodeTTL is how long a node is remembered after its last report.
	nodeTTL = 24 * time.Hour
)

var _ snapshot.Publisher = (*Publisher)(nil)

// Publisher keeps the published snapshot in memory, for tests and for planes
// and data planes in one process. It is safe for concurrent use.
//
// It remembers the last 1,000 deltas; a reader that is further behind gets
// [snapshot.ErrGap] and loads the whole.
type Publisher struct {
	now func() time.Time

	mu    sync.RWMutex
	live  *published
	past  []snapshot.Delta // since the last Replace, oldest first, chained
	moved chan struct{}    // closed and renewed by every publish
	nodes map[string]snapshot.Node
}

// NewPublisher returns a publisher with nothing published.
func NewPublisher() *Publisher {
	return &Publisher{
		now:   time.Now,
		live:  new(published),
		moved: make(chan struct{}),
		nodes: make(map[string]snapshot.Node),
	}
}

// Head implements [snapshot.Source].
func (p *Publisher) Head(context.Context) (snapshot.Head, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.live.exists() {
		return snapshot.Head{}, fmt.Errorf("memstore: head: %w", snapshot.ErrNone)
	}
	return cloneHead(p.live.head), nil
}

// Load implements [snapshot.Source].
func (p *Publisher) Load(context.Context) (*snapshot.Snapshot, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.live.exists() {
		return nil, fmt.Errorf("memstore: load: %w", snapshot.ErrNone)
	}
	return p.live.snapshot(), nil
}

// Next implements [snapshot.Source].
func (p *Publisher) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	for {
		if err := ctx.Err(); err != nil {
			return snapshot.Delta{}, err
		}
		p.mu.RLock()
		at, moved := p.live.head.Position, p.moved
		i, found := slices.BinarySearchFunc(p.past, after, func(d snapshot.Delta, from snapshot.Position) int {
			return d.From.Compare(from)
		})
		var delta snapshot.Delta
		if found {
			delta = cloneDelta(p.past[i])
		}
		p.mu.RUnlock()

		if found {
			return delta, nil
		}
		if at != after {
			return snapshot.Delta{}, fmt.Errorf("memstore: after %s: %w", after, snapshot.ErrGap)
		}
		select {
		case <-moved:
		case <-ctx.Done():
		}
	}
}

// Lookup implements [snapshot.Source].
func (p *Publisher) Lookup(_ context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var docs []snapshot.Document
	for _, key := range keys {
		if doc, ok := p.live.docs[k][key]; ok {
			docs = append(docs, snapshot.Document{Kind: k, Key: key, Doc: bytes.Clone(doc)})
		}
	}
	return docs, nil
}

// Report implements [snapshot.Source].
func (p *Publisher) Report(_ context.Context, n snapshot.Node) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.SeenAt = p.now().UTC().Truncate(time.Microsecond)
	p.nodes[n.ID] = n
	return nil
}

// Nodes implements [snapshot.Publisher].
func (p *Publisher) Nodes(context.Context) ([]snapshot.Node, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	maps.DeleteFunc(p.nodes, func(_ string, n snapshot.Node) bool { return now.Sub(n.SeenAt) > nodeTTL })
	return slices.SortedFunc(maps.Values(p.nodes), func(a, b snapshot.Node) int { return strings.Compare(a.ID, b.ID) }), nil
}

// Apply implements [snapshot.Publisher].
func (p *Publisher) Apply(ctx context.Context, d snapshot.Delta) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.Reset {
		return fmt.Errorf("memstore: apply: a reset is a Replace: %w", catalog.ErrInvalid)
	}
	d = cloneDelta(d)

	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.live.head
	if !p.live.exists() || at.Position != d.From || at.Store != d.Head.Store || !d.Head.Position.After(d.From) {
		return fmt.Errorf("memstore: apply %s to %s, head is %s: %w", d.From, d.Head.Position, at.Position, snapshot.ErrStale)
	}
	if err := p.live.check(d); err != nil {
		return fmt.Errorf("memstore: apply: %w", err)
	}
	p.live.apply(d)
	if len(p.past) == maxDeltas {
		p.past = slices.Delete(p.past, 0, 1)
	}
	p.past = append(p.past, d)
	p.wake()
	return nil
}

// Replace implements [snapshot.Publisher].
func (p *Publisher) Replace(ctx context.Context, s *snapshot.Snapshot, catchUp snapshot.CatchUp) error {
	stale := func(at snapshot.Position) error {
		return fmt.Errorf("memstore: replace by %s, head is %s: %w", s.Head.Position, at, snapshot.ErrStale)
	}
	staged := stage(s)
	if len(s.Kinds) > 0 {
		return p.replaceKinds(staged, s)
	}
	seen := p.position()
	if !s.Head.Position.After(seen) {
		return stale(seen)
	}
	for try := 1; ; try++ {
		if err := staged.catchUp(ctx, catchUp); err != nil {
			return fmt.Errorf("memstore: replace: %w", err)
		}
		at, done, err := p.swap(staged, seen, catchUp != nil && try == maxCatchUps)
		switch {
		case err != nil:
			return fmt.Errorf("memstore: replace: %w", err)
		case done:
			return nil
		case catchUp == nil, at == seen, try == maxCatchUps:
			return stale(at)
		}
		seen = at
	}
}

// replaceKinds makes staged, which is of some kinds alone, part of the published whole.
func (p *Publisher) replaceKinds(staged *published, s *snapshot.Snapshot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.live.head
	if !p.live.exists() || at.Position != s.From || at.Store != s.Head.Store || !s.Head.Position.After(at.Position) {
		return fmt.Errorf("memstore: replace %v after %s, head is %s: %w", s.Kinds, s.From, at.Position, snapshot.ErrStale)
	}
	for kind, docs := range p.live.docs {
		if !slices.Contains(s.Kinds, kind) {
			staged.docs[kind] = docs
		}
	}
	if err := staged.check(snapshot.Delta{Head: staged.head}); err != nil {
		return fmt.Errorf("memstore: replace: %w", err)
	}
	p.live, p.past = staged, nil
	p.wake()
	return nil
}

// swap makes staged the published whole if it is later than the head and the
// head is still at seen, or, when late is set, wherever it is. It returns where it found the head.
func (p *Publisher) swap(staged *published, seen snapshot.Position, late bool) (at snapshot.Position, done bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at = p.live.head.Position
	if at != seen && !late || !staged.head.Position.After(at) {
		return at, false, nil
	}
	if err := staged.check(snapshot.Delta{Head: staged.head}); err != nil {
		return at, false, err
	}
	p.live, p.past = staged, nil
	p.wake()
	return at, true, nil
}

// wake lets every waiting Next look again. The caller holds the lock.
func (p *Publisher) wake() {
	close(p.moved)
	p.moved = make(chan struct{})
}

// position returns where the head is; the zero position before the first publish.
func (p *Publisher) position() snapshot.Position {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.live.head.Position
}
