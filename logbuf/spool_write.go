package logbuf

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// A segmentWriter is the segment that the committer writes.
type segmentWriter struct {
	*segment
	room   int64 // offset up to which zeros were written; belongs to the committer
	stored int64 // position up to which the sink has it; guarded by spool.mu, written by the worker
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
	s.shed(s.maxBytes)
	w, err := s.writable()
	if err != nil {
		return err
	}
	seed := frameSeed(w.id)
	first, b := w.end, g.buf
	for _, p := range g.parts {
		putFrameHeader(b[:frameHeader+p.bytes], p.count, first, p.arrived, seed)
		first += int64(p.count)
		b = b[frameHeader+p.bytes:]
	}
	if err := s.write(w, g.buf); err != nil {
		return err
	}
	s.makeRoom(w, w.size+int64(len(g.buf)))
	start := time.Now()
	if err := w.file.Sync(); err != nil {
		// The kernel may have dropped the pages and forgotten about it: a second
		// fsync that works proves nothing.
		return s.breakDown(fmt.Errorf("fsync: %w", err))
	}
	took := time.Since(start)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell.landed(g.count) // at once with the size, so that counters and files agree
	s.refusedAt = time.Time{}
	s.syncs++
	s.syncTime += took
	w.size += int64(len(g.buf))
	w.end = first
	return nil
}

// write writes frames at the end of a segment. When the disk is full, it lets go of what is
// only kept, and tries once more.
func (s *spool) write(w *segmentWriter, frames []byte) error {
	_, err := w.file.WriteAt(frames, w.size)
	if err != nil && diskFaultOf(err) == diskFull && s.shed(0) {
		_, err = w.file.WriteAt(frames, w.size)
	}
	if err != nil {
		return s.undo(w, err)
	}
	return nil
}

// writable returns the segment to write to, a new one at first, whenever the last is large
// enough, and when somebody has deleted the last.
func (s *spool) writable() (*segmentWriter, error) {
	s.mu.Lock()
	w := s.current
	usable := w != nil && w.size < s.segmentSize && w.segment != s.abandoned
	s.mu.Unlock()
	if usable {
		if !w.file.Unlinked() {
			return w, nil
		}
		s.warn("the segment that is being written was deleted; what is in it is lost if this process ends now",
			w.segment)
	}
	id := newID(time.Now())
	seg := &segment{id: id, number: s.next, path: filepath.Join(s.dir, segmentName(s.next, id)), phase: readable}
	f, err := s.fs.Create(seg.path)
	if err != nil && diskFaultOf(err) == diskFull && s.shed(0) {
		f, err = s.fs.Create(seg.path)
	}
	if err != nil {
		return nil, s.refusal("new segment", err)
	}
	seg.file = f
	if err := s.fs.SyncDir(s.dir); err != nil {
		_ = f.Close()
		_ = seg.remove(s.fs) // nothing is in it
		return nil, s.breakDown(fmt.Errorf("fsync of the directory: %w", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	s.current = &segmentWriter{segment: seg}
	s.segments = append(s.segments, seg)
	return s.current, nil
}

// undo takes a write back that did not work.
func (s *spool) undo(w *segmentWriter, cause error) error {
	if diskFaultOf(cause) == diskBroken {
		return s.breakDown(fmt.Errorf("write: %w", cause))
	}
	if err := w.file.Truncate(w.size); err != nil {
		return s.breakDown(fmt.Errorf("truncate after %w: %w", cause, err))
	}
	w.room = w.size
	if diskFaultOf(cause) == diskFull {
		s.retireStored(w)
	}
	return s.refusal("write", cause)
}

// retireStored ends a segment of which everything is stored, however small it is, and wakes the worker,
// which drains it: then the disk gets its room back.
func (s *spool) retireStored(w *segmentWriter) {
	s.mu.Lock()
	stored := w.size > 0 && w.stored >= w.end
	if stored {
		s.current, s.retired, s.retiredAt = nil, w.segment, time.Now()
	}
	s.mu.Unlock()
	if stored {
		s.tell.landed(0)
	}
}

// refusal returns what the callers of a group are told whose entries could not be written.
func (s *spool) refusal(doing string, cause error) error {
	switch diskFaultOf(cause) {
	case diskFull:
		s.noteRefusal()
		s.logger.Warn("log spool: the disk is full", "doing", doing, "error", cause)
		return fmt.Errorf("%w: the disk is full", ErrFull)
	case diskLater:
		s.noteRefusal()
		s.logger.Warn("log spool: the system refuses for the moment", "doing", doing, "error", cause)
		return fmt.Errorf("%w: the system refuses for the moment", ErrFull)
	}
	return s.breakDown(fmt.Errorf("%s: %w", doing, cause))
}

func (s *spool) noteRefusal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusedAt = time.Now()
}

// roomFor is for how many groups as large as the last one the zeros must suffice; otherwise none
// are written. When groups are large, writing everything twice costs more than it saves.
const roomFor = 16

// makeRoom writes zeros from an offset, where the segment's frames end, when
// those from before are used up; the flush of the group takes them along.
// They never go beyond the segment nor, with all that was put, SpoolMax, so that
// to fill them later needs no more of the disk. That they cannot be written
// is no failure: the segment grows as it is filled.
func (s *spool) makeRoom(w *segmentWriter, from int64) {
	if from < w.room {
		return
	}
	s.mu.Lock()
	n := min(int64(len(s.zeros)), s.segmentSize-from, s.maxBytes-s.bytes)
	s.mu.Unlock()
	if n < roomFor*(from-w.size) {
		return
	}
	w.room = from + n
	if _, err := w.file.WriteAt(s.zeros[:n], from); err != nil {
		_ = w.file.Truncate(from)
		w.room = s.segmentSize // as if: it is not tried again
	}
}

// shed takes drained segments out of the spool, the oldest first, until all take no more than some
// bytes, and reports whether it removed any: one that is set aside gives the disk no room.
func (s *spool) shed(most int64) (removed bool) {
	for {
		s.mu.Lock()
		var seg *segment
		if s.bytes > most {
			for _, other := range s.segments {
				if other.phase == drained {
					seg = other
					break
				}
			}
		}
		if seg != nil {
			s.move(seg, gone)
		}
		s.mu.Unlock()
		if seg == nil {
			return removed
		}
		removed = removed || !seg.read.damaged
		if err := s.tidy(seg); err != nil {
			s.logger.Warn("log spool: cannot tidy up", "file", seg.path, "error", err)
		}
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

// diskFault is what a failure of the disk means for whoever appends.
type diskFault int

const (
	diskBroken diskFault = iota // nothing can be promised until the spool is opened again
	diskFull                    // there may be room again
	diskLater                   // the system is short of something else, and may not be soon
)

// diskFaultOf classifies an error. What is in no table is broken: a promise needs certainty.
func diskFaultOf(err error) diskFault {
	for _, f := range diskFaults {
		if errors.Is(err, f.errno) {
			return f.fault
		}
	}
	return diskBroken
}
