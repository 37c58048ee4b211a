package logbuf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

// spool is the backlog of disk mode.
//
// One goroutine, the committer, writes: whatever was put while it flushed the group
// before becomes the next group, one write and one flush. So a lone caller waits
// for one flush, many share it, and no timer is involved. The worker reads what
// was flushed back from the file, usually from the page cache. A segment is
// written by the queue that made it only. When all of it is stored, it stays for a while,
// because a database that fails over may lose what it had committed; then it is removed.
//
// The committer's part is in spool_write.go, the worker's in spool_read.go (batches) and
// spool_tend.go (everything else that has its time).
type spool struct {
	dir         string
	fs          fileSystem
	lock        io.Closer
	logger      *slog.Logger
	clock       func() time.Time
	tell        tally
	capacity    int   // entries awaiting a flush
	maxBytes    int64 // of all segments
	segmentSize int64
	keep        time.Duration // how long drained segments stay
	retryPause  time.Duration // after a segment could not be read for the first time
	zeros       []byte        // what is written ahead at once, see makeRoom

	work      chan struct{} // of capacity 1: there is a group, or the end
	committed chan struct{} // closed when the committer has ended

	// mu guards all below: whoever appends, the committer, and the worker need it.
	mu           sync.Mutex
	broken       error // sticky
	sealed       bool
	group        *group
	spare        []byte // of the group before, to be used again
	waiting      int    // entries put and not flushed
	bytes        int64  // of the segments and of what is waiting
	drainedBytes int64  // of those segments that may go when room is needed
	want         demand
	refusedAt    time.Time      // when the disk had no room; zero once it took something again
	segments     []*segment     // oldest first
	current      *segmentWriter // the one being written, nil before the first group
	abandoned    *segment       // not to be written to any more
	retired      *segment       // stored to its end, and to be drained at once: the disk is full
	retiredAt    time.Time
	next         uint64 // number of the next segment
	syncs        int64
	syncTime     time.Duration
	aside        int    // segments that were set aside
	alarm        string // what an operator should know of

	reader spoolReader // belongs to the worker
}

// A tally is told what becomes of entries, for the counters of the queue.
type tally struct {
	landed    func(n int)                      // taken, and durable
	recovered func(n int64, arrived time.Time) // left by an earlier queue
	again     func(n int64, arrived time.Time) // stored before, and lost by the sink
}

// A group is what is written and flushed at once.
type group struct {
	buf   []byte // frames; their headers are written by the committer
	parts []groupPart
	count int           // entries
	done  chan struct{} // closed when err is final
	err   error
}

type groupPart struct {
	part
	arrived time.Time
}

const (
	maxWaiting = 64 << 20 // bytes that may await a flush
	maxSpare   = 4 << 20  // bytes of a buffer worth keeping
)

// openSpool locks and reads a directory.
func openSpool(o *Options, sink Sink, tell tally) (*spool, error) {
	lock, err := o.fs.Lock(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("logbuf: lock the spool: %w", err)
	}
	s := &spool{
		dir: o.Dir, fs: o.fs, lock: lock, logger: o.Logger, clock: o.Clock, tell: tell, keep: max(0, o.SpoolKeep),
		retryPause: 10 * o.MinBackoff,
		capacity:   o.Capacity, maxBytes: o.SpoolMax, segmentSize: min(64<<20, max(64<<10, o.SpoolMax/16)),
		work: make(chan struct{}, 1), committed: make(chan struct{}),
	}
	s.zeros = make([]byte, min(int64(o.fs.Room()), s.segmentSize))
	_ = o.fs.SyncDir(filepath.Dir(o.Dir)) // the directory may be new; not everybody may sync its parent
	segments, failed, err := findSegments(o.fs, o.Dir)
	if err != nil {
		_ = lock.Close() // the other error is the one to tell
		return nil, fmt.Errorf("logbuf: open the spool %s: %w", o.Dir, err)
	}
	s.segments = segments
	s.reader.checkpoints, _ = sink.(Checkpointer)
	s.reader.stable = ClassOf(sink) == ByIdentity
	s.reader.verifyAt = time.Now()
	if s.reader.checkpoints == nil {
		s.keep = 0 // nobody could say that something is lost
	}
	for _, seg := range s.segments {
		s.next = seg.number + 1
		if seg.phase == readable {
			s.takeUp(seg)
		} else if err := failed[seg]; err != nil {
			s.postpone(seg, err)
		}
	}
	go s.commitGroups()
	return s, nil
}

// takeUp counts what an earlier queue has left in a segment that was scanned.
func (s *spool) takeUp(seg *segment) {
	p := &seg.read
	s.mu.Lock()
	s.bytes += seg.size
	s.mu.Unlock()
	if p.done == seg.end && s.keep > 0 {
		s.drain(seg) // whether the sink still has it is asked soon
		return
	}
	s.tell.recovered(seg.end-p.done, p.arrived)
	s.logger.Info("log spool has entries of an earlier run", "segment", seg.id, "entries", seg.end-p.done)
}

