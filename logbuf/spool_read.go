package logbuf

import (
	"context"
	"fmt"
	"slices"
)

// spoolReader is where the worker is in the spool.
type spoolReader struct {
	checkpoints Checkpointer // nil when the sink has none

	segment *segment // nil before the first, and after each
	window  window
	cursor

	inflight inflightBatches
	batch    *recordBatch // the one that is read
	skip     skipped      // for it
	taken    []taken      // read and not settled
}

// A cursor is a place in a segment.
type cursor struct {
	offset int64 // of the next frame
	at     int64 // position of the next entry
	from   int64 // To of the batch before
	rest   string
	left   int // records in rest
}

// taken is what there is to settle of a batch.
type taken struct {
	at, from int64 // of the cursor behind it
	skip     skipped
}

// read implements [backlog]. A batch never spans two segments.
func (s *spool) read(ctx context.Context, limit int) (Batch, error) {
	r := &s.reader
	r.begin()
	for {
		if r.segment == nil {
			if ok, err := s.enter(ctx); !ok || err != nil {
				return Batch{}, err
			}
		}
		ext := s.extentOf(r.segment)
		if err := r.readSegment(ext, limit); err != nil {
			r.segment = nil // begin again behind what is settled
			return Batch{}, fmt.Errorf("log spool: read: %w", err)
		}
		if !r.nothing() || !ext.complete {
			return r.take(), nil
		}
		if err := s.leave(); err != nil {
			return Batch{}, err
		}
	}
}

// readAhead implements [backlog]. It stays in the segment, and leaves what is not
// as it should be to read.
func (s *spool) readAhead(limit int) (Batch, bool) {
	r := &s.reader
	if r.segment == nil {
		return Batch{}, false
	}
	before := r.cursor
	r.begin()
	if err := r.readSegment(s.extentOf(r.segment), limit); err != nil || r.nothing() {
		r.cursor = before
		return Batch{}, false
	}
	return r.take(), true
}

func (r *spoolReader) begin() { r.batch, r.skip = r.inflight.next(), skipped{} }

// nothing reports whether there was nothing to read, not even damage.
func (r *spoolReader) nothing() bool { return len(r.batch.entries) == 0 && r.skip == skipped{} }

// take returns what was read as a batch that is to be settled.
func (r *spoolReader) take() Batch {
	b := Batch{Segment: r.segment.id, From: r.from, To: r.at, Entries: r.batch.entries}
	if len(b.Entries) > 0 {
		r.from = r.at
	}
	r.taken = append(r.taken, taken{r.at, r.from, r.skip})
	return b
}

// enter begins the oldest segment. It is not ok when there is none.
func (s *spool) enter(ctx context.Context) (ok bool, err error) {
	r := &s.reader
	seg := s.oldest()
	if seg == nil {
		return false, nil
	}
	at, from := seg.done, seg.from
	if seg.old && !seg.asked && r.checkpoints != nil {
		stored, err := r.checkpoints.Checkpoint(ctx, seg.id)
		if err != nil {
			return false, fmt.Errorf("log sink: checkpoint of segment %s: %w", seg.id, err)
		}
		from = max(stored, 0)
		at = min(from, seg.end)
	}
	if seg.file == nil {
		f, err := s.fs.Open(seg.path)
		if err != nil {
			return false, fmt.Errorf("log spool: %w", err)
		}
		seg.file = f
	}
	r.segment = seg
	r.window = window{r: seg.file, seed: frameSeed(seg.id), buf: r.window.buf[:0]}
	r.skip.stored = at - seg.done
	r.cursor = cursor{at: at, from: from}
	return true, nil
}

// leave ends a segment that is stored.
func (s *spool) leave() error {
	seg := s.reader.segment
	s.reader.segment = nil
	return s.drop(seg)
}

// readSegment fills the batch from the segment, counting what is damaged.
func (r *spoolReader) readSegment(ext extent, limit int) error {
	for len(r.batch.entries) < limit && r.batch.bytes < maxBatchBytes {
		if r.left > 0 {
			used, n, err := r.batch.add(r.rest, r.left, limit)
			r.rest, r.left, r.at = r.rest[used:], r.left-n, r.at+int64(n)
			if err != nil { // the checksum is right and the record is not: nobody else wrote it
				r.lose(r.at + int64(r.left))
				r.left = 0
			}
			continue
		}
		if r.offset >= ext.size {
			if r.at < ext.end {
				r.lose(ext.end)
			}
			return nil
		}
		f, ok, err := r.window.next(r.offset, ext.size, 0)
		if err != nil {
			return err
		}
		if !ok {
			r.offset = ext.size
			continue
		}
		if err := r.enterFrame(f); err != nil {
			return err
		}
	}
	return nil
}

// enterFrame makes the records of a frame the ones to read.
func (r *spoolReader) enterFrame(f frame) error {
	r.offset = f.end
	end := f.first + int64(f.count)
	if end <= r.at {
		return nil // stored before
	}
	if f.first > r.at {
		r.lose(f.first)
	}
	if f.payload == nil {
		r.lose(end)
		return nil
	}
	r.rest, r.left = string(f.payload), f.count
	for skip := r.at - f.first; skip > 0; skip-- {
		var e Entry
		var cost int64
		rest, err := readRecord(&e, r.rest, &cost)
		if err != nil {
			r.lose(end)
			r.left = 0
			return nil
		}
		r.rest = rest
		r.left--
	}
	return nil
}

// lose counts the entries up to a position as damaged.
func (r *spoolReader) lose(to int64) {
	r.skip.damaged += to - r.at
	r.at = to
}

// finished reports whether all of a segment is stored.
func (r *spoolReader) finished(seg *segment, ext extent) bool {
	return r.segment == seg && r.left == 0 && r.offset >= ext.size && seg.done >= ext.end
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
	seg.done, seg.from, seg.asked = t.at, t.from, true
	s.retire(seg)
	if ext := s.extentOf(seg); ext.complete && r.finished(seg, ext) {
		return t.skip, s.leave()
	}
	if r.checkpoints == nil {
		if err := seg.writePosition(s.fs, seg.done); err != nil {
			s.logger.Debug("log spool: position not noted", "error", err)
		}
	}
	return t.skip, nil
}
