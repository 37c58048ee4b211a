package memstore

import (
	"container/list"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	// maxDeltas bounds the history that Next serves.
	maxDeltas = 1000

	// maxLoads bounds how often a Load begins anew because the whole was replaced meanwhile.
	maxLoads = 10
)

var _ snapshot.Publisher = (*Publisher)(nil)

// Publisher keeps the published snapshot in memory, for tests and for planes
// and data planes in one process. It is safe for concurrent use.
//
// It remembers the last 1,000 deltas; a reader that is further behind gets
// [snapshot.ErrGap] and loads the whole. A delta is published at once, not in
// parts, so [snapshot.ErrBusy] comes only after [Publisher.Tamper].
type Publisher struct {
	mu    sync.RWMutex
	now   func() time.Time
	live  *Contents
	moved chan struct{} // closed and renewed by every publish
	nodes nodes

	leases map[string]lease

	strayFound string    // the stray that was found last
	straySince time.Time // and since when it has been there
}

// NewPublisher returns a publisher with nothing published.
func NewPublisher() *Publisher {
	return &Publisher{
		now:   time.Now,
		live:  &Contents{Docs: make(map[catalog.Kind]map[string][]byte)},
		moved: make(chan struct{}),
		nodes: nodes{byID: make(map[string]*list.Element)},

		leases: make(map[string]lease),
	}
}

// Head implements [snapshot.Source].
func (p *Publisher) Head(ctx context.Context) (snapshot.Head, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.Head{}, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.live.head()
}

// Load implements [snapshot.Source].
func (p *Publisher) Load(ctx context.Context, into snapshot.Loader) error {
	for range maxLoads {
		p.mu.RLock()
		whole := p.live.view()
		p.mu.RUnlock()
		head, err := whole.contents.head()
		if err != nil {
			return err
		}
		kinds, err := into.Begin(head)
		if err != nil {
			return err
		}
		if err := whole.give(ctx, kinds, into); err != nil {
			return err
		}
		again, err := p.end(into, head)
		if !again {
			return err
		}
	}
	return fmt.Errorf("memstore: load: replaced %d times meanwhile: %w", maxLoads, snapshot.ErrGap)
}

// end calls End, and adds what was published since for as long as the documents are not those of
// the head. It reports that loading has to begin anew when the whole was replaced.
func (p *Publisher) end(into snapshot.Loader, head snapshot.Head) (again bool, err error) {
	for {
		err := into.End(head)
		if !isCorrupt(err) {
			return false, err
		}
		p.mu.RLock()
		next, found := p.live.after(head.Position)
		moved := p.live.base() != head.Base()
		p.mu.RUnlock()
		if !found {
			return moved, err
		}
		if err := into.Add(next.Changes); err != nil {
			return false, err
		}
		head = next.Head
	}
}

// Next implements [snapshot.Source].
func (p *Publisher) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	for {
		if err := ctx.Err(); err != nil {
			return snapshot.Delta{}, err
		}
		p.mu.RLock()
		delta, found := p.live.after(after)
		at, moved := p.live.position(), p.moved
		p.mu.RUnlock()
		switch {
		case found:
			return delta, nil
		case at != after:
			return snapshot.Delta{}, fmt.Errorf("memstore: after %s: %w", after, snapshot.ErrGap)
		}
		select {
		case <-moved:
		case <-ctx.Done():
		}
	}
}

// Lookup implements [snapshot.Source].
func (p *Publisher) Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := snapshot.CheckKind(k); err != nil {
		return nil, fmt.Errorf("memstore: lookup: %w", err)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	var docs []snapshot.Document
	for _, key := range keys {
		if doc, ok := p.live.Docs[k][key]; ok {
			docs = append(docs, snapshot.Document{Kind: k, Key: key, Doc: slices.Clone(doc)})
		}
	}
	return docs, nil
}

// Documents implements [snapshot.Publisher].
func (p *Publisher) Documents(ctx context.Context, k catalog.Kind) iter.Seq2[snapshot.Document, error] {
	return func(yield func(snapshot.Document, error) bool) {
		if err := snapshot.CheckKind(k); err != nil {
			yield(snapshot.Document{}, fmt.Errorf("memstore: documents: %w", err))
			return
		}
		p.mu.RLock()
		docs := p.live.view().docs[k]
		p.mu.RUnlock()
		for _, d := range docs {
			if err := ctx.Err(); err != nil {
				yield(snapshot.Document{}, err)
				return
			}
			if !yield(snapshot.Document{Kind: k, Key: d.Key, Doc: slices.Clone(d.Doc)}, nil) {
				return
			}
		}
	}
}

// Apply implements [snapshot.Publisher].
func (p *Publisher) Apply(ctx context.Context, over snapshot.Base, d snapshot.Delta) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := d.Parts(over); err != nil {
		return fmt.Errorf("memstore: apply: %w", err)
	}
	d, err := cloneDelta(d)
	if err != nil {
		return fmt.Errorf("memstore: apply: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.free(over); err != nil {
		return fmt.Errorf("memstore: apply %s to %s: %w", d.From, d.Head.Position, err)
	}
	if err := p.live.check(d.Head.Counts, d.Changes); err != nil {
		return fmt.Errorf("memstore: apply: %w", err)
	}
	p.live.put(d.Changes)
	p.live.Head = d.Head.Fields()
	if len(p.live.Deltas) >= maxDeltas {
		p.live.Deltas = slices.Delete(p.live.Deltas, 0, len(p.live.Deltas)-maxDeltas+1)
	}
	p.live.Deltas = append(p.live.Deltas, d)
	p.wake()
	return nil
}

// Repair implements [snapshot.Publisher].
func (p *Publisher) Repair(ctx context.Context, over snapshot.Base, changes []snapshot.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := snapshot.CheckRepairs(changes); err != nil {
		return fmt.Errorf("memstore: repair: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.free(over); err != nil {
		return fmt.Errorf("memstore: repair: %w", err)
	}
	p.live.put(cloneChanges(changes))
	return nil
}

// free returns an error unless the published head is the one that over names, and nobody else's
// publish is under way. The caller holds the lock.
func (p *Publisher) free(over snapshot.Base) error {
	if at := p.live.base(); at != over {
		return fmt.Errorf("the head is at %s-%s: %w", at.Epoch, at.Revision, snapshot.ErrStale)
	}
	if p.live.Stray == "" {
		return nil
	}
	if p.strayFound != p.live.Stray {
		p.strayFound, p.straySince = p.live.Stray, p.now()
	}
	if p.now().Sub(p.straySince) < snapshot.TakeoverAfter {
		return snapshot.ErrBusy
	}
	p.live.Stray, p.live.Deltas, p.strayFound = "", nil, "" // whoever is behind loads
	p.wake()
	return nil
}

// SetBeat implements [snapshot.Publisher].
func (p *Publisher) SetBeat(ctx context.Context, b snapshot.Beat) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live.Beat = b.Encode()
	return nil
}

// LastBeat implements [snapshot.Source].
func (p *Publisher) LastBeat(ctx context.Context) (snapshot.Beat, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.Beat{}, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.live.beat(), nil
}

// wake lets every waiting Next look again. The caller holds the lock.
func (p *Publisher) wake() {
	close(p.moved)
	p.moved = make(chan struct{})
}
