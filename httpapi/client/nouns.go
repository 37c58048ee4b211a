package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ez-api/ez-api/catalog"
)

// Nouns are the entities of one noun. It is the catalog.Table of a Plane, over HTTP.
type Nouns[T catalog.Noun] struct {
	client *Client
	kind   catalog.Kind
}

// Query selects entities. Zero fields do not restrict.
type Query struct {
	Name       string
	Text       string // a part of the name or of the external id, in any case
	ExternalID string
	Status     catalog.Status
	Group      string
	Namespace  string
	Labels     map[string]string // has all of these
	Limit      int               // of one page; 0 is the server's default
	Cursor     string            // Next of the page before
}

// Page is a part of a list.
type Page[T any] struct {
	Data []T
	Next string // the Cursor of the next page; empty on the last
}

func (q Query) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{
		"name": q.Name, "q": q.Text, "external_id": q.ExternalID, "status": string(q.Status), "group": q.Group,
		"namespace": q.Namespace, "cursor": q.Cursor,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, value := range q.Labels {
		v.Add("label", name+"="+value)
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// Get returns the entity with the id, or an error that matches catalog.ErrNotFound.
func (n Nouns[T]) Get(ctx context.Context, id int64) (T, error) {
	return n.one(ctx, call{method: http.MethodGet, path: n.path(id), again: againAlways}, nil)
}

// List returns a page of the entities that q selects, in order of id.
func (n Nouns[T]) List(ctx context.Context, q Query) (Page[T], error) {
	var out struct {
		Data []wire[T] `json:"data"`
		Next string    `json:"next_cursor"`
	}
	_, err := n.client.do(ctx, call{method: http.MethodGet, path: string(n.kind), query: q.values(),
		again: againAlways}, &out)
	page := Page[T]{Next: out.Next}
	for _, w := range out.Data {
		page.Data = append(page.Data, w.noun)
	}
	return page, err
}

// All iterates over all entities that q selects, page by page.
func (n Nouns[T]) All(ctx context.Context, q Query) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			page, err := n.List(ctx, q)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, v := range page.Data {
				if !yield(v, nil) {
					return
				}
			}
			if q.Cursor = page.Next; q.Cursor == "" {
				return
			}
		}
	}
}

// Count returns how many entities q selects.
func (n Nouns[T]) Count(ctx context.Context, q Query) (int64, error) {
	q.Limit, q.Cursor = 1, ""
	query := q.values()
	query.Set("count", "true")
	var out struct{ Total int64 }
	_, err := n.client.do(ctx, call{method: http.MethodGet, path: string(n.kind), query: query, again: againAlways}, &out)
	return out.Total, err
}

// Create adds v and returns it as it was stored. A lost answer is not asked for again,
// because there would be two.
func (n Nouns[T]) Create(ctx context.Context, v T, opts ...WriteOption) (T, error) {
	return n.one(ctx, call{method: http.MethodPost, path: string(n.kind), body: wire[T]{v}}, newWrite(opts))
}

// Put creates v, or makes the entity with the same external id, or else with the same
// natural key, equal to v.
func (n Nouns[T]) Put(ctx context.Context, v T, opts ...WriteOption) (T, error) {
	w := newWrite(opts)
	return n.one(ctx, call{method: http.MethodPut, path: string(n.kind), body: wire[T]{v}, again: w.again(againAlways)}, w)
}

// Patch applies an RFC 7396 merge patch, in JSON.
func (n Nouns[T]) Patch(ctx context.Context, id int64, patch []byte, opts ...WriteOption) (T, error) {
	w := newWrite(opts)
	w.header.Set("Content-Type", mergePatch)
	return n.one(ctx, call{method: http.MethodPatch, path: n.path(id), body: patch, again: w.again(againAlways)}, w)
}

// maxEdits bounds how often Edit reads again.
const maxEdits = 10

// Edit changes the entity with the id by calling edit on it, and sends what edit has
// changed. edit runs again when somebody else has changed the entity meanwhile, and its
// error is returned as it is. A secret that edit does not set stays as it is.
func (n Nouns[T]) Edit(ctx context.Context, id int64, edit func(*T) error, opts ...WriteOption) (v T, err error) {
	for range maxEdits {
		var before, after wire[T]
		read := call{method: http.MethodGet, path: n.path(id), again: againAlways}
		header, err := n.client.do(ctx, read, &before)
		if err != nil {
			return v, err
		}
		after, err = before.clone()
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
	w := newWrite(opts)
	header, err := n.client.do(ctx, call{
		method: http.MethodDelete, path: n.path(id), query: w.query, header: w.header, again: w.again(againOrGone),
	}, nil)
	if err == nil {
		w.done(header)
	}
	return err
}

func (n Nouns[T]) path(id int64) string { return string(n.kind) + "/" + strconv.FormatInt(id, 10) }

// one calls an operation that answers with an entity.
func (n Nouns[T]) one(ctx context.Context, op call, w *write) (T, error) {
	if w != nil {
		op.query, op.header = w.query, w.header
	}
	var out wire[T]
	header, err := n.client.do(ctx, op, &out)
	if err == nil && w != nil {
		w.done(header)
	}
	return out.noun, err
}
