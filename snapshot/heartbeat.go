//go:build !noWatcher

package snapshot

import (
	"context"
	"errors"
	"time"
)

const (
	heartbeat   = 5 * time.Second // between two reports
	callTimeout = 5 * time.Second // of a heartbeat's calls
)

// beat reports what was applied, at once and then regularly, and checks that
// the source has nothing else that does not come.
func (w *Watcher) beat(ctx context.Context) {
	tick := time.NewTicker(w.period)
	defer tick.Stop()
	var missed Position // where the view was when the source was found elsewhere
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.applied:
		case <-tick.C:
			missed = w.compare(ctx, missed)
		}
		w.report(ctx)
	}
}

// compare asks for the head. When the view is elsewhere twice without having
// moved, the Next under way is not told what happened: it is ended.
func (w *Watcher) compare(ctx context.Context, missed Position) Position {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := w.view.Load()
	head, err := w.src.Head(ctx)
	gone := errors.Is(err, ErrNone) || errors.Is(err, ErrCorrupt)
	if err != nil && !gone || gone && now.refusal != "" {
		return Position{}
	}
	at := now.head.Position
	if !gone && head.Position == at && head.Digest == now.head.Digest {
		w.current(at)
		if w.keeper != nil {
			w.keeper.confirm(ctx)
		}
		return Position{}
	}
	if missed != at {
		return at
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.interrupt != nil {
		w.interrupt()
	}
	return Position{}
}

func (w *Watcher) report(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v := w.view.Load()
	w.mu.Lock()
	text := w.status.Error
	if w.strikes == 1 {
		text = ""
	}
	w.mu.Unlock()
	n := Node{ID: w.id, Position: v.head.Position, Digest: v.head.Digest, Version: w.opts.Version, Error: text}
	if err := w.src.Report(ctx, n); err != nil && ctx.Err() == nil {
		w.log.DebugContext(ctx, "report to the source failed", "error", err)
	}
}
