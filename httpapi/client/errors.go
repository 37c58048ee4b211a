package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

var (
	// ErrUnauthenticated says that the token is none that the server knows.
	ErrUnauthenticated = errors.New("unauthenticated")

	// ErrForbidden says that the role of the token does not allow the call.
	ErrForbidden = errors.New("forbidden")
)

// sentinels are the errors that the types of problems match.
var sentinels = map[string]error{
	"malformed": catalog.ErrMalformed, "unauthenticated": ErrUnauthenticated, "forbidden": ErrForbidden,
	"not-found": catalog.ErrNotFound, "exists": catalog.ErrExists, "referenced": catalog.ErrReferenced,
	"protected": catalog.ErrProtected, "owned": catalog.ErrOwned, "force-required": catalog.ErrForce,
	"conflict": catalog.ErrConflict, "precondition-failed": catalog.ErrConflict, "compacted": catalog.ErrCompacted,
	"invalid": catalog.ErrInvalid, "sealed": catalog.ErrSealed, "unavailable": catalog.ErrUnavailable,
	"gap": snapshot.ErrGap, "nothing-published": snapshot.ErrNone, "outranked": snapshot.ErrOutranked,
	"overloaded": logbuf.ErrFull, "unconfirmed": catalog.ErrUnconfirmed,
}

// Error is a problem document (RFC 9457) as an error. It matches the sentinel of its
// type with errors.Is: an Error of the type exists is a catalog.ErrExists. The field
// errors are there for errors.As, as catalog.FieldErrors.
type Error struct {
	Status     int
	Type       string // urn:ezapi:exists; empty when the answer was no problem document
	Title      string
	Detail     string
	RequestID  string // by which the server's log has it
	Fields     catalog.FieldErrors
	Plan       *catalog.Plan // that was not carried out; see Client.Apply
	RetryAfter time.Duration // 0: the server did not say

	body []byte // of an answer that is no problem document
}

// Error returns the problem in one line. It holds no values.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", e.Status, e.Title)
	if len(e.Fields) > 0 {
		b.WriteString(": " + e.Fields.Error())
	} else if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return b.String()
}

// Unwrap returns the sentinel of the type, and the field errors.
func (e *Error) Unwrap() []error {
	var all []error
	if err, ok := sentinels[strings.TrimPrefix(e.Type, "urn:ezapi:")]; ok {
		all = append(all, err)
	}
	if e.Plan != nil && e.Status == http.StatusPreconditionFailed {
		all = append(all, catalog.ErrPlanChanged)
	}
	if len(e.Fields) > 0 && errors.Is(errors.Join(all...), catalog.ErrInvalid) {
		all = append(all, e.Fields)
	}
	return all
}

// newError makes an error of an answer that is none of success.
func newError(resp *http.Response, body []byte) error {
	e := &Error{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode),
		RequestID: resp.Header.Get("X-Request-ID")}
	var p struct {
		Type, Title, Detail string
		Errors              []*catalog.FieldError
		Plan                *catalog.Plan
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") && json.Unmarshal(body, &p) == nil {
		e.Type, e.Title, e.Detail, e.Fields, e.Plan = p.Type, p.Title, p.Detail, p.Errors, p.Plan
	} else {
		e.body = body
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(min(seconds, 3600)) * time.Second
	}
	return e
}
