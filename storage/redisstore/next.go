package redisstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/snapshot"
)

const (
	// openBlock is how long a read waits for the next part of a publish. When that was given up, what
	// comes instead may have a lower id, so it does not wait long.
	openBlock = time.Second

	// watchMaster is how often who waits looks whether the keys are on another node now.
	watchMaster = time.Second
)

// Next implements [snapshot.Source]. Any number of calls that wait at the same
// position share one connection and one command, which blocks for 20 to 30 s. A
// call whose context ends returns at once; the command keeps its connection until
// something comes, its time is over, or the client is closed.
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
		arrived := p.waits.DoChan(after.String()+master, func() (any, error) {
			return p.await(context.WithoutCancel(ctx), after)
		})
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
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
	head, err := p.position(ctx)
	if err != nil {
		return outlook{}, err
	}
	t := p.trail(after)
	var entries []redis.XMessage
	if head == after { // then everything that follows comes to the blocking read
		if entries, err = t.wait(ctx, p.blockTime()); err != nil || len(entries) == 0 {
			return outlook{}, err
		}
	}
	for {
		o, err := t.read(ctx, entries)
		switch {
		case err != nil || o.found:
			return o, err
		case o.gap || head != after:
			return p.gap(ctx, after)
		}
		// Parts of a publish that is under way, or entries that are nobody's. When nothing comes, it is read anew
		// from the position: what comes in place of a publish that was given up may have lower ids.
		if entries, err = t.wait(ctx, openBlock); err != nil || len(entries) == 0 {
			return outlook{}, err
		}
	}
}

// gap looks once more, because the stream may have begun anew while it was read, before it says that there is none.
func (p *Publisher) gap(ctx context.Context, after snapshot.Position) (outlook, error) {
	o, err := p.look(ctx, after)
	if err != nil || o.found {
		return o, err
	}
	head, err := p.position(ctx)
	if err != nil {
		return outlook{}, err
	}
	if o.gap || head != after {
		return outlook{}, errGap(after, head)
	}
	return outlook{}, nil
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
