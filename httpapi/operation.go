package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humahttprouter"
	"github.com/julienschmidt/httprouter"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

func newAPI(router *httprouter.Router, version string) huma.API {
	if version == "" {
		version = "dev"
	}
	format := huma.Format{Marshal: marshal, Unmarshal: json.Unmarshal}
	return humahttprouter.New(router, huma.Config{
		OpenAPI:       newDocument(version),
		Formats:       map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{transform},
	})
}

// marshal writes JSON. That a client has gone is not an error worth a panic,
// which is what huma makes of one.
func marshal(w io.Writer, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, _ = w.Write(buf.Bytes())
	return nil
}

// What an operation's input and output may say about it, beside what huma reads
// off their fields.
type (
	bodied   interface{ body() *huma.RequestBody }
	answered interface{ answer() int } // status when all is well
	varied   interface {
		answers(map[string]*huma.Response)
	} // adds to the documented answers
)

// on registers an operation: who may use it, its method and path, its id, what
// it does, and how. See routes.go.
func on[I, O any](h *Handler, role Role, route, id, summary string, do func(context.Context, *I) (*O, error)) {
	method, path, _ := strings.Cut(route, " ")
	h.routes = append(h.routes, route)
	op := huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag(path, role)}}
	var in I
	var out O
	if o, ok := any(out).(answered); ok {
		op.DefaultStatus = o.answer()
	}
	secure(&op, role)
	op.Responses = map[string]*huma.Response{"default": problemResponse("What went wrong.")}
	if o, ok := any(out).(varied); ok {
		o.answers(op.Responses)
	}
	known := map[string]bool{}
	op.Middlewares = huma.Middlewares{h.entry(role, route, known)}
	huma.Register(h.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err != nil {
			return nil, h.problem(ctx, err)
		}
		return out, nil
	})
	documented := operationAt(h.api.OpenAPI(), method, path)
	for _, p := range documented.Parameters {
		if p.In == "query" {
			known[p.Name] = p.Explode != nil && *p.Explode
		}
	}
	if i, ok := any(in).(bodied); ok { // only now: huma would validate by it
		documented.RequestBody = i.body()
	}
	documentProblems(documented, role)
}

// tag groups operations: by what they are about, or as being about the server.
func tag(path string, role Role) string {
	if role == open {
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
		if err != nil {
			h.problem(r.Context(), err).write(w)
			return
		}
		next(huma.WithContext(ctx, entered))
	}
}

// checkQuery refuses parameters that an operation does not have: one that is
// misspelt must not go unnoticed. known says which may be repeated.
func checkQuery(r *http.Request, known map[string]bool) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || strings.Count(r.URL.RawQuery, "=") < strings.Count(r.URL.RawQuery, "&")+1 {
		return fmt.Errorf("the query must be name=value, joined by &: %w", request.ErrMalformed)
	}
	var errs catalog.FieldErrors
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if repeatable, ok := known[name]; !ok {
			errs = append(errs, &catalog.FieldError{Field: request.FieldName(name), Message: "is not a parameter of this operation"})
		} else if len(query[name]) > 1 && !repeatable {
			errs = append(errs, &catalog.FieldError{Field: name, Message: "must not be given twice"})
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// plain registers a handle that huma has no part in; the operation is what the
// OpenAPI document says about it.
func (h *Handler) plain(role Role, route string, op *huma.Operation, do func(http.ResponseWriter, *http.Request) error) {
	h.routes = append(h.routes, route)
	op.Method, op.Path, _ = strings.Cut(route, " ")
	secure(op, role)
	documentProblems(op, role)
	h.api.OpenAPI().AddOperation(op)
	h.router.Handle(op.Method, op.Path, func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
		exchangeOf(r.Context()).route = route
		ctx, err := h.enter(r, role)
		if err == nil {
			err = do(w, r.WithContext(ctx))
		}
		if err != nil {
			h.problem(ctx, err).write(w)
		}
	})
}
