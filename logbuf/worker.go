package logbuf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
)

// run writes batches until the queue is closed and empty, or ctx ends.
func (q *Queue) run(ctx context.Context) {
	defer close(q.done)
	for q.await(ctx) {
		f, ok := q.launch(ctx)
		if !ok {
			return
		}
		for f != nil {
			next := q.follow(ctx, f)
			<-f.ended
			if f.stored {
				q.finish(f.batch, f.result)
				f = next
				continue
			}
			if next != nil {
				<-next.ended
			}
			if f.behind == nil {
				return
			}
			q.takeBack(f, next)
			f = nil
		}
	}
}

// An inflight is a batch on its way into the sink.
type inflight struct {
	batch  Batch
	result Result
	stored bool          // or it did not come to that; not before ended is closed
	behind *BehindError  // the sink has lost what comes before; not before ended is closed
	ended  chan struct{} // closed when no more is tried
	failed chan struct{} // closed when something fails at first
	fail   func()        // closes failed
}

// launch reads the next batch and begins to write it. It returns nil when nothing can be
// read yet, and is not ok when ctx ended first.
func (q *Queue) launch(ctx context.Context) (f *inflight, ok bool) {
	var b Batch
	var later notYet
	if !q.retryForever(ctx, "to read the next batch", func() (err error) {
		b, err = q.log.read(ctx, q.opts.BatchSize)
		if errors.As(err, &later) {
			return nil
		}
		return err
	}) {
		return nil, false
	}
	q.rest = later.until
	if !later.until.IsZero() {
		return nil, true
	}
	return q.send(ctx, b, nil), true
}

// follow begins to write the next batch beside f as soon as it is full, if the
// sink can do that. It returns nil when f ends, or fails, first.
func (q *Queue) follow(ctx context.Context, f *inflight) *inflight {
	if _, ok := q.sink.(Pipeliner); !ok {
		return nil
	}
	for {
		if at := q.log.tendAt(); !at.IsZero() && !time.Now().Before(at) {
			return nil // it is done when nothing is in flight
		}
		q.mu.Lock()
		full := q.stats.Pending-q.inflight >= int64(q.opts.BatchSize)
		q.mu.Unlock()
		if full {
			if b, ok := q.log.readAhead(q.opts.BatchSize); ok {
				return q.send(ctx, b, f)
			}
			return nil
		}
		select {
		case <-q.wake:
		case <-f.ended:
			return nil
		case <-f.failed:
			return nil
		}
	}
}

// send writes a batch in the background, behind another unless that is nil.
func (q *Queue) send(ctx context.Context, b Batch, prior *inflight) *inflight {
	q.mu.Lock()
	q.inflight += int64(len(b.Entries))
	q.mu.Unlock()
	f := &inflight{batch: b, ended: make(chan struct{}), failed: make(chan struct{})}
	f.fail = sync.OnceFunc(func() { close(f.failed) })
	go func() {
		defer close(f.ended)
		f.stored = len(b.Entries) == 0 || q.completeLate(ctx, f) &&
			(prior != nil && q.writeBeside(ctx, f, prior) || q.writeAlone(ctx, f, prior))
	}()
	return f
}

// completeLate completes the entries of a batch that could not be completed when they came, as
// often as it takes. It returns false when ctx ended first.
func (q *Queue) completeLate(ctx context.Context, f *inflight) bool {
	var late []*Entry
	for i := range f.batch.Entries {
		if e := &f.batch.Entries[i]; e.PricedRevision == completedLate {
			e.PricedRevision = 0
			late = append(late, e)
		}
	}
	if len(late) == 0 || q.opts.Completer == nil {
		return true
	}
	return q.retryForever(ctx, "to find out costs and projects", func() error {
		ctx, cancel := context.WithTimeout(ctx, completeTimeout)
		defer cancel()
		err := q.opts.Completer.CompleteLate(ctx, late)
		if err == nil {
			return nil
		}
		f.fail()
		if q.closing.Load() && q.stats.Durability == Memory {
			return nil // an entry without its cost is better than none
		}
		return err
	})
}

// completeTimeout is how long one try to complete entries may take.
const completeTimeout = 5 * time.Second

// writeAlone writes a batch once the one before is stored, as often as it takes. It
// returns false when ctx ended first.
func (q *Queue) writeAlone(ctx context.Context, f, prior *inflight) bool {
	if prior != nil {
		if <-prior.ended; !prior.stored {
			return false // what comes later must not be stored without it
		}
	}
	return q.retryForever(ctx, "to store a batch", func() (err error) {
		if f.result, err = q.write(ctx, f.batch, q.sink.Write); err == nil {
			return nil
		}
		f.fail()
		if f.batch.Segment != uuid.Nil && errors.As(err, &f.behind) {
			return nil // it is of no use to try the same again
		}
		return err
	}) && f.behind == nil
}

