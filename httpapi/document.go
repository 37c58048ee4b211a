package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

const (
	schemaPrefix = "#/components/schemas/"
	securityName = "bearer"
)

// newDocument returns the OpenAPI document, without operations.
func newDocument(version string) *huma.OpenAPI {
	registry := huma.NewMapRegistry(schemaPrefix, huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[catalog.Secret](), reflect.TypeFor[string]())
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "EZ-API", Version: version, License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			Description: "The control plane of an AI gateway. Errors are problem documents (RFC 9457). " +
				"HEAD works wherever GET does. Roles: admin may do all; viewer reads; balancer reads snapshots, posts logs and reports.",
		},
		Servers: []*huma.Server{{URL: ".", Description: "Wherever this document is."}},
		Components: &huma.Components{
			Schemas: registry,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				securityName: {Type: "http", Scheme: "bearer", Description: "A token of the role that the operation names."},
			},
		},
	}
}

func refTo(schema string) *huma.Schema { return &huma.Schema{Ref: schemaPrefix + schema} }

func schemaOf[T any]() string { return reflect.TypeFor[T]().Name() }

// secure documents which role an operation takes.
func secure(op *huma.Operation, role Role) {
	if role == open {
		op.Description = "Open to everybody."
		op.Security = []map[string][]string{}
		return
	}
	op.Description = "Role: " + string(role) + "."
	if role != Admin {
		op.Description = "Role: " + string(role) + ", or admin."
	}
	op.Security = []map[string][]string{{securityName: {}}}
}

func problemResponse(description string) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{problemType: {Schema: refTo("Problem")}}}
}

// documentProblems says which problems an operation may answer with, beside
// those that any may.
func documentProblems(op *huma.Operation, role Role) {
	add := func(statuses ...int) {
		for _, status := range statuses {
			if code := strconv.Itoa(status); op.Responses[code] == nil {
				op.Responses[code] = problemResponse(http.StatusText(status))
			}
		}
	}
	if role != open {
		add(http.StatusUnauthorized, http.StatusForbidden)
	}
	for _, p := range op.Parameters {
		switch {
		case p.In == "path":
			add(http.StatusNotFound)
		case p.In == "query":
			add(http.StatusBadRequest, http.StatusUnprocessableEntity)
		case p.Name == "If-Match":
			add(http.StatusPreconditionFailed)
		}
	}
	if op.RequestBody != nil {
		add(http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity)
	}
	if op.Method == http.MethodDelete {
		add(http.StatusConflict)
	}
}

func bodyOf(schema string, types ...string) *huma.RequestBody {
	b := &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	for _, t := range types {
		b.Content[t] = &huma.MediaType{Schema: refTo(schema)}
	}
	return b
}

// operationAt finds a documented operation.
func operationAt(doc *huma.OpenAPI, method, path string) *huma.Operation {
	item := doc.Paths[path]
	switch method {
	case http.MethodGet:
		return item.Get
	case http.MethodPost:
		return item.Post
	case http.MethodPatch:
		return item.Patch
	default:
		return item.Delete
	}
}

// ingestOperation documents POST /logs, of which huma knows nothing.
func ingestOperation() *huma.Operation {
	lines := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: "One entry a line."}}
	return &huma.Operation{
		OperationID: "createLogs", Summary: "Take access logs", Tags: []string{"logs"},
		Parameters: []*huma.Param{{
			Name: "Content-Encoding", In: "header", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"gzip", "zstd"}},
		}},
		RequestBody: &huma.RequestBody{
			Required:    true,
			Description: "At most 10,000 entries and 8 MiB after decompression. Fields that are not known are ignored.",
			Content: map[string]*huma.MediaType{
				request.JSON: {Schema: &huma.Schema{OneOf: []*huma.Schema{
					refTo("LogEntry"), {Type: huma.TypeArray, Items: refTo("LogEntry")},
				}}},
				"application/x-ndjson": lines,
			},
		},
		Responses: map[string]*huma.Response{
			"202": {
				Description: "The valid entries are taken, all of them. The others are listed.",
				Content:     map[string]*huma.MediaType{request.JSON: {Schema: refTo("Accepted")}},
			},
			"429":     withHeader(problemResponse("There is no room: nothing was taken."), "Retry-After", "Seconds to wait."),
			"default": problemResponse("What went wrong. Nothing was taken."),
		},
	}
}

func metricsOperation() *huma.Operation {
	return &huma.Operation{
		OperationID: "metrics", Summary: "Show metrics for Prometheus", Tags: []string{"metrics"},
		Responses: map[string]*huma.Response{
			"200":     {Description: "OK", Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}},
			"default": problemResponse("What went wrong."),
		},
	}
}

func withHeader(r *huma.Response, name, description string) *huma.Response {
	r.Headers = map[string]*huma.Param{name: {Description: description, Schema: &huma.Schema{Type: huma.TypeString}}}
	return r
}

func serve(handler http.Handler) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		handler.ServeHTTP(w, r)
		return nil
	}
}

type document struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	Body        []byte
}

func (document) answers(documented map[string]*huma.Response) {
	documented["200"] = &huma.Response{
		Description: "An OpenAPI 3.1 document.",
		Content:     map[string]*huma.MediaType{"application/openapi+json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
	}
}

func (h *Handler) openapi(context.Context, *struct{}) (*document, error) {
	return &document{"application/openapi+json", h.spec}, nil
}

// describe completes the document, once every operation is in it.
func (h *Handler) describe() {
	doc := h.api.OpenAPI()
	registry := doc.Components.Schemas
	for _, t := range []reflect.Type{
		reflect.TypeFor[problem](), reflect.TypeFor[accepted](), reflect.TypeFor[rotation](), reflect.TypeFor[report](),
	} {
		registry.Schema(t, true, "")
	}
	schemas := registry.Map()
	delete(schemas, "ErrorModel") // huma's own, which no response is
	delete(schemas, "ErrorDetail")
	var types []any
	for _, k := range kinds() {
		types = append(types, k.urn())
	}
	schemas["Problem"].Properties["type"].Enum = types
	for _, s := range schemas {
		loosen(s)
	}
	describeNouns(schemas)
	describeLogs(schemas)
	describeChanges(schemas)
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Patch, item.Delete} {
			if op != nil {
				describeParameters(op)
			}
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic("httpapi: the OpenAPI document cannot be written: " + err.Error()) // a mistake in this package
	}
	h.spec = append(text, '\n')
}

// loosen says of answers that fields may be added, and that lists are never null.
func loosen(s *huma.Schema) {
	if s.Type == huma.TypeArray {
		s.Nullable = false
	}
	if s.AdditionalProperties == false {
		s.AdditionalProperties = nil
	}
	for _, p := range s.Properties {
		loosen(p)
	}
}

// describeParameters says what the path's id is, which huma must not check:
// what is no number is 404, not 422.
func describeParameters(op *huma.Operation) {
	for _, p := range op.Parameters {
		if p.In == "path" {
			p.Schema = &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: new(1.0)}
		}
		if p.Schema.Type == huma.TypeArray {
			p.Schema.Nullable = false
		}
	}
	slices.SortStableFunc(op.Parameters, func(a, b *huma.Param) int { return rank(a) - rank(b) })
}

// rank orders parameters: the path's, the query's, the header's.
func rank(p *huma.Param) int {
	return slices.Index([]string{"path", "query", "header"}, p.In)
}
