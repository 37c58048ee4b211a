package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// maxLoads bounds how often Load begins anew because of a publish that cannot be replayed.
const maxLoads = 10

// Load implements [snapshot.Source].
//
// It scans the hashes while others publish, and so sees some documents before
// and some after a publish. What was published between its start and its end
// is in the stream, so it replays that: every document that changed meanwhile
// ends as it was at the end. Where parts of a publish that is not finished have changed
// documents already, it goes on to what closes that.
func (p *Publisher) Load(ctx context.Context, into snapshot.Loader) error {
	for loads := 1; ; loads++ {
		err := p.load(ctx, into)
		if !errors.Is(err, snapshot.ErrGap) || loads == maxLoads {
			return wrap("load", err)
		}
		p.log.DebugContext(ctx, "loading the snapshot again", "error", err)
	}
}

// load is one attempt. ErrGap says that a publish came between which cannot be
// replayed.
func (p *Publisher) load(ctx context.Context, into snapshot.Loader) error {
	start, err := p.head(ctx)
	if err != nil {
		return err
	}
	kinds, err := into.Begin(start)
	if err != nil {
		return err
	}
	for _, k := range kinds {
		if err := p.scan(ctx, k, into); err != nil {
			return err
		}
	}
	end, err := p.head(ctx)
	if err != nil {
		return err
	}
	r := replay{p: p, into: into, kinds: kinds, head: start}
	for r.head.Base() != end.Base() {
		o, err := p.look(ctx, r.head.Position)
		if err != nil {
			return err
		}
		if !o.found || o.delta.Head.Position.After(end.Position) {
			return errGap(r.head.Position, end.Position)
		}
		if err := r.add(o.delta); err != nil {
			return err
		}
	}
	return r.finish(ctx)
}

// scan gives the documents of a kind to the loader, in pieces.
func (p *Publisher) scan(ctx context.Context, k catalog.Kind, into snapshot.Loader) error {
	piece := make([]snapshot.Change, 0, scanCount)
	for d, err := range p.Documents(ctx, k) {
		if err != nil {
			return err
		}
		if piece = append(piece, snapshot.Change(d)); len(piece) == scanCount {
			if err := into.Add(piece); err != nil {
				return err
			}
			piece = make([]snapshot.Change, 0, scanCount) // the loader may keep what it is given
		}
	}
	if len(piece) == 0 {
		return nil
	}
	return into.Add(piece)
}

// replay is a load whose documents are those of a head, or of one that comes after it.
type replay struct {
	p     *Publisher
	into  snapshot.Loader
	kinds []catalog.Kind
	head  snapshot.Head
}

// add gives a delta to the loader, of the kinds that it asked for.
func (r *replay) add(d snapshot.Delta) error {
	changes := slices.DeleteFunc(slices.Clone(d.Changes), func(c snapshot.Change) bool {
		return !slices.Contains(r.kinds, c.Kind)
	})
	r.head = d.Head
	return r.into.Add(changes)
}

// finish ends the load. While the documents are not those of the head, and there is more, it adds that; it waits
// for a publish that is under way.
func (r *replay) finish(ctx context.Context) error {
	for patience := time.Now().Add(snapshot.OpenGrace); ; {
		damage := r.into.End(r.head)
		if !errors.Is(damage, snapshot.ErrCorrupt) {
			return damage
		}
		t := r.p.trail(r.head.Position)
		o, err := t.read(ctx, nil)
		for err == nil && o.open && !o.found && !o.gap && time.Now().Before(patience) {
			var entries []redis.XMessage
			if entries, err = t.wait(ctx, openBlock); err == nil {
				if len(entries) == 0 {
					t = r.p.trail(r.head.Position) // it may have been given up, and others have begun
				}
				o, err = t.read(ctx, entries)
			}
		}
		switch {
		case err != nil:
			return err
		case o.found:
			if err := r.add(o.delta); err != nil {
				return err
			}
		case o.gap:
			return fmt.Errorf("%w: %w", damage, snapshot.ErrGap)
		default:
			return r.moved(ctx, damage)
		}
	}
}

// moved returns ErrGap when the head is elsewhere by now, and else what is damaged.
func (r *replay) moved(ctx context.Context, damage error) error {
	head, err := r.p.head(ctx)
	if err == nil && head.Base() != r.head.Base() {
		return errGap(r.head.Position, head.Position)
	}
	return damage
}
