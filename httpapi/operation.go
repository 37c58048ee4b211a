package httpapi

import (
	"context"
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
	known := &allowed{} // filled in below: see allowedBy
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
	*known = allowedBy(documented)
	documentProblems(documented, role)
	if role == Admin && method != http.MethodGet {
		documentWarnings(documented)
	}
}

// allowed is what requests to an operation may have beside a path and a body.
type allowed struct {
	query   map[string]bool // the parameters, and whether they may be repeated
	headers map[string]bool
}

func allowedBy(op *huma.Operation) allowed {
	known := allowed{map[string]bool{}, map[string]bool{}}
	for _, p := range op.Parameters {
		switch p.In {
		case "query":
			known.query[p.Name] = p.Explode != nil && *p.Explode
		case "header":
			known.headers[p.Name] = true
		}
	}
	return known
}

// check refuses a request with a parameter or a precondition that the operation does not have.
func (a *allowed) check(r *http.Request) error {
	if err := checkQuery(r, a.query); err != nil {
		return err
	}
	return request.CheckPreconditions(r, a.headers)
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
	known := allowedBy(op)
	h.router.Handle(op.Method, op.Path, func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
		exchangeOf(r.Context()).route = route
		ctx, err := h.enter(r, role)
		if err == nil {
			err = known.check(r)
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
func (h *Handler) entry(role Role, route string, known *allowed) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w, _ := humahttprouter.Unwrap(ctx)
		exchangeOf(r.Context()).route = route
		entered, err := h.enter(r, role)
		if err == nil {
			err = known.check(r)
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
