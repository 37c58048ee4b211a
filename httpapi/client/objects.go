package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Object is an entity in the JSON form of the API: all that the server shows of it.
type Object = json.RawMessage

// Objects are the entities of any noun in their JSON form, for programs that treat all
// nouns alike. See [Nouns] for what the methods do.
type Objects struct{ resource[Object] }

// Objects returns the entities of a kind.
func (c *Client) Objects(kind catalog.Kind) Objects { return Objects{resource[Object]{c, kind}} }

// Kind returns the kind of the entities.
func (o Objects) Kind() catalog.Kind { return o.kind }

// Get returns the entity with the id, or an error that matches catalog.ErrNotFound.
func (o Objects) Get(ctx context.Context, id int64) (Object, error) {
	v, _, err := o.get(ctx, id)
	return v, err
}

// List returns a page of the entities that q selects, in order of id.
func (o Objects) List(ctx context.Context, q Query) (Page[Object], error) { return o.list(ctx, q) }

// All iterates over all entities that q selects, page by page.
func (o Objects) All(ctx context.Context, q Query) iter.Seq2[Object, error] {
	return pages(func(cursor string) (Page[Object], error) {
		if cursor != "" {
			q.Cursor = cursor
		}
		return o.List(ctx, q)
	})
}

// Create adds v.
func (o Objects) Create(ctx context.Context, v Object, opts ...WriteOption) (Object, error) {
	return o.create(ctx, v, opts)
}

// Patch applies an RFC 7396 merge patch, in JSON.
func (o Objects) Patch(ctx context.Context, id int64, patch []byte, opts ...WriteOption) (Object, error) {
	return o.patch(ctx, id, patch, opts)
}

// Delete removes the entity with the id.
func (o Objects) Delete(ctx context.Context, id int64, opts ...WriteOption) error {
	return o.delete(ctx, id, opts)
}

// Rotate gives the entity with the id a new token. It is in the member token of the answer
// and nowhere else. See [Keys.Rotate].
func (o Objects) Rotate(ctx context.Context, id int64, grace time.Duration, opts ...WriteOption) (Object, error) {
	v, _, err := o.rotate(ctx, id, grace, opts)
	return v, err
}

func (r resource[W]) rotate(ctx context.Context, id int64, grace time.Duration, opts []WriteOption) (
	W, http.Header, error,
) {
	body := struct {
		GraceSeconds int64 `json:"grace_seconds"`
	}{int64(grace / time.Second)}
	return r.one(ctx, call{method: http.MethodPost, path: r.path(id) + "/rotate", body: body}, newWrite(opts))
}
