package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

// noun is how one kind of entity is served. T is what is stored, V is what the API
// shows of it, and W is what it shows when the entity was made.
type noun[T catalog.Noun, V, W any] struct {
	*Handler
	table  catalog.Table[T]
	words  string   // for summaries: "an upstream provider"
	params []string // the query parameters that it has beside those of all nouns; see only

	read    func(context.Context, []T) []V // of entities that are read
	changed func(T) V                      // of an entity that was changed
	made    func(T) W                      // of an entity that was created, or put
}

// plainNoun is a noun of which everything is shown as it is stored.
func plainNoun[T catalog.Noun](h *Handler, t catalog.Table[T], words string, params ...string) noun[T, T, T] {
	asStored := func(v T) T { return v }
	return noun[T, T, T]{
		h, t, words, params, func(_ context.Context, vs []T) []T { return vs }, asStored, asStored,
	}
}

// serveNoun registers the six operations that every noun has. Their ids, paths and
// schemas follow from its name: listKeys, GET /keys, KeyCreate.
func serveNoun[T catalog.Noun, V, W any](n noun[T, V, W]) {
	kind := n.table.Kind()
	path, one := "/"+string(kind), "/"+string(kind)+"/{id}"
	name := nameOf(kind)
	whole := bodyOf(name+"Create", request.JSON)
	patch := bodyOf(name+"Patch", request.MergePatch, request.JSON)

	n.nouns = append(n.nouns, reflect.TypeFor[T]())

	handle(n.Handler, Viewer, "GET "+path, "list"+name+"s", "List "+string(kind), n.list, only(n.params))
	handle(n.Handler, Admin, "POST "+path, "create"+name, "Create "+n.words, n.create,
		takes(whole), answersCreated, fails(problemExists))
	handle(n.Handler, Admin, "PUT "+path, "put"+name, "Create "+n.words+", or make the stored one equal", n.put,
		takes(whole), only(n.params), answersCreatedOrOK, fails(problemExists), explains(putText))
	handle(n.Handler, Viewer, "GET "+one, "get"+name, "Show "+n.words, n.get, answersUnchanged)
	handle(n.Handler, Admin, "PATCH "+one, "patch"+name, "Change "+n.words, n.patch,
		takes(patch), only(n.params), fails(problemExists, problemReferenced), explains(patchText))
	handle(n.Handler, Admin, "DELETE "+one, "delete"+name, "Delete "+n.words, n.delete,
		answersNothing, only(n.params), fails(problemReferenced, problemProtected))
}

// nameOf returns the name of a noun in ids of operations and in schemas: "Key".
func nameOf(kind catalog.Kind) string {
	word := kind.Noun()
	return strings.ToUpper(word[:1]) + word[1:]
}

const (
	putText = "The stored resource is found by external_id, or else by the fields that make it unique. " +
		"Fields that are left out get their defaults, but a secret and tokens stay as they are."
	patchText = "The body is a merge patch (RFC 7396). A field that it does not name stays as it is, " +
		"null restores the default, objects are merged, and arrays are replaced."
)

// listBytes is how many bytes end a page of a list. Each resource may have more than a MiB.
const listBytes = 4 << 20

// listing selects what a list shows.
type listing struct{ request.List }

// page answers with a part of a list that nobody counts.
type page[V any] struct {
	Body struct {
		Data       []V    `json:"data" doc:"What this page has."`
		NextCursor string `json:"next_cursor,omitempty" doc:"The cursor of the next page. The last page has none."`
	}
}

// listed answers with a part of a list of entities.
type listed[V any] struct {
	Body struct {
		Data       []V    `json:"data" doc:"The resources of this page, which ends at 4 MiB."`
		NextCursor string `json:"next_cursor,omitempty" doc:"The cursor of the next page. The last page has none."`
		Total      *int64 `json:"total,omitempty" minimum:"0" doc:"With count=true: how many resources all pages have."`
	}
}

func (n noun[T, V, W]) list(ctx context.Context, in *listing) (*listed[V], error) {
	q, err := in.Query()
	if n.table.Kind() == catalog.KindProject {
		q.KeyUnder = in.Project
	} else {
		q.RefUnder = in.Project
	}
	if err != nil {
		return nil, err
	}
	all, more, err := n.table.Page(ctx, q, listBytes)
	if err != nil {
		return nil, err
	}
	out := &listed[V]{}
	if more {
		out.Body.NextCursor = request.Cursor(n.table.Meta(all[len(all)-1]).ID)
	}
	out.Body.Data = append([]V{}, n.read(ctx, all)...)
	if in.Count {
		total, err := n.table.Count(ctx, q)
		out.Body.Total = &total
		return out, err
	}
	return out, nil
}

// shown answers with an entity.
type shown[V any] struct {
	ETag string `header:"ETag" doc:"The revision of the resource, in quotes."`
	request.Progress
	Body V
}

type getting struct {
	request.ID
	request.Seen
}

