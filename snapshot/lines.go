package snapshot

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/ez-api/ez-api/catalog"
)

// What is published, as lines of JSON (NDJSON): over HTTP and, with checksums,
// in a watcher's file. A line is one of
//
//	{"kind":"keys","key":"…","doc":"…"}   a document; doc is a string of its exact bytes
//	{"kind":"keys","key":"…"}             a document that is gone
//	{"head":{"epoch":"…", …}}             a head, with its fields as they are published
//	{"from":"<position>","head":{…}}      the head after a delta from that position
//
// A whole is its head, documents, and its head again. A document that comes again replaces what
// came before. A delta is its changes and then its head.

// maxLine bounds a line, in bytes.
const maxLine = 16 << 20

// line is one line of what is published.
type line struct {
	Kind catalog.Kind    `json:"kind,omitempty"`
	Key  string          `json:"key,omitempty"`
	Doc  *string         `json:"doc,omitempty"`
	From *Position       `json:"from,omitempty"`
	Head Fields          `json:"head,omitempty"`
	Beat json.RawMessage `json:"beat,omitempty"`

	File  int            `json:"file,omitempty"`  // format of a watcher's file
	Kinds []catalog.Kind `json:"kinds,omitempty"` // that a watcher's file holds
}

func changeLine(c Change) line {
	l := line{Kind: c.Kind, Key: c.Key}
	if c.Doc != nil {
		text := string(c.Doc)
		l.Doc = &text
	}
	return l
}

func headLine(h Head) line { return line{Head: h.Fields()} }

// change returns the change that a line is; false when it is none.
func (l line) change() (Change, bool) {
	if l.Kind == "" {
		return Change{}, false
	}
	c := Change{Kind: l.Kind, Key: l.Key}
	if l.Doc != nil {
		c.Doc = []byte(*l.Doc)
	}
	return c, true
}

// lineWriter writes lines.
type lineWriter interface{ Encode(v any) error }

// newLineEncoder writes values that may hold documents, which are not HTML.
func newLineEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc
}

func writeChanges(out lineWriter, changes []Change) error {
	for _, c := range changes {
		if err := out.Encode(changeLine(c)); err != nil {
			return err
		}
	}
	return nil
}

// WriteDelta writes a delta as lines.
func WriteDelta(w io.Writer, d Delta) error {
	buf := bufio.NewWriterSize(w, 64<<10)
	out := newLineEncoder(buf)
	if err := writeChanges(out, d.Changes); err != nil {
		return err
	}
	if err := out.Encode(line{From: &d.From, Head: d.Head.Fields()}); err != nil {
		return err
	}
	return buf.Flush()
}

// A DeltaReader reads what [WriteDelta] writes, delta by delta.
type DeltaReader struct{ in *lines }

// NewDeltaReader returns a reader of deltas.
func NewDeltaReader(r io.Reader) *DeltaReader { return &DeltaReader{newLines(r)} }

// Next returns the next delta, or io.EOF when there is none. An error that
// wraps [ErrCorrupt] says that what comes is no delta; one that begins and does
// not end is io.EOF too.
func (r *DeltaReader) Next() (Delta, error) {
	var (
		d    Delta
		size int
	)
	for {
		var l line
		if err := r.in.next(&l); err != nil {
			return Delta{}, err
		}
		if c, ok := l.change(); ok {
			if size += len(c.Key) + len(c.Doc); size > maxGroup {
				return Delta{}, fmt.Errorf("a delta is larger than %d bytes: %w", maxGroup, ErrCorrupt)
			}
			d.Changes = append(d.Changes, c)
			continue
		}
		if l.From == nil || l.Head == nil {
			return Delta{}, fmt.Errorf("a line is neither a change nor the end of a delta: %w", ErrCorrupt)
		}
		head, err := ParseHead(l.Head)
		if err != nil {
			return Delta{}, err
		}
		d.From, d.Head = *l.From, head
		return d, nil
	}
}

// maxGroup bounds the changes of one delta, in bytes: more than any chain holds.
const maxGroup = 2 * MaxChainBytes

// ReadWhole gives a whole that was written as lines to a loader. The error
// wraps [ErrCorrupt] where something else was written.
func ReadWhole(r io.Reader, into Loader) error {
	in := newLines(r)
	head, err := in.head()
	if err != nil {
		return err
	}
	kinds, err := into.Begin(head)
	if err != nil {
		return err
	}
	return in.whole(into, kinds)
}

// head reads a head line.
func (l *lines) head() (Head, error) {
	var first line
	if err := l.next(&first); err != nil {
		return Head{}, torn(err)
	}
	if first.Head == nil {
		return Head{}, fmt.Errorf("it does not begin with a head: %w", ErrCorrupt)
	}
	return ParseHead(first.Head)
}

// whole reads documents up to the head that ends them.
func (l *lines) whole(into Loader, kinds []catalog.Kind) error {
	wanted := map[catalog.Kind]bool{}
	for _, k := range kinds {
		wanted[k] = true
	}
	batch := make([]Change, 0, readChunk)
	for {
		var next line
		if err := l.next(&next); err != nil {
			return torn(err)
		}
		c, isChange := next.change()
		if isChange && wanted[c.Kind] {
			batch = append(batch, c)
		}
		if len(batch) == readChunk || !isChange && len(batch) > 0 {
			if err := into.Add(batch); err != nil {
				return err
			}
			batch = make([]Change, 0, readChunk) // the loader keeps the other
		}
		if isChange {
			continue
		}
		head, err := ParseHead(next.Head)
		if err != nil {
			return err
		}
		return into.End(head)
	}
}

// lines reads line by line, and knows where each ends.
type lines struct {
	in      *bufio.Reader
	end     int64
	unframe func(line []byte) (text []byte, ok bool) // checks what else is in a line; nil for nothing
}

func newLines(r io.Reader) *lines { return &lines{in: bufio.NewReaderSize(r, 64<<10)} }

func (l *lines) next(v *line) error {
	text, err := l.read()
	if err != nil {
		return err
	}
	size := int64(len(text))
	ok := true
	if l.unframe != nil {
		text, ok = l.unframe(text)
	}
	if !ok || jsonv2.Unmarshal(text, v) != nil {
		return fmt.Errorf("line at byte %d: %w", l.end, ErrCorrupt)
	}
	l.end += size
	return nil
}

// read returns the next line; io.EOF also where the last is torn.
func (l *lines) read() ([]byte, error) {
	var whole []byte
	for {
		part, err := l.in.ReadSlice('\n')
		if err == nil && whole == nil {
			return part, nil // good until the next read
		}
		if len(whole)+len(part) > maxLine {
			return nil, fmt.Errorf("line at byte %d is longer than %d bytes: %w", l.end, maxLine, ErrCorrupt)
		}
		whole = append(whole, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return whole, err
		}
	}
}

func torn(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("it ends too early: %w", ErrCorrupt)
	}
	return err
}
