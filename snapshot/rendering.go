package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/ez-api/ez-api/catalog"
)

// rendering is what one catalog renders to, at one revision and under one sync
// key: the hash of each document, and what documents depend on beyond their own entities. It is made once from
// the whole catalog and then led on by the feed. All that a relay
// signs comes from here, and nothing in here comes from a publisher.
//
// One goroutine leads it on, the others may look things up.
type rendering struct {
	tables *catalog.Tables
	keys   *Keys
	log    *slog.Logger

	resolve *resolver // of the leading goroutine

	mu     sync.Mutex
	head   catalog.Head // of which it is; no store when there is nothing yet
	docs   *ledger
	failed map[failedEntity]string // why entities have no documents
}

type failedEntity struct {
	kind catalog.Kind
	id   int64
}

func newRendering(tables *catalog.Tables, keys *Keys, log *slog.Logger) *rendering {
	return &rendering{tables: tables, keys: keys, log: log, docs: newLedger(), failed: map[failedEntity]string{}}
}

// at returns the catalog's head of which the rendering is.
func (g *rendering) at() catalog.Head {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.head
}

// describe returns the head of what is rendered, not signed yet.
func (g *rendering) describe(epoch catalog.Epoch) Head {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Head{
		Format: Format, Store: g.head.Store, Position: Position{epoch, g.head.Revision}, Mark: g.head.Mark,
		Counts: g.docs.counts(), Digest: g.docs.digests(g.keys), Seal: g.keys.Active(), Renderer: Renderer,
		UpdatedAt: g.head.Time.UTC(),
	}
}

// fits reports whether counts and digests are those of the rendering.
func (g *rendering) fits(h Head) bool {
	mine := g.describe(h.Position.Epoch)
	if !mine.Counts.Equal(h.Counts) {
		return false
	}
	for kind, digest := range mine.Digest {
		if h.Digest[kind] != digest {
			return false
		}
	}
	return len(h.Digest) == len(mine.Digest)
}

func (g *rendering) renderer(reader catalog.Reader, emit func(Change)) *renderer {
	return &renderer{tables: g.tables, reader: reader, keys: g.keys, resolve: g.resolve, emit: emit, failed: g.note}
}

// note remembers an entity that cannot be rendered, and says so once.
func (g *rendering) note(kind catalog.Kind, id int64, err error) {
	g.mu.Lock()
	at, text := failedEntity{kind, id}, err.Error()
	said := g.failed[at] == text
	if len(g.failed) < maxFailed {
		g.failed[at] = text
	}
	g.mu.Unlock()
	if !said {
		g.log.Warn("an entity cannot be read, and is not published", "kind", kind.Noun(), "id", id, "error", err)
	}
}

// forgive forgets that an entity could not be rendered: it has changed.
func (g *rendering) forgive(at failedEntity) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.failed, at)
}

// maxFailed bounds the entities whose failure is remembered.
const maxFailed = 1000

// failures returns how many entities cannot be rendered.
func (g *rendering) failures() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.failed)
}

