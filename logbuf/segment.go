package logbuf

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A segment is one file of the spool. Three look at it: the committer writes the newest, the
// worker reads, and whoever needs room lets go of the oldest. So its parts have owners.
type segment struct {
	// What it is never changes.
	id     uuid.UUID
	number uint64 // orders the segments of a directory
	path   string
	old    bool // left by an earlier queue

	// How far it can be read, and what is to become of it, are guarded by spool.mu: the
	// committer extends it, the worker moves it on, and both look.
	size  int64 // bytes that may be read
	end   int64 // position after the last entry
	phase phase

	// file belongs to the worker, but for that of the newest segment, which the committer
	// has opened and writes to. Nil when nobody needs it.
	file file

	read progress // belongs to the worker
}

// phase says what is to become of a segment.
type phase int

const (
	unscanned phase = iota // of an earlier queue, and not readable so far: nobody knows what it holds
	readable               // being written, or it may hold entries that are to be stored
	drained                // all its entries are accounted for; kept, in case the sink loses them
	gone                   // removed or set aside
)

// follows reports whether a segment may go from one phase to another.
func (p phase) follows(before phase) bool {
	switch before {
	case unscanned:
		return p == readable || p == gone
	case readable:
		return p == drained || p == gone
	case drained:
		return p == readable || p == gone
	}
	return false
}

// progress is how far the worker is with a segment.
type progress struct {
	cursor
	entered bool // the cursor is valid

	done      int64     // position up to which its entries are accounted for
	from      int64     // position up to which the sink has stored it; less than done behind damage
	asked     bool      // the sink's checkpoint is in from and done
	settledAt time.Time // when a batch of it was stored last, or the queue was opened
	drainedAt time.Time
	arrived   time.Time // when the first entry was appended; of old segments only
	cuts      []int64   // where batches end that an earlier queue may have written

	tries   int       // at reading it, in vain
	retryAt time.Time // not before; zero when the last try worked
	lost    bool      // nothing more of it can be read
	holes   *holes    // not nil: what cannot be read is passed over
	damaged bool      // some of it was counted as damaged, by this queue or an earlier one
	noted   bool      // the note says that it is damaged

	round uint32 // how often it was set aside; see source
}

// A cursor is a place in a segment.
type cursor struct {
	offset int64 // of the next frame
	at     int64 // position of the next entry
	batch  int64 // To of the batch before
	rest   string
	left   int // records in rest
}

// Files of a spool are named NUMBER-UUID.v1 with the number in 16 hex digits; a
// version that reads another format has another suffix. Beside a segment may lie
// NUMBER-UUID.v1.pos: how far it has been stored, a hint, see noteSize. A segment that could
// not be read is called NUMBER-UUID.v1.aside; nobody touches it any more. Its note keeps its
// name, and says what a queue has to know when the segment gets its own name back.
const (
	segmentSuffix  = ".v1"
	positionSuffix = ".pos"
	asideSuffix    = ".aside"
)

func segmentName(number uint64, id uuid.UUID) string {
	return fmt.Sprintf("%016x-%s%s", number, id, segmentSuffix)
}

// parseSegmentName is the reverse of segmentName.
func parseSegmentName(name string) (number uint64, id uuid.UUID, ok bool) {
	stem, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(stem) != 16+1+36 || stem[16] != '-' {
		return 0, uuid.Nil, false
	}
	number, err1 := strconv.ParseUint(stem[:16], 16, 64)
	id, err2 := uuid.Parse(stem[17:])
	return number, id, err1 == nil && err2 == nil
}

// checkVersion refuses files of a spool that this version cannot read: to ignore
// them would be to forget acknowledged entries.
func checkVersion(name string) error {
	name = strings.TrimSuffix(strings.TrimSuffix(name, positionSuffix), asideSuffix)
	stem, suffix, ok := strings.Cut(name, ".")
	if ok && len(stem) == 16+1+36 && "."+suffix != segmentSuffix {
		if _, err := hex.DecodeString(stem[:16]); err == nil && strings.HasPrefix(suffix, "v") {
			return fmt.Errorf("%s was written by another version of this program, which has to drain it first", name)
		}
	}
	return nil
}

