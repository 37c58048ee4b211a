package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

// shown answers with an entity.
type shown[T any] struct {
	ETag  string `header:"ETag"`
	Sync  string `header:"EZ-Sync"`
	Nodes string `header:"EZ-Sync-Nodes"`
	Body  T
}

// created answers with an entity that is new.
type created[T any] struct {
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Sync     string `header:"EZ-Sync"`
	Nodes    string `header:"EZ-Sync-Nodes"`
	Body     T
}

func (created[T]) answer() int { return http.StatusCreated }

// gone answers that an entity is no more.
type gone struct {
	Sync  string `header:"EZ-Sync"`
	Nodes string `header:"EZ-Sync-Nodes"`
}

// page answers with a part of a list.
type page[T any] struct {
	Body struct {
		Data       []T    `json:"data"`
		NextCursor string `json:"next_cursor,omitempty" doc:"Leads to the next page; absent on the last."`
	}
}

// lister is the input of a list: what it selects.
type lister interface {
	query() (catalog.Query, error)
}

type (
	listProviders struct {
		request.List
		request.Group
	}
	listModels struct {
		request.List
		request.Namespace
	}
	listScoped struct { // bindings and keys, which have both
		request.List
		request.Group
		request.Namespace
	}
)

func (in listProviders) query() (catalog.Query, error) { return in.Query(in.Group.Group, "") }
func (in listModels) query() (catalog.Query, error)    { return in.Query("", in.Namespace.Namespace) }
func (in listScoped) query() (catalog.Query, error) {
	return in.Query(in.Group.Group, in.Namespace.Namespace)
}

type (
	getting                  struct{ request.ID }
	creating[T catalog.Noun] struct {
		request.Wait
		Content request.Body
	}
	patching[T catalog.Noun] struct {
		request.ID
		request.Match
		request.Wait
		Content request.Body
	}
	deleting struct {
		request.ID
		request.Match
		request.Wait
	}
)

func (creating[T]) body() *huma.RequestBody { return bodyOf(schemaOf[T]()+"Create", request.JSON) }

func (patching[T]) body() *huma.RequestBody {
	return bodyOf(schemaOf[T]()+"Patch", request.MergePatch, request.JSON)
}

// create adds what the body describes. show makes the answer of what was created.
func create[T catalog.Noun, B any](h *Handler, t catalog.Table[T], show func(T) B) func(context.Context, *creating[T]) (*created[B], error) {
	return func(ctx context.Context, in *creating[T]) (*created[B], error) {
		wait, err := in.Wait.Limit()
		if err != nil {
			return nil, err
		}
		data, err := in.Content.Bytes(request.JSON)
		if err != nil {
			return nil, err
		}
		v, err := catalog.Decode[T](data)
		if err == nil {
			v, err = t.Create(ctx, v)
		}
		if err != nil {
			return nil, err
		}
		m := metaOf(&v)
		out := &created[B]{ETag: request.ETag(m.Revision), Body: show(v)}
		out.Location = fmt.Sprintf("%s/%d", kindOf[T](), m.ID)
		out.Sync, out.Nodes = h.follow(ctx, in.Wait.Wait, wait, m.Revision)
		return out, nil
	}
}

// list answers with a page. show makes what is shown of the entities on it.
func list[T catalog.Noun, I lister, B any](t catalog.Table[T], show func(context.Context, []T) []B) func(context.Context, *I) (*page[B], error) {
	return func(ctx context.Context, in *I) (*page[B], error) {
		q, err := (*in).query()
		if err != nil {
			return nil, err
		}
		limit := q.Limit
		q.Limit++ // one more tells whether there is a next page
		all, err := t.List(ctx, q)
		if err != nil {
			return nil, err
		}
		out := &page[B]{}
		if len(all) > limit {
			all = all[:limit]
			out.Body.NextCursor = request.Cursor(metaOf(&all[limit-1]).ID)
		}
		out.Body.Data = append([]B{}, show(ctx, all)...)
		return out, nil
	}
}

func get[T catalog.Noun, B any](t catalog.Table[T], show func(context.Context, []T) []B) func(context.Context, *getting) (*shown[B], error) {
	return func(ctx context.Context, in *getting) (*shown[B], error) {
		id, err := in.Number()
		if err != nil {
			return nil, err
		}
		v, err := t.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		return &shown[B]{ETag: request.ETag(metaOf(&v).Revision), Body: show(ctx, []T{v})[0]}, nil
	}
}

