package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/upstreams"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/logbuf"
)

// problem is an error as clients see it, an RFC 9457 problem document.
type problem struct {
	Type      string         `json:"type" doc:"The kind of problem. It never changes."`
	Title     string         `json:"title" doc:"The kind of problem in words."`
	Status    int            `json:"status" minimum:"400" maximum:"599" doc:"The HTTP status."`
	Detail    string         `json:"detail,omitempty" doc:"What is wrong this time. It never holds a value of the request."`
	RequestID string         `json:"request_id" doc:"The X-Request-ID of the response."`
	Errors    []fieldProblem `json:"errors,omitempty" maxItems:"100" doc:"The fields that are not acceptable, and why. Further ones are left out."`
	Plan      *catalog.Plan  `json:"plan,omitempty" doc:"The plan that was not carried out, because it is not the expected one, or has to be forced."`

	header http.Header
}

// fieldProblem says which field is not acceptable, and why.
type fieldProblem struct {
	Field   string `json:"field" doc:"The name of the field or of the parameter, such as models[2]."`
	Message string `json:"message" doc:"What is wrong with it, and what would be right."`
}

const (
	problemType = "application/problem+json"

	maxFieldProblems = 100 // that are listed
)

func (p *problem) Error() string             { return p.Title }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) GetHeaders() http.Header   { return p.header }
func (*problem) ContentType(_ string) string { return problemType }

var (
	_ huma.StatusError       = (*problem)(nil)
	_ huma.HeadersError      = (*problem)(nil)
	_ huma.ContentTypeFilter = (*problem)(nil)
)

func newProblem(ctx context.Context, k problemKind, detail string) *problem {
	f := k.facts()
	return &problem{Type: f.urn(), Title: f.title, Status: f.status, Detail: detail, RequestID: exchangeOf(ctx).id}
}

// problem makes of an error what the client is to see. The cause of what is
// nobody's fault but the server's goes to the log.
func (h *Handler) problem(ctx context.Context, err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	k, detail := classify(err)
	p := newProblem(ctx, k, detail)
	p.Errors = fieldProblems(err)
	if detail == seeErrors && len(p.Errors) == 0 {
		p.Detail = "a value is not acceptable"
	}
	h.addHeaders(p, k, err)
	if p.Status >= http.StatusInternalServerError && ctx.Err() == nil {
		h.log.ErrorContext(ctx, "request failed", "error", err, "route", exchangeOf(ctx).route, "request_id", p.RequestID)
	}
	return p
}

// classify looks an error up in the table. What is not in it is the server's fault.
func classify(err error) (k problemKind, detail string) {
	if catalog.IsDangling(err) { // not a conflict: a field names what is not there
		return problemInvalid, seeErrors
	}
	if what := catalog.ReferrersOf(err); what != "" {
		return problemReferenced, fmt.Sprintf("delete or change first what refers to it: %s", what)
	}
	for _, row := range errorTable {
		if !errors.Is(err, row.err) {
			continue
		}
		if row.detail == "" {
			return row.kind, ownWords(err, row.err)
		}
		return row.kind, row.detail
	}
	return problemInternal, ""
}

// ownWords returns the text of an error without the sentinel at its end.
func ownWords(err, sentinel error) string {
	text := strings.TrimPrefix(err.Error(), logbuf.ErrInvalid.Error()+": ")
	return strings.TrimSuffix(text, ": "+sentinel.Error())
}

// addHeaders adds what a kind of problem says in headers and in the words of the Auth.
func (h *Handler) addHeaders(p *problem, k problemKind, err error) {
	switch k {
	case problemUnauthenticated:
		if s := h.scheme; s.Challenge != "" {
			p.header = http.Header{"Www-Authenticate": {s.Challenge}}
		}
		if s := h.scheme; s.Remedy != "" {
			p.Detail = s.Remedy
		}
	case problemOverloaded, problemUnavailable:
		p.header = http.Header{"Retry-After": {"1"}}
	case problemCrowded:
		p.header = http.Header{"Retry-After": {"5"}}
	case problemTooSoon:
		if t, ok := errors.AsType[*upstreams.TooSoonError](err); ok {
			p.header = http.Header{"Retry-After": {strconv.Itoa(int(t.After.Seconds()))}}
		}
	case problemThrottled:
		if t, ok := errors.AsType[*ThrottledError](err); ok {
			p.header = http.Header{"Retry-After": {t.retryAfter()}}
		}
	}
}

// fieldProblems lists the fields that an error is about, as many as are shown.
func fieldProblems(err error) []fieldProblem {
	var fields []fieldProblem
	for _, f := range catalog.FieldsOf(err) {
		if len(fields) == maxFieldProblems {
			break
		}
		fields = append(fields, fieldProblem(*f))
	}
	if f, ok := errors.AsType[*logbuf.FieldError](err); ok {
		fields = append(fields, fieldProblem(*f))
	}
	return fields
}

// transform turns what huma says about parameters into problems of ours: the rule of each, whichever
// part of it the value breaks. Huma would repeat values, and speak of the layouts of Go.
func transform(ctx huma.Context, _ string, v any) (any, error) {
	theirs, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	k := problemInternal
	if theirs.Status == problemInvalid.facts().status {
		k = problemInvalid
	}
	p := newProblem(ctx.Context(), k, seeErrors)
	for _, e := range theirs.Errors[:min(len(theirs.Errors), maxFieldProblems)] {
		_, name, _ := strings.Cut(e.Location, ".")
		p.Errors = append(p.Errors, fieldProblem{name, ruleOf(ctx.Operation(), name, e)})
	}
	return p, nil
}

// ruleOf says what a parameter must be, or an element of one, such as group_by[1].
func ruleOf(op *huma.Operation, name string, e *huma.ErrorDetail) string {
	name, _, isElement := strings.Cut(name, "[")
	for _, p := range op.Parameters {
		if p.Name != name {
			continue
		}
		rule := p.Schema
		if isElement && rule.Items != nil {
			rule = rule.Items
		}
		if p.Required && e.Value == "" {
			return "is required, and " + request.Rule(rule)
		}
		return request.Rule(rule)
	}
	return "is not acceptable"
}

// write answers with the problem where huma does not, and in place of what was written.
func (p *problem) write(w http.ResponseWriter) {
	if x, ok := w.(*exchange); ok {
		x.Reset()
	}
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(p) // who does not read it has gone
}
