//go:build !noWatcher

package snapshot

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"
)

// lastGood is the file in which a watcher keeps what it last applied, so that
// it can start while the source is down. It is a JSON value a line: the head,
// as many documents as that counts, and then deltas; each line begins with its
// CRC-32C. Digest and signature, which are verified at the base and after each delta, do
// not cover all of a head, and a wrong position would keep a watcher from its source
// for ever. What follows the last good line is cut off. Secrets stay sealed as they were
// published.
//
// A lastGood is not safe for concurrent use, confirm excepted, and a file is one process's.
type lastGood struct {
	path string
	file *os.File
	base int64    // bytes of head and documents
	size int64    // bytes in all
	at   Position // after the last line; zero when there is no good file

	minCompact int64 // the size of deltas below which the file is not rewritten
}

func newLastGood(path string) lastGood { return lastGood{path: path, minCompact: 1 << 20} }

// read returns the View in the file, made with the settings of blank, and when
// the source had last confirmed it. The error wraps os.ErrNotExist when there is no
// file.
func (l *lastGood) read(blank *View, keys *Keys) (v *View, confirmed time.Time, err error) {
	f, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	in := newFrames(f)
	s, err := readBase(in)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", l.path, err)
	}
	if v, err = blank.load(s, keys); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", l.path, err)
	}
	base, good := in.end, in.end
	for {
		var line deltaLine
		if in.next(&line) != nil {
			break
		}
		next, err := v.apply(line.delta(), keys)
		if err != nil {
			break
		}
		v, good = next, in.end
	}
	if err := f.Truncate(good); err != nil {
		return nil, time.Time{}, err
	}
	l.file, l.base, l.size, l.at = f, base, good, v.head.Position
	return v, info.ModTime(), nil
}

// replace writes a whole snapshot beside the file and puts it in its place.
func (l *lastGood) replace(s *Snapshot) error {
	return l.rewrite(s.Head, func(write func(Document) error) error {
		for _, d := range s.Docs {
			if err := write(d); err != nil {
				return err
			}
		}
		return nil
	})
}

// rewrite makes a new file of a head and documents. The old one stays until
// the new one is on disk.
func (l *lastGood) rewrite(head Head, docs func(write func(Document) error) error) (err error) {
	beside := l.path + ".new"
	f, err := os.OpenFile(beside, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(beside))
		}
	}()
	out := bufio.NewWriterSize(f, 64<<10)
	enc := newFrameEncoder(out)
	if err := enc.Encode(headLine(head)); err != nil {
		return err
	}
	if err := docs(func(d Document) error { return enc.Encode(lineOf(Change(d))) }); err != nil {
		return err
	}
	if err := errors.Join(out.Flush(), f.Chmod(0o600), f.Sync()); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if err := os.Rename(beside, l.path); err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close() // it has no name any more
	}
	l.file, l.base, l.size, l.at = f, size, size, head.Position
	return syncDir(filepath.Dir(l.path))
}

// syncDir makes a rename survive a power loss, where the system can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync() // not every file system knows it
	return d.Close()
}

// append adds deltas that follow on what is in the file; one fsync for all.
func (l *lastGood) append(deltas []Delta) error {
	var buf bytes.Buffer
	enc := newFrameEncoder(&buf)
	at := l.at
	for _, d := range deltas {
		if d.From != at {
			return fmt.Errorf("the delta from %s does not continue %s: %w", d.From, at, ErrGap)
		}
		if err := enc.Encode(deltaLineOf(d)); err != nil {
			return err
		}
		at = d.Head.Position
	}
	if _, err := l.file.WriteAt(buf.Bytes(), l.size); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.size, l.at = l.size+int64(buf.Len()), at
	if grown := l.size - l.base; grown > max(l.base, l.minCompact) {
		return l.compact()
	}
	return nil
}

// compact rewrites the file without deltas. It needs memory for the deltas, not for the base.
func (l *lastGood) compact() error {
	in := newFrames(io.NewSectionReader(l.file, l.base, l.size-l.base))
	latest, order, head := map[docName]*string{}, []docName{}, Head{}
	for {
		var line deltaLine
		if err := in.next(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		head = Head(line.Head)
		for _, c := range line.Changes {
			n := docName{c.Kind, c.Key}
			if _, seen := latest[n]; !seen {
				order = append(order, n)
			}
			latest[n] = c.Doc
		}
	}
	return l.rewrite(head, func(write func(Document) error) error {
		in := newFrames(io.NewSectionReader(l.file, 0, l.base))
		var base headLine
		if err := in.next(&base); err != nil {
			return err
		}
		for range base.Counts.total() {
			var line docLine
			if err := in.next(&line); err != nil {
				return torn(err)
			}
			if _, changed := latest[docName{line.Kind, line.Key}]; changed {
				continue
			}
			if err := write(Document(line.change())); err != nil {
				return err
			}
		}
		for _, n := range order {
			if doc := latest[n]; doc != nil {
				if err := write(Document{Kind: n.kind, Key: n.key, Doc: []byte(*doc)}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// confirm notes on the file that the source has confirmed what is in it.
func (l *lastGood) confirm(now time.Time) error { return os.Chtimes(l.path, now, now) }

func (l *lastGood) close() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file, l.base, l.size, l.at = nil, 0, 0, Position{}
	return f.Close()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameEncoder writes values as lines of JSON, each with the CRC-32C of its
// text, the line feed included, before it: eight hexadecimal digits and a space.
type frameEncoder struct {
	out  io.Writer
	text bytes.Buffer
	json *json.Encoder
}

func newFrameEncoder(w io.Writer) *frameEncoder {
	e := &frameEncoder{out: w}
	e.json = newLineEncoder(&e.text)
	return e
}

func (e *frameEncoder) Encode(v any) error {
	e.text.Reset()
	if err := e.json.Encode(v); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(e.out, "%08x ", crc32.Checksum(e.text.Bytes(), castagnoli)); err != nil {
		return err
	}
	_, err := e.out.Write(e.text.Bytes())
	return err
}

// newFrames reads what a frameEncoder writes.
func newFrames(r io.Reader) *lines {
	in := newLines(r)
	in.unframe = unframe
	return in
}

// unframe returns the text of a line whose checksum is right.
func unframe(line []byte) (text []byte, ok bool) {
	if len(line) < 9 {
		return nil, false
	}
	want := fmt.Appendf(nil, "%08x ", crc32.Checksum(line[9:], castagnoli))
	return line[9:], bytes.Equal(line[:9], want)
}
