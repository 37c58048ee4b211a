package request

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// CheckPreconditions refuses a write with a precondition that it would not look at: one that the
// operation does not have, an empty one, such as an ETag that was not set, and several of one name, of
// which only the first would be seen. taken are the headers that the operation has.
func CheckPreconditions(r *http.Request, taken map[string]bool) error {
	for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"} {
		values := r.Header.Values(name)
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case len(values) == 0 || reads && name != "If-Match":
		case !reads && !taken[name]:
			return fmt.Errorf("the header %s is no precondition of this operation; leave it out: %w", name, ErrMalformed)
		case len(values) > 1:
			return fmt.Errorf("the header %s must be sent once: %w", name, ErrMalformed)
		case strings.TrimSpace(values[0]) == "":
			return fmt.Errorf("the header %s must not be empty; leave it out instead: %w", name, ErrMalformed)
		}
	}
	return nil
}

// Match is the precondition of a write.
type Match struct {
	IfMatch string `header:"If-Match" doc:"The ETag that the resource must still have, or * if it must only be there. Otherwise the answer is 412."`
}

// Revision returns the revision that the resource must be at, 0 for any, or
// [catalog.AnyRevision]. A tag that is not one of ours names a revision that nothing is at.
func (in Match) Revision() (catalog.Revision, error) {
	switch tag := strings.TrimSpace(in.IfMatch); tag {
	case "":
		return 0, nil
	case "*":
		return catalog.AnyRevision, nil
	default:
		return taggedRevision(tag)
	}
}

func taggedRevision(tag string) (catalog.Revision, error) {
	inner, opened := strings.CutPrefix(tag, `"`)
	inner, closed := strings.CutSuffix(inner, `"`)
	if !opened || !closed || strings.Contains(inner, `"`) {
		return 0, fmt.Errorf(`If-Match must be one strong ETag, in its quotes, or *: %w`, ErrMalformed)
	}
	n, err := strconv.ParseInt(inner, 10, 64)
	if r := catalog.Revision(n); err == nil && n > 0 && ETag(r) == tag {
		return r, nil
	}
	return noRevision, nil
}

// noRevision is one that nothing is at.
const noRevision catalog.Revision = math.MaxInt64

// Absence is the precondition of a write that must not find anything.
type Absence struct {
	IfNoneMatch string `header:"If-None-Match" doc:"* if the resource must not be there yet. Otherwise the answer is 412. No other value is taken."`
}

// Revision returns the revision that the resource must be at by both preconditions of a write.
func (in Absence) Revision(m Match) (catalog.Revision, error) {
	switch strings.TrimSpace(in.IfNoneMatch) {
	case "":
		return m.Revision()
	case "*":
		if m.IfMatch != "" {
			return 0, fmt.Errorf("If-Match and If-None-Match must not be sent together: %w", ErrMalformed)
		}
		return catalog.NoRevision, nil
	}
	return 0, fmt.Errorf("If-None-Match must be *, which creates only what is not there: %w", ErrMalformed)
}

// Seen is what a reader has already.
type Seen struct {
	IfNoneMatch string `header:"If-None-Match" doc:"The ETag of what you have already. If the resource still has it, the answer is 304, without a body."`
}

// Has reports whether the reader has what has the ETag.
func (in Seen) Has(etag string) bool {
	for tag := range strings.SplitSeq(in.IfNoneMatch, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}

// ETag returns the entity tag of a revision.
func ETag(r catalog.Revision) string { return `"` + strconv.FormatInt(int64(r), 10) + `"` }
