package snapshot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/ez-api/ez-api/catalog"
)

// lastGood is the file in which a watcher keeps what it last applied, so that
// it can start while the source is down. It holds lines, see lines.go, each with its
// CRC-32C before it:
//
//	{"file":1,"kinds":["bindings",…]}   the format, and the kinds of documents that are in it
//	the whole
//	deltas, and {"beat":{…}}            as they came
//
// Heads have the fields that were published, so signature, counts and digests
// are verified at the whole and after each delta, by whoever holds the keys. What follows the
// last good delta or beat is cut off. Secrets stay sealed as they were published.
//
// A lastGood is not safe for concurrent use, and a file is one process's.
type lastGood struct {
	path string
	file *os.File // nil when there is no good file
	base int64    // bytes of the whole
	size int64    // bytes in all
	at   Position // after the last line

	minCompact int64 // the size of what follows the whole below which the file is not rewritten
}

const (
	fileFormat = 1

	// defaultMinCompact is a size that is not worth rewriting.
	defaultMinCompact = 1 << 20
)

func newLastGood(path string) lastGood {
	return lastGood{path: path, minCompact: defaultMinCompact}
}

// read returns the View in the file, made with the settings of blank, and the
// last beat in it. The error wraps os.ErrNotExist when there is no file.
func (l *lastGood) read(blank *View, keys *Keys) (v *View, beat Beat, err error) {
	f, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if err != nil {
		return nil, Beat{}, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", l.path, errors.Join(err, f.Close()))
		}
	}()
	in := newFrames(f)
	if v, err = readBase(in, blank, keys); err != nil {
		return nil, Beat{}, err
	}
	base, good := in.end, in.end
	var changes []Change
	for size := 0; size <= maxGroup; {
		var next line
		if in.next(&next) != nil {
			break
		}
		if c, ok := next.change(); ok {
			changes, size = append(changes, c), size+len(c.Doc)
			continue
		}
		if next.Beat != nil {
			if b, err := ParseBeat(next.Beat); err == nil {
				beat = b
			}
		} else {
			applied, err := applyLine(v, next, changes, keys)
			if err != nil {
				break
			}
			v, changes, size = applied, nil, 0
		}
		good = in.end
	}
	if err := f.Truncate(good); err != nil {
		return nil, Beat{}, err
	}
	l.file, l.base, l.size, l.at = f, base, good, v.head.Position
	return v, beat, nil
}

// readBase reads the whole with which a file begins.
func readBase(in *lines, blank *View, keys *Keys) (*View, error) {
	var first line
	if err := in.next(&first); err != nil {
		return nil, torn(err)
	}
	if first.File != fileFormat {
		return nil, fmt.Errorf("the file has format %d, this program reads %d: %w", first.File, fileFormat, ErrFormat)
	}
	head, err := in.head()
	if err != nil {
		return nil, err
	}
	loader := &viewLoader{base: blank, keys: keys, admit: func(h Head) error { return holds(first.Kinds, h) }}
	kinds, err := loader.Begin(head)
	if err != nil {
		return nil, err
	}
	if err := in.whole(loader, kinds); err != nil {
		return nil, err
	}
	return loader.view, nil
}

// holds returns an error when a file of these kinds lacks one that this program knows and the
// head counts: an older program wrote it.
func holds(kinds []catalog.Kind, head Head) error {
	for _, kind := range Kinds() {
		if _, counted := head.Counts[kind]; counted && !slices.Contains(kinds, kind) {
			return fmt.Errorf("the file holds no documents of kind %s, which an older version did not know: %w", kind,
				errRefused)
		}
	}
	return nil
}

func applyLine(v *View, l line, changes []Change, keys *Keys) (*View, error) {
	if l.From == nil || l.Head == nil {
		return nil, ErrCorrupt
	}
	head, err := ParseHead(l.Head)
	if err != nil {
		return nil, err
	}
	return v.apply(Delta{From: *l.From, Head: head, Changes: changes}, keys)
}

// draft is a file that is being written beside the one that counts.
type draft struct {
	path string
	file *os.File
	buf  *bufio.Writer
	out  *frameEncoder
}

