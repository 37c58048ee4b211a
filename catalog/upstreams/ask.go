// Package upstreams asks providers for themselves: for their list of models, or for one token of
// chat. Nothing of what a provider sends leaves it but the names of models, and no secret goes to an
// address that the rules forbid.
package upstreams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// ErrUntestable says that a provider cannot be asked: its type is not one of openai, compatible, azure,
// anthropic and gemini, it is to be asked for a model and has none, or its secret cannot be opened.
var ErrUntestable = errors.New("the provider cannot be tested")

// ErrTooSoon says that providers were asked too often; see [TooSoonError].
var ErrTooSoon = errors.New("providers were asked too often")

// A TooSoonError is an ErrTooSoon that says when there is room again.
type TooSoonError struct {
	After time.Duration // when to try again
}

func (e *TooSoonError) Error() string {
	return fmt.Sprintf("%v: try again in %s", ErrTooSoon, e.After)
}

// Unwrap returns ErrTooSoon.
func (e *TooSoonError) Unwrap() error { return ErrTooSoon }

// Kind says what a provider is asked.
type Kind string

// The kinds of tests.
const (
	Models Kind = "models" // for its list of models, which costs nothing
	Chat   Kind = "chat"   // for one token of chat
)

// A Result is what came of asking a provider. It holds nothing of what the provider sent but the
// names of models.
type Result struct {
	OK      bool
	Class   logbuf.FailureClass // why not; empty when OK
	Status  int                 // the HTTP status of the answer; 0 when there was none
	Latency time.Duration
	Models  []string // that the provider lists, in its order; of Models only
	Cut     bool     // whether there were more, or some that are no names
}

const (
	testTimeout   = 10 * time.Second
	maxTestAnswer = 4 << 20 // bytes that are read of an answer
	maxListed     = 10_000  // models that are taken of a list
)

// Ask asks a provider for its models, or for one token of chat with an upstream model; where that
// is empty, with the first of its models that is no pattern. The error wraps ErrUntestable, or is
// that of ctx; that the provider fails is no error. It takes at most 10 s.
func Ask(ctx context.Context, provider *catalog.Provider, kind Kind, model string, private catalog.Privacy) (
	r Result, err error) {
	q, err := questionOf(provider, kind, model)
	if err != nil {
		return r, err
	}
	if err := catalog.CheckUpstreamURL(q.base, private); err != nil {
		return r, fmt.Errorf("%w: its base_url is not one that this server may ask", ErrUntestable)
	}
	within, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	r, body := ask(within, q, private)
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	if r.OK && kind == Models {
		if r.Models, r.Cut, err = q.list(body); err != nil {
			r.OK, r.Class = false, logbuf.FailedServer // what answers there is no such API
		}
		r.Models = withoutSecret(r.Models, provider.APIKey.Reveal(), &r.Cut)
	}
	if r.OK && kind == Chat && !isChat(body) {
		r.OK, r.Class = false, logbuf.FailedServer
	}
	return r, nil
}

// leastSecret is how long a secret is, in bytes, that is looked for in names.
const leastSecret = 8

// withoutSecret drops the names that hold the credential: an upstream may echo what it was sent.
func withoutSecret(names []string, secret string, cut *bool) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		echo := len(secret) >= leastSecret && strings.Contains(name, secret) || name == secret
		*cut = *cut || echo
		return echo
	})
}

// isChat reports whether a body is the answer to a chat in one of the protocols: it has a list of
// choices, of content or of candidates.
func isChat(body []byte) bool {
	var answer struct {
		Choices, Content, Candidates []json.RawMessage
	}
	err := json.Unmarshal(body, &answer)
	return err == nil && (answer.Choices != nil || answer.Content != nil || answer.Candidates != nil)
}

