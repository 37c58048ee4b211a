package logbuf

import (
	"iter"
	"net/http"
	"slices"
	"time"
)

// An Upstream is a model of a provider, which is what works or fails.
type Upstream struct {
	ProviderID int64  `json:"provider_id"`
	Model      string `json:"upstream_model"`
}

// Tally says what became of attempts at an [Upstream] in some span of time. Attempts whose failure
// was the client's, of the classes client and canceled, are in no tally.
type Tally struct {
	Succeeded int64                  `json:"ok,omitempty"`
	Failed    map[FailureClass]int64 `json:"failed,omitempty"`

	// By names balancers that reported a class. Two of them are enough to know that it was not one
	// balancer alone, so there are no more of each class.
	By map[FailureClass][]string `json:"by,omitempty"`

	// Reset is until when the provider asked to wait, with failures of the class rate; the latest
	// time that was reported.
	Reset time.Time `json:"reset,omitzero"`
}

const (
	maxReporters = 2
	maxTally     = 1 << 40 // what a count may be, so that sums of them cannot overflow
	maxReset     = 24 * time.Hour
)

// Add adds another tally.
func (t *Tally) Add(o *Tally) {
	t.Succeeded = addCount(t.Succeeded, o.Succeeded)
	for class, n := range o.Failed {
		t.fail(class, n)
	}
	for class, names := range o.By {
		for _, name := range names {
			t.report(class, name)
		}
	}
	if o.Reset.After(t.Reset) {
		t.Reset = o.Reset
	}
}

func addCount(a, b int64) int64 { return min(a+max(0, min(b, maxTally)), maxTally) }

func (t *Tally) fail(class FailureClass, n int64) {
	if !class.counts() || n <= 0 {
		return
	}
	if t.Failed == nil {
		t.Failed = map[FailureClass]int64{}
	}
	t.Failed[class] = addCount(t.Failed[class], n)
}

func (t *Tally) report(class FailureClass, balancer string) {
	names := t.By[class]
	if !class.counts() || len(names) == maxReporters || slices.Contains(names, balancer) {
		return
	}
	if t.By == nil {
		t.By = map[FailureClass][]string{}
	}
	t.By[class] = append(names, balancer)
}

// Widely reports whether two balancers at least have reported a class.
func (t *Tally) Widely(class FailureClass) bool { return len(t.By[class]) >= 2 }

// Failures returns how many attempts failed through a fault of the provider. Failures of the class
// network count only when two balancers have reported them, because one alone may have lost its own
// connection.
func (t *Tally) Failures() (n int64) {
	for class, failed := range t.Failed {
		if class != FailedNetwork || t.Widely(class) {
			n = addCount(n, failed)
		}
	}
	return n
}

// Attempts returns how many attempts there were, but for failures that [Tally.Failures] leaves out.
func (t *Tally) Attempts() int64 { return addCount(t.Succeeded, t.Failures()) }

// counts reports whether a failure of the class says anything about the provider.
func (c FailureClass) counts() bool { return c.Known() && c != FailedClient && c != FailedCanceled }

// ClassOfStatus returns the class of a failed attempt by the HTTP status of the provider, for
// balancers that know no more than that. For a status that is no failure it returns FailedServer.
func ClassOfStatus(status int) FailureClass {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return FailedAuth
	case http.StatusPaymentRequired:
		return FailedBilling
	case http.StatusTooManyRequests:
		return FailedRate
	case http.StatusServiceUnavailable, 529: // the second is Anthropic's
		return FailedOverload
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return FailedTimeout
	case 499: // nginx's, of a client that has gone
		return FailedCanceled
	}
	if status >= 400 && status < 500 {
		return FailedClient
	}
	return FailedServer
}

// An attempt is one try to have a request answered. An empty class is one that worked.
type attempt struct {
	Upstream
	class FailureClass
	reset time.Time
}

// attempts iterates over the attempts of an entry that say something about a provider: the failures
// that it lists, and the answer.
func (e *Entry) attempts() iter.Seq[attempt] {
	return func(yield func(attempt) bool) {
		answered := Upstream{e.ProviderID, e.UpstreamModel}
		listed := false // that the last attempt failed
		for i := range e.Failures {
			f := &e.Failures[i]
			a := attempt{Upstream: Upstream{f.ProviderID, f.UpstreamModel}, class: f.Class}
			listed = a.Upstream == answered
			if f.ProviderID == 0 || !f.Class.counts() {
				continue
			}
			if f.Class == FailedRate && f.RetryAfterMS > 0 {
				wait := min(time.Duration(f.RetryAfterMS)*time.Millisecond, maxReset)
				a.reset = e.Time.Add(time.Duration(f.LatencyMS)*time.Millisecond + wait)
			}
			if !yield(a) {
				return
			}
		}
		if class, ok := e.answer(); ok && !listed && e.ProviderID != 0 {
			yield(attempt{Upstream: answered, class: class})
		}
	}
}

// answer returns the class of the attempt that the client's answer is from. A balancer that lists no
// failures still says with its status that a provider failed. An answer that broke off, or was the
// client's fault, says nothing.
func (e *Entry) answer() (class FailureClass, ok bool) {
	switch {
	case e.Status >= 100 && e.Status < 400:
		return "", e.Error == ""
	case e.Status == http.StatusBadGateway:
		return FailedNetwork, true // balancers answer so when they reached nobody
	case e.Status >= 500:
		return ClassOfStatus(e.Status), true
	}
	return "", false
}
