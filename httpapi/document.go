package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humahttprouter"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/outbox"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

const schemaPrefix = "#/components/schemas/"

// newAPI returns what huma operations are registered at.
func (h *Handler) newAPI(version string) huma.API {
	format := huma.Format{Marshal: marshal, Unmarshal: json.Unmarshal}
	return huma.NewAPI(huma.Config{
		OpenAPI:       newDocument(version, h.scheme),
		Formats:       map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{transform},
	}, trees{
		humahttprouter.New(h.router, huma.Config{}).Adapter(), humahttprouter.New(h.literal, huma.Config{}).Adapter(),
		h.literals,
	})
}

// marshal writes JSON as it is encoded, in the form of encoding/json. That there is no room for it is
// not an error worth a panic, which is what huma makes of one: see [Handler.send].
func marshal(w io.Writer, v any) error {
	enc := jsontext.NewEncoder(w, jsonv1.DefaultOptionsV1(), jsontext.EscapeForHTML(false))
	if err := jsonv2.MarshalEncode(enc, v); err != nil && !errors.Is(err, outbox.ErrCrowded) {
		return err
	}
	return nil
}

// newDocument returns the OpenAPI document, without operations.
func newDocument(version string, s Scheme) *huma.OpenAPI {
	registry := huma.NewMapRegistry(schemaPrefix, schemaName)
	registry.RegisterTypeAlias(reflect.TypeFor[catalog.Secret](), reflect.TypeFor[string]())
	registry.RegisterTypeAlias(reflect.TypeFor[request.Whole](), reflect.TypeFor[int64]())
	registry.RegisterTypeAlias(reflect.TypeFor[catalog.NanoUSD](), reflect.TypeFor[usd]())
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "EZ-API", Version: version, License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			Description: "The control plane of an AI gateway. Errors are problem documents (RFC 9457). HEAD works " +
				"wherever GET does. There are three roles: admin may do everything; viewer reads; balancer reads " +
				"snapshots, posts logs and reports what it has applied.",
		},
		Servers:    []*huma.Server{{URL: ".", Description: "Where this document is."}},
		Components: &huma.Components{Schemas: registry},
	}
	if s.Type != "" {
		doc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{s.Name: {
			Type: s.Type, Scheme: s.HTTPScheme, In: s.In, Name: s.Parameter, OpenIDConnectURL: s.DiscoveryURL,
			Description: s.Description,
		}}
	}
	return doc
}

// builtVersion returns the version of the program that the build recorded: that of a
// tagged module, or the commit.
func builtVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unreleased"
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == modulePath && m.Version != "" && m.Version != "(devel)" {
			return m.Version
		}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && info.Main.Path == modulePath {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return "unreleased"
}

const modulePath = "github.com/ez-api/ez-api"

func refTo(schema string) *huma.Schema { return &huma.Schema{Ref: schemaPrefix + schema} }

// operationAt finds a documented operation.
func operationAt(doc *huma.OpenAPI, method, path string) *huma.Operation {
	return *operationsOf(doc.Paths[path])[method]
}

// operationsOf returns the operations of a path by their method.
func operationsOf(item *huma.PathItem) map[string]**huma.Operation {
	return map[string]**huma.Operation{
		http.MethodGet: &item.Get, http.MethodPost: &item.Post, http.MethodPut: &item.Put,
		http.MethodPatch: &item.Patch, http.MethodDelete: &item.Delete,
	}
}

type document struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	Body        []byte
}

func (h *Handler) openapi(ctx context.Context, _ *struct{}) (*document, error) {
	exchangeOf(ctx).shared = true
	return &document{"application/openapi+json", h.spec()}, nil
}

// describe completes the document, once every operation is in it.
func (h *Handler) describe() {
	doc := h.api.OpenAPI()
	h.completeSchemas(doc.Components.Schemas)
	for _, item := range doc.Paths {
		for _, op := range operationsOf(item) {
			if *op != nil {
				describeParameters(*op)
				describeResponses(*op)
			}
		}
	}
	h.spec = sync.OnceValue(func() []byte { // few ask for it, and it takes as long as all the rest of New
		text, err := json.Marshal(doc)
		if err != nil {
			panic("httpapi: the OpenAPI document cannot be written: " + err.Error()) // a mistake in this package
		}
		return append(text, '\n')
	})
}

// describeParameters says what the path's id is, which huma must not check:
// what is no number is 404, not 422.
func describeParameters(op *huma.Operation) {
	for _, p := range op.Parameters {
		if p.In == "path" {
			p.Schema = &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: new(1.0)}
			p.Description = "The id of the resource."
		}
		if p.Name == "timeout" || p.Name == "age" { // not in a tag: the handlers say better what is wrong
			p.Schema.Pattern = durationPattern
		}
		if p.Schema.Type == huma.TypeArray {
			p.Schema.Nullable = false
		}
	}
	slices.SortStableFunc(op.Parameters, func(a, b *huma.Param) int { return rank(a) - rank(b) })
}

// durationPattern is the form of a length of time: 1m30s, 500ms, or a number of seconds.
const durationPattern = `^([0-9]+(\.[0-9]+)?(ms|s|m)?)+$`

// rank orders parameters: the path's, the query's, the header's.
func rank(p *huma.Param) int {
	return slices.Index([]string{"path", "query", "header"}, p.In)
}

// describeResponses gives every response a description.
func describeResponses(op *huma.Operation) {
	for _, r := range op.Responses {
		if r.Description == "" || r.Description == http.StatusText(http.StatusOK) {
			r.Description = "It worked."
		}
	}
}

const ndjson = "application/x-ndjson"

// ingestOperation documents POST /logs, of which huma knows nothing.
func ingestOperation() *huma.Operation {
	lines := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: "One entry a line."}}
	op := &huma.Operation{
		OperationID: "createLogs", Summary: "Take access logs", Tags: []string{"logs"},
		Parameters: []*huma.Param{{
			Name: "Content-Encoding", In: "header", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"gzip", "zstd"}},
			Description: "How the body is compressed.",
		}},
		RequestBody: &huma.RequestBody{
			Required: true,
			Description: "At most 10,000 entries, and at most 8 MiB when it is not compressed. " +
				"Fields that are not known are ignored.",
			Content: map[string]*huma.MediaType{
				request.JSON: {Schema: &huma.Schema{OneOf: []*huma.Schema{
					refTo("LogEntryCreate"), {Type: huma.TypeArray, Items: refTo("LogEntryCreate")},
				}}},
				ndjson: lines,
			},
		},
		Responses: map[string]*huma.Response{
			"202": {
				Description: "All entries that are valid were taken. The others are listed.",
				Content:     map[string]*huma.MediaType{request.JSON: {Schema: refTo("LogsAccepted")}},
			},
			"default": problemResponse("Any other problem. Nothing was taken."),
		},
	}
	addProblems(op, problemOverloaded, problemUnavailable)
	return op
}

func metricsOperation() *huma.Operation {
	return &huma.Operation{
		OperationID: "getMetrics", Summary: "Show metrics for Prometheus", Tags: []string{"metrics"},
		Responses: map[string]*huma.Response{
			"200": {
				Description: "Metrics in the text format of Prometheus.",
				Content:     map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
			},
			"default": problemResponse("Any other problem."),
		},
	}
}

func serve(handler http.Handler) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		handler.ServeHTTP(w, r)
		return nil
	}
}
