package logbuf

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A segment is one file of the spool.
type segment struct {
	id     uuid.UUID
	number uint64 // orders the segments of a directory
	path   string
	file   file // nil in an old segment until it is read

	old     bool      // left by an earlier queue
	size    int64     // bytes that may be read
	room    int64     // offset up to which zeros were written; belongs to the committer
	end     int64     // position after the last entry
	done    int64     // position up to which its entries are accounted for
	from    int64     // position up to which the sink has stored it; less than done behind damage
	asked   bool      // the sink's checkpoint is in from and done
	arrived time.Time // of the first entry; old segments only
}

// Files of a spool are named NUMBER-UUID.v1 with the number in 16 hex digits; a
// version that reads another format has another suffix. Beside a segment may lie
// NUMBER-UUID.v1.pos: how far it has been stored, a hint of 12 bytes (position,
// checksum) for sinks that keep no checkpoints.
const (
	segmentSuffix  = ".v1"
	positionSuffix = ".pos"
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
	stem, suffix, ok := strings.Cut(strings.TrimSuffix(name, positionSuffix), ".")
	if ok && len(stem) == 16+1+36 && "."+suffix != segmentSuffix {
		if _, err := hex.DecodeString(stem[:16]); err == nil && strings.HasPrefix(suffix, "v") {
			return fmt.Errorf("%s was written by another version of this program, which has to drain it first", name)
		}
	}
	return nil
}

// findSegments returns the segments in a directory, oldest first, each read
// through once: its end is known and its torn tail is cut. Segments without an
// entry are removed.
func findSegments(fs fileSystem, dir string) ([]*segment, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	var list []*segment
	for _, name := range names {
		if err := checkVersion(name); err != nil {
			return nil, err
		}
		number, id, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		s := &segment{id: id, number: number, path: filepath.Join(dir, name), old: true}
		if err := s.scan(fs); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if s.end == 0 {
			if err := s.remove(fs); err != nil {
				return nil, err
			}
			continue
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return list, nil
}

// scan reads a segment through to learn how many entries it holds.
func (s *segment) scan(fs fileSystem) (err error) {
	f, err := fs.Open(s.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	full, err := f.Size()
	if err != nil {
		return err
	}
	w := window{r: f, seed: frameSeed(s.id)}
	for {
		fr, ok, err := w.next(s.size, full, s.end)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if s.end == 0 {
			s.arrived = fr.arrived
		}
		if fr.payload == nil {
			torn, err := w.zero(fr.end-tornZeros, full)
			if err != nil {
				return err
			}
			if torn {
				s.size, s.end = fr.offset, fr.first
				break
			}
		}
		s.size, s.end = fr.end, fr.first+int64(fr.count)
	}
	if s.size == full {
		return nil
	}
	torn, err := s.isTorn(&w, full)
	if err != nil {
		return err
	}
	if torn {
		return f.Truncate(s.size)
	}
	// There was more, and its header, which knew how much, is damaged.
	s.size = full
	s.end++
	return nil
}

// tornZeros is how many zeros at the end of a damaged payload, and nothing but
// zeros behind it, say that its write was never finished. A sound record ends
// with ten at most, for it has a namespace, and one flipped bit makes few more.
const tornZeros = 16

// isTorn reports whether what follows the last frame is the beginning of one,
// or room for it: the write was never finished, and so never acknowledged. A
// frame whose header is damaged has a payload, which is never all zeros.
func (s *segment) isTorn(w *window, full int64) (bool, error) {
	if torn, err := w.zero(s.size+frameHeader, full); torn || err != nil {
		return torn, err
	}
	_, sound, err := w.header(s.size, full, s.end)
	return sound, err
}

// remove deletes the segment's files.
func (s *segment) remove(fs fileSystem) error {
	if s.file != nil {
		_ = s.file.Close() // nothing in it is needed any more
		s.file = nil
	}
	_ = fs.Remove(s.path + positionSuffix) // may not exist, and does no harm
	return fs.Remove(s.path)
}

// readPosition reads the hint beside a segment, 0 when there is none to trust.
func (s *segment) readPosition(fs fileSystem) int64 {
	f, err := fs.Open(s.path + positionSuffix)
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // only read
	var b [12]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return 0
	}
	at := int64(binary.LittleEndian.Uint64(b[:])) //nolint:gosec // checked below
	if binary.LittleEndian.Uint32(b[8:]) != checksum(frameSeed(s.id), b[:8]) || at < 0 {
		return 0
	}
	return min(at, s.end)
}

// writePosition writes the hint. It is not synced: after a power loss it may be
// behind or damaged, but never ahead.
func (s *segment) writePosition(fs fileSystem, at int64) error {
	name := s.path + positionSuffix
	f, err := fs.Open(name)
	if err != nil {
		if f, err = fs.Create(name); err != nil {
			return err
		}
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(at)) //nolint:gosec // not negative
	b = binary.LittleEndian.AppendUint32(b, checksum(frameSeed(s.id), b))
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Close())
}