// source names the segment to the sink. The checkpoint of a segment that was set aside is behind
// entries that could not be read. When they can be, the segment comes from its beginning under a
// name that the sink has never seen, so that each entry is known by its identity alone.
func (s *segment) source() uuid.UUID {
	if s.read.round == 0 {
		return s.id
	}
	return uuid.NewSHA1(s.id, binary.LittleEndian.AppendUint32(nil, s.read.round))
}

// remove deletes the segment's files. The path must not be in use.
func (s *segment) remove(fs fileSystem) error {
	_ = fs.Remove(s.path + positionSuffix) // may not exist, and does no harm
	return fs.Remove(s.path)
}

// A note is what the hint beside a segment says.
type note struct {
	done    int64   // position up to which its entries are accounted for
	cuts    []int64 // positions at which the batches end that follow, and may have been written
	damaged bool    // some of them were counted as damaged, or will be
	round   uint32  // how often the segment was set aside
}

// note returns what is to be noted of a segment nothing of which is on its way to the sink.
func (p *progress) note() note { return note{done: p.done, damaged: p.damaged, round: p.round} }

// maxCuts is how many batches are in flight at once.
const maxCuts = 2

// noteSize is the length of the hint beside a segment: the position, the count and the
// positions of the cuts, whether it is damaged, its round, and a checksum that is begun with the
// segment's, all little endian.
const (
	noteSize  = noteSum + 4
	noteSum   = noteRound + 4
	noteRound = noteFlag + 1
	noteFlag  = 8 + 1 + 8*maxCuts
)

// readNote reads the hint beside a segment, an empty one when there is none to trust. An error
// means that the system is short of something, and that there may be a hint.
func (s *segment) readNote(fs fileSystem) (n note, err error) {
	var b [noteSize]byte
	f, err := fs.Open(s.path + positionSuffix)
	if err == nil {
		defer f.Close() //nolint:errcheck // only read
		_, err = f.ReadAt(b[:], 0)
	}
	if err != nil {
		if diskFaultOf(err) == diskLater {
			return note{}, err
		}
		return note{}, nil
	}
	if binary.LittleEndian.Uint32(b[noteSum:]) != checksum(frameSeed(s.id), b[:noteSum]) || b[8] > maxCuts {
		return note{}, nil
	}
	n.done = int64(binary.LittleEndian.Uint64(b[:])) //nolint:gosec // as it was written
	for i := range b[8] {
		n.cuts = append(n.cuts, int64(binary.LittleEndian.Uint64(b[9+8*int(i):]))) //nolint:gosec // likewise
	}
	n.damaged, n.round = b[noteFlag] != 0, binary.LittleEndian.Uint32(b[noteRound:])
	return n, nil
}

// writeNote writes the hint. After a power loss it may be behind or damaged, but never ahead.
func (s *segment) writeNote(fs fileSystem, n note) error {
	return s.writeNoteAnd(fs, n, func(file) error { return nil })
}

// flushNote writes the hint so that it outlives a power loss.
func (s *segment) flushNote(fs fileSystem, n note) error {
	return s.writeNoteAnd(fs, n, file.Sync)
}

// writeNoteAnd writes the hint, and does something with its file before that is closed.
func (s *segment) writeNoteAnd(fs fileSystem, n note, then func(file) error) error {
	name := s.path + positionSuffix
	f, err := fs.Open(name)
	if err != nil {
		if f, err = fs.Create(name); err != nil {
			return err
		}
	}
	var b [noteSize]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n.done)) //nolint:gosec // not negative
	b[8] = byte(len(n.cuts))                            //nolint:gosec // at most maxCuts
	for i, cut := range n.cuts {
		binary.LittleEndian.PutUint64(b[9+8*i:], uint64(cut)) //nolint:gosec // not negative
	}
	if n.damaged {
		b[noteFlag] = 1
	}
	binary.LittleEndian.PutUint32(b[noteRound:], n.round)
	binary.LittleEndian.PutUint32(b[noteSum:], checksum(frameSeed(s.id), b[:noteSum]))
	_, err = f.WriteAt(b[:], 0)
	if err == nil {
		err = then(f)
	}
	return errors.Join(err, f.Close())
}