// draft begins a new whole, under the head with which its loading begins.
func (l *lastGood) draft(head Head) (*draft, error) {
	d := &draft{path: l.path + ".new"}
	var err error
	if d.file, err = os.OpenFile(d.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	d.buf = bufio.NewWriterSize(d.file, 64<<10)
	d.out = newFrameEncoder(d.buf)
	if err := errors.Join(d.file.Chmod(0o600), d.out.Encode(line{File: fileFormat, Kinds: Kinds()}),
		d.out.Encode(headLine(head))); err != nil {
		return nil, errors.Join(err, d.discard())
	}
	return d, nil
}

func (d *draft) discard() error { return errors.Join(d.file.Close(), os.Remove(d.path)) }

// adopt ends a draft with its head and puts it in the place of the file, which stays until the
// new one is on disk.
func (l *lastGood) adopt(d *draft, head Head) error {
	err := d.out.Encode(headLine(head))
	if err = errors.Join(err, d.buf.Flush(), d.file.Sync()); err != nil {
		return errors.Join(err, d.discard())
	}
	size, err := d.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return errors.Join(err, d.discard())
	}
	if err := os.Rename(d.path, l.path); err != nil {
		return errors.Join(err, d.discard())
	}
	if l.file != nil {
		_ = l.file.Close() // it has no name any more
	}
	l.file, l.base, l.size, l.at = d.file, size, size, head.Position
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
	if l.file == nil {
		return errBehind
	}
	end := newAppender(l)
	for _, d := range deltas {
		if d.From != l.at {
			return fmt.Errorf("the delta from %s does not continue %s: %w", d.From, l.at, ErrGap)
		}
		if err := writeChanges(end.out, knownChanges(d.Changes)); err != nil {
			return err
		}
		if err := end.out.Encode(line{From: &d.From, Head: d.Head.Fields()}); err != nil {
			return err
		}
		l.at = d.Head.Position
	}
	if err := errors.Join(end.flush(l), l.file.Sync()); err != nil {
		return err
	}
	if grown := l.size - l.base; grown > max(l.base, l.minCompact) {
		return l.compact()
	}
	return nil
}

// knownChanges returns those of kinds that this version knows.
func knownChanges(changes []Change) []Change {
	kinds := Kinds()
	unknown := func(c Change) bool { return !slices.Contains(kinds, c.Kind) }
	if !slices.ContainsFunc(changes, unknown) {
		return changes
	}
	return slices.DeleteFunc(slices.Clone(changes), unknown)
}

// note adds a beat. It is not worth an fsync: without it the file is only older.
func (l *lastGood) note(b Beat) error {
	if l.file == nil {
		return nil
	}
	end := newAppender(l)
	if err := end.out.Encode(line{Beat: b.Encode()}); err != nil {
		return err
	}
	return end.flush(l)
}

// appender writes after what is good in the file.
type appender struct {
	at  *io.OffsetWriter
	buf *bufio.Writer
	out *frameEncoder
}

func newAppender(l *lastGood) appender {
	at := io.NewOffsetWriter(l.file, l.size)
	buf := bufio.NewWriterSize(at, 64<<10)
	return appender{at, buf, newFrameEncoder(buf)}
}

func (a appender) flush(l *lastGood) error {
	if err := a.buf.Flush(); err != nil {
		return err
	}
	written, err := a.at.Seek(0, io.SeekCurrent)
	l.size += written
	return err
}

// compact rewrites the file as a whole without deltas. It needs memory for the names in the
// deltas, not for documents.
func (l *lastGood) compact() error {
	last := map[docName]int64{} // name → where the line ends that counts
	var (
		head Head
		beat Beat
	)
	err := l.scan(l.base, l.size, func(next line, end int64) error {
		switch c, ok := next.change(); {
		case ok:
			last[docName{c.Kind, c.Key}] = end
		case next.Beat != nil:
			beat, _ = ParseBeat(next.Beat)
		default:
			var err error
			head, err = ParseHead(next.Head)
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	d, err := l.draft(head)
	if err != nil {
		return err
	}
	keep := func(next line, end int64) error {
		c, ok := next.change()
		counts, changed := last[docName{c.Kind, c.Key}]
		if !ok || changed && (counts != end || c.Doc == nil) {
			return nil
		}
		return d.out.Encode(next)
	}
	if err := errors.Join(l.scan(0, l.base, keep), l.scan(l.base, l.size, keep)); err != nil {
		return errors.Join(err, d.discard())
	}
	if err := l.adopt(d, head); err != nil || beat.At.IsZero() {
		return err
	}
	return l.note(beat)
}

// scan reads a part of the file.
func (l *lastGood) scan(from, to int64, each func(next line, end int64) error) error {
	in := newFrames(io.NewSectionReader(l.file, from, to-from))
	for {
		var next line
		if err := in.next(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := each(next, from+in.end); err != nil {
			return err
		}
	}
}

func (l *lastGood) close() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file, l.base, l.size, l.at = nil, 0, 0, Position{}
	return f.Close()
}
