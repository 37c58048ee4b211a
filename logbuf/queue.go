package logbuf

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

var (
	_ Buffer   = (*Queue)(nil)
	_ Admitter = (*Queue)(nil)
)

// A Queue is a [Buffer] that writes to a [Sink] in batches, from memory or from
// a spool on disk. It writes a batch when it is full or its first entry is
// FlushInterval old, and tries again for ever when the sink fails. Batches
// are stored in order; the next is begun meanwhile if it is full and the sink is an
// [Pipeliner].
type Queue struct {
	opts Options
	sink Sink
	log  backlog

	scratch sync.Pool // of *packed

	wake   chan struct{} // of capacity 1: there may be something to do
	cancel context.CancelFunc
	done   chan struct{} // closed when the worker has ended
	closed chan struct{} // closed when Close has finished

	closing  atomic.Bool // Close was called
	cut      atomic.Int64
	replaced atomic.Int64

	rest time.Time // nothing can be read before; belongs to the worker

	mu       sync.Mutex
	stats    Stats         // but for what the fields above and the backlog know
	inflight int64         // entries that were read and are not settled
	arrived  timeline      // by Options.Clock, for Stats
	due      timeline      // by the clock of the machine, for FlushInterval
	sealed   bool          // nothing more can land
	flushTo  int64         // settled has to reach this without delay
	settled  chan struct{} // closed and forgotten at each change; nil when nobody waits
}

// A backlog keeps records in order until they are settled. Methods put and
// ready are safe for concurrent use; the others belong to the worker.
type backlog interface {
	// put takes records, all or none, calls landed and returns once they are
	// durable. It keeps nothing of p.
	put(ctx context.Context, p *packed, now time.Time) error
	// ready returns what put would, as far as it is known.
	ready() error
	// read returns the next batch, when all read before are settled. It is empty
	// when there was only something to skip. The error is a notYet when there are
	// entries, and none can be read now.
	read(ctx context.Context, limit int) (Batch, error)
	// readAhead returns the batch after one that is not settled; call it once for
	// each. It is not ok when there is none that can be read without doubt.
	readAhead(limit int) (b Batch, ok bool)
	// settle forgets the first batch that was read and not settled, and says what was
	// skipped to get it.
	settle() (skipped, error)
	// tend does what has its time, when nothing is in flight, and tendAt says when there is
	// something to do; zero when there is not.
	tend(ctx context.Context)
	tendAt() time.Time
	// behind says that the sink has only so much of the segment that is being read. What was
	// read and not settled is to be read again.
	behind(position int64)
	// doubt says that the sink has come back from a failure, and may have lost something.
	doubt()
	// seal makes put return ErrClosed, and returns once nothing more can land, or
	// ctx ends.
	seal(ctx context.Context)
	// fill adds to the counters what only the backlog knows.
	fill(s *Stats)
	close() error
}

// skipped counts entries that landed and are in no batch.
type skipped struct {
	damaged int64
	stored  int64 // already, as the sink's checkpoint says
}

// Open starts a queue in front of a sink. In disk mode it locks the spool, reads
// it through and takes up what an earlier queue has left. The sink need not work
// yet, and the queue never closes it.
func Open(sink Sink, opts *Options) (*Queue, error) {
	if sink == nil {
		return nil, errors.New("logbuf: Open needs a sink")
	}
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	q := &Queue{
		opts:    o,
		sink:    sink,
		wake:    make(chan struct{}, 1),
		cancel:  cancel,
		done:    make(chan struct{}),
		closed:  make(chan struct{}),
		arrived: timeline{step: max(time.Millisecond, o.FlushInterval/64)},
		due:     timeline{step: max(time.Millisecond, o.FlushInterval/64)},
	}
	q.stats.Durability, q.stats.Capacity = Memory, int64(o.Capacity)
	if o.Dir == "" {
		q.log = newMemory(o.Capacity, q.landed)
	} else {
		q.stats.Durability = Disk
		if q.log, err = openSpool(&o, sink, tally{q.landed, q.recovered, q.again}); err != nil {
			cancel()
			return nil, err
		}
	}
	go q.run(ctx)
	return q, nil
}

