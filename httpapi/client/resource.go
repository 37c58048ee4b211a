package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ez-api/ez-api/catalog"
)

// Query selects entities. Zero fields do not restrict.
type Query struct {
	Name       string
	Text       string // a part of the name or of the external id, in any case
	ExternalID string
	Status     catalog.Status
	Group      string
	Namespace  string
	Project    string            // with all below it
	Target     string            // of holds; that of a provider has those of its models
	Reason     string            // of holds
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
	setTexts(v, map[string]string{
		"name": q.Name, "q": q.Text, "external_id": q.ExternalID, "status": string(q.Status), "group": q.Group,
		"namespace": q.Namespace, "project": q.Project, "target": q.Target, "reason": q.Reason, "cursor": q.Cursor,
	})
	for name, value := range q.Labels {
		v.Add("label", name+"="+value)
	}
	setNumbers(v, map[string]int64{"limit": int64(q.Limit)})
	return v
}

// setTexts adds the parameters that are not empty.
func setTexts(v url.Values, texts map[string]string) {
	for name, value := range texts {
		if value != "" {
			v.Set(name, value)
		}
	}
}

// setNumbers adds the parameters that are positive.
func setNumbers(v url.Values, numbers map[string]int64) {
	for name, value := range numbers {
		if value > 0 {
			v.Set(name, strconv.FormatInt(value, 10))
		}
	}
}

// resource has the operations that all nouns have. W is what one entity is read into and
// written from.
type resource[W any] struct {
	client *Client
	kind   catalog.Kind
}

func (r resource[W]) path(id int64) string { return string(r.kind) + "/" + strconv.FormatInt(id, 10) }

// one calls an operation that answers with an entity.
func (r resource[W]) one(ctx context.Context, op call, w *write) (out W, header http.Header, err error) {
	if w != nil {
		op.query, op.header = w.query, w.header
	}
	header, err = r.client.do(ctx, op, &out)
	if err == nil && w != nil {
		w.done(header)
	}
	return out, header, err
}

func (r resource[W]) get(ctx context.Context, id int64) (W, http.Header, error) {
	return r.one(ctx, call{method: http.MethodGet, path: r.path(id), again: againAlways}, nil)
}

func (r resource[W]) list(ctx context.Context, q Query) (Page[W], error) {
	return getPage[W](ctx, r.client, string(r.kind), q.values())
}

func (r resource[W]) count(ctx context.Context, q Query) (int64, error) {
	q.Limit, q.Cursor = 1, ""
	query := q.values()
	query.Set("count", "true")
	var out struct{ Total int64 }
	_, err := r.client.do(ctx, call{method: http.MethodGet, path: string(r.kind), query: query, again: againAlways}, &out)
	return out.Total, err
}

func (r resource[W]) create(ctx context.Context, v W, opts []WriteOption) (W, error) {
	out, _, err := r.one(ctx, call{method: http.MethodPost, path: string(r.kind), body: v}, newWrite(opts))
	return out, err
}

func (r resource[W]) put(ctx context.Context, v W, opts []WriteOption) (W, error) {
	w, harmless := newWrite(opts), againAlways
	if r.kind.HasTokens() { // only the answer to the request that creates it has the token
		harmless = againUndone
	}
	out, _, err := r.one(ctx, call{
		method: http.MethodPut, path: string(r.kind), body: v, again: w.again(harmless),
	}, w)
	return out, err
}

func (r resource[W]) patch(ctx context.Context, id int64, patch []byte, opts []WriteOption) (W, error) {
	w := newWrite(opts)
	w.header.Set("Content-Type", mergePatch)
	out, _, err := r.one(ctx, call{
		method: http.MethodPatch, path: r.path(id), body: patch, again: w.again(againAlways),
	}, w)
	return out, err
}

func (r resource[W]) delete(ctx context.Context, id int64, opts []WriteOption) error {
	w := newWrite(opts)
	header, err := r.client.do(ctx, call{
		method: http.MethodDelete, path: r.path(id), query: w.query, header: w.header, again: w.again(againOrGone),
	}, nil)
	if err == nil {
		w.done(header)
	}
	return err
}

// getPage reads a page of anything.
func getPage[T any](ctx context.Context, c *Client, path string, query url.Values) (Page[T], error) {
	var out struct {
		Data []T    `json:"data"`
		Next string `json:"next_cursor"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query, again: againAlways}, &out)
	return Page[T]{out.Data, out.Next}, err
}

// pages iterates over what all pages have.
func pages[T any](list func(cursor string) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := ""; ; {
			page, err := list(cursor)
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
			if cursor = page.Next; cursor == "" {
				return
			}
		}
	}
}