func (s *spool) put(ctx context.Context, p *packed, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	size := int64(len(p.records) + frameHeader*len(p.parts))
	s.mu.Lock()
	if err := s.refuse(p.count, size); err != nil {
		if errors.Is(err, ErrFull) {
			s.want = demand{min(p.count, s.capacity/most), int(min(size, s.maxBytes/most))}
		}
		s.mu.Unlock()
		return err
	}
	g := s.group
	if g == nil {
		g = &group{buf: s.spare[:0], done: make(chan struct{})}
		s.group, s.spare = g, nil
	}
	records := p.records
	for _, part := range p.parts {
		g.buf = append(g.buf, make([]byte, frameHeader)...)
		g.buf = append(g.buf, records[:part.bytes]...)
		g.parts = append(g.parts, groupPart{part, now})
		records = records[part.bytes:]
	}
	g.count += p.count
	s.waiting += p.count
	s.bytes += size
	s.mu.Unlock()
	s.poke()
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err() // the entries may yet be stored
	}
}

// refuse returns why n entries of a size cannot be taken now. It needs the lock. Drained
// segments are no reason: they go when the room is needed.
func (s *spool) refuse(n int, size int64) error {
	used := s.bytes - s.drainedBytes
	switch {
	case s.sealed:
		return ErrClosed
	case s.broken != nil:
		return s.broken
	case size > s.maxBytes:
		return fmt.Errorf("%w: they take %d bytes, and the spool has room for %d", ErrTooMany, size, s.maxBytes)
	case s.waiting > 0 && s.waiting+n > s.capacity, s.group != nil && len(s.group.buf) > maxWaiting:
		return fmt.Errorf("%w: %d entries await the disk", ErrFull, s.waiting)
	case used+size > s.maxBytes:
		return fmt.Errorf("%w: the spool holds %d of %d bytes", ErrFull, used, s.maxBytes)
	}
	return nil
}

func (s *spool) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse(max(1, s.want.count), int64(max(1, s.want.bytes)))
}

func (s *spool) poke() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

func (s *spool) seal(ctx context.Context) {
	s.mu.Lock()
	s.sealed = true
	s.mu.Unlock()
	s.poke()
	select {
	case <-s.committed:
	case <-ctx.Done():
	}
}

// showFull is for how long it is shown that the disk had no room, when nothing was put since.
const showFull = 30 * time.Second

func (s *spool) fill(st *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.SpoolBytes, st.SpoolMax = s.bytes-s.drainedBytes, s.maxBytes
	st.SpoolKept = s.drainedBytes
	st.Segments = len(s.segments)
	st.Syncs, st.SyncTime = s.syncs, s.syncTime
	st.Broken = s.broken != nil
	st.Full = !s.refusedAt.IsZero() && time.Since(s.refusedAt) < showFull
	st.SetAside, st.Alarm = s.aside, s.alarm
}

// extent is how far a segment can be read.
type extent struct {
	size, end int64
	complete  bool // it will not grow
}

func (s *spool) extentOf(seg *segment) extent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return extent{seg.size, seg.end, s.current == nil || s.current.segment != seg}
}

// retire notes how far the segment being written is stored. It ends one that is large, so that it
// can go and its space be used, unless something is on its way to it.
func (s *spool) retire(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.segment != seg {
		return
	}
	s.current.stored = seg.read.done
	if s.waiting == 0 && seg.size >= s.segmentSize {
		s.current = nil
	}
}

// move takes a segment to its next phase. It needs the lock.
func (s *spool) move(seg *segment, to phase) {
	if !to.follows(seg.phase) {
		panic(fmt.Sprintf("logbuf: a segment goes from phase %d to %d", seg.phase, to))
	}
	if seg.phase == drained {
		s.drainedBytes -= seg.size
	}
	seg.phase = to
	switch to {
	case drained:
		s.drainedBytes += seg.size
		s.want = demand{}
	case gone:
		s.bytes -= seg.size
		s.want = demand{}
		for i, other := range s.segments {
			if other == seg {
				s.segments = append(s.segments[:i:i], s.segments[i+1:]...)
				break
			}
		}
	}
}

// warn raises an alarm: it is logged, and shown until the queue is opened again.
func (s *spool) warn(text string, seg *segment, args ...any) {
	args = append([]any{"file", seg.path}, args...)
	s.logger.Error("log spool: "+text, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alarm = text + ": " + seg.path
}

// close releases the directory. What is stored to its end is removed, or noted.
func (s *spool) close() error {
	grace := time.NewTimer(time.Second)
	defer grace.Stop()
	select {
	case <-s.committed:
		return s.release()
	case <-grace.C:
		go func() {
			<-s.committed
			_ = s.release() // nobody is left to tell
		}()
		return errors.New("log spool: a write to the disk hangs, and the directory is locked until it ends")
	}
}

func (s *spool) release() (err error) {
	if w := s.current; w != nil {
		if w.room > w.size {
			_ = w.file.Truncate(w.size) // Open would
		}
		s.current = nil
	}
	for _, seg := range append([]*segment(nil), s.segments...) {
		if seg.phase == readable && seg.read.done >= seg.end {
			s.drain(seg)
		}
		if seg.phase == drained && (s.keep == 0 || seg.end == 0) {
			err = errors.Join(err, s.drop(seg))
		}
		if seg.file != nil {
			err = errors.Join(err, seg.file.Close())
		}
	}
	return errors.Join(err, s.lock.Close())
}
