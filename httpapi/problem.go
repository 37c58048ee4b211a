package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// problem is an error as clients see it, an RFC 9457 problem document.
type problem struct {
	Type      string         `json:"type" doc:"What kind of problem it is; stable."`
	Title     string         `json:"title" doc:"The type in words."`
	Status    int            `json:"status" doc:"The HTTP status."`
	Detail    string         `json:"detail,omitempty" doc:"What is wrong this time. Never holds a value of the request."`
	RequestID string         `json:"request_id" doc:"The X-Request-ID of the response."`
	Errors    []fieldProblem `json:"errors,omitempty" doc:"Which fields are not acceptable, and why."`

	header http.Header
}

// fieldProblem says which field is not acceptable, and why.
type fieldProblem struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

const problemType = "application/problem+json"

func (p *problem) Error() string             { return p.Title }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) GetHeaders() http.Header   { return p.header }
func (*problem) ContentType(_ string) string { return problemType }

var (
	_ huma.StatusError       = (*problem)(nil)
	_ huma.HeadersError      = (*problem)(nil)
	_ huma.ContentTypeFilter = (*problem)(nil)
)

// kind is a kind of problem.
type kind struct {
	slug   string
	status int
	title  string
}

func (k kind) urn() string { return "urn:ezapi:" + k.slug }

// The kinds of problems. Slugs are part of the contract.
var (
	malformed          = kind{"malformed", http.StatusBadRequest, "The request cannot be read"}
	unauthenticated    = kind{"unauthenticated", http.StatusUnauthorized, "A valid bearer token is required"}
	forbidden          = kind{"forbidden", http.StatusForbidden, "The token's role does not allow this"}
	notFound           = kind{"not-found", http.StatusNotFound, "There is no such thing"}
	methodNotAllowed   = kind{"method-not-allowed", http.StatusMethodNotAllowed, "The method is not one of this path"}
	exists             = kind{"exists", http.StatusConflict, "Something else has this name already"}
	referenced         = kind{"referenced", http.StatusConflict, "Something else still refers to this"}
	conflict           = kind{"conflict", http.StatusConflict, "It has changed meanwhile"}
	refused            = kind{"force-required", http.StatusConflict, "The re-synchronisation has to be forced"}
	outranked          = kind{"outranked", http.StatusConflict, "What is published must not be overwritten from here"}
	compacted          = kind{"compacted", http.StatusGone, "The history asked for is gone"}
	gap                = kind{"gap", http.StatusGone, "The deltas asked for are gone"}
	preconditionFailed = kind{"precondition-failed", http.StatusPreconditionFailed, "The precondition does not hold"}
	tooLarge           = kind{"too-large", http.StatusRequestEntityTooLarge, "The body is too large"}
	mediaType          = kind{"unsupported-media-type", http.StatusUnsupportedMediaType, "The body is of a type that is not read here"}
	invalid            = kind{"invalid", http.StatusUnprocessableEntity, "Something in the request is not acceptable"}
	overloaded         = kind{"overloaded", http.StatusTooManyRequests, "There is no room at the moment"}
	internal           = kind{"internal", http.StatusInternalServerError, "Something went wrong here"}
	sealed             = kind{"sealed", http.StatusInternalServerError, "A stored secret cannot be opened"}
	unpublished        = kind{strings.TrimPrefix(snapshot.TypeUnpublished, "urn:ezapi:"), http.StatusServiceUnavailable, "Nothing was published yet"}
	unavailable        = kind{"unavailable", http.StatusServiceUnavailable, "This is not available at the moment"}
)

// kinds lists them for the OpenAPI document.
func kinds() []kind {
	return []kind{
		malformed, unauthenticated, forbidden, notFound, methodNotAllowed, exists, referenced, conflict, refused, outranked, compacted,
		gap, preconditionFailed, tooLarge, mediaType, invalid, overloaded, internal, sealed, unpublished, unavailable,
	}
}

var (
	errForbidden    = errors.New("not the role")
	errPrecondition = errors.New("precondition failed")
	errPublished    = errors.New("what is published cannot be read")
)