// whole renders the whole catalog at the reader's revision. Every document is
// given to emit, which may be nil; its error ends the rendering.
func (g *rendering) whole(ctx context.Context, reader catalog.Reader, emit func(Change) error) error {
	docs := newLedger()
	g.mu.Lock()
	clear(g.failed)
	g.mu.Unlock()
	var failed error
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := g.renderer(reader, func(c Change) {
		docs.put(c.Kind, c.Key, g.keys.Hash(c.Kind, c.Key, c.Doc))
		if emit == nil || failed != nil {
			return
		}
		if failed = emit(c); failed != nil {
			cancel(failed)
		}
	})
	if err := r.whole(ctx); err != nil || failed != nil {
		if failed != nil {
			return failed
		}
		return fmt.Errorf("render the catalog: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.docs, g.head, g.resolve = docs, reader.Head(), r.resolve
	return nil
}

// lead brings the rendering to the reader's revision.
func (g *rendering) lead(ctx context.Context, reader catalog.Reader) error {
	_, err := g.leadFrom(ctx, reader, -1)
	return err
}

// leadFrom brings the rendering to the reader's revision, and returns the
// documents that the changes after a revision can have touched, changed or not.
// A negative revision asks for none. Too many are errManyTouched; the rendering
// is where it should be then.
func (g *rendering) leadFrom(ctx context.Context, reader catalog.Reader, since catalog.Revision) (delta gathered,
	err error) {
	from := g.at()
	whole, err := g.follows(ctx, reader, from)
	if err != nil {
		return gathered{}, err
	}
	if !whole {
		if from.Revision < reader.Head().Revision {
			var t touched
			docs, err := g.step(ctx, reader, from.Revision, &t)
			switch {
			case errors.Is(err, errManyTouched):
				whole = true
			case err != nil:
				return gathered{}, err
			case from.Revision == since && !docs.large:
				return docs, nil
			}
		}
	}
	if whole {
		if err := g.whole(ctx, reader, nil); err != nil {
			return gathered{}, err
		}
	}
	if since < 0 || since >= reader.Head().Revision {
		return gathered{}, nil
	}
	return g.touchedSince(ctx, reader, since, nil)
}

// catchUp brings the rendering to the reader's revision by the feed alone, and
// returns the documents that are touched. It returns errManyTouched, and the
// rendering stays where it was or is of no use, when the feed does not lead there.
func (g *rendering) catchUp(ctx context.Context, reader catalog.Reader) ([]Change, error) {
	from := g.at()
	anew, err := g.follows(ctx, reader, from)
	if err != nil {
		return nil, err
	}
	if anew {
		return nil, errManyTouched
	}
	if from.Revision == reader.Head().Revision {
		return nil, nil
	}
	docs, err := g.step(ctx, reader, from.Revision, &touched{})
	if err == nil && docs.large {
		err = errManyTouched
	}
	return docs.changes, err
}

// gathered is what a delta is made of.
type gathered struct {
	changes []Change
	bytes   int
	large   bool // beyond what a delta may be: changes are not complete
}

func (d *gathered) add(c Change) {
	if d.bytes += len(c.Key) + len(c.Doc); d.bytes > MaxChainBytes || len(d.changes) >= maxTouched {
		d.large, d.changes = true, nil
	}
	if !d.large {
		d.changes = append(d.changes, c)
	}
}

// touchedSince renders what the changes after a revision can have touched, and
// the documents of some names besides. The rendering must be of the reader's revision.
func (g *rendering) touchedSince(
	ctx context.Context, reader catalog.Reader, since catalog.Revision, names []docName,
) (delta gathered, err error) {
	var t touched
	err = readFeed(ctx, reader, since, func(c catalog.Change) error {
		t.add(c)
		return t.bounded()
	})
	if err == nil {
		err = t.addNames(ctx, reader, names)
	}
	if err == nil {
		err = t.render(ctx, g.renderer(reader, delta.add))
	}
	if err != nil && !errors.Is(err, errManyTouched) && !errors.Is(err, catalog.ErrCompacted) {
		err = fmt.Errorf("render what has changed: %w", err)
	}
	if err == nil && delta.large {
		err = errManyTouched
	}
	return delta, err
}

// follows reports whether the rendering has to be made anew, because the feed
// does not lead from it to the reader's revision.
func (g *rendering) follows(ctx context.Context, reader catalog.Reader, from catalog.Head) (anew bool, err error) {
	at := reader.Head()
	if from.Store != at.Store || from.Store == "" || from.Revision > at.Revision || g.resolve == nil {
		return true, nil
	}
	mark, err := reader.MarkAt(ctx, from.Revision)
	if errors.Is(err, catalog.ErrCompacted) {
		return true, nil
	}
	return mark != from.Mark, err
}

// step leads the rendering on by the feed. Where that fails it stays as it was.
func (g *rendering) step(ctx context.Context, reader catalog.Reader, from catalog.Revision,
	t *touched) (docs gathered, err error) {
	err = readFeed(ctx, reader, from, func(c catalog.Change) error {
		t.add(c)
		g.forgive(failedEntity{c.Kind, c.ID})
		return t.bounded()
	})
	if errors.Is(err, catalog.ErrCompacted) {
		return docs, errManyTouched
	}
	if err != nil {
		return docs, err
	}
	type line struct {
		name docName
		hash Digest
		gone bool
	}
	var lines []line
	r := g.renderer(reader, func(c Change) {
		docs.add(c)
		l := line{name: docName{c.Kind, c.Key}, gone: c.Doc == nil}
		if !l.gone {
			l.hash = g.keys.Hash(c.Kind, c.Key, c.Doc)
		}
		lines = append(lines, l)
	})
	undo, err := t.lead(ctx, r)
	if err != nil {
		return docs, err
	}
	if err := t.render(ctx, r); err != nil {
		undo()
		return docs, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range lines {
		if l.gone {
			g.docs.remove(l.name.kind, l.name.key)
		} else {
			g.docs.put(l.name.kind, l.name.key, l.hash)
		}
	}
	g.head = reader.Head()
	return docs, nil
}

// wrong returns the documents that are not as they are rendered, and those
// that are not rendered at all.
func (g *rendering) wrong(docs []Document) (names []docName) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range docs {
		if want, known := g.docs.see(d.Kind, d.Key); !known || want != g.keys.Hash(d.Kind, d.Key, d.Doc) {
			names = append(names, docName{d.Kind, d.Key})
		}
	}
	return names
}

// begin starts a pass over the published documents of a kind, see [ledger.begin].
func (g *rendering) begin(kind catalog.Kind) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.docs.begin(kind)
}

// unseen returns how many documents of a kind were not seen since begin.
func (g *rendering) unseen(kind catalog.Kind) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.docs.unseen(kind)
}

func (g *rendering) isUnseen(kind catalog.Kind, key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.docs.isUnseen(kind, key)
}

func (g *rendering) has(kind catalog.Kind, key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, there := g.docs.get(kind, key)
	return there
}
