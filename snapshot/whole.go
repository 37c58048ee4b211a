package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

const (
	// leaseWhole keeps other control planes from publishing the whole at the same time.
	leaseWhole    = "whole"
	leaseWholeTTL = 10 * time.Second

	maxCatchUps    = 20      // times that a staged whole is led on because others were faster
	maxStagings    = 3       // times that it is staged anew, because too much has changed meanwhile
	stagingBytes   = 1 << 20 // staged at once
	maxQuickStarts = 3       // new epochs within a minute, before a relay takes its time
	maxSlowdown    = time.Minute
)

// wholeOptions are what an operator may ask for.
type wholeOptions struct {
	force  bool // overwrite another catalog's snapshot, or lose most of a kind
	resync bool // record a sync change even where no new epoch is needed
}

// ResyncOptions are the settings of [Relay.Resync].
type ResyncOptions struct {
	NewEpoch bool // begin a new epoch even where the lineage is whole
	Force    bool // overwrite another catalog's or a newer version's snapshot, or lose more than half of a kind
}

// Resync publishes the whole catalog anew, under the active sync key, and
// returns the published head. It records one sync change first, so that its
// position is after every other. It begins a new epoch where it has to: where what is published is
// no good, of another history, key or version, or where it is forced.
func (r *Relay) Resync(ctx context.Context, opts ResyncOptions) (Head, error) {
	return r.exclusively(ctx, func(ctx context.Context) (Head, error) {
		s, err := r.look(ctx)
		if err != nil {
			return Head{}, err
		}
		p, err := r.planWhole(ctx, s)
		if err != nil {
			return Head{}, err
		}
		p.keys = r.keys
		if p.action == doRefuse && !opts.Force && (s.trust == trustGood || errors.Is(p.err, ErrForeign)) {
			return Head{}, p.err
		}
		const cause = "re-synchronisation"
		switch p.action {
		case doNothing, doDelta, doSucceed:
			p.decision = succeed(cause)
			if opts.NewEpoch || opts.Force || s.head.Seal != r.keys.Active() {
				p.decision = restart(cause)
			}
		default:
			p.decision = restart(cause)
		}
		return r.publishWhole(ctx, p, wholeOptions{force: opts.Force, resync: true})
	})
}

