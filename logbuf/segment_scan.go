package logbuf

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"
)

// findSegments returns the segments in a directory, oldest first, as far as they can be
// read: the end of each is known then, and its torn tail is cut. Segments without an entry
// are removed. One that cannot be read keeps nobody from the others: it stays unscanned.
func findSegments(fs fileSystem, dir string) (list []*segment, failed map[*segment]error, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, nil, err
	}
	failed = make(map[*segment]error)
	for _, name := range names {
		if err := checkVersion(name); err != nil {
			return nil, nil, err
		}
		number, id, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		s := &segment{id: id, number: number, path: filepath.Join(dir, name), old: true}
		if found, err := s.scan(fs); err != nil {
			failed[s] = err
		} else if s.adopt(found); s.end == 0 {
			if err := s.remove(fs); err == nil {
				continue
			}
			s.phase = drained // it will be removed later
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return list, failed, nil
}

// scan reads a segment of an earlier queue through, to learn how many entries it holds. It
// changes nothing that spool.mu guards; adopt does.
func (s *segment) scan(fs fileSystem) (found scanned, err error) {
	n, err := s.readNote(fs)
	if err != nil {
		return found, err
	}
	f, err := fs.Open(s.path)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	full, err := f.Size()
	if err != nil {
		return found, err
	}
	if found, err = s.scanFile(s.read.holes.wrap(f), full); err != nil {
		return found, err
	}
	found.note = n
	if found.size < full {
		if found.torn {
			_ = f.Truncate(found.size) // it is not read anyway
		} else {
			// There was more, and its header, which knew how much, is damaged.
			found.size = full
			found.end++
			found.damaged = true
		}
	}
	return found, nil
}

// adopt makes what a scan has found the segment's. It needs the lock, once others see it.
func (s *segment) adopt(found scanned) {
	s.size, s.end, s.phase = found.size, found.end, readable
	p, n := &s.read, found.note
	p.arrived, p.settledAt = found.arrived, time.Now()
	p.done = max(0, min(n.done, s.end))
	p.from, p.cuts, p.round = p.done, n.cuts, n.round
	p.damaged, p.noted = found.damaged || n.damaged, n.damaged
}

// scanned is what there is in a segment.
type scanned struct {
	size, end int64
	arrived   time.Time
	torn      bool // what follows size was never acknowledged
	damaged   bool // some entries cannot be read
	note      note
}

func (s *segment) scanFile(r io.ReaderAt, full int64) (found scanned, err error) {
	w := window{r: r, seed: frameSeed(s.id)}
	for {
		fr, ok, err := w.next(found.size, full, found.end)
		if err != nil {
			return found, err
		}
		if !ok {
			break
		}
		if found.end == 0 {
			found.arrived = fr.arrived
		}
		if fr.payload == nil && !s.read.holes.any() {
			torn, err := w.zero(fr.end-tornZeros, full)
			if err != nil {
				return found, err
			}
			if torn {
				found.size, found.end = fr.offset, fr.first
				break
			}
		}
		found.damaged = found.damaged || fr.payload == nil || fr.first > found.end
		found.size, found.end = fr.end, fr.first+int64(fr.count)
	}
	if found.size < full && !s.read.holes.any() {
		found.torn, err = w.isTorn(found.size, full, found.end)
	}
	return found, err
}

// tornZeros is how many zeros at the end of a damaged payload, and nothing but
// zeros behind it, say that its write was never finished. A sound record ends
// with ten at most, for it has a namespace, and one flipped bit makes few more.
const tornZeros = 16

// isTorn reports whether what follows the last frame is the beginning of one,
// or room for it: the write was never finished, and so never acknowledged. A
// frame whose header is damaged has a payload, which is never all zeros.
func (w *window) isTorn(size, full, end int64) (bool, error) {
	if torn, err := w.zero(size+frameHeader, full); torn || err != nil {
		return torn, err
	}
	_, sound, err := w.header(size, full, end)
	return sound, err
}

// holes counts the blocks of a segment that cannot be read. With it, they are read as zeros:
// the frames in them are damaged then, which their checksums show, and the others are served.
type holes struct{ blocks int64 }

// holeSize is how much is given up where something cannot be read.
const holeSize = 4 << 10

func (h *holes) any() bool { return h != nil && h.blocks > 0 }

// wrap returns a reader that passes over holes; without holes it is the file.
func (h *holes) wrap(f file) io.ReaderAt {
	if h == nil {
		return f
	}
	return holeReader{f, h}
}

type holeReader struct {
	file file
	*holes
}

// ReadAt implements [io.ReaderAt]. It fails at the end of the file, and where the system is short
// of something, which says nothing about the file.
func (r holeReader) ReadAt(b []byte, off int64) (n int, err error) {
	if n, err = r.file.ReadAt(b, off); err == nil || err == io.EOF { //nolint:errorlint // ReadAt returns it bare
		return n, err
	}
	size, err := r.file.Size()
	if err != nil {
		return 0, fmt.Errorf("size of a segment: %w", err)
	}
	for n = 0; n < len(b) && off+int64(n) < size; {
		step := int(min(int64(len(b)-n), size-off-int64(n), holeSize-(off+int64(n))%holeSize))
		part := b[n : n+step]
		if got, err := r.file.ReadAt(part, off+int64(n)); got < step && err != nil {
			if diskFaultOf(err) == diskLater {
				return n, err
			}
			clear(part)
			r.blocks++
		}
		n += step
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
