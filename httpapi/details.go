package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// takes documents the body of a request.
func takes(body *huma.RequestBody) detail {
	return func(op *huma.Operation) { op.RequestBody = body }
}

// optional says of a body that there may be none.
func optional(body *huma.RequestBody) *huma.RequestBody {
	body.Required = false
	return body
}

func bodyOf(schema string, types ...string) *huma.RequestBody {
	b := &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	for _, t := range types {
		b.Content[t] = &huma.MediaType{Schema: refTo(schema)}
	}
	return b
}

// explains adds to the description.
func explains(text string) detail {
	return func(op *huma.Operation) { op.Description += " " + text }
}

// only keeps those of the query parameters of nouns that apply to this noun.
func only(applicable []string) detail {
	all := []string{"group", "namespace", "project", "target", "reason", "cascade"}
	return func(op *huma.Operation) {
		op.Parameters = slices.DeleteFunc(op.Parameters, func(p *huma.Param) bool {
			return slices.Contains(all, p.Name) && !slices.Contains(applicable, p.Name)
		})
	}
}

// answersCreated documents that the answer is always a new resource.
func answersCreated(op *huma.Operation) {
	op.Responses["201"] = op.Responses["200"]
	op.Responses["201"].Description = "The resource was created."
	delete(op.Responses, "200")
}

// answersCreatedOrOK documents that the answer may be a new resource.
func answersCreatedOrOK(op *huma.Operation) {
	created := *op.Responses["200"]
	created.Description = "The resource was created."
	op.Responses["201"] = &created
	op.Responses["200"].Description = "The resource was there, and is equal now."
}

// answersUnchanged documents that the answer may only say that nothing has changed.
func answersUnchanged(op *huma.Operation) {
	op.Responses["304"] = &huma.Response{
		Description: "The resource has the ETag of If-None-Match.", Headers: op.Responses["200"].Headers,
	}
}

// answersNothing documents that the answer has no body.
func answersNothing(op *huma.Operation) {
	if r := op.Responses["204"]; r != nil {
		r.Description = "It is done."
	}
}

// answersUnready documents that a readiness has the same form when it is a failure.
func answersUnready(op *huma.Operation) {
	failure := *op.Responses["200"]
	failure.Description = "Neither reads nor logs work, or the catalog was never reached since the start."
	op.Responses[strconv.Itoa(http.StatusServiceUnavailable)] = &failure
}

// answersDocument documents the answer that is this document.
func answersDocument(op *huma.Operation) {
	op.Responses["200"] = &huma.Response{
		Description: "An OpenAPI 3.1 document.",
		Content:     map[string]*huma.MediaType{"application/openapi+json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
	}
}

// fails documents the problems that an operation may answer with, beside those that
// follow from its parameters and its body.
func fails(kinds ...problemKind) detail {
	return func(op *huma.Operation) { addProblems(op, kinds...) }
}

// addProblems documents kinds of problems, by their status.
func addProblems(op *huma.Operation, kinds ...problemKind) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	for _, k := range kinds {
		f := k.facts()
		code, text := strconv.Itoa(f.status), fmt.Sprintf("`%s`: %s.", f.slug, f.title)
		switch r := op.Responses[code]; {
		case r == nil:
			op.Responses[code] = problemResponse(text)
		case !strings.Contains(r.Description, "`"+f.slug+"`"):
			r.Description += " " + text
		}
		if f.status == http.StatusTooManyRequests || k == problemCrowded || k == problemUnavailable {
			withHeader(op.Responses[code], "Retry-After", "How many seconds to wait.")
		}
	}
}

func problemResponse(description string) *huma.Response {
	return &huma.Response{
		Description: description,
		Content:     map[string]*huma.MediaType{problemType: {Schema: refTo("Problem")}},
	}
}

func withHeader(r *huma.Response, name, description string) *huma.Response {
	r.Headers = map[string]*huma.Param{name: {Description: description, Schema: &huma.Schema{Type: huma.TypeString}}}
	return r
}

// documentProblems adds the problems that follow from an operation's role, parameters
// and body.
func documentProblems(op *huma.Operation, role Role) {
	if role != everybody {
		addProblems(op, problemUnauthenticated, problemForbidden, problemThrottled, problemUnavailable)
	}
	addProblems(op, problemMalformed, problemInvalid) // of any query: see checkQuery
	for _, p := range op.Parameters {
		switch {
		case p.In == "path":
			addProblems(op, problemNotFound)
		case p.Name == "If-Match":
			addProblems(op, problemPrecondition)
		}
	}
	if op.RequestBody != nil {
		addProblems(op, problemTooLarge, problemMediaType)
	}
	if op.Method != http.MethodGet && role == Admin {
		addProblems(op, problemConflict, problemUnconfirmed)
	}
	if op.Method == http.MethodGet && role != everybody {
		addProblems(op, problemCrowded) // of any answer that may be large: see [Handler.send]
	}
}

// secure documents which role an operation takes.
func (h *Handler) secure(op *huma.Operation, role Role) {
	if role == everybody {
		op.Description = strings.TrimSpace("Open to everybody. " + op.Description)
		op.Security = []map[string][]string{}
		return
	}
	text := "Role: " + string(role) + "."
	if role != Admin {
		text = "Role: " + string(role) + ", or admin."
	}
	op.Description = strings.TrimSpace(text + " " + op.Description)
	if h.scheme.Type != "" {
		op.Security = []map[string][]string{{h.scheme.Name: {}}}
	}
}