// planWhole returns what there is to know before the whole is published, and what a pass would do.
func (r *Relay) planWhole(ctx context.Context, s sight) (p plan, err error) {
	p.sight = s
	err = r.tables.Store().Read(ctx, func(reader catalog.Reader) (err error) {
		p.record, err = r.weigh(ctx, reader, &p.sight)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("read the catalog: %w", errCatalog{err})
	}
	p.decision = decide(p.sight, p.record, r.clock())
	p.keys, err = r.keysFor(p.sight)
	return p, err
}

// whole is a publish of everything that is under way.
type whole struct {
	relay     *Relay
	plan      plan
	opts      wholeOptions
	rendering *rendering
	staging   Staging
	batch     []Change
	bytes     int
	explained Counts // documents whose end the feed since the head tells
	epoch     catalog.Epoch
	documents int
	leased    time.Time // when the lease was prolonged
}

// publishWhole puts the whole catalog in place of what is published.
func (r *Relay) publishWhole(ctx context.Context, p plan, opts wholeOptions) (Head, error) {
	if !opts.resync {
		if err := r.limiter.check(r.clock()); err != nil && p.action == doRestart {
			return Head{}, err
		}
		if err := r.guardEarly(ctx, p); err != nil {
			return Head{}, err
		}
	}
	// Before anything is recorded in the catalog: while publishing is bound to fail, commits would pile up.
	if c, ok := r.pub.(Checker); ok {
		if err := c.Check(ctx); err != nil {
			return Head{}, fmt.Errorf("publish the whole: %w", err)
		}
	}
	if !r.lease(ctx, leaseWhole, leaseWholeTTL) && !opts.resync {
		return Head{}, fmt.Errorf("another control plane publishes the whole: %w", ErrWaiting)
	}
	defer r.lease(context.WithoutCancel(ctx), leaseWhole, 0)
	w := &whole{relay: r, plan: p, opts: opts}
	defer w.discard(ctx)
	head, err := w.publish(ctx)
	if r.limiter.failed = err; errors.Is(err, ErrStale) {
		r.limiter.failed = nil // somebody else was faster
	}
	if err != nil {
		return Head{}, err
	}
	r.published(head)
	r.quiet = quietness{}
	r.suspects = nil
	r.update(func(s *RelayStatus) {
		s.Replaces++
		s.Documents += int64(w.documents)
	})
	r.log.InfoContext(ctx, "published the whole catalog", "cause", p.cause, "position", head.Position.String(),
		"documents", w.documents)
	return head, nil
}

// guardEarly refuses what was refused before, without rendering everything
// again.
func (r *Relay) guardEarly(ctx context.Context, p plan) error {
	if r.refused == nil || *r.refused != p.sight.base {
		return nil
	}
	w := &whole{relay: r, plan: p, rendering: r.renderingFor(p.keys)}
	err := r.tables.Store().Read(ctx, func(reader catalog.Reader) error {
		return errors.Join(w.rendering.lead(ctx, reader), w.explain(ctx, reader))
	})
	if err != nil {
		return fmt.Errorf("read the catalog: %w", errCatalog{err})
	}
	return w.guard()
}

func (w *whole) publish(ctx context.Context) (Head, error) {
	if err := w.stage(ctx); err != nil {
		return Head{}, err
	}
	shrinks := w.guard()
	if shrinks != nil && !w.opts.force {
		base := w.plan.sight.base
		w.relay.refused = &base
		w.relay.setRendering(w.rendering)
		return Head{}, shrinks
	}
	if err := w.record(ctx); err != nil {
		return Head{}, err
	}
	s := w.plan.sight
	for range maxCatchUps {
		w.relay.lease(ctx, leaseWhole, leaseWholeTTL)
		at, err := w.catchUp(ctx)
		if err != nil {
			return Head{}, err
		}
		head := w.rendering.describe(at.Epoch)
		head.Forced = w.opts.force || head.Counts.Total() == 0 || w.plan.action == doSucceed && stillForced(s.head, head)
		w.plan.keys.SignHead(&head)
		err = w.staging.Publish(ctx, s.base, head)
		if err == nil {
			w.relay.setRendering(w.rendering)
			return head, nil
		}
		if !errors.Is(err, ErrStale) {
			return Head{}, fmt.Errorf("publish the whole at %s: %w", head.Position, err)
		}
		if s, err = w.relay.look(ctx); err != nil {
			return Head{}, err
		}
		if err := w.overtaken(s, head); err != nil {
			return Head{}, err
		}
		if !rest(ctx, 10*time.Millisecond) {
			return Head{}, ctx.Err()
		}
	}
	return Head{}, fmt.Errorf("others publish all the time: %w", ErrWaiting)
}

// overtaken says whether what is published by now is so good that there is
// nothing to do: the error wraps ErrStale, and the next pass goes on from there.
func (w *whole) overtaken(s sight, head Head) error {
	if s.trust != trustGood {
		return nil
	}
	at := s.head.Position
	switch {
	case w.opts.resync:
		return nil // whatever it is, everything is written anew, and later than it: at the catalog's head
	case at.After(head.Position):
		return fmt.Errorf("the whole was published at %s: %w", at, ErrStale)
	case w.plan.action == doRestart && at.Epoch >= w.epoch,
		w.plan.action == doSucceed && !s.head.Equal(w.plan.sight.head):
		return fmt.Errorf("another control plane has published %s: %w", at, ErrStale)
	}
	return nil
}

// stage renders everything, and writes it beside what is published.
func (w *whole) stage(ctx context.Context) (err error) {
	w.discard(ctx)
	w.rendering, w.documents, w.explained = newRendering(w.relay.tables, w.plan.keys, w.relay.log), 0, nil
	staging, err := w.relay.pub.Stage(ctx)
	if err != nil { // then what else was returned is nothing to be discarded
		return fmt.Errorf("stage the whole: %w", err)
	}
	w.staging = staging
	var publishing error
	err = w.relay.tables.Store().Read(ctx, func(reader catalog.Reader) error {
		if err := w.explain(ctx, reader); err != nil {
			return err
		}
		return w.rendering.whole(ctx, reader, func(c Change) error {
			publishing = w.add(ctx, c)
			return publishing
		})
	})
	switch {
	case publishing != nil:
		return publishing
	case err != nil:
		return fmt.Errorf("read the catalog: %w", errCatalog{err})
	}
	return w.flush(ctx)
}

// explain reads what the feed says has gone since the head, if it leads there.
func (w *whole) explain(ctx context.Context, reader catalog.Reader) error {
	if w.plan.sight.trust != trustGood || w.plan.record.lineage != lineageKnown {
		return nil
	}
	var t touched
	err := readHistory(ctx, reader, w.plan.sight.head.Position.Revision, func(c catalog.Change) error {
		t.add(touchedEnd(c))
		return nil
	})
	if errors.Is(err, catalog.ErrCompacted) {
		return nil
	}
	w.explained = t.explained()
	return err
}

// touchedEnd returns a change as far as it tells that something has gone.
func touchedEnd(c catalog.Change) catalog.Change {
	if c.Action != catalog.ActionDelete {
		return catalog.Change{}
	}
	return c
}

func (w *whole) add(ctx context.Context, c Change) error {
	w.batch = append(w.batch, c)
	w.bytes += len(c.Key) + len(c.Doc)
	if len(w.batch) >= MaxPartDocs || w.bytes >= stagingBytes {
		return w.flush(ctx)
	}
	return nil
}

func (w *whole) flush(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	if err := w.staging.Add(ctx, w.batch); err != nil {
		return fmt.Errorf("stage the whole: %w", err)
	}
	w.documents += len(w.batch)
	w.batch, w.bytes = nil, 0
	if time.Since(w.leased) > leaseWholeTTL/4 {
		w.leased = time.Now()
		w.relay.lease(ctx, leaseWhole, leaseWholeTTL)
	}
	return nil
}

// guard judges what would be lost of a head that is believed.
func (w *whole) guard() error {
	if w.plan.sight.trust != trustGood {
		return nil
	}
	return guard(w.plan.sight.head.Counts, w.rendering.describe(0).Counts, w.explained)
}

// record puts the new epoch, or the sync change of an operator, into the catalog:
// once, and before anything is published there.
func (w *whole) record(ctx context.Context) error {
	r, c := w.relay, catalog.Commit{Sync: true, Epoch: w.plan.record.at.Epoch}
	if w.plan.action == doRestart {
		epoch, err := nextEpoch(r.clock(), w.plan.record, w.plan.sight, r.reported.Epoch)
		if err != nil {
			return err
		}
		c.Epoch = epoch
		r.limiter.note(r.clock())
	} else if !w.opts.resync {
		w.epoch = w.plan.record.at.Epoch
		return nil
	}
	if c.Actor, c.Reason = catalog.ActorFrom(ctx); c.Reason == "" {
		c.Reason = w.plan.cause
	}
	if c.Actor == "unknown" {
		c.Actor = "relay"
	}
	var err error
	if c.Time, err = r.tables.Now(ctx); err != nil {
		return fmt.Errorf("record the re-synchronisation: %w", errCatalog{err})
	}
	if _, err := r.tables.Commit(ctx, c); err != nil {
		return fmt.Errorf("record the re-synchronisation: %w", errCatalog{err})
	}
	w.epoch = c.Epoch
	return nil
}

// catchUp brings what is staged to where the catalog is.
func (w *whole) catchUp(ctx context.Context) (at catalog.Head, err error) {
	for range maxStagings {
		var changes []Change
		err := w.relay.tables.Store().Read(ctx, func(reader catalog.Reader) (err error) {
			at = reader.Head()
			changes, err = w.rendering.catchUp(ctx, reader)
			return err
		})
		switch {
		case errors.Is(err, errManyTouched):
			if err := w.stage(ctx); err != nil {
				return at, err
			}
			continue
		case err != nil:
			return at, fmt.Errorf("read the catalog: %w", errCatalog{err})
		case at.Epoch < w.epoch:
			return at, fmt.Errorf("the catalog has lost epoch %d: %w", w.epoch, ErrWaiting)
		case w.plan.action == doSucceed && at.Epoch != w.epoch:
			return at, fmt.Errorf("the catalog is in a new epoch: %w", ErrStale)
		}
		for part := range slices.Chunk(changes, MaxPartDocs) {
			if err := w.staging.Add(ctx, part); err != nil {
				return at, fmt.Errorf("stage what has changed: %w", err)
			}
		}
		return at, nil
	}
	return at, fmt.Errorf("the catalog changes faster than it can be staged: %w", ErrWaiting)
}

// discard gives up what is staged.
func (w *whole) discard(ctx context.Context) {
	if w.staging != nil {
		w.staging.Discard(context.WithoutCancel(ctx))
		w.staging = nil
	}
}

// limiter keeps new epochs from piling up while somebody keeps spoiling what is
// published, or two control planes find each other's work wrong.
type limiter struct {
	starts []time.Time
	failed error // of the last whole; nil when it was published
}

func (l *limiter) note(now time.Time) { l.starts = append(l.starts, now) }

// check returns an error while the next new epoch has to wait.
func (l *limiter) check(now time.Time) error {
	l.starts = slices.DeleteFunc(l.starts, func(t time.Time) bool { return now.Sub(t) > 10*maxSlowdown })
	over := len(l.starts) - maxQuickStarts
	if over < 0 {
		return nil
	}
	pause := min(2*time.Second<<min(over, 10), maxSlowdown)
	if next := l.starts[len(l.starts)-1].Add(pause); now.Before(next) {
		if l.failed != nil { // which says more than that it is waited for
			return fmt.Errorf("%w; %d new epochs were begun in vain, the next try is at %s", l.failed, len(l.starts),
				next.UTC().Format(time.TimeOnly))
		}
		return fmt.Errorf("what is published was no good %d times in %s, the next try is at %s: %w",
			len(l.starts), now.Sub(l.starts[0]).Round(time.Second), next.UTC().Format(time.TimeOnly), ErrWaiting)
	}
	return nil
}