// ask sends a question and classifies the answer. No text of the answer, of an error of the network or of
// the secret leaves it.
func ask(ctx context.Context, q *question, private catalog.Privacy) (r Result, body []byte) {
	var connected bool
	traced := httptrace.WithClientTrace(ctx,
		&httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	method, content := http.MethodGet, io.Reader(http.NoBody)
	if q.body != nil {
		text, err := json.Marshal(q.body)
		if err != nil {
			return Result{Class: logbuf.FailedClient}, nil
		}
		method, content = http.MethodPost, strings.NewReader(string(text))
	}
	req, err := http.NewRequestWithContext(traced, method, q.url, content)
	if err != nil {
		return Result{Class: logbuf.FailedClient}, nil
	}
	req.Header = q.header
	req.Header.Set("Accept", "application/json")
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	begun := time.Now()
	resp, err := newClient(private).Do(req)
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxTestAnswer+1))
		err = errors.Join(err, resp.Body.Close())
		r.Status = resp.StatusCode
	}
	r.Latency = time.Since(begun)
	switch {
	case err != nil && connected && ctx.Err() != nil:
		r.Class = logbuf.FailedTimeout
	case err != nil:
		r.Class = logbuf.FailedNetwork
	case len(body) > maxTestAnswer:
		r.Class = logbuf.FailedServer
	case r.Status >= 200 && r.Status < 300:
		r.OK = true
	case r.Status < 400:
		r.Class = logbuf.FailedClient // a redirect: base_url is not where the API is
	default:
		r.Class = classOfAnswer(r.Status, body)
	}
	return r, body
}

// newClient returns a client for one question. Where upstreams have to be public, it looks at the
// address that it dials, and uses no proxy, whose address would be looked at in place of the upstream's.
func newClient(private catalog.Privacy) *http.Client {
	dialer, proxy := &net.Dialer{Timeout: 5 * time.Second}, http.ProxyFromEnvironment
	if private == catalog.PublicOnly {
		dialer.Control, proxy = catalog.DialControl, nil
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: proxy, DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second,
			MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		},
		// A redirect would take the secret elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// classOfAnswer tells apart what some providers answer with the status of something else.
func classOfAnswer(status int, body []byte) logbuf.FailureClass {
	text := string(body[:min(len(body), 16<<10)])
	for _, hint := range []struct {
		status int
		text   string
		class  logbuf.FailureClass
	}{
		{http.StatusBadRequest, "API_KEY_INVALID", logbuf.FailedAuth},                   // Gemini
		{http.StatusBadRequest, "credit balance is too low", logbuf.FailedBilling},      // Anthropic
		{http.StatusTooManyRequests, "insufficient_quota", logbuf.FailedBilling},        // OpenAI
		{http.StatusTooManyRequests, "billing_not_active", logbuf.FailedBilling},        // OpenAI
		{http.StatusForbidden, "billing", logbuf.FailedBilling},                         // Gemini, with a project unpaid
		{http.StatusTooManyRequests, "credit balance is too low", logbuf.FailedBilling}, // those in front of Anthropic
	} {
		if status == hint.status && strings.Contains(text, hint.text) {
			return hint.class
		}
	}
	return logbuf.ClassOfStatus(status)
}

// A question is a request to a provider.
type question struct {
	base   string // what the destination is checked by
	url    string
	header http.Header
	body   any                                                     // nil: a GET
	list   func(body []byte) (names []string, cut bool, err error) // reads the models of an answer
}

// modelList reads the names in an array of objects.
func modelList(array, name, prefix string) func([]byte) ([]string, bool, error) {
	return func(body []byte) (names []string, cut bool, err error) {
		var answer map[string]json.RawMessage
		var models []map[string]any
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, false, err
		}
		if err := json.Unmarshal(answer[array], &models); err != nil {
			return nil, false, err
		}
		if models == nil {
			return nil, false, fmt.Errorf("%s is null", array)
		}
		seen := map[string]bool{}
		for _, m := range models {
			text, _ := m[name].(string)
			text = strings.TrimPrefix(text, prefix)
			if seen[text] {
				continue
			}
			if len(names) == maxListed || !isModelName(text) {
				cut = true
				continue
			}
			seen[text] = true
			names = append(names, text)
		}
		return names, cut, nil
	}
}

// isModelName reports whether a text can be the name of an upstream model. With a * it would be a
// pattern in a provider's models.
func isModelName(s string) bool {
	return s != "" && len(s) <= 256 && utf8.ValidString(s) && !strings.Contains(s, "*") &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
