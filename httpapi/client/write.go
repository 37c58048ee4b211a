package client

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Stage is how far a write has come on its way to the balancers.
type Stage string

// The stages.
const (
	Pending   Stage = "pending"   // not as far as was waited for
	Published Stage = "published" // in Redis
	Applied   Stage = "applied"   // served by every live balancer
)

// Progress says how far a write has come. The write itself was made.
type Progress struct {
	Stage Stage
	Nodes string // "applied=3 lagging=0 lost=1"; empty when it was not waited for that
}

// WriteOption changes how a write is made, or asks what is said about it.
type WriteOption func(*write)

// write is what the options of a write come to.
type write struct {
	query    url.Values
	header   http.Header
	progress *Progress
	warnings *[]string
	guarded  bool
}

// Wait waits until the write is published, or applied by every live balancer, but not
// longer than timeout (at most a minute). into, unless nil, gets how far it came.
func Wait(until Stage, timeout time.Duration, into *Progress) WriteOption {
	return func(w *write) {
		w.query.Set("wait", string(until))
		w.query.Set("timeout", timeout.String())
		w.progress = into
	}
}

// IfMatch makes the write only when the entity is at the revision; else the error
// matches catalog.ErrConflict.
func IfMatch(r catalog.Revision) WriteOption {
	return func(w *write) {
		w.header.Set("If-Match", `"`+strconv.FormatInt(int64(r), 10)+`"`)
		w.guarded = true
	}
}

// IfAbsent lets a Put only create. If there is an entity that the Put would change instead, the
// error matches catalog.ErrConflict.
func IfAbsent() WriteOption {
	return func(w *write) {
		w.header.Set("If-None-Match", "*")
		w.guarded = true
	}
}

// Cascade makes a write that renames or deletes a model also rename or remove the model in the
// allow-lists that name it; see catalog.WithCascade.
func Cascade() WriteOption {
	return func(w *write) { w.query.Set("cascade", "true") }
}

// Warnings gets what should be known about the write that was accepted.
func Warnings(into *[]string) WriteOption {
	return func(w *write) { w.warnings = into }
}

func newWrite(opts []WriteOption) *write {
	w := &write{query: url.Values{}, header: http.Header{}}
	for _, o := range opts {
		o(w)
	}
	return w
}

// again returns how a write that may be done twice is sent again. With a precondition it
// would not find its own work.
func (w *write) again(harmless again) again {
	if w.guarded {
		return againUndone
	}
	return harmless
}

// done reads what an answer says about the write.
func (w *write) done(header http.Header) {
	if w.progress != nil {
		*w.progress = Progress{Stage(header.Get("EZ-Sync")), header.Get("EZ-Sync-Nodes")}
	}
	if w.warnings != nil {
		*w.warnings = header.Values("EZ-Warning")
	}
}