// Append implements [Buffer]. Entries without a time get now, entries without
// an id a UUIDv7, so that sending them again, to wherever the sink sends them,
// stores them once; an id that is a UUIDv7 brings its time. Strings are cut and
// cleaned as [Decoder] does, and numbers that no engine could hold or add up are refused:
// the error is a [FieldError], and none of the entries was taken.
//
// In disk mode Append waits for the flush. When ctx ends meanwhile, the entries
// may be stored all the same. After a flush that failed the error wraps
// [ErrBroken], until the queue is opened again.
func (q *Queue) Append(ctx context.Context, entries ...Entry) error {
	if len(entries) == 0 {
		return ctx.Err()
	}
	if q.closing.Load() {
		return ErrClosed
	}
	p, _ := q.scratch.Get().(*packed)
	if p == nil {
		p = new(packed)
	}
	now := q.opts.Clock()
	if err := q.pack(p, entries, now); err != nil {
		p.reset()
		q.scratch.Put(p)
		return err
	}
	err := q.log.put(ctx, p, now)
	p.reset()
	if cap(p.records) <= chunkSize { // a rare large one is not worth keeping
		q.scratch.Put(p)
	}
	if errors.Is(err, ErrFull) {
		q.mu.Lock()
		q.stats.Refused += int64(len(entries))
		q.mu.Unlock()
	}
	return err
}

// pack makes records of entries, fit to be stored. The caller's entries stay as they are.
func (q *Queue) pack(p *packed, entries []Entry, now time.Time) error {
	var before [texts]string
	var cut, replaced int64
	for i := range entries {
		p.entry = entries[i]
		e := &p.entry
		e.identify(now)
		if err := e.validate(); err != nil {
			return &FieldError{"[" + strconv.Itoa(i) + "]." + err.Field, err.Message}
		}
		c, r := e.clean(&before)
		cut, replaced = cut+c, replaced+r
		q.complete(e)
		p.add(e)
	}
	q.cut.Add(cut)
	q.replaced.Add(replaced)
	return nil
}

// complete fills in what an entry leaves open, if that is known already.
func (q *Queue) complete(e *Entry) {
	if q.opts.Completer == nil {
		return
	}
	e.PricedRevision = 0
	if !q.opts.Completer.Complete(e) {
		e.PricedRevision = completedLate
	}
}

// Ready implements [Admitter].
func (q *Queue) Ready() error {
	if q.closing.Load() {
		return ErrClosed
	}
	return q.log.ready()
}

// Stats implements [Buffer].
func (q *Queue) Stats() Stats {
	var of Stats
	q.log.fill(&of) // before the lock: the backlog calls landed under its own
	full := of.Full || errors.Is(q.log.ready(), ErrFull)
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.SpoolBytes, s.SpoolKept, s.SpoolMax, s.Segments = of.SpoolBytes, of.SpoolKept, of.SpoolMax, of.Segments
	s.SetAside, s.Alarm = of.SetAside, of.Alarm
	s.Syncs, s.SyncTime, s.Broken, s.Full = of.Syncs, of.SyncTime, of.Broken, full
	s.OldestPending = q.arrived.oldest()
	s.Cut, s.Replaced = q.cut.Load(), q.replaced.Load()
	return s
}

