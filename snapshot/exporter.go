package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

const (
	// exportDear is how long making a whole must have taken for it to be reused after something
	// newer was published: for ten times as long as it took, if deltas lead on from it.
	exportDear = 500 * time.Millisecond

	// exportLook is how long is waited for a delta, to know whether one leads on.
	exportLook = 50 * time.Millisecond

	// exportTimeout bounds the making of a whole.
	exportTimeout = 10 * time.Minute
)

// Exporter gives what a source has, as lines, to any number of readers: one
// load and one encoding serve them all. It keeps the last whole in a temporary file that has no
// name. It is safe for concurrent use.
type Exporter struct {
	src  Source
	keys *Keys

	mu     sync.Mutex
	last   *Export
	making *making // nil when none is being made
}

// making is a whole that is being made.
type making struct {
	done   chan struct{} // closed when it is made
	export *Export
	err    error
}

// NewExporter returns an exporter of the source. With the keys of what is
// published it verifies digests; without them it verifies counts alone.
func NewExporter(src Source, keys *Keys) *Exporter { return &Exporter{src: src, keys: keys} }

// Export is a whole, as lines. Close it after use.
type Export struct {
	Head Head

	file  *os.File // documents alone
	size  int64
	made  time.Time
	took  time.Duration
	mu    sync.Mutex
	users int
}

// Open returns what is published; where that takes long to load, it may be what was
// published shortly before. The error wraps [ErrNone] before the first publish.
func (e *Exporter) Open(ctx context.Context) (*Export, error) {
	head, err := e.src.Head(ctx)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	last := e.last.use()
	e.mu.Unlock()
	if last != nil {
		dear := last.took > exportDear && time.Since(last.made) < 10*last.took
		if last.Head.Equal(head) || dear && e.leadsOn(ctx, last.Head) {
			return last, nil
		}
		last.Close()
	}
	return e.wait(ctx, e.begin(ctx))
}

// leadsOn reports whether deltas follow on a head.
func (e *Exporter) leadsOn(ctx context.Context, head Head) bool {
	ctx, cancel := context.WithTimeout(ctx, exportLook)
	defer cancel()
	_, err := e.src.Next(ctx, head.Position)
	return err == nil
}

// begin begins to make a whole, unless one is being made.
func (e *Exporter) begin(ctx context.Context) *making {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.making != nil {
		return e.making
	}
	m := &making{done: make(chan struct{})}
	e.making = m
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout) // others wait for it too
	go func() {
		defer cancel()
		export, err := e.make(ctx)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.making = nil
		if err == nil {
			e.last.Close()
			e.last = export
		}
		m.export, m.err = export, err
		close(m.done)
	}()
	return m
}

func (e *Exporter) wait(ctx context.Context, m *making) (*Export, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.done:
	}
	if m.err != nil {
		return nil, m.err
	}
	if x := m.export.use(); x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("what was to be sent was replaced meanwhile: %w", ErrStale)
}

func (e *Exporter) make(ctx context.Context) (*Export, error) {
	l := &exportLoader{keys: e.keys}
	begun := time.Now()
	err := e.src.Load(ctx, l)
	if err == nil {
		err = l.buf.Flush()
	}
	if err != nil {
		return nil, errors.Join(err, l.discard())
	}
	size, err := l.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, errors.Join(err, l.discard())
	}
	return &Export{Head: l.head, file: l.file, size: size, made: time.Now(), took: time.Since(begun), users: 1}, nil
}

// Close gives up what was made. The exporter can go on being used.
func (e *Exporter) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last.Close()
	e.last = nil
}

// exportLoader writes documents as lines, as they come.
type exportLoader struct {
	keys   *Keys
	file   *os.File
	buf    *bufio.Writer
	out    lineWriter
	ledger carried
	head   Head
}

func (l *exportLoader) Begin(head Head) ([]catalog.Kind, error) {
	if err := l.discard(); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp("", "ezapi-snapshot-") // of mode 0600
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	l.file, l.buf = file, bufio.NewWriterSize(file, 64<<10)
	l.out, l.ledger = newLineEncoder(l.buf), newCarried(l.keys, head)
	return slices.Sorted(maps.Keys(head.Counts)), nil
}

func (l *exportLoader) Add(changes []Change) error {
	l.ledger.take(changes)
	return writeChanges(l.out, changes)
}

func (l *exportLoader) End(head Head) error {
	l.head = head
	return l.ledger.fits(head)
}

func (l *exportLoader) discard() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}

// use counts one more user; nil when the last one has gone.
func (x *Export) use() *Export {
	if x == nil {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.users == 0 {
		return nil
	}
	x.users++
	return x
}

// Close says that the caller uses it no more.
func (x *Export) Close() {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.users--; x.users == 0 {
		_ = x.file.Close() // it was only read from
	}
}

// reader returns all of it.
func (x *Export) reader() (io.Reader, int64, error) {
	var head bytes.Buffer
	if err := newLineEncoder(&head).Encode(headLine(x.Head)); err != nil {
		return nil, 0, err
	}
	text := head.Bytes()
	return io.MultiReader(bytes.NewReader(text), io.NewSectionReader(x.file, 0, x.size), bytes.NewReader(text)),
		x.size + 2*int64(len(text)), nil
}

// Size returns how many bytes WriteTo writes.
func (x *Export) Size() int64 {
	_, size, _ := x.reader() // a head can always be written
	return size
}

// WriteTo writes the lines.
func (x *Export) WriteTo(w io.Writer) (int64, error) {
	r, _, err := x.reader()
	if err != nil {
		return 0, err
	}
	return io.Copy(w, r)
}
