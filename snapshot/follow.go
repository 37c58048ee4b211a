package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// follow walks from phase to phase until ctx ends.
func (w *Watcher) follow(ctx context.Context) {
	f := follower{Watcher: w}
	phase := PhaseStarting
	for phase != PhaseStopped {
		on, err := f.act(ctx, phase)
		if ctx.Err() != nil {
			on, err = eventStop, nil
		}
		if err != nil && !(on == eventMisfit && f.misfits.again(w.view.Load().head.Position)) {
			w.fail(ctx, err)
		}
		phase = w.phases.next(phase, on)
		w.setPhase(phase)
	}
}

// follower is what following needs beside the Watcher.
type follower struct {
	*Watcher
	pause   pause
	misfits misfits
	untold  Position // where it was not told what came after, and has asked anew; zero while it serves nothing
}

// misfits are deltas that did not fit, one after the other at one position. What is published there may be served
// all the same: then somebody has put something after it that leads nowhere, and it is told once.
type misfits struct {
	at   Position
	last time.Time
}

// again notes one, and reports whether there was another not long ago.
func (m *misfits) again(at Position) bool {
	known := m.at == at && time.Since(m.last) < 2*maxBackoff
	m.at, m.last = at, time.Now()
	return known
}

// act does what a phase is for, and returns how it ended; an error is worth noting.
func (f *follower) act(ctx context.Context, phase Phase) (event, error) {
	switch phase {
	case PhaseStarting:
		if f.blank() {
			return eventBlank, nil
		}
		return eventRestored, nil
	case PhaseRestored:
		return f.hear(ctx)
	case PhaseLoading:
		return f.load(ctx)
	case PhaseUnpublished, PhaseFollowing:
		return f.next(ctx)
	case PhaseRereading:
		rest(ctx, between(minBackoff, 3*minBackoff)) // it may have been read half-way
		return f.next(ctx)
	default: // PhaseWaiting, PhaseRefusing
		most := maxBackoff
		if phase == PhaseWaiting {
			most = f.longestPause()
		}
		rest(ctx, f.pause.after(time.Now(), most))
		if f.blank() {
			return eventRetryBlank, nil
		}
		return eventRetry, nil
	}
}

// blank reports whether there is nothing to serve from.
func (w *Watcher) blank() bool { return w.view.Load().refusal != "" }

// hear asks for the head, to know whether the source is there.
func (f *follower) hear(ctx context.Context) (event, error) {
	now := f.view.Load()
	head, err := f.src.Head(ctx)
	if err != nil {
		return f.outcome(err)
	}
	if head.Equal(now.head) {
		f.current(now.head.Position)
	}
	return eventHeard, nil
}

// load replaces the view by the whole snapshot.
func (f *follower) load(ctx context.Context) (event, error) {
	now := f.view.Load()
	if f.listen(ctx, now) {
		return eventApplied, nil
	}
	if ctx.Err() != nil {
		return eventStop, nil
	}
	if now.refusal != "" && f.opts.MaxStale > 0 {
		// Nothing is taken that no control plane has confirmed of late.
		beat, err := f.src.LastBeat(ctx)
		if err != nil {
			return f.outcome(err)
		}
		f.beats.learn(beat, now.head)
	}
	begun := time.Now()
	loader := &viewLoader{base: now, keys: f.opts.Keys, admit: func(h Head) error { return f.admit(now, h) }}
	if f.keeper != nil {
		loader.copy = f.keeper
	}
	err := f.src.Load(ctx, loader)
	f.pause.loadTook = 0
	switch {
	case errors.Is(err, errUnchanged):
		f.current(now.head.Position)
		return eventUnchanged, nil
	case err != nil:
		if f.keeper != nil {
			f.keeper.giveUp()
		}
		if refused(err) {
			f.pause.loadTook = time.Since(begun)
		}
		return f.outcome(err)
	}
	v := loader.view
	f.current(v.head.Position)
	f.serve(v, func(s *WatcherStatus) { s.Loads++ })
	return eventLoaded, nil
}

// listen waits for as long as a load has to be delayed. If the source has not told of a delta,
// listen goes on asking for it meanwhile, and reports whether it was applied, which makes the load
// needless.
func (f *follower) listen(ctx context.Context, now *View) (applied bool) {
	waiting, cancel := context.WithTimeout(ctx, f.loadDelay())
	defer cancel()
	if now.refusal == "" && f.untold == now.head.Position {
		if d, err := f.src.Next(waiting, now.head.Position); err == nil {
			if on, _ := f.take(now, d); on == eventApplied {
				return true
			}
		}
	}
	<-waiting.Done()
	return false
}

// next waits for a delta and applies it.
func (f *follower) next(ctx context.Context) (event, error) {
	now := f.view.Load()
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.setInterrupt(func() { cancel(ErrUntold) })
	d, err := f.src.Next(waiting, now.head.Position)
	f.setInterrupt(nil)
	switch {
	case err != nil && waiting.Err() != nil && f.untold != now.head.Position:
		f.untold = now.head.Position
		return eventUntold, nil
	case err != nil && waiting.Err() != nil:
		return eventMoved, nil
	case errors.Is(err, ErrGap):
		return eventGap, nil
	case errors.Is(err, ErrCorrupt):
		return eventMisfit, err
	case err != nil:
		return f.outcome(err)
	case now.refusal != "":
		return eventMoved, nil // something was published
	}
	return f.take(now, d)
}

// take applies a delta and serves what it leads to.
func (f *follower) take(now *View, d Delta) (event, error) {
	v, err := now.apply(d, f.opts.Keys)
	switch {
	case errors.Is(err, ErrFormat), errors.Is(err, catalog.ErrSealed):
		return eventRefused, err
	case err != nil:
		return eventMisfit, err
	}
	f.current(v.head.Position)
	f.serve(v, func(s *WatcherStatus) { s.Deltas++ })
	if f.keeper != nil {
		f.keeper.applied(d)
	}
	return eventApplied, nil
}

func (w *Watcher) setInterrupt(end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interrupt = end
}

// outcome returns the event that an error of the source, or of what it has, is.
func (w *Watcher) outcome(err error) (event, error) {
	switch {
	case errors.Is(err, ErrNone) && w.blank():
		return eventUnpublished, nil
	case errors.Is(err, ErrNone):
		return eventMissing, fmt.Errorf("the source has lost what was published: %w", err)
	case errors.Is(err, ErrGap):
		return eventGap, err
	case refused(err):
		return eventRefused, err
	default:
		return eventUnreachable, err
	}
}

// refused reports whether an error lies in what is published and not in
// reaching it.
func refused(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) || errors.Is(err, errRefused) ||
		errors.Is(err, catalog.ErrSealed)
}