// found answers with an entity, or only says that it is the one that the reader has.
type found[V any] struct {
	Status int
	ETag   string `header:"ETag" doc:"The revision of the resource, in quotes."`
	Body   V
}

func (n noun[T, V, W]) get(ctx context.Context, in *getting) (*found[V], error) {
	id, err := in.Number()
	if err != nil {
		return nil, err
	}
	v, err := n.table.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	out := &found[V]{Status: http.StatusNotModified, ETag: request.ETag(n.table.Meta(v).Revision)}
	if !in.Has(out.ETag) {
		out.Status, out.Body = http.StatusOK, n.read(ctx, []T{v})[0]
	}
	return out, nil
}

// madeAnswer answers with an entity that is new, or may be.
type madeAnswer[W any] struct {
	Status   int
	ETag     string `header:"ETag" doc:"The revision of the resource, in quotes."`
	Location string `header:"Location" doc:"Where the resource is, relative to this document."`
	request.Progress
	Body W
}

type creating struct {
	request.Wait
	Content request.Body
}

func (n noun[T, V, W]) create(ctx context.Context, in *creating) (*madeAnswer[W], error) {
	wait, err := in.Wait.Limit()
	if err != nil {
		return nil, err
	}
	v, err := decodeNoun[T](&in.Content)
	if err != nil {
		return nil, err
	}
	if v, err = n.table.Create(ctx, v); err != nil {
		return nil, err
	}
	return n.answerMade(ctx, http.StatusCreated, v, in.Wait.Wait, wait), nil
}

type putting struct {
	request.Match
	request.Absence
	request.Wait
	request.Cascade
	Content request.Body
}

func (n noun[T, V, W]) put(ctx context.Context, in *putting) (*madeAnswer[W], error) {
	match, err := in.Absence.Revision(in.Match)
	if err != nil {
		return nil, err
	}
	wait, err := in.Wait.Limit()
	if err != nil {
		return nil, err
	}
	v, err := decodeNoun[T](&in.Content)
	if err != nil {
		return nil, err
	}
	v, created, err := n.table.Upsert(in.Cascade.In(ctx), v, match)
	if err != nil {
		return nil, matched(match, err)
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return n.answerMade(ctx, status, v, in.Wait.Wait, wait), nil
}

func (n noun[T, V, W]) answerMade(
	ctx context.Context, status int, v T, until string, limit time.Duration,
) *madeAnswer[W] {
	m := n.table.Meta(v)
	out := &madeAnswer[W]{Status: status, ETag: request.ETag(m.Revision), Body: n.made(v)}
	out.Location = fmt.Sprintf("%s/%d", n.table.Kind(), m.ID)
	out.Progress = n.follow(ctx, until, limit, m.Revision)
	return out
}

type patching struct {
	request.ID
	request.Match
	request.Wait
	request.Cascade
	Content request.Body
}

func (n noun[T, V, W]) patch(ctx context.Context, in *patching) (*shown[V], error) {
	id, match, wait, err := aim(in.ID, in.Match, in.Wait)
	if err != nil {
		return nil, err
	}
	data, err := in.Content.Bytes(request.MergePatch, request.JSON)
	if err != nil {
		return nil, err
	}
	v, err := n.table.Patch(in.Cascade.In(ctx), id, match, data)
	if err != nil {
		return nil, matched(match, err)
	}
	revision := n.table.Meta(v).Revision
	out := &shown[V]{ETag: request.ETag(revision), Body: n.changed(v)}
	out.Progress = n.follow(ctx, in.Wait.Wait, wait, revision)
	return out, nil
}

type deleting struct {
	request.ID
	request.Match
	request.Wait
	request.Cascade
}

// deleted answers that an entity was deleted.
type deleted struct{ request.Progress }

func (n noun[T, V, W]) delete(ctx context.Context, in *deleting) (*deleted, error) {
	id, match, wait, err := aim(in.ID, in.Match, in.Wait)
	if err != nil {
		return nil, err
	}
	revision, err := n.table.Delete(in.Cascade.In(ctx), id, match)
	if err != nil {
		return nil, matched(match, err)
	}
	return &deleted{n.follow(ctx, in.Wait.Wait, wait, revision)}, nil
}

// decodeNoun reads the body that describes a whole entity.
func decodeNoun[T catalog.Noun](body *request.Body) (v T, err error) {
	data, err := body.Bytes(request.JSON)
	if err != nil {
		return v, err
	}
	return catalog.Decode[T](data)
}

// aim reads what the writes to one entity have in common.
func aim(id request.ID, m request.Match, w request.Wait) (n int64, match catalog.Revision, wait time.Duration,
	err error) {
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
func matched(match catalog.Revision, err error) error {
	switch {
	case match == 0 || !errors.Is(err, catalog.ErrConflict):
		return err
	case match == catalog.NoRevision:
		return fmt.Errorf("%w: %w", errAlreadyThere, err)
	}
	return fmt.Errorf("%w: %w", errPrecondition, err)
}
