package logbuf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// run writes batches until the queue is closed and empty, or ctx ends.
func (q *Queue) run(ctx context.Context) {
	defer close(q.done)
	for q.await(ctx) {
		if !q.writeBatch(ctx) {
			return
		}
	}
}

// await blocks until a batch is due. It returns false when there is none and
// there will be none.
func (q *Queue) await(ctx context.Context) bool {
	for {
		if ctx.Err() != nil {
			return false
		}
		q.mu.Lock()
		closing := q.sealed
		pending := q.stats.Pending
		flush := q.flushTo > q.settledCount()
		wait := time.Until(q.arrived.oldest().Add(q.opts.FlushInterval))
		q.mu.Unlock()
		if pending == 0 && closing {
			return false
		}
		if pending > 0 && (closing || flush || pending >= int64(q.opts.BatchSize) || wait <= 0) {
			return true
		}
		var due <-chan time.Time
		if pending > 0 {
			due = time.After(wait)
		}
		select {
		case <-q.wake:
		case <-due:
		case <-ctx.Done():
		}
	}
}

// writeBatch reads the next batch and writes it, as often as it takes. It returns
// false when ctx ended first.
func (q *Queue) writeBatch(ctx context.Context) bool {
	var b Batch
	if !q.persist(ctx, func() (err error) {
		b, err = q.log.read(ctx, q.opts.BatchSize)
		return err
	}) {
		return false
	}
	var r Result
	if len(b.Entries) > 0 && !q.persist(ctx, func() (err error) {
		r, err = q.write(ctx, b)
		return err
	}) {
		return false
	}
	q.finish(b, r)
	return true
}

// persist calls try until it works. It returns false when ctx ended first.
func (q *Queue) persist(ctx context.Context, try func() error) bool {
	for pause := q.pauses(); ; {
		err := try()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		d := pause(err)
		q.failed(err, d)
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return false
		}
	}
}

// write gives a batch to the sink once.
func (q *Queue) write(ctx context.Context, b Batch) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, q.opts.WriteTimeout)
	defer cancel()
	r, err := q.sink.Write(ctx, b)
	if err != nil {
		return Result{}, err
	}
	if n := r.Stored + r.Duplicate + r.Dead; n != len(b.Entries) || min(r.Stored, r.Duplicate, r.Dead) < 0 {
		return Result{}, fmt.Errorf("log sink broke its contract: the result %+v does not add up to %d entries", r, len(b.Entries))
	}
	return r, nil
}

// pauses returns a function that says how long to wait after each failure:
// longer every time, never quite the same as somebody else, and no shorter than
// the error asks for.
func (q *Queue) pauses() func(err error) time.Duration {
	next := q.opts.MinBackoff
	return func(err error) time.Duration {
		d := next/2 + rand.N(next/2+1) //nolint:gosec // spreads load, hides nothing
		next = min(2*next, q.opts.MaxBackoff)
		var asked interface{ RetryAfter() time.Duration }
		if errors.As(err, &asked) {
			if after := asked.RetryAfter(); after > 0 {
				d = max(d, after+rand.N(after/4+1)) //nolint:gosec // as above
			}
		}
		return d
	}
}

// failed notes a failure of the sink.
func (q *Queue) failed(err error, pause time.Duration) {
	paused := errors.Is(err, ErrPaused)
	q.mu.Lock()
	first := q.stats.LastError == ""
	q.stats.Retries++
	q.stats.Paused = paused
	q.stats.LastError = err.Error()
	pending := q.stats.Pending
	q.mu.Unlock()
	level, text := slog.LevelWarn, "log sink failed, trying again"
	switch {
	case paused:
		level, text = slog.LevelError, "log sink is paused until somebody mends it"
	case !first:
		level = slog.LevelDebug // said once is enough
	}
	q.opts.Logger.Log(context.Background(), level, text, "error", err, "pause", pause, "pending", pending)
}

// finish counts a batch that is stored and wakes who waits for it.
func (q *Queue) finish(b Batch, r Result) {
	n := len(b.Entries)
	skip, err := q.log.settle()
	q.mu.Lock()
	if err != nil {
		q.stats.LastError = err.Error()
	} else if q.stats.LastError != "" {
		q.opts.Logger.Info("log sink works again", "pending", q.stats.Pending)
		q.stats.LastError = ""
	}
	if n > 0 {
		q.stats.Batches++
	}
	q.stats.Stored += int64(r.Stored)
	q.stats.Duplicate += int64(r.Duplicate) + skip.stored
	q.stats.Dead += int64(r.Dead)
	q.stats.Damaged += skip.damaged
	q.stats.Pending -= int64(n) + skip.damaged + skip.stored
	q.stats.Paused = false
	q.arrived.done(q.settledCount())
	if q.settled != nil {
		close(q.settled)
		q.settled = nil
	}
	q.mu.Unlock()
	if err != nil {
		q.opts.Logger.Warn("log queue could not tidy up behind a batch that is stored", "error", err)
	}
	if r.Dead > 0 {
		q.opts.Logger.Error("log entries went to the dead letters", "entries", r.Dead)
	}
	if skip.damaged > 0 {
		q.opts.Logger.Error("log entries in the spool were damaged and are skipped", "entries", skip.damaged)
	}
}