// recovered counts entries that an earlier queue has left.
func (q *Queue) recovered(n int64, arrived time.Time) {
	if n == 0 {
		return
	}
	if now := q.opts.Clock(); arrived.After(now) { // the clock was ahead then
		arrived = now
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Accepted += n
	q.stats.Pending += n
	q.arrived.add(q.stats.Accepted, arrived)
	q.due.add(q.stats.Accepted, time.Now().Add(-q.opts.FlushInterval)) // they have waited
}

// again counts entries that were stored, and which the sink has lost. They were accepted
// once, and are counted once more: no counter goes back.
func (q *Queue) again(n int64, now time.Time) {
	q.recovered(n, now)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Again += n
}

// landed counts entries that the backlog has taken and wakes the worker when
// there is something new for it to do.
func (q *Queue) landed(n int) {
	q.mu.Lock()
	before := q.stats.Pending - q.inflight
	q.stats.Accepted += int64(n)
	q.stats.Pending += int64(n)
	q.arrived.add(q.stats.Accepted, q.opts.Clock())
	q.due.add(q.stats.Accepted, time.Now())
	full := int64(q.opts.BatchSize)
	wake := before == 0 || before < full && before+int64(n) >= full
	q.mu.Unlock()
	if wake {
		q.poke()
	}
}

func (q *Queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Flush implements [Buffer].
func (q *Queue) Flush(ctx context.Context) error {
	q.mu.Lock()
	target := q.stats.Accepted
	q.flushTo = max(q.flushTo, target)
	q.mu.Unlock()
	q.poke()
	for {
		q.mu.Lock()
		left := target - q.settledCount()
		if q.settled == nil {
			q.settled = make(chan struct{})
		}
		settled := q.settled
		q.mu.Unlock()
		if left <= 0 {
			return nil
		}
		select {
		case <-settled:
		case <-q.done:
			q.mu.Lock()
			left = target - q.settledCount()
			q.mu.Unlock()
			if left <= 0 {
				return nil
			}
			return fmt.Errorf("%w: %d entries were not flushed", ErrClosed, left)
		case <-ctx.Done():
			q.mu.Lock()
			last := q.stats.LastError
			q.mu.Unlock()
			if last == "" {
				return fmt.Errorf("flush of %d entries: %w", left, ctx.Err())
			}
			return fmt.Errorf("flush of %d entries: %w (the sink's last error: %s)", left, ctx.Err(), last)
		}
	}
}

// settledCount returns how many entries are settled. It needs the lock.
func (q *Queue) settledCount() int64 { return q.stats.Accepted - q.stats.Pending }

// An UnstoredError is what Close returns when entries are left.
type UnstoredError struct {
	Entries int64 // how many are pending
	Kept    bool  // they are in the spool, and will be stored after the next Open
	Err     error // why: the context's error
}

func (e *UnstoredError) Error() string {
	if e.Kept {
		return fmt.Sprintf("log buffer closed with %d entries still in the spool: %v", e.Entries, e.Err)
	}
	return fmt.Sprintf("log buffer closed with %d entries lost: %v", e.Entries, e.Err)
}

// Unwrap returns the reason.
func (e *UnstoredError) Unwrap() error { return e.Err }

// Close implements [Buffer]. When entries are left, the error is an
// [*UnstoredError]. A sink that does not heed the context of Write keeps Close
// for a second after its own context has ended.
func (q *Queue) Close(ctx context.Context) error {
	if !q.closing.CompareAndSwap(false, true) {
		select {
		case <-q.closed:
		case <-ctx.Done():
		}
		return nil
	}
	defer close(q.closed)
	q.log.seal(ctx)
	q.mu.Lock()
	q.sealed = true
	q.mu.Unlock()
	q.poke()
	var cause error
	select {
	case <-q.done:
	case <-ctx.Done():
		cause = ctx.Err()
		q.cancel()
		grace := time.NewTimer(time.Second)
		defer grace.Stop()
		select {
		case <-q.done:
		case <-grace.C:
		}
	}
	q.cancel()
	var err error
	select {
	case <-q.done:
		err = q.log.close()
	default: // the sink hangs, and its batch may be using the backlog
		go func() {
			<-q.done
			_ = q.log.close() // nobody is left to tell
		}()
	}
	s := q.Stats()
	if s.Pending > 0 {
		if cause == nil {
			cause = errors.New("the sink ended")
		}
		return errors.Join(&UnstoredError{Entries: s.Pending, Kept: s.Durability == Disk, Err: cause}, err)
	}
	return err
}
