//go:build !noWatcher

package snapshot

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/ez-api/ez-api/catalog"
)

// What is published, as lines of JSON (NDJSON): over HTTP and, with checksums, in a
// watcher's file.
// A snapshot is its head and then as many documents as that counts; a delta is a
// line.

// WriteSnapshot writes a snapshot as lines of JSON.
func WriteSnapshot(w io.Writer, s *Snapshot) error {
	out := bufio.NewWriterSize(w, 64<<10)
	enc := newLineEncoder(out)
	if err := enc.Encode(headLine(s.Head)); err != nil {
		return err
	}
	for _, d := range s.Docs {
		if err := enc.Encode(lineOf(Change(d))); err != nil {
			return err
		}
	}
	return out.Flush()
}

// ReadSnapshot reads what [WriteSnapshot] writes. The error wraps [ErrCorrupt]
// where something else was written; digest and signature are not verified.
func ReadSnapshot(r io.Reader) (*Snapshot, error) {
	return readBase(newLines(r))
}

// ReadHead reads the head alone of what [WriteSnapshot] writes.
func ReadHead(r io.Reader) (Head, error) {
	var head headLine
	err := newLines(r).next(&head)
	return Head(head), torn(err)
}

// WriteDelta writes a delta as a line of JSON.
func WriteDelta(w io.Writer, d Delta) error {
	return newLineEncoder(w).Encode(deltaLineOf(d))
}

// A DeltaReader reads what [WriteDelta] writes, delta by delta.
type DeltaReader struct{ in *lines }

// NewDeltaReader returns a reader of deltas.
func NewDeltaReader(r io.Reader) *DeltaReader { return &DeltaReader{newLines(r)} }

// Next returns the next delta, or io.EOF when there is none. An error that wraps
// [ErrCorrupt] says that a line is no delta.
func (r *DeltaReader) Next() (Delta, error) {
	var line deltaLine
	if err := r.in.next(&line); err != nil {
		return Delta{}, err
	}
	return line.delta(), nil
}

// newLineEncoder writes values that may hold documents, which are not HTML.
func newLineEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc
}

// headLine is a head.
type headLine struct {
	Format    int          `json:"format"`
	Store     string       `json:"store"`
	Position  Position     `json:"position"`
	Mark      catalog.Mark `json:"mark"`
	Digest    Digest       `json:"digest"`
	Sig       string       `json:"sig,omitempty"`
	Seal      string       `json:"seal,omitempty"`
	Renderer  int          `json:"renderer"`
	Counts    Counts       `json:"counts"`
	UpdatedAt time.Time    `json:"updated_at"`
	Forced    bool         `json:"forced,omitempty"`
}

// docLine is a document or a change. Doc is a string of the exact
// bytes; without it, the document goes.
type docLine struct {
	Kind catalog.Kind `json:"kind"`
	Key  string       `json:"key"`
	Doc  *string      `json:"doc,omitempty"`
}

// deltaLine is a delta.
type deltaLine struct {
	From    Position  `json:"from"`
	Head    headLine  `json:"head"`
	Changes []docLine `json:"changes"`
}

func lineOf(c Change) docLine {
	line := docLine{Kind: c.Kind, Key: c.Key}
	if c.Doc != nil {
		text := string(c.Doc)
		line.Doc = &text
	}
	return line
}

func (l docLine) change() Change {
	c := Change{Kind: l.Kind, Key: l.Key}
	if l.Doc != nil {
		c.Doc = []byte(*l.Doc)
	}
	return c
}

func deltaLineOf(d Delta) deltaLine {
	line := deltaLine{From: d.From, Head: headLine(d.Head), Changes: make([]docLine, len(d.Changes))}
	for i, c := range d.Changes {
		line.Changes[i] = lineOf(c)
	}
	return line
}

func (l deltaLine) delta() Delta {
	d := Delta{From: l.From, Head: Head(l.Head)}
	for _, c := range l.Changes {
		d.Changes = append(d.Changes, c.change())
	}
	return d
}

// lines reads line by line, and knows where each ends.
type lines struct {
	in      *bufio.Reader
	end     int64
	unframe func(line []byte) (text []byte, ok bool) // checks what else is in a line; nil for nothing
}

func newLines(r io.Reader) *lines { return &lines{in: bufio.NewReaderSize(r, 64<<10)} }

func (l *lines) next(v any) error {
	line, err := l.in.ReadBytes('\n')
	if err != nil {
		return err // io.EOF also where the last line is torn
	}
	text, ok := line, true
	if l.unframe != nil {
		text, ok = l.unframe(line)
	}
	if !ok || jsonv2.Unmarshal(text, v) != nil {
		return fmt.Errorf("line at byte %d: %w", l.end, ErrCorrupt)
	}
	l.end += int64(len(line))
	return nil
}

func readBase(in *lines) (*Snapshot, error) {
	var head headLine
	if err := in.next(&head); err != nil {
		return nil, torn(err)
	}
	s := &Snapshot{Head: Head(head)}
	for range s.Head.Counts.total() {
		var line docLine
		if err := in.next(&line); err != nil {
			return nil, torn(err)
		}
		if line.Doc == nil {
			return nil, fmt.Errorf("%s is gone, but in the snapshot: %w", name(line.Kind, line.Key), ErrCorrupt)
		}
		s.Docs = append(s.Docs, Document(line.change()))
	}
	return s, nil
}

func torn(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("it ends too early: %w", ErrCorrupt)
	}
	return err
}
