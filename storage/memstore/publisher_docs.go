package memstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// published is a head and its documents. No document's bytes are ever
// changed in place, nor shared with a caller.
type published struct {
	head snapshot.Head
	docs map[catalog.Kind]map[string][]byte
}

// stage copies s.
func stage(s *snapshot.Snapshot) *published {
	p := &published{head: cloneHead(s.Head), docs: make(map[catalog.Kind]map[string][]byte)}
	for _, d := range s.Docs {
		p.put(d.Kind, d.Key, bytes.Clone(d.Doc))
	}
	return p
}

// exists reports whether anything was published: nothing can be at the zero
// position, because every publish is later than what it finds.
func (p *published) exists() bool { return p.head.Position != snapshot.Position{} }

// snapshot returns a copy.
func (p *published) snapshot() *snapshot.Snapshot {
	s := &snapshot.Snapshot{Head: cloneHead(p.head)}
	for kind, docs := range p.docs {
		for key, doc := range docs {
			s.Docs = append(s.Docs, snapshot.Document{Kind: kind, Key: key, Doc: bytes.Clone(doc)})
		}
	}
	return s
}

// check returns ErrCorrupt unless the documents after d are as many as d's
// head says.
func (p *published) check(d snapshot.Delta) error {
	counts := make(snapshot.Counts)
	for kind, docs := range p.docs {
		counts[kind] = len(docs)
	}
	type name struct {
		kind catalog.Kind
		key  string
	}
	exists := make(map[name]bool)
	for _, c := range d.Changes {
		n := name{c.Kind, c.Key}
		before, seen := exists[n]
		if !seen {
			_, before = p.docs[c.Kind][c.Key]
		}
		switch after := c.Doc != nil; {
		case after && !before:
			counts[c.Kind]++
		case before && !after:
			counts[c.Kind]--
		}
		exists[n] = c.Doc != nil
	}
	maps.DeleteFunc(counts, func(_ catalog.Kind, n int) bool { return n == 0 })
	if !maps.Equal(counts, d.Head.Counts) {
		return fmt.Errorf("there would be %v documents, and the head says %v: %w", counts, d.Head.Counts, snapshot.ErrCorrupt)
	}
	return nil
}

// apply takes over d's changes and head, which must be copies.
func (p *published) apply(d snapshot.Delta) {
	for _, c := range d.Changes {
		if c.Doc == nil {
			delete(p.docs[c.Kind], c.Key)
		} else {
			p.put(c.Kind, c.Key, c.Doc)
		}
	}
	p.head = d.Head
}

func (p *published) put(k catalog.Kind, key string, doc []byte) {
	if p.docs[k] == nil {
		p.docs[k] = make(map[string][]byte)
	}
	p.docs[k][key] = doc
}

// catchUp applies what fn returns until that has no changes; fn may be nil.
func (p *published) catchUp(ctx context.Context, fn snapshot.CatchUp) error {
	for fn != nil {
		d, err := fn(ctx, p.head.Position)
		switch {
		case err != nil:
			return err
		case d.Head.Position == p.head.Position && len(d.Changes) == 0:
			return nil
		case d.From != p.head.Position || !d.Head.Position.After(d.From):
			return errors.New("the catch-up does not start where it was asked to")
		}
		p.apply(cloneDelta(d))
		if len(d.Changes) == 0 {
			return nil
		}
	}
	return nil
}

// cloneHead returns a deep copy in which kinds without documents are absent.
func cloneHead(h snapshot.Head) snapshot.Head {
	counts := make(snapshot.Counts)
	for kind, n := range h.Counts {
		if n != 0 {
			counts[kind] = n
		}
	}
	h.Counts = counts
	return h
}

func cloneDelta(d snapshot.Delta) snapshot.Delta {
	d.Head = cloneHead(d.Head)
	changes := make([]snapshot.Change, len(d.Changes))
	for i, c := range d.Changes {
		c.Doc = bytes.Clone(c.Doc)
		changes[i] = c
	}
	d.Changes = changes
	return d
}
