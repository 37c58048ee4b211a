package httpapi

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humahttprouter"
	"github.com/julienschmidt/httprouter"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

// detail completes what the OpenAPI document says of an operation; see details.go.
type detail func(*huma.Operation)

// handle registers an operation: who may use it, its method and path, its id, what it
// does, how, and what else the OpenAPI document says. See routes.go.
func handle[I, O any](
	h *Handler, role Role, route, id, summary string, do func(context.Context, *I) (*O, error), details ...detail,
) {
	method, path, _ := strings.Cut(route, " ")
	h.routes = append(h.routes, route)
	op := huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag(path, role)}}
	op.Responses = map[string]*huma.Response{"default": problemResponse("Any other problem.")}
	h.secure(&op, role)
	known := map[string]bool{} // filled in below: see queryOf
	op.Middlewares = huma.Middlewares{h.entry(role, route, known)}
	huma.Register(h.api, op, func(ctx context.Context, in *I) (*O, error) {
		var w warnings
		out, err := do(w.withWarnings(ctx), in)
		if err != nil {
			return nil, h.problem(ctx, err)
		}
		w.addTo(exchangeOf(ctx).Header())
		return out, nil
	})
	documented := operationAt(h.api.OpenAPI(), method, path)
	for _, d := range details { // only now: huma would validate bodies by them
		d(documented)
	}
	maps.Copy(known, queryOf(documented))
	documentProblems(documented, role)
	if role == Admin && method != http.MethodGet {
		documentWarnings(documented)
	}
}

// queryOf returns the query parameters of an operation, and whether they may be repeated.
func queryOf(op *huma.Operation) map[string]bool {
	known := map[string]bool{}
	for _, p := range op.Parameters {
		if p.In == "query" {
			known[p.Name] = p.Explode != nil && *p.Explode
		}
	}
	return known
}

// plain registers a handle that huma has no part in; the operation is what the
// OpenAPI document says about it.
func (h *Handler) plain(role Role, route string, op *huma.Operation,
	do func(http.ResponseWriter, *http.Request) error) {
	h.routes = append(h.routes, route)
	op.Method, op.Path, _ = strings.Cut(route, " ")
	h.secure(op, role)
	documentProblems(op, role)
	h.api.OpenAPI().AddOperation(op)
	known := queryOf(op)
	h.router.Handle(op.Method, op.Path, func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
		exchangeOf(r.Context()).route = route
		ctx, err := h.enter(r, role)
		if err == nil {
			err = checkQuery(r, known)
		}
		if err == nil {
			err = do(w, r.WithContext(ctx))
		}
		if err != nil {
			h.problem(ctx, err).write(w)
		}
	})
}

// tag groups operations: by what they are about, or as being about the server.
func tag(path string, role Role) string {
	if role == everybody {
		return "server"
	}
	return strings.Split(path, "/")[1]
}

// entry is what every request to an operation passes: its role, and whether it
// asks for something that is not there.
func (h *Handler) entry(role Role, route string, known map[string]bool) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w, _ := humahttprouter.Unwrap(ctx)
		exchangeOf(r.Context()).route = route
		entered, err := h.enter(r, role)
		if err == nil {
			err = checkQuery(r, known)
		}
		if err == nil {
			err = request.CheckMatch(r.Header)
		}
		if err != nil {
			h.problem(r.Context(), err).write(w)
			return
		}
		next(huma.WithContext(ctx, entered))
	}
}

// trees is where operations are registered. The router takes no literal segment beside
// a parameter, such as /keys/lookup beside /keys/{id}: those have a tree of their own,
// which is asked first.
type trees struct {
	huma.Adapter // for all others
	literal      huma.Adapter
	literals     map[string]bool // its paths
}

// Handle implements [huma.Adapter].
func (t trees) Handle(op *huma.Operation, handler func(huma.Context)) {
	if isBesideID(op.Path) {
		t.literals[op.Path] = true
		t.literal.Handle(op, handler)
		return
	}
	t.Adapter.Handle(op, handler)
}

// isBesideID reports whether a path has a word where an entity's id stands in others.
func isBesideID(path string) bool {
	parts := strings.Split(path, "/")
	return len(parts) == 3 && !strings.HasPrefix(parts[2], "{") && slices.Contains(catalog.Kinds(), catalog.Kind(parts[1]))
}
