package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/snapshot"
)

const (
	// openBlock is how long a read waits for the next part of a publish. When that was given up, what
	// comes instead may have a lower id, so it does not wait long; nor for longer than maxOpenBlock when
	// nobody clears away what was given up.
	openBlock    = time.Second
	maxOpenBlock = 5 * time.Second

	// deliveredFor is how long what a delta led to is taken for what is published.
	deliveredFor = time.Second

	// watchMaster is how often who waits looks whether the keys are on another node now.
	watchMaster = time.Second
)

// Next implements [snapshot.Source]. Any number of calls that wait at the same
// position share one connection and one command, which blocks for 20 to 30 s. A
// call whose context ends returns at once; the command keeps its connection until
// something comes, its time is over, or the client is closed. After [snapshot.ErrUntold] the next call
// begins a command of its own.
func (p *Publisher) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	if after.Epoch < 0 || after.Revision < 0 || after.Revision > snapshot.MaxRevision {
		return snapshot.Delta{}, wrap("next", fmt.Errorf("after %s: %w", after, snapshot.ErrGap))
	}
	watch := time.NewTicker(watchMaster)
	defer watch.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return snapshot.Delta{}, err
		}
		master := p.masterAddr()
		shared := after.String() + master
		arrived := p.waits.DoChan(shared, func() (any, error) {
			o, err := p.await(context.WithoutCancel(ctx), after)
			if o.found {
				t := p.trail(o.delta.Head.Position)
				t.delivered = time.Now()
				p.suspend(t)
			}
			return o, err
		})
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				if errors.Is(context.Cause(ctx), snapshot.ErrUntold) {
					p.waits.Forget(shared) // its connection may be dead
				}
				return snapshot.Delta{}, ctx.Err()
			case <-watch.C:
				now := p.masterAddr()
				if master == "" { // it was not known when the wait began
					master = now
				}
				waiting = now == master
			case r := <-arrived:
				if r.Err != nil {
					return snapshot.Delta{}, wrap("next", r.Err)
				}
				if o := r.Val.(outlook); o.found {
					if r.Shared {
						o.delta.Changes = cloneChanges(o.delta.Changes)
					}
					return cloneDelta(o.delta)
				}
				waiting = false
			}
		}
	}
}

// await returns the delta after a position, or none when some time went by without. It returns an error that
// wraps ErrGap when there will be none.
func (p *Publisher) await(ctx context.Context, after snapshot.Position) (outlook, error) {
	t := p.resume(after)
	if time.Since(t.delivered) > deliveredFor {
		if o, passed, err := p.leave(ctx, after); passed {
			return o, err
		}
		t.published = true
	}
	block, since := p.blockTime(), time.Now()
	if t.first != "" {
		block = maxOpenBlock
	}
	for {
		entries, err := t.wait(ctx, block)
		if err != nil || len(entries) == 0 && t.first == "" {
			return outlook{}, err
		}
		idle, o := len(entries) == 0, outlook{}
		if !idle {
			if o, err = t.read(ctx, entries); err != nil || o.found {
				return o, err
			}
		}
		// What follows are parts of a publish that is under way or was given up, or entries of
		// nobody. Entries that replace them may have lower ids, and a read that waits for higher
		// ones never sees those.
		if idle || t.strays || o.gap {
			if o, passed, err := p.leave(ctx, after); passed {
				return o, err
			}
			t.published, t.strays = true, t.strays || o.gap
		}
		if idle && t.strays {
			if stands, err := t.stands(ctx); err != nil || !stands {
				return outlook{}, err
			}
		}
		if time.Since(since) > p.block {
			p.suspend(t)
			return outlook{}, nil
		}
		block = openBlock
		if idle {
			block = min(openBlock+time.Since(since)/2, maxOpenBlock)
		}
	}
}

// leave reports whether the head is elsewhere than at a position by now, and returns the delta after it then.
func (p *Publisher) leave(ctx context.Context, at snapshot.Position) (o outlook, passed bool, err error) {
	head, err := p.position(ctx)
	if err != nil || head == at {
		return outlook{}, err != nil, err
	}
	o, err = p.passed(ctx, at)
	return o, true, err
}

// passed returns the delta after a position at which the head is no more. It looks twice, because the stream may have
// begun anew while it was read.
func (p *Publisher) passed(ctx context.Context, after snapshot.Position) (outlook, error) {
	for range 2 {
		if o, err := p.look(ctx, after); err != nil || o.found {
			return o, err
		}
	}
	head, err := p.position(ctx)
	if err == nil && head != after {
		err = errGap(after, head)
	}
	return outlook{}, err
}

// suspended is a trail on which the next read goes on, so that the parts of a publish that was given up are
// not read again and again while nobody clears them away; or the one that begins where the last delta led, so that
// nobody has to ask whether that is what is published.
type suspended struct {
	mu    sync.Mutex
	trail *trail
}

// suspend keeps a trail for the next that waits at its position.
func (p *Publisher) suspend(t *trail) {
	p.suspended.mu.Lock()
	defer p.suspended.mu.Unlock()
	p.suspended.trail = t
}

// resume returns the trail that was kept, or a new one.
func (p *Publisher) resume(at snapshot.Position) *trail {
	p.suspended.mu.Lock()
	defer p.suspended.mu.Unlock()
	t := p.suspended.trail
	p.suspended.trail = nil
	if t == nil || t.a.at != at {
		t = p.trail(at)
	}
	return t
}

// blockTime returns how long a read blocks, so that not all readers come back at once.
func (p *Publisher) blockTime() time.Duration {
	return p.block - rand.N(p.block/3+1)
}

// cloneDelta gives the caller a head of its own.
func cloneDelta(d snapshot.Delta) (snapshot.Delta, error) {
	var err error
	d.Head, err = snapshot.ParseHead(d.Head.Fields())
	return d, err
}

func cloneChanges(changes []snapshot.Change) []snapshot.Change {
	c := slices.Clone(changes)
	for i := range c {
		c[i].Doc = slices.Clone(c[i].Doc)
	}
	return c
}
