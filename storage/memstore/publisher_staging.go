package memstore

import (
	"context"
	"fmt"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// staging is a whole that is being published.
type staging struct {
	p      *Publisher
	staged *Contents // nil when it was published or discarded
}

// Stage implements [snapshot.Publisher].
func (p *Publisher) Stage(ctx context.Context) (snapshot.Staging, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &staging{p, &Contents{Docs: make(map[catalog.Kind]map[string][]byte)}}, nil
}

// Add implements [snapshot.Staging].
func (s *staging) Add(ctx context.Context, changes []snapshot.Change) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if err := snapshot.CheckChanges(changes); err != nil {
		return fmt.Errorf("memstore: stage: %w", err)
	}
	s.staged.put(cloneChanges(changes))
	return nil
}

// Publish implements [snapshot.Staging].
func (s *staging) Publish(ctx context.Context, over snapshot.Base, head snapshot.Head) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if err := head.Publishable(); err != nil {
		return fmt.Errorf("memstore: publish: %w", err)
	}
	if err := s.staged.check(head.Counts, nil); err != nil {
		return fmt.Errorf("memstore: publish: %w", err)
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if at := s.p.live.base(); at != over {
		return fmt.Errorf("memstore: publish %s: the head is at %s-%s: %w",
			head.Position, at.Epoch, at.Revision, snapshot.ErrStale)
	}
	live := s.p.live
	live.Head, live.Docs, live.Deltas, live.Stray = head.Fields(), s.staged.Docs, nil, ""
	for kind := range live.Docs {
		if _, counted := head.Counts[kind]; !counted {
			delete(live.Docs, kind)
		}
	}
	s.staged = nil
	s.p.wake()
	return nil
}

// Discard implements [snapshot.Staging].
func (s *staging) Discard(context.Context) { s.staged = nil }

func (s *staging) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.staged == nil {
		return fmt.Errorf("memstore: stage: it was published or discarded before: %w", catalog.ErrInvalid)
	}
	return nil
}