// rules say which error is which problem; the first that fits counts. Without
// a detail the error's own words are shown, which are known to hold no values.
var rules = []struct {
	err    error
	kind   kind
	detail string
}{
	{ErrUnauthenticated, unauthenticated, "send Authorization: Bearer TOKEN"},
	{errForbidden, forbidden, "this takes a token of another role"},
	{errPrecondition, preconditionFailed, "the resource is not at the revision in If-Match: read it again"},

	{errPublished, unavailable, "what is published cannot be read"},
	{errNoArchive, notFound, "this server's log sink answers no questions"},

	{request.ErrMalformed, malformed, ""},
	{request.ErrTooLarge, tooLarge, ""},
	{request.ErrMediaType, mediaType, ""},

	{catalog.ErrMalformed, malformed, ""},
	{catalog.ErrNotFound, notFound, "nothing has this id"},
	{catalog.ErrExists, exists, "another one has this already: see errors"},
	{catalog.ErrReferenced, referenced, "delete or change what refers to it first"},
	{catalog.ErrConflict, conflict, "read it again, then try again"},
	{catalog.ErrCompacted, compacted, "changes this old were pruned: start from what is there now"},
	{catalog.ErrSealed, sealed, "the key that sealed it is not among those of this server"},
	{catalog.ErrClosed, unavailable, "the server is shutting down"},
	{catalog.ErrUnavailable, unavailable, "the catalog's database cannot be reached"},

	{snapshot.ErrNone, unpublished, "try again in a moment"},
	{snapshot.ErrForeign, refused, "what is published comes from another catalog; force=true overwrites it"},
	{snapshot.ErrShrinks, refused, "more than half of the documents of a kind would be lost; force=true accepts that"},
	{snapshot.ErrOutranked, outranked, "it was rendered by a newer version, or under a sync key that is not held here"},
	{snapshot.ErrGap, gap, "load the whole snapshot again"},
	{snapshot.ErrStale, conflict, "somebody else was faster: try again"},

	{logbuf.ErrUnavailable, unavailable, "the logs' database cannot be reached"},
	{logbuf.ErrTooMany, tooLarge, ""},
	{logbuf.ErrMalformed, malformed, ""},
	{logbuf.ErrFull, overloaded, "the log buffer is full: slow down and send it again"},
	{logbuf.ErrClosed, unavailable, "the server is shutting down"},
	{logbuf.ErrBroken, unavailable, "the log spool's disk has failed: nothing can be promised until a restart"},

	{catalog.ErrInvalid, invalid, "see errors"},
	{logbuf.ErrInvalid, invalid, "see errors"},

	{context.DeadlineExceeded, unavailable, "it took too long"},
	{context.Canceled, unavailable, "the request was given up"},
}

// problem makes of an error what the client is to see. The cause of what is
// nobody's fault but ours goes to the log.
func (h *Handler) problem(ctx context.Context, err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	p := newProblem(ctx, internal, "")
	for _, r := range rules {
		if !errors.Is(err, r.err) {
			continue
		}
		if p = newProblem(ctx, r.kind, r.detail); r.detail == "" {
			p.Detail = words(err, r.err)
		}
		break
	}
	p.Errors = fieldProblems(err)
	switch {
	case p.Status == invalid.status && len(p.Errors) == 0 && p.Detail == "see errors":
		p.Detail = "a value is not acceptable"
	case catalog.IsDangling(err):
		fields := p.Errors
		p = newProblem(ctx, invalid, "see errors")
		p.Errors = fields
	case p.Status == unauthenticated.status:
		p.header = http.Header{"Www-Authenticate": {`Bearer realm="ezapi"`}}
	case p.Status == overloaded.status:
		p.header = http.Header{"Retry-After": {"1"}}
	}
	if p.Status >= http.StatusInternalServerError && ctx.Err() == nil {
		h.log.ErrorContext(ctx, "request failed", "error", err, "route", exchangeOf(ctx).route, "request_id", p.RequestID)
	}
	return p
}

func newProblem(ctx context.Context, k kind, detail string) *problem {
	return &problem{Type: k.urn(), Title: k.title, Status: k.status, Detail: detail, RequestID: exchangeOf(ctx).id}
}

// words returns the text of an error without the sentinel at its end.
func words(err, sentinel error) string {
	return strings.TrimSuffix(strings.TrimPrefix(err.Error(), logbuf.ErrInvalid.Error()+": "), ": "+sentinel.Error())
}

func fieldProblems(err error) (fields []fieldProblem) {
	for _, f := range catalog.FieldsOf(err) {
		fields = append(fields, fieldProblem(*f))
	}
	if f, ok := errors.AsType[*logbuf.FieldError](err); ok {
		fields = append(fields, fieldProblem(*f))
	}
	return fields
}

// transform turns what huma says about parameters into problems of ours. Huma
// would repeat the values.
func transform(ctx huma.Context, _ string, v any) (any, error) {
	theirs, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	k := internal
	if theirs.Status == invalid.status {
		k = invalid
	}
	p := newProblem(ctx.Context(), k, "see errors")
	for _, e := range theirs.Errors {
		_, name, _ := strings.Cut(e.Location, ".")
		p.Errors = append(p.Errors, fieldProblem{name, e.Message})
	}
	return p, nil
}

// write answers with the problem where huma does not.
func (p *problem) write(w http.ResponseWriter) {
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(p) // who does not read it has gone
}
