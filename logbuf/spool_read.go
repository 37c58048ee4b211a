package logbuf

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// spoolReader is where the worker is in the spool.
type spoolReader struct {
	checkpoints Checkpointer // nil when the sink has none
	stable      bool         // batches must be the same when they are written again, in any process

	segment *segment // the one being read; nil: the next is to be chosen
	window  window

	inflight inflightBatches
	batch    *recordBatch // the one that is read
	skip     skipped      // for it
	taken    []taken      // read and not settled

	verifyAt time.Time // when to ask for checkpoints next
}

// taken is what there is to settle of a batch.
type taken struct {
	at, from int64 // position behind it, and up to which the sink has stored the segment then
	cut      bool  // it has entries, and so ends there whoever writes it again
	skip     skipped
}

// A notYet says that there are entries, and that none can be read before a time.
type notYet struct{ until time.Time }

func (notYet) Error() string { return "nothing can be read yet" }

// read implements [backlog]. A batch never spans two segments.
func (s *spool) read(ctx context.Context, limit int) (Batch, error) {
	r := &s.reader
	r.begin()
	for {
		if r.segment == nil {
			if err := s.enter(ctx); err != nil {
				return Batch{}, err
			}
			if r.segment == nil {
				return Batch{}, nil
			}
		}
		seg, before := r.segment, r.segment.read.cursor
		ext := s.extentOf(seg)
		if seg.read.lost {
			r.lose(ext.end)
		} else if err := r.readSegment(ext, limit); err != nil && r.nothing() {
			s.postpone(seg, err)
			r.segment = nil
			continue
		}
		if !r.nothing() {
			b, err := s.take(before)
			if err != nil {
				r.segment = nil // it is entered again, with what was skipped to get there
			}
			return b, err
		}
		r.segment = nil
		if seg.read.done >= ext.end && ext.complete {
			if err := s.finish(seg); err != nil {
				return Batch{}, err
			}
		} else if !ext.complete {
			return Batch{}, nil // all that there is
		}
	}
}

// readAhead implements [backlog]. It stays in the segment, and leaves what is not
// as it should be to read.
func (s *spool) readAhead(limit int) (Batch, bool) {
	r := &s.reader
	if r.segment == nil || r.segment.read.lost {
		return Batch{}, false
	}
	before := r.segment.read.cursor
	r.begin()
	if err := r.readSegment(s.extentOf(r.segment), limit); err != nil || r.nothing() {
		r.segment.read.cursor = before
		return Batch{}, false
	}
	b, err := s.take(before)
	return b, err == nil
}

func (r *spoolReader) begin() { r.batch, r.skip = r.inflight.next(), skipped{} }

// nothing reports whether there was nothing to read, not even damage.
func (r *spoolReader) nothing() bool { return len(r.batch.entries) == 0 && r.skip == skipped{} }

// take returns what was read from a place on as a batch that is to be settled. After an error the next is read from
// there again.
func (s *spool) take(before cursor) (Batch, error) {
	r := &s.reader
	p := &r.segment.read
	b := Batch{Segment: r.segment.source(), From: p.batch, To: p.at, Entries: r.batch.entries}
	if len(b.Entries) > 0 {
		p.batch = p.at
	}
	r.taken = append(r.taken, taken{at: p.at, from: p.batch, cut: len(b.Entries) > 0, skip: r.skip})
	if damage := p.damaged && !p.noted; len(b.Entries) > 0 && (r.stable || damage) {
		// Where the batch ends has to be known to whoever writes it again, and that some entries were
		// skipped, to whoever finds it stored.
		err := r.segment.flushNote(s.fs, r.note())
		if p.noted = p.damaged && err == nil; err != nil && !r.stable {
			s.logger.Warn("log spool: that a segment is damaged is not noted", "file", r.segment.path, "error", err)
		} else if err != nil {
			r.taken = r.taken[:len(r.taken)-1]
			p.cursor = before
			return Batch{}, fmt.Errorf("log spool: note where a batch ends: %w", err)
		}
	}
	r.inflight.keep()
	return b, nil
}

// note returns what is to be noted of the segment being read.
func (r *spoolReader) note() note {
	n := r.segment.read.note()
	for _, t := range r.taken {
		if t.cut {
			n.cuts = append(n.cuts, t.at)
		}
	}
	return n
}

