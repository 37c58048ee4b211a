package client

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ez-api/ez-api/catalog"
)

// Nouns are the entities of one noun. It is the catalog.Table of a Plane, over HTTP.
type Nouns[T catalog.Noun] struct{ resource[wire[T]] }

// Kind returns the kind of the entities.
func (n Nouns[T]) Kind() catalog.Kind { return n.kind }

// Get returns the entity with the id, or an error that matches catalog.ErrNotFound.
func (n Nouns[T]) Get(ctx context.Context, id int64) (T, error) {
	v, _, err := n.get(ctx, id)
	return v.noun, err
}

// List returns a page of the entities that q selects, in order of id.
func (n Nouns[T]) List(ctx context.Context, q Query) (Page[T], error) {
	found, err := n.list(ctx, q)
	page := Page[T]{Next: found.Next}
	for _, w := range found.Data {
		page.Data = append(page.Data, w.noun)
	}
	return page, err
}

// All iterates over all entities that q selects, page by page.
func (n Nouns[T]) All(ctx context.Context, q Query) iter.Seq2[T, error] {
	return pages(func(cursor string) (Page[T], error) {
		if cursor != "" {
			q.Cursor = cursor
		}
		return n.List(ctx, q)
	})
}

// Count returns how many entities q selects.
func (n Nouns[T]) Count(ctx context.Context, q Query) (int64, error) { return n.count(ctx, q) }

// Create adds v and returns it as it was stored. A lost answer is not asked for again,
// because there would be two.
func (n Nouns[T]) Create(ctx context.Context, v T, opts ...WriteOption) (T, error) {
	w, err := n.create(ctx, wire[T]{v}, opts)
	return w.noun, err
}

// Put creates v, or makes the entity with the same external id, or else with the same
// natural key, equal to v.
func (n Nouns[T]) Put(ctx context.Context, v T, opts ...WriteOption) (T, error) {
	w, err := n.put(ctx, wire[T]{v}, opts)
	return w.noun, err
}

// Patch applies an RFC 7396 merge patch, in JSON.
func (n Nouns[T]) Patch(ctx context.Context, id int64, patch []byte, opts ...WriteOption) (T, error) {
	w, err := n.patch(ctx, id, patch, opts)
	return w.noun, err
}

// maxEdits bounds how often Edit reads again.
const maxEdits = 10

// Edit changes the entity with the id by calling edit on it, and sends what edit has
// changed. edit runs again when somebody else has changed the entity meanwhile, and its
// error is returned as it is. A secret that edit does not set stays as it is.
func (n Nouns[T]) Edit(ctx context.Context, id int64, edit func(*T) error, opts ...WriteOption) (v T, err error) {
	for range maxEdits {
		before, header, err := n.get(ctx, id)
		if err != nil {
			return v, err
		}
		after, err := before.clone()
		if err == nil {
			err = edit(&after.noun)
		}
		if err != nil {
			return v, err
		}
		patch, err := difference(before, after)
		if err != nil {
			return v, err
		}
		guard := func(w *write) { w.header.Set("If-Match", header.Get("ETag")); w.guarded = true }
		v, err = n.Patch(ctx, id, patch, append(opts[:len(opts):len(opts)], guard)...)
		if !errors.Is(err, catalog.ErrConflict) {
			return v, err
		}
	}
	return v, fmt.Errorf("%s %d changes all the time: %w", n.kind.Noun(), id, catalog.ErrConflict)
}

// Delete removes the entity with the id.
func (n Nouns[T]) Delete(ctx context.Context, id int64, opts ...WriteOption) error {
	return n.delete(ctx, id, opts)
}
