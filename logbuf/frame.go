package logbuf

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"time"

	"github.com/google/uuid"
)

// A segment file is a sequence of frames and nothing else; its name carries the
// rest (see segmentName). A frame is up to maxPart of records that were appended
// together. All numbers are little endian:
//
//	 0  4 bytes  frameMagic
//	 4  uint32   length of the payload
//	 8  uint32   number of records in the payload, at least 1
//	12  uint64   position of the first record: how many entries the segment held before
//	20  int64    when the records were appended, microseconds since 1970
//	28  uint32   checksum of the payload
//	32  uint32   checksum of the 32 bytes before
//	36  payload  records, see record.go
//
// Checksums are CRC-32C, begun with the checksum of the segment's UUID: what looks
// like a frame inside somebody's text, or was left on the disk by another file,
// does not match. The header has its own, so that a frame with a damaged
// payload still says how many entries are lost and where the next frame is. When a
// header is damaged, the next frame is found by its magic, and the positions say
// how many entries lie between.
const (
	frameMagic  = "EZf1"
	frameHeader = 36
	maxPayload  = 1 << 20 // far above maxPart and one longest record
)

// A frame is one found in a segment.
type frame struct {
	offset  int64 // of the header
	end     int64 // offset behind the payload
	first   int64 // position before its first record
	count   int
	arrived time.Time
	payload []byte // valid until the next use of the window; nil: it is damaged
}

func checksum(seed uint32, b []byte) uint32 {
	return crc32.Update(seed, crc32.MakeTable(crc32.Castagnoli), b)
}

func frameSeed(segment uuid.UUID) uint32 { return checksum(0, segment[:]) }

// putFrameHeader writes the header of a frame whose payload stands behind it.
func putFrameHeader(b []byte, count int, first int64, arrived time.Time, seed uint32) {
	payload := b[frameHeader:]
	copy(b, frameMagic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload))) //nolint:gosec // at most maxPayload
	binary.LittleEndian.PutUint32(b[8:], uint32(count))        //nolint:gosec // fewer than bytes
	binary.LittleEndian.PutUint64(b[12:], uint64(first))       //nolint:gosec // not negative
	binary.LittleEndian.PutUint64(b[20:], uint64(arrived.UnixMicro()))
	binary.LittleEndian.PutUint32(b[28:], checksum(seed, payload))
	binary.LittleEndian.PutUint32(b[32:], checksum(seed, b[:32]))
}

// A window reads a segment through a buffer.
type window struct {
	r     io.ReaderAt
	seed  uint32
	buf   []byte
	start int64 // offset of buf in the file
}

const windowSize = 1 << 20

// at returns the n bytes at an offset, fewer when limit comes first.
func (w *window) at(offset int64, n int, limit int64) ([]byte, error) {
	n = int(min(int64(n), limit-offset))
	if from := offset - w.start; from >= 0 && from+int64(n) <= int64(len(w.buf)) {
		return w.buf[from:][:n], nil
	}
	size := int(min(int64(max(n, windowSize)), limit-offset))
	if cap(w.buf) < size {
		w.buf = make([]byte, max(size, windowSize))
	}
	got, err := w.r.ReadAt(w.buf[:size], offset)
	w.buf, w.start = w.buf[:got], offset
	if got < n {
		if err == io.EOF { //nolint:errorlint // ReadAt returns it bare
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return w.buf[:n], nil
}

// zero reports whether there are only zeros from an offset to limit.
func (w *window) zero(offset, limit int64) (bool, error) {
	for offset < limit {
		b, err := w.at(offset, windowSize, limit)
		if err != nil {
			return false, err
		}
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return false, nil
		}
		offset += int64(len(b))
	}
	return true, nil
}

// header reads the header at an offset. A sound one has a matching checksum and
// does not go back before the position least.
func (w *window) header(offset, limit, least int64) (f frame, sound bool, err error) {
	h, err := w.at(offset, frameHeader, limit)
	if err != nil || len(h) < frameHeader {
		return frame{}, false, err
	}
	length := binary.LittleEndian.Uint32(h[4:])
	f = frame{
		offset:  offset,
		end:     offset + frameHeader + int64(length),
		count:   int(binary.LittleEndian.Uint32(h[8:])),
		first:   int64(binary.LittleEndian.Uint64(h[12:])), //nolint:gosec // checked below
		arrived: time.UnixMicro(int64(binary.LittleEndian.Uint64(h[20:]))).UTC(),
	}
	sound = string(h[:4]) == frameMagic && binary.LittleEndian.Uint32(h[32:]) == checksum(w.seed, h[:32]) &&
		length <= maxPayload && f.count > 0 && f.first >= least
	return f, sound, nil
}

// next returns the first frame at or after an offset whose header is sound; ok is
// false when there is none that ends before limit. An error is one of reading.
func (w *window) next(offset, limit, least int64) (f frame, ok bool, err error) {
	for offset+frameHeader <= limit {
		f, sound, err := w.header(offset, limit, least)
		if err != nil {
			return frame{}, false, err
		}
		if !sound {
			if offset, err = w.search(offset+1, limit); err != nil {
				return frame{}, false, err
			}
			continue
		}
		if f.end > limit {
			return frame{}, false, nil
		}
		b, err := w.at(offset, int(f.end-offset), limit)
		if err != nil {
			return frame{}, false, err
		}
		if payload := b[frameHeader:]; binary.LittleEndian.Uint32(b[28:]) == checksum(w.seed, payload) {
			f.payload = payload
		}
		return f, true, nil
	}
	return frame{}, false, nil
}

// search returns the next offset with the magic, or limit.
func (w *window) search(offset, limit int64) (int64, error) {
	for offset+frameHeader <= limit {
		if _, err := w.at(offset, frameHeader, limit); err != nil {
			return 0, err
		}
		b := w.buf[offset-w.start:]
		if i := bytes.Index(b, []byte(frameMagic)); i >= 0 {
			return offset + int64(i), nil
		}
		offset += int64(len(b) - len(frameMagic) + 1)
	}
	return limit, nil
}
