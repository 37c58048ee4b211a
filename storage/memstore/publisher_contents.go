package memstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// Contents is what a [Publisher] keeps, for [Publisher.Tamper].
type Contents struct {
	// Head holds the fields of the head. Without any, nothing is published.
	Head snapshot.Fields
	// Docs are the documents, by kind and key.
	Docs map[catalog.Kind]map[string][]byte
	// Deltas were published since the last whole, the oldest first.
	Deltas []snapshot.Delta
	// Stray, unless empty, stands for entries that follow the head's own: an unfinished publish,
	// or whatever somebody has put there. Publishing waits until it was the same for
	// [snapshot.TakeoverAfter]; then the history is given up with it.
	Stray string
	// Beat is the text of the last beat.
	Beat []byte
}

// Tamper lets a test act as somebody who can write to the store: change may damage, forge and
// delete anything, but must not keep references to it. Readers that wait look again afterwards.
func (p *Publisher) Tamper(change func(c *Contents)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p.live)
	p.wake()
}

// head parses, so that no two callers share memory.
func (c *Contents) head() (snapshot.Head, error) {
	head, err := snapshot.ParseHead(c.Head)
	if err != nil {
		return head, fmt.Errorf("memstore: head: %w", err)
	}
	return head, nil
}

// base names the head as it is.
func (c *Contents) base() snapshot.Base {
	if len(c.Head) == 0 {
		return snapshot.Base{}
	}
	head, _ := snapshot.ParseHead(c.Head) // with an error comes a head that has a base
	return head.Base()
}

// position returns where the head is; the zero position when there is none, or it cannot be read.
func (c *Contents) position() snapshot.Position {
	head, err := snapshot.ParseHead(c.Head)
	if err != nil {
		return snapshot.Position{}
	}
	return head.Position
}

// after returns a copy of the delta that leads on from a position.
func (c *Contents) after(at snapshot.Position) (snapshot.Delta, bool) {
	for i := len(c.Deltas) - 1; i >= 0; i-- {
		if c.Deltas[i].From == at {
			d, err := cloneDelta(c.Deltas[i])
			return d, err == nil
		}
	}
	return snapshot.Delta{}, false
}

// beat returns none for one that cannot be read.
func (c *Contents) beat() snapshot.Beat {
	b, err := snapshot.ParseBeat(c.Beat)
	if err != nil {
		return snapshot.Beat{}
	}
	return b
}

// view is the contents at one moment. It shares the bytes of documents, which are never
// changed in place.
type view struct {
	contents *Contents
	docs     map[catalog.Kind][]snapshot.Change
}

// view copies the names of all documents.
func (c *Contents) view() view {
	v := view{&Contents{Head: maps.Clone(c.Head)}, make(map[catalog.Kind][]snapshot.Change, len(c.Docs))}
	for kind, docs := range c.Docs {
		list := make([]snapshot.Change, 0, len(docs))
		for key, doc := range docs {
			list = append(list, snapshot.Change{Kind: kind, Key: key, Doc: doc})
		}
		v.docs[kind] = list
	}
	return v
}

// give adds the documents of kinds to a loader, in bounded pieces.
func (v view) give(ctx context.Context, kinds []catalog.Kind, into snapshot.Loader) error {
	for _, kind := range kinds {
		for docs := range slices.Chunk(v.docs[kind], snapshot.MaxPartDocs) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := into.Add(cloneChanges(docs)); err != nil {
				return err
			}
		}
	}
	return nil
}

// check returns ErrCorrupt unless the documents after changes are as many as counts says.
func (c *Contents) check(counts snapshot.Counts, changes []snapshot.Change) error {
	type name struct {
		kind catalog.Kind
		key  string
	}
	got := make(snapshot.Counts)
	for kind, docs := range c.Docs {
		got[kind] = len(docs)
	}
	exists := make(map[name]bool)
	for _, ch := range changes {
		n := name{ch.Kind, ch.Key}
		before, seen := exists[n]
		if !seen {
			_, before = c.Docs[ch.Kind][ch.Key]
		}
		switch after := ch.Doc != nil; {
		case after && !before:
			got[ch.Kind]++
		case before && !after:
			got[ch.Kind]--
		}
		exists[n] = ch.Doc != nil
	}
	maps.DeleteFunc(got, func(kind catalog.Kind, _ int) bool { // what is not counted is nobody's document
		_, counted := counts[kind]
		return !counted
	})
	if !got.Equal(counts) {
		return fmt.Errorf("there would be %v documents, and the head says %v: %w", got, counts, snapshot.ErrCorrupt)
	}
	return nil
}

// put takes over changes, which must be copies.
func (c *Contents) put(changes []snapshot.Change) {
	for _, ch := range changes {
		switch {
		case ch.Doc == nil:
			delete(c.Docs[ch.Kind], ch.Key)
		case c.Docs[ch.Kind] == nil:
			c.Docs[ch.Kind] = map[string][]byte{ch.Key: ch.Doc}
		default:
			c.Docs[ch.Kind][ch.Key] = ch.Doc
		}
	}
}

// cloneDelta returns a deep copy, or an error when the head cannot be read.
func cloneDelta(d snapshot.Delta) (c snapshot.Delta, err error) {
	if c.Head, err = snapshot.ParseHead(d.Head.Fields()); err != nil {
		return c, err
	}
	c.From, c.Changes = d.From, cloneChanges(d.Changes)
	return c, nil
}

func cloneChanges(changes []snapshot.Change) []snapshot.Change {
	c := slices.Clone(changes)
	for i := range c {
		c[i].Doc = slices.Clone(c[i].Doc)
	}
	return c
}

func isCorrupt(err error) bool { return errors.Is(err, snapshot.ErrCorrupt) }
