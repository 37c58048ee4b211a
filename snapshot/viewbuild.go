package snapshot

import (
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/ez-api/ez-api/catalog"
)

const (
	// readChunk is how many changes one processor reads at a time.
	readChunk = 1024

	// readAlone is how many changes are not worth another processor.
	readAlone = 64
)

// viewBuilder makes a View out of another and of changes. The other stays as
// it is. Documents are read on all processors, and put in the order in which
// they came. It is for one goroutine.
type viewBuilder struct {
	view    *View // that is being made
	known   []kindShelf
	editors []kindEditor
	shelves map[catalog.Kind]int
	keys    *Keys
	readers chan *docReader
	pending []chan batch // that are being read, in order
}

type batch struct {
	changes []prepared
	err     error
}

// newViewBuilder begins with what is in from. Documents that known holds with
// equal bytes are shared with it and not read again.
func newViewBuilder(from, known *View, keys *Keys) *viewBuilder {
	b := newBuilder(from, known, func() *docReader { return newDocReader(keys) })
	b.keys = keys
	return b
}

func newBuilder(from, known *View, reader func() *docReader) *viewBuilder {
	view := *from
	b := &viewBuilder{
		view: &view, known: known.shelves(),
		shelves: map[catalog.Kind]int{}, readers: make(chan *docReader, runtime.GOMAXPROCS(0)),
	}
	for i, s := range view.shelves() {
		b.shelves[s.kind()] = i
		b.editors = append(b.editors, s.edit())
	}
	for range cap(b.readers) {
		b.readers <- reader()
	}
	return b
}

// add takes changes. Those of kinds that this version does not know are ignored.
func (b *viewBuilder) add(changes []Change) error {
	if len(changes) < readAlone && len(b.pending) == 0 {
		return b.put(b.read(changes))
	}
	for part := range slices.Chunk(changes, readChunk) {
		if len(b.pending) >= cap(b.readers) {
			if err := b.putOldest(); err != nil {
				return err
			}
		}
		done := make(chan batch, 1)
		b.pending = append(b.pending, done)
		go func() { done <- b.read(part) }()
	}
	return nil
}

// read may run in several goroutines at once.
func (b *viewBuilder) read(changes []Change) batch {
	r := <-b.readers
	defer func() { b.readers <- r }()
	out := make([]prepared, 0, len(changes))
	for _, c := range changes {
		i, ok := b.shelves[c.Kind]
		if !ok {
			continue
		}
		p, err := b.known[i].prepare(r, c)
		if err != nil {
			return batch{err: err}
		}
		p.kind = i
		out = append(out, p)
	}
	return batch{changes: out}
}

func (b *viewBuilder) put(read batch) error {
	for _, p := range read.changes {
		b.editors[p.kind].put(p)
	}
	return read.err
}

func (b *viewBuilder) putOldest() error {
	oldest := b.pending[0]
	b.pending = b.pending[1:]
	return b.put(<-oldest)
}

// flush puts all that was added.
func (b *viewBuilder) flush() error {
	for len(b.pending) > 0 {
		if err := b.putOldest(); err != nil {
			return err
		}
	}
	return nil
}

// fits reports, as an error that wraps ErrCorrupt, when the documents are not
// those of the head: for each kind that this version knows, their number and
// their digest. Other kinds are not looked at.
func (b *viewBuilder) fits(head Head) error {
	if err := b.flush(); err != nil {
		return err
	}
	for kind, i := range b.shelves {
		n, sum := b.editors[i].sum()
		if n != head.Counts[kind] {
			return fmt.Errorf("there are %d documents of %s at %s, the head says %d: %w",
				n, kind, head.Position, head.Counts[kind], ErrCorrupt)
		}
		digest, listed := head.Digest[kind]
		if listed && digest != b.keys.Digest(kind, sum) {
			return fmt.Errorf("the documents of %s at %s do not have the digest that the head says: %w",
				kind, head.Position, ErrCorrupt)
		}
	}
	return nil
}

// done returns the View, after fits.
func (b *viewBuilder) done(head Head) *View {
	for _, e := range b.editors {
		e.store()
	}
	head.Counts, head.Digest = maps.Clone(head.Counts), maps.Clone(head.Digest)
	b.view.head, b.view.refusal = head, ""
	return b.view
}

// apply returns the View after a delta; v stays as it is. The error wraps
// ErrGap when the delta does not begin where v is, and ErrCorrupt when
// it does not lead to what its head says.
func (v *View) apply(d Delta, keys *Keys) (*View, error) {
	switch {
	case d.From != v.head.Position || d.Head.Store != v.head.Store || d.Head.Seal != v.head.Seal:
		return nil, fmt.Errorf("the delta from %s does not continue %s: %w", d.From, v.head.Position, ErrGap)
	case !d.Head.Position.After(d.From):
		return nil, fmt.Errorf("the delta from %s leads to %s: %w", d.From, d.Head.Position, ErrCorrupt)
	}
	if err := checkFormat(d.Head); err != nil {
		return nil, err
	}
	if err := keys.VerifyHead(d.Head); err != nil {
		return nil, err
	}
	keys, err := keys.Activate(d.Head.Seal)
	if err != nil {
		return nil, err
	}
	b := newViewBuilder(v, v, keys)
	if err := b.add(d.Changes); err != nil {
		return nil, err
	}
	if err := b.fits(d.Head); err != nil {
		return nil, err
	}
	return b.done(d.Head), nil
}

func checkFormat(h Head) error {
	if h.Format != Format {
		return fmt.Errorf("what is published has format %d, this program reads %d: upgrade it: %w", h.Format, Format,
			ErrFormat)
	}
	return nil
}
