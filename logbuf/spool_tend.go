package logbuf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	// verifyEvery is how often the sink is asked whether it still has what it has stored.
	verifyEvery   = 10 * time.Second
	verifyTimeout = 5 * time.Second

	// maxTries is how often a segment is tried to be read before what cannot be read of it
	// is given up. The pauses double from ten times MinBackoff on: half a minute in all.
	maxTries = 6
)

// tend implements [backlog]. Nothing is in flight.
func (s *spool) tend(ctx context.Context) {
	now := time.Now()
	s.mu.Lock()
	retired := s.retired
	s.retired = nil
	s.mu.Unlock()
	if retired != nil && s.phaseOf(retired) == readable && retired.read.done >= s.extentOf(retired).end {
		s.reader.segment = nil
		if err := s.finish(retired); err != nil {
			s.logger.Warn("log spool: cannot tidy up", "error", err)
		}
	}
	for _, seg := range s.list() {
		p := &seg.read
		if p.retryAt.IsZero() || now.Before(p.retryAt) {
			continue
		}
		if s.phaseOf(seg) == unscanned {
			s.scanAgain(seg)
		} else {
			p.retryAt = time.Time{}
			s.reader.segment = nil // it has its turn
		}
	}
	if s.keep > 0 && !now.Before(s.reader.verifyAt) {
		s.verify(ctx, now)
	}
}

// tendAt implements [backlog].
func (s *spool) tendAt() (at time.Time) {
	earlier := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	s.mu.Lock()
	if s.retired != nil {
		at = s.retiredAt
	}
	s.mu.Unlock()
	for _, seg := range s.list() {
		if t := seg.read.retryAt; !t.IsZero() {
			earlier(t)
		}
		if s.keep > 0 && s.watched(seg, time.Now()) {
			earlier(s.reader.verifyAt)
		}
	}
	return at
}

// behind implements [backlog].
func (s *spool) behind(position int64) {
	r := &s.reader
	seg := r.segment
	r.segment, r.taken = nil, nil
	if seg == nil {
		return
	}
	p := &seg.read
	p.cursor = cursor{at: p.done, batch: p.from}
	if position < p.from {
		s.goBack(seg, max(0, position))
	} else { // the sink contradicts itself: no use to hurry
		p.retryAt = time.Now().Add(s.retryPause)
	}
	s.doubt() // of the other segments
}

// doubt implements [backlog].
func (s *spool) doubt() { s.reader.verifyAt = time.Now() }

// list returns the segments there are.
func (s *spool) list() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*segment(nil), s.segments...)
}

func (s *spool) phaseOf(seg *segment) phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return seg.phase
}

// postpone puts off a segment that cannot be read now. It keeps nobody from the others; after
// some tries what cannot be read of it is given up. That the system is short of something says
// nothing about the segment, and is no try.
func (s *spool) postpone(seg *segment, cause error) {
	s.letGo(seg)
	p := &seg.read
	if diskFaultOf(cause) == diskLater {
		p.retryAt = time.Now().Add(s.retryPause)
		s.logger.Warn("log spool: the system refuses to read a segment for the moment", "file", seg.path, "error", cause)
		return
	}
	p.tries++
	switch {
	case p.tries < maxTries:
		p.retryAt = time.Now().Add(s.retryPause << (p.tries - 1))
		s.logger.Warn("log spool: a segment cannot be read, and will be tried again",
			"file", seg.path, "error", cause)
		return
	case p.holes == nil && !errors.Is(cause, os.ErrNotExist):
		p.holes = new(holes)
		s.abandon(seg)
		s.warn("a segment cannot be read; what can be is stored, the rest is counted as damaged",
			seg, "error", cause)
	default:
		p.lost = true
		s.abandon(seg)
		s.warn("a segment cannot be read at all; its entries are counted as damaged", seg, "error", cause)
		if s.phaseOf(seg) == unscanned { // nobody knows how many there were
			s.mu.Lock()
			seg.end = 1
			s.move(seg, readable)
			s.mu.Unlock()
			s.tell.recovered(1, s.clock())
		}
	}
	p.retryAt = time.Now()
}

// letGo closes the file of a segment, unless the committer needs it.
func (s *spool) letGo(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg.file != nil && (s.current == nil || s.current.segment != seg) {
		_ = seg.file.Close() // what was written to it was flushed
		seg.file = nil
	}
}

// abandon makes the committer write elsewhere.
func (s *spool) abandon(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandoned = seg
}

