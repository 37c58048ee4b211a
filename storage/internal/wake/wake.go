// Package wake lets goroutines of one process wait for the head of a catalog
// to move, whoever moved it.
package wake

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Head is the newest revision that this process has heard of. The zero value
// is at 0 and ready to use.
type Head struct {
	mu       sync.Mutex
	revision catalog.Revision
	moved    chan struct{} // closed when revision rises; nil while nobody waits
}

// Raise wakes those who wait for a revision up to rev. A lower revision than
// is known does nothing.
func (h *Head) Raise(rev catalog.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if rev <= h.revision {
		return
	}
	h.revision = rev
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}

// Revision returns the newest revision known.
func (h *Head) Revision() catalog.Revision {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision
}

// Seen takes note of the revision that a read has found, which began when
// known was the newest known. Where it is lower, the store has gone back in
// time (a backup was restored), and what was known is void.
func (h *Head) Seen(rev, known catalog.Revision) {
	if rev >= known {
		h.Raise(rev)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.revision == known {
		h.revision = rev
	}
}

// Wait blocks until the head's revision exceeds after, and returns it. It
// calls read at once and then about once per poll, for what nobody raised. It ends early
// with read's error, with ctx.Err() and, when closed is closed, with catalog.ErrClosed.
func (h *Head) Wait(
	ctx context.Context, closed <-chan struct{}, after catalog.Revision,
	poll time.Duration, read func(context.Context) (catalog.Revision, error),
) (catalog.Revision, error) {
	for {
		// Subscribe before reading: what comes in between closes moved.
		known, moved := h.subscribe()
		if known > after {
			return known, nil
		}
		rev, err := read(ctx)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			return 0, err
		}
		h.Seen(rev, known)
		if rev > after {
			return rev, nil
		}

		// The jitter keeps processes that started together apart.
		timer := time.NewTimer(poll*3/4 + rand.N(poll/2))
		select {
		case <-moved:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, ctx.Err()
		case <-closed:
			timer.Stop()
			return 0, catalog.ErrClosed
		}
		timer.Stop()
	}
}

func (h *Head) subscribe() (catalog.Revision, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.moved == nil {
		h.moved = make(chan struct{})
	}
	return h.revision, h.moved
}