func patch[T catalog.Noun](h *Handler, t catalog.Table[T]) func(context.Context, *patching[T]) (*shown[T], error) {
	return func(ctx context.Context, in *patching[T]) (*shown[T], error) {
		id, match, wait, err := aim(in.ID, in.Match, in.Wait)
		if err != nil {
			return nil, err
		}
		data, err := in.Content.Bytes(request.MergePatch, request.JSON)
		if err != nil {
			return nil, err
		}
		v, err := t.Patch(ctx, id, match, data)
		if err != nil {
			return nil, matched(in.Match, err)
		}
		revision := metaOf(&v).Revision
		out := &shown[T]{ETag: request.ETag(revision), Body: v}
		out.Sync, out.Nodes = h.follow(ctx, in.Wait.Wait, wait, revision)
		return out, nil
	}
}

func remove[T catalog.Noun](h *Handler, t catalog.Table[T]) func(context.Context, *deleting) (*gone, error) {
	return func(ctx context.Context, in *deleting) (*gone, error) {
		id, match, wait, err := aim(in.ID, in.Match, in.Wait)
		if err != nil {
			return nil, err
		}
		revision, err := t.Delete(ctx, id, match)
		if err != nil {
			return nil, matched(in.Match, err)
		}
		out := &gone{}
		out.Sync, out.Nodes = h.follow(ctx, in.Wait.Wait, wait, revision)
		return out, nil
	}
}

// A keyWithToken is a key in the two answers that hold its token.
type keyWithToken struct {
	catalog.Key
	Token string `json:"token"`
}

func withToken(k catalog.Key) keyWithToken { return keyWithToken{k, k.Token.Reveal()} }

type rotating struct {
	request.ID
	request.Match
	request.Wait
	Content request.Body
}

// rotation is the body of a rotation; there may be none.
type rotation struct {
	GraceSeconds int64 `json:"grace_seconds,omitempty" minimum:"0" maximum:"2592000" default:"0" doc:"How long the tokens that are current stay valid."`
}

func (rotating) body() *huma.RequestBody {
	b := bodyOf("Rotation", request.JSON)
	b.Required = false
	return b
}

func (h *Handler) rotate(ctx context.Context, in *rotating) (*shown[keyWithToken], error) {
	id, match, wait, err := aim(in.ID, in.Match, in.Wait)
	if err != nil {
		return nil, err
	}
	var r rotation
	if !in.Content.Empty() {
		if err := in.Content.Decode(&r); err != nil {
			return nil, err
		}
	}
	key, err := h.plane.Keys.Rotate(ctx, id, grace(r.GraceSeconds), match)
	if err != nil {
		return nil, matched(in.Match, err)
	}
	out := &shown[keyWithToken]{ETag: request.ETag(key.Revision), Body: withToken(key)}
	out.Sync, out.Nodes = h.follow(ctx, in.Wait.Wait, wait, key.Revision)
	return out, nil
}

// aim reads what the writes to one entity have in common.
func aim(id request.ID, m request.Match, w request.Wait) (n int64, match catalog.Revision, wait time.Duration, err error) {
	if n, err = id.Number(); err != nil {
		return
	}
	if match, err = m.Revision(); err != nil {
		return
	}
	wait, err = w.Limit()
	return
}

// matched tells a precondition of the caller's from a conflict between writers.
func matched(m request.Match, err error) error {
	if m.Given() && errors.Is(err, catalog.ErrConflict) {
		return fmt.Errorf("%w: %w", errPrecondition, err)
	}
	return err
}

// grace makes a duration of seconds, out of range when they are.
func grace(seconds int64) time.Duration {
	if seconds < 0 || seconds > int64(catalog.MaxGrace/time.Second) {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

func same[T any](v T) T { return v }

func asTheyAre[T any](_ context.Context, vs []T) []T { return vs }

// metaOf returns what all nouns have.
func metaOf[T catalog.Noun](v *T) catalog.Meta {
	switch v := any(v).(type) {
	case *catalog.Provider:
		return v.Meta
	case *catalog.Model:
		return v.Meta
	case *catalog.Binding:
		return v.Meta
	case *catalog.Key:
		return v.Meta
	}
	return catalog.Meta{}
}

func kindOf[T catalog.Noun]() catalog.Kind {
	switch any(*new(T)).(type) {
	case catalog.Provider:
		return catalog.KindProvider
	case catalog.Model:
		return catalog.KindModel
	case catalog.Binding:
		return catalog.KindBinding
	}
	return catalog.KindKey
}