// enter chooses the segment to read: the oldest that may hold something. There may be none.
// The error is a notYet when some can only be tried later.
func (s *spool) enter(ctx context.Context) error {
	r := &s.reader
	seg, until := s.choose(time.Now())
	if seg == nil {
		if !until.IsZero() {
			return notYet{until}
		}
		return nil
	}
	p := &seg.read
	if seg.old && !p.asked && r.checkpoints != nil {
		stored, err := r.checkpoints.Checkpoint(ctx, seg.source())
		if err != nil {
			return fmt.Errorf("log sink: checkpoint of segment %s: %w", seg.id, err)
		}
		p.from, p.asked = max(stored, 0), true
		at := min(p.from, seg.end)
		if at < p.done {
			s.goBack(seg, at)
		}
		p.cursor, p.entered = cursor{at: at, batch: p.from}, true
	}
	if !p.entered {
		p.cursor, p.entered = cursor{at: p.done, batch: p.from}, true
	}
	if seg.file == nil && !p.lost {
		f, err := s.fs.Open(seg.path)
		if err != nil {
			s.postpone(seg, err)
			return s.enter(ctx) // another; this one has its turn later
		}
		seg.file = f
	}
	r.segment = seg
	r.skip.stored = p.at - p.done // as the checkpoint says; otherwise they are the same
	r.window = window{r: p.holes.wrap(seg.file), seed: frameSeed(seg.id), buf: r.window.buf[:0]}
	return nil
}

// choose returns the oldest segment that may hold something to read. When there are only
// some that have to wait, it says until when.
func (s *spool) choose(now time.Time) (seg *segment, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		if seg.phase != unscanned && seg.phase != readable {
			continue
		}
		p := &seg.read
		switch {
		case now.Before(p.retryAt) || seg.phase == unscanned:
			if until.IsZero() || p.retryAt.Before(until) {
				until = p.retryAt
			}
		case !p.entered, p.at < seg.end, p.done < seg.end, s.current == nil || s.current.segment != seg:
			return seg, time.Time{}
		}
	}
	return nil, until
}

// readSegment fills the batch from the segment, counting what is damaged.
func (r *spoolReader) readSegment(ext extent, limit int) error {
	p := &r.segment.read
	cut := ext.end
	for len(p.cuts) > 0 && p.cuts[0] <= p.at {
		p.cuts = p.cuts[1:]
	}
	if len(p.cuts) > 0 { // as it was written before, whatever the limits were then
		cut, limit = min(cut, p.cuts[0]), int(p.cuts[0]-p.at)
	}
	for p.at < cut && len(r.batch.entries) < limit && r.batch.bytes < maxBatchBytes {
		if p.left > 0 {
			used, n, err := r.batch.add(p.rest, int(min(int64(p.left), cut-p.at)), limit)
			p.rest, p.left, p.at = p.rest[used:], p.left-n, p.at+int64(n)
			if err != nil { // the checksum is right and the record is not: nobody else wrote it
				r.lose(p.at + int64(p.left))
				p.left = 0
			}
			continue
		}
		if p.offset >= ext.size {
			if p.at < ext.end {
				r.lose(ext.end)
			}
			return nil
		}
		f, ok, err := r.window.next(p.offset, ext.size, 0)
		if err != nil {
			return err
		}
		if !ok {
			p.offset = ext.size
			continue
		}
		r.enterFrame(f)
	}
	return nil
}

// enterFrame makes the records of a frame the ones to read.
func (r *spoolReader) enterFrame(f frame) {
	p := &r.segment.read
	p.offset = f.end
	end := f.first + int64(f.count)
	if end <= p.at {
		return // stored before
	}
	if f.first > p.at {
		r.lose(f.first)
	}
	if f.payload == nil {
		r.lose(end)
		return
	}
	p.rest, p.left = string(f.payload), f.count
	for skip := p.at - f.first; skip > 0; skip-- {
		var e Entry
		var cost int64
		rest, err := readRecord(&e, p.rest, &cost)
		if err != nil {
			r.lose(end)
			p.left = 0
			return
		}
		p.rest = rest
		p.left--
	}
}

// lose counts the entries up to a position as damaged.
func (r *spoolReader) lose(to int64) {
	p := &r.segment.read
	r.skip.damaged += to - p.at
	p.damaged = true
	p.at = to
}

// settle implements [backlog].
func (s *spool) settle() (skipped, error) {
	r := &s.reader
	seg := r.segment
	if seg == nil || len(r.taken) == 0 {
		return skipped{}, nil
	}
	t := r.taken[0]
	r.taken = slices.Delete(r.taken, 0, 1)
	p := &seg.read
	p.done, p.from, p.asked, p.settledAt = t.at, t.from, true, time.Now()
	s.retire(seg)
	if ext := s.extentOf(seg); ext.complete && len(r.taken) == 0 && p.done >= ext.end {
		r.segment = nil
		return t.skip, s.finish(seg)
	}
	if r.checkpoints == nil {
		if err := seg.writeNote(s.fs, r.note()); err != nil {
			s.logger.Debug("log spool: position not noted", "error", err)
		}
	}
	return t.skip, nil
}