// scanAgain tries once more to learn what is in a segment.
func (s *spool) scanAgain(seg *segment) {
	found, err := seg.scan(s.fs)
	if err != nil {
		s.postpone(seg, err)
		return
	}
	s.mu.Lock()
	seg.adopt(found)
	s.mu.Unlock()
	p := &seg.read
	p.retryAt, p.tries = time.Time{}, 0
	s.takeUp(seg)
}

// drain ends a segment all of whose entries are accounted for.
func (s *spool) drain(seg *segment) {
	s.letGo(seg)
	p := &seg.read
	if p.lost || p.holes.any() {
		s.mu.Lock()
		s.move(seg, gone)
		s.mu.Unlock()
		s.setAside(seg)
		return
	}
	if s.keep > 0 { // before the committer may take it out of the spool, with a note of its own
		if err := seg.writeNote(s.fs, p.note()); err != nil {
			s.logger.Debug("log spool: position not noted", "error", err)
		}
	}
	p.drainedAt = time.Now()
	s.mu.Lock()
	s.move(seg, drained)
	s.mu.Unlock()
}

// finish drains a segment, and removes it unless it is to be kept.
func (s *spool) finish(seg *segment) error {
	s.drain(seg)
	if s.keep > 0 {
		return nil
	}
	return s.drop(seg)
}

// drop takes a segment that is drained out of the spool.
func (s *spool) drop(seg *segment) error {
	s.mu.Lock()
	if seg.phase != drained { // the committer needed the room
		s.mu.Unlock()
		return nil
	}
	s.move(seg, gone)
	s.mu.Unlock()
	return s.tidy(seg)
}

// tidy removes the files of a segment that was drained and is gone. One with damaged entries is set
// aside instead.
func (s *spool) tidy(seg *segment) error {
	if seg.read.damaged {
		if s.setAside(seg) {
			s.warn("what is damaged in a segment was counted; the file is set aside", seg)
		}
		return nil
	}
	if err := seg.remove(s.fs); err != nil {
		return fmt.Errorf("log spool: remove a segment that is stored: %w", err)
	}
	return nil
}

// setAside gives a segment that is gone another name, under which nobody touches it. Before that
// it notes that whoever gets the segment back has to begin anew; see source.
func (s *spool) setAside(seg *segment) (ok bool) {
	n, err := seg.readNote(s.fs) // it may be that nobody has been able to read it so far
	if err == nil {
		err = seg.flushNote(s.fs, note{round: max(n.round, seg.read.round) + 1})
	}
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err == nil {
		err = s.fs.Rename(seg.path, seg.path+asideSuffix)
	}
	if errors.Is(err, os.ErrNotExist) {
		_ = s.fs.Remove(seg.path + positionSuffix) // the segment was deleted
	}
	if err != nil {
		s.warn("a damaged segment cannot be set aside, and the next start reads it again", seg, "error", err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aside++
	return true
}

// watched reports whether the sink may lose what it has of a segment: something of it was
// stored not long ago.
func (s *spool) watched(seg *segment, now time.Time) bool {
	p := &seg.read
	switch s.phaseOf(seg) {
	case drained:
		return true
	case readable:
		return p.asked && p.from > 0 && now.Sub(p.settledAt) < s.keep
	}
	return false
}

// verify asks the sink whether it still has what it has stored, and lets go of segments that
// were kept for long enough.
func (s *spool) verify(ctx context.Context, now time.Time) {
	s.reader.verifyAt = now.Add(verifyEvery)
	for _, seg := range s.list() {
		if !s.watched(seg, now) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
		stored, err := s.reader.checkpoints.Checkpoint(ctx, seg.source())
		cancel()
		if err != nil {
			s.logger.Debug("log spool: the sink cannot say what it has", "error", err)
			return // as little of the others
		}
		p := &seg.read
		if p.asked = true; stored < p.from {
			s.goBack(seg, max(0, stored))
			continue
		}
		if s.phaseOf(seg) == drained && now.Sub(p.drainedAt) >= s.keep {
			if err := s.drop(seg); err != nil {
				s.logger.Warn("log spool: cannot tidy up", "error", err)
			}
		}
	}
}

// goBack makes the entries of a segment from a position on be stored again: the sink has lost
// them. Nothing of the segment is in flight.
func (s *spool) goBack(seg *segment, at int64) {
	p := &seg.read
	lost := p.done - at
	s.mu.Lock()
	if seg.phase == gone {
		s.mu.Unlock()
		return
	}
	if seg.phase == drained {
		s.move(seg, readable)
	}
	s.mu.Unlock()
	p.done, p.from = at, at
	p.cursor, p.entered = cursor{at: at, batch: at}, true
	s.reader.segment = nil
	s.tell.again(lost, s.clock())
	s.warn("the database has lost entries that it had stored; they are stored again", seg, "entries", lost)
}