// takeBack gives batches back that cannot be stored, because the sink has lost what comes
// before them.
func (q *Queue) takeBack(f, next *inflight) {
	n := len(f.batch.Entries)
	if next != nil {
		n += len(next.batch.Entries)
	}
	q.mu.Lock()
	q.inflight -= int64(n)
	q.stats.Retries++
	q.mu.Unlock()
	q.log.behind(f.behind.Position)
}

// writeBeside tries once to write a batch while the one before is written. That
// it fails is nothing to talk about: it will be tried again, alone.
func (q *Queue) writeBeside(ctx context.Context, f, prior *inflight) (ok bool) {
	r, err := q.write(ctx, f.batch, func(ctx context.Context, b Batch) (Result, error) {
		return q.sink.(Pipeliner).WriteAfter(ctx, b, prior.wait) //nolint:forcetypeassert // follow has asked
	})
	if err != nil && !errors.Is(err, errFailedBefore) {
		q.mu.Lock()
		q.stats.Retries++
		q.mu.Unlock()
	}
	f.result = r
	return err == nil
}

var errFailedBefore = errors.New("the batch before is not stored")

// wait blocks until the batch is stored, and it is the turn of the one behind. It
// returns an error when the batch cannot be stored at once.
func (f *inflight) wait(ctx context.Context) error {
	select {
	case <-f.ended:
		if f.stored {
			return nil
		}
	case <-f.failed:
	case <-ctx.Done():
		return ctx.Err()
	}
	return errFailedBefore
}

// await blocks until a batch is due, and tends the backlog meanwhile. It returns false when
// there is none and there will be none.
func (q *Queue) await(ctx context.Context) bool {
	for {
		if ctx.Err() != nil {
			return false
		}
		now := time.Now()
		tendAt := q.log.tendAt()
		if !tendAt.IsZero() && !now.Before(tendAt) {
			q.log.tend(ctx)
			q.rest = time.Time{}
			continue
		}
		q.mu.Lock()
		closing := q.sealed
		pending := q.stats.Pending
		flush := q.flushTo > q.settledCount()
		wait := time.Until(q.due.oldest().Add(q.opts.FlushInterval))
		q.mu.Unlock()
		if pending == 0 && closing {
			return false
		}
		if pending > 0 && (closing || flush || pending >= int64(q.opts.BatchSize) || wait <= 0) {
			if !now.Before(q.rest) {
				return true
			}
			wait = min(q.rest.Sub(now), time.Second)
		} else if pending == 0 {
			wait = noWait
		}
		if !tendAt.IsZero() {
			wait = min(wait, tendAt.Sub(now))
		}
		due := time.NewTimer(wait)
		select {
		case <-q.wake:
			q.rest = time.Time{} // there may be others to read
		case <-due.C:
		case <-ctx.Done():
		}
		due.Stop()
	}
}

// noWait is how long nobody waits for a timer.
const noWait = time.Duration(1 << 62)

// retryForever calls try until it works. It returns false when ctx ended first. Doing says
// what it is about.
func (q *Queue) retryForever(ctx context.Context, doing string, try func() error) bool {
	for pause := q.pauses(); ; {
		err := try()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		d := pause(err)
		q.failed(doing, err, d)
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return false
		}
	}
}

// write gives a batch to the sink once.
func (q *Queue) write(
	ctx context.Context, b Batch, to func(context.Context, Batch) (Result, error),
) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, q.opts.WriteTimeout)
	defer cancel()
	r, err := to(ctx, b)
	if err != nil {
		return Result{}, err
	}
	if n := r.Stored + r.Duplicate + r.Dead; n != len(b.Entries) || min(r.Stored, r.Duplicate, r.Dead) < 0 {
		return Result{}, fmt.Errorf("log sink broke its contract: the result %+v does not add up to %d entries", r,
			len(b.Entries))
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

// failed notes a failure.
func (q *Queue) failed(doing string, err error, pause time.Duration) {
	paused := errors.Is(err, ErrPaused)
	q.mu.Lock()
	first := q.stats.LastError == ""
	q.stats.Retries++
	q.stats.Paused = paused
	q.stats.LastError = err.Error()
	pending := q.stats.Pending
	q.mu.Unlock()
	level, text := slog.LevelWarn, "log queue fails "+doing+", trying again"
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
		q.log.doubt()
		q.opts.Logger.Info("log sink works again", "pending", q.stats.Pending)
		q.stats.LastError = ""
	}
	if n > 0 {
		q.stats.Batches++
		q.inflight -= int64(n)
	}
	q.stats.Stored += int64(r.Stored)
	q.stats.Duplicate += int64(r.Duplicate) + skip.stored
	q.stats.Dead += int64(r.Dead)
	q.stats.Damaged += skip.damaged
	q.stats.Pending -= int64(n) + skip.damaged + skip.stored
	q.stats.Paused = false
	q.arrived.done(q.settledCount())
	q.due.done(q.settledCount())
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
