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
// written by the queue that made it only, and removed when all of it is stored.
type spool struct {
	dir         string
	fs          fileSystem
	lock        io.Closer
	logger      *slog.Logger
	landed      func(n int)
	capacity    int   // entries awaiting a flush
	maxBytes    int64 // of all segments
	segmentSize int64
	zeros       []byte // what is written ahead at once, see makeRoom

	work      chan struct{} // of capacity 1: there is a group, or the end
	committed chan struct{} // closed when the committer has ended

	mu       sync.Mutex
	broken   error // sticky
	sealed   bool
	group    *group
	spare    []byte // of the group before, to be used again
	waiting  int    // entries put and not flushed
	bytes    int64  // of the segments and of what is waiting
	want     demand
	segments []*segment // oldest first
	current  *segment   // the one being written, nil before the first group
	next     uint64     // number of the next segment
	syncs    int64
	syncTime time.Duration

	reader spoolReader // belongs to the worker
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

// openSpool locks and reads a directory. Recovered is called for each segment
// found, with how many entries are pending and when the first arrived.
func openSpool(o *Options, sink Sink, landed func(n int), recovered func(n int64, arrived time.Time)) (*spool, error) {
	lock, err := o.fs.Lock(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("logbuf: lock the spool: %w", err)
	}
	s := &spool{
		dir: o.Dir, fs: o.fs, lock: lock, logger: o.Logger, landed: landed,
		capacity: o.Capacity, maxBytes: o.SpoolMax, segmentSize: min(64<<20, max(64<<10, o.SpoolMax/16)),
		work: make(chan struct{}, 1), committed: make(chan struct{}),
	}
	s.zeros = make([]byte, min(int64(o.fs.Room()), s.segmentSize))
	_ = o.fs.SyncDir(filepath.Dir(o.Dir)) // the directory may be new; not everybody may sync its parent
	s.segments, err = findSegments(o.fs, o.Dir)
	if err != nil {
		_ = lock.Close() // the other error is the one to tell
		return nil, fmt.Errorf("logbuf: open the spool %s: %w", o.Dir, err)
	}
	s.reader.checkpoints, _ = sink.(Checkpointer)
	for _, seg := range s.segments {
		if s.reader.checkpoints == nil {
			seg.done = seg.readPosition(s.fs)
			seg.from = seg.done
		}
		s.bytes += seg.size
		s.next = seg.number + 1
		recovered(seg.end-seg.done, seg.arrived)
		s.logger.Info("log spool has entries of an earlier run", "segment", seg.id, "entries", seg.end-seg.done)
	}
	go s.commitGroups()
	return s, nil
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

// refuse returns why n entries of a size cannot be taken now. It needs the lock.
func (s *spool) refuse(n int, size int64) error {
	switch {
	case s.sealed:
		return ErrClosed
	case s.broken != nil:
		return s.broken
	case size > s.maxBytes:
		return fmt.Errorf("%w: they take %d bytes, and the spool has room for %d", ErrTooMany, size, s.maxBytes)
	case s.waiting > 0 && s.waiting+n > s.capacity, s.group != nil && len(s.group.buf) > maxWaiting:
		return fmt.Errorf("%w: %d entries await the disk", ErrFull, s.waiting)
	case s.bytes+size > s.maxBytes:
		return fmt.Errorf("%w: the spool holds %d of %d bytes", ErrFull, s.bytes, s.maxBytes)
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

// commitGroups is the committer.
func (s *spool) commitGroups() {
	defer close(s.committed)
	for range s.work {
		for {
			s.mu.Lock()
			g, sealed, broken := s.group, s.sealed, s.broken
			s.group = nil
			s.mu.Unlock()
			if g == nil {
				if sealed {
					return
				}
				break
			}
			if g.err = broken; broken == nil {
				g.err = s.commit(g)
			}
			s.mu.Lock()
			s.waiting -= g.count
			if g.err != nil {
				s.bytes -= int64(len(g.buf))
			}
			if cap(g.buf) <= maxSpare {
				s.spare = g.buf
			}
			s.mu.Unlock()
			close(g.done)
		}
	}
}

// commit makes a group durable.
func (s *spool) commit(g *group) error {
	seg, err := s.writable()
	if err != nil {
		return err
	}
	seed := frameSeed(seg.id)
	first, b := seg.end, g.buf
	for _, p := range g.parts {
		putFrameHeader(b[:frameHeader+p.bytes], p.count, first, p.arrived, seed)
		first += int64(p.count)
		b = b[frameHeader+p.bytes:]
	}
	if _, err := seg.file.WriteAt(g.buf, seg.size); err != nil {
		return s.undo(seg, err)
	}
	s.makeRoom(seg, seg.size+int64(len(g.buf)))
	start := time.Now()
	if err := seg.file.Sync(); err != nil {
		// The kernel may have dropped the pages and forgotten about it: a second
		// fsync that works proves nothing.
		return s.breakDown(fmt.Errorf("fsync: %w", err))
	}
	took := time.Since(start)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.landed(g.count) // at once with the size, so that counters and files agree
	s.syncs++
	s.syncTime += took
	seg.size += int64(len(g.buf))
	seg.end = first
	return nil
}

// writable returns the segment to write to, a new one at first and whenever the
// last is large enough.
func (s *spool) writable() (*segment, error) {
	s.mu.Lock()
	seg := s.current
	s.mu.Unlock()
	if seg != nil && seg.size < s.segmentSize {
		return seg, nil
	}
	id := newID(time.Now())
	seg = &segment{id: id, number: s.next, path: filepath.Join(s.dir, segmentName(s.next, id))}
	f, err := s.fs.Create(seg.path)
	if err != nil {
		// A full disk, or too many open files: it may pass.
		return nil, fmt.Errorf("%w: new segment: %w", ErrFull, err)
	}
	seg.file = f
	if err := s.fs.SyncDir(s.dir); err != nil {
		_ = seg.remove(s.fs) // nothing is in it
		return nil, s.breakDown(fmt.Errorf("fsync of the directory: %w", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	s.current = seg
	s.segments = append(s.segments, seg)
	return seg, nil
}

// undo takes a write back that did not work.
func (s *spool) undo(seg *segment, cause error) error {
	if !isFull(cause) {
		return s.breakDown(fmt.Errorf("write: %w", cause))
	}
	if err := seg.file.Truncate(seg.size); err != nil {
		return s.breakDown(fmt.Errorf("truncate after %w: %w", cause, err))
	}
	seg.room = seg.size
	s.logger.Warn("log spool: the disk is full", "error", cause)
	return fmt.Errorf("%w: the disk is full", ErrFull)
}

// roomFor is how many groups like the last one zeros must be enough for. What
// is written twice costs more than it saves when groups are large.
const roomFor = 16

// makeRoom writes zeros from an offset, where the segment's frames end, when
// those from before are used up; the flush of the group takes them along.
// They never go beyond the segment nor, with all that was put, SpoolMax, so that
// to fill them later needs no more of the disk. That they cannot be written
// is no failure: the segment grows as it is filled.
func (s *spool) makeRoom(seg *segment, from int64) {
	if from < seg.room {
		return
	}
	s.mu.Lock()
	n := min(int64(len(s.zeros)), s.segmentSize-from, s.maxBytes-s.bytes)
	s.mu.Unlock()
	if n < roomFor*(from-seg.size) {
		return
	}
	seg.room = from + n
	if _, err := seg.file.WriteAt(s.zeros[:n], from); err != nil {
		_ = seg.file.Truncate(from)
		seg.room = s.segmentSize // as if: it is not tried again
	}
}

// breakDown makes an error sticky.
func (s *spool) breakDown(cause error) error {
	err := fmt.Errorf("%w: %w", ErrBroken, cause)
	s.mu.Lock()
	s.broken = err
	s.mu.Unlock()
	s.logger.Error("log spool takes no more entries until it is opened again", "error", cause)
	return err
}

func (s *spool) fill(st *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.SpoolBytes, st.SpoolMax = s.bytes, s.maxBytes
	st.Segments = len(s.segments)
	st.Syncs, st.SyncTime = s.syncs, s.syncTime
	st.Broken = s.broken != nil
}

// extent is how far a segment can be read.
type extent struct {
	size, end int64
	complete  bool // it will not grow
}

func (s *spool) extentOf(seg *segment) extent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return extent{seg.size, seg.end, seg != s.current}
}

// oldest returns the first segment, nil when there is none.
func (s *spool) oldest() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) == 0 {
		return nil
	}
	return s.segments[0]
}

// retire ends the segment being written, so that it can go and its space be used,
// unless something is on its way to it.
func (s *spool) retire(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == seg && s.waiting == 0 && seg.size >= s.segmentSize {
		s.current = nil
	}
}

// drop removes the oldest segment, which is stored.
func (s *spool) drop(seg *segment) error {
	s.mu.Lock()
	s.segments = s.segments[1:]
	s.bytes -= seg.size
	s.want = demand{}
	s.mu.Unlock()
	if err := seg.remove(s.fs); err != nil {
		return fmt.Errorf("log spool: remove a segment that is stored: %w", err)
	}
	return nil
}

// close releases the directory. What is stored to its end is removed.
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
	if seg := s.oldest(); seg != nil && s.reader.finished(seg, s.extentOf(seg)) {
		err = s.drop(seg)
	}
	for _, seg := range s.segments {
		if seg.room > seg.size {
			_ = seg.file.Truncate(seg.size) // Open would
		}
		if seg.file != nil {
			err = errors.Join(err, seg.file.Close())
		}
	}
	return errors.Join(err, s.lock.Close())
}
