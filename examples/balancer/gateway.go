package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	maxBody     = 32 << 20
	maxAttempts = 5 // an entry of the log has room for 8 failures
)

// endpoints are the paths of OpenAI's API that are forwarded. Their bodies name a model, and are
// otherwise passed through.
func endpoints() []string {
	return []string{"/v1/chat/completions", "/v1/completions", embeddings}
}

const embeddings = "/v1/embeddings"

// A gateway answers requests: it looks up who asks and who can serve in a
// View, and asks no database and no Redis.
type gateway struct {
	name    string                // of this balancer, in logs
	view    func() *snapshot.View // the current one
	breaker *snapshot.Breaker     // what failed here a moment ago
	client  *http.Client          // to upstreams
	logs    logbuf.Buffer
	logger  *slog.Logger
}

func (g *gateway) handler() http.Handler {
	mux := http.NewServeMux()
	for _, endpoint := range endpoints() {
		mux.HandleFunc("POST "+endpoint, g.forwardTo)
	}
	mux.HandleFunc("GET /v1/models", g.models)
	mux.HandleFunc("GET /healthz", g.health)
	return mux
}

// health says whether there is something to serve from.
func (g *gateway) health(w http.ResponseWriter, _ *http.Request) {
	position := g.view().Position()
	if position == (snapshot.Position{}) {
		http.Error(w, "no snapshot has been loaded yet", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, position)
}

// An exchange is one request on its way.
type exchange struct {
	*gateway
	w     http.ResponseWriter
	r     *http.Request
	start time.Time
	entry logbuf.Entry // what goes into the log

	receiver *receiver // of an answer that has begun
	noted    bool      // the upstream has said the usage
	answered int64     // tokens that the answer has had, about
}

// models lists what the key can ask for.
func (g *gateway) models(w http.ResponseWriter, r *http.Request) {
	x := &exchange{gateway: g, w: w, r: r, start: time.Now()}
	view := g.view()
	key, err := view.Authenticate(bearer(r), clientAddr(r), x.start)
	if err != nil {
		x.refuse(statusOf(err), err)
		return
	}
	data := []map[string]any{}
	for _, m := range view.Models(key) {
		data = append(data, map[string]any{"id": m.Name, "object": "model", "created": 0, "owned_by": m.Model.Namespace})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "data": data})
}

// bearer returns the token of a request.
func bearer(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}

// forwardTo answers what is forwarded.
func (g *gateway) forwardTo(w http.ResponseWriter, r *http.Request) {
	x := &exchange{gateway: g, w: w, r: r, start: time.Now()}
	x.entry = logbuf.Entry{
		Time: x.start, RequestID: uuid.NewString(), Balancer: g.name, Endpoint: r.URL.Path,
		ClientIP: clientAddr(r).String(), UserAgent: r.UserAgent(),
	}
	w.Header().Set("X-Request-ID", x.entry.RequestID)
	defer x.log() // also when a broken stream panics
	x.serve()
}

// log appends the entry, whatever has become of the request. The buffer sends
// it to the control plane later.
func (x *exchange) log() {
	x.entry.LatencyMS = x.elapsed()
	if err := x.logs.Append(context.WithoutCancel(x.r.Context()), x.entry); err != nil {
		x.logger.Error("access log entry lost", "request_id", x.entry.RequestID, "error", err)
	}
}

func (x *exchange) serve() {
	view := x.view() // one for the whole request: everything found belongs together
	x.entry.Revision = view.Position().String()

	key, err := view.Authenticate(bearer(x.r), clientAddr(x.r), x.start)
	if key != nil {
		x.entry.KeyID, x.entry.Group, x.entry.Namespace = key.ID, key.Group, key.DefaultNamespace
		x.entry.Project = key.Project
	}
	if err != nil {
		x.refuse(statusOf(err), err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, maxBody))
	if err != nil {
		x.refuse(http.StatusRequestEntityTooLarge, errors.New("the body cannot be read or is too large"))
		return
	}
	chat, err := parseChat(body)
	if err != nil {
		x.refuse(http.StatusBadRequest, err)
		return
	}
	x.entry.Model, x.entry.Stream = chat.model, chat.stream
	targets, err := view.Route(key, chat.model, x.start)
	if err != nil {
		x.refuse(statusOf(err), err)
		return
	}
	x.breaker.Order(targets)
	x.forward(chat, targets)
}

// forward tries the targets in order, until one gives an answer that is worth
// passing on. Nothing is sent to the client before that.
func (x *exchange) forward(chat *chatRequest, targets []snapshot.Target) {
	x.entry.Namespace, x.entry.Model = targets[0].Namespace, targets[0].Model
	targets = targets[:min(len(targets), maxAttempts)]
	ctx, begins, cancel := upstreamContext(x.r.Context())
	defer cancel()
	for i, target := range targets {
		last := i == len(targets)-1
		x.entry.Attempts = i + 1
		x.entry.ProviderID, x.entry.UpstreamModel = target.Provider.ID, target.UpstreamModel
		begun := time.Now()
		resp, err := x.ask(ctx, chat, target)
		if x.r.Context().Err() != nil { // nobody waits for an answer
			if err == nil {
				_ = resp.Body.Close()
			}
			x.entry.Status, x.entry.Error = 499, "client went away"
			return
		}
		f := failureOf(resp, err, begun)
		if f == nil {
			begins()
			x.answer(resp, chat, target)
			return
		}
		x.failed(target, f)
		switch {
		case last && passedOn(resp, f):
			_ = resp.Body.Close()
			if f.RetryAfterMS > 0 {
				x.w.Header().Set("Retry-After", strconv.FormatInt((f.RetryAfterMS+999)/1000, 10))
			}
			x.refuse(f.Status, fmt.Errorf("the upstream failed: %d %s", f.Status, http.StatusText(f.Status)))
			return
		case err == nil:
			_ = resp.Body.Close()
		}
	}
	x.refuse(http.StatusBadGateway, errors.New("no upstream could serve the request"))
}

// failed takes note of an attempt that failed by what is not the client's fault: for the log, from which
// the control plane judges providers, and for the next requests.
func (x *exchange) failed(target snapshot.Target, f *logbuf.Failure) {
	f.ProviderID, f.UpstreamModel = target.Provider.ID, target.UpstreamModel
	x.entry.Failures = append(x.entry.Failures, *f)
	x.breaker.Failed(target, time.Duration(f.RetryAfterMS)*time.Millisecond)
	x.logger.Warn("upstream failed", "provider_id", f.ProviderID, "class", f.Class, "status", f.Status)
}

// passedOn reports whether the client gets the status of the last failure, though never the text of
// the upstream, which may name our account there. When an upstream refuses our credential, the
// client does not get that status, because it would think that its own token was refused; nor does
// it get a redirect, which it could not follow.
func passedOn(resp *http.Response, f *logbuf.Failure) bool {
	return resp != nil && f.Status >= 400 && f.Class != logbuf.FailedAuth && f.Class != logbuf.FailedBilling
}

// upstreamContext returns a context that ends with the client's, and once begins was called, not before
// the answer could be read on for its usage.
func upstreamContext(client context.Context) (ctx context.Context, begins, cancel func()) {
	ctx, end := context.WithCancel(context.WithoutCancel(client))
	var longer atomic.Bool
	stop := context.AfterFunc(client, func() {
		if longer.Load() {
			select {
			case <-time.After(readOn):
			case <-ctx.Done():
			}
		}
		end()
	})
	return ctx, func() { longer.Store(true) }, func() { stop(); end() }
}

// ask sends the request to one upstream.
func (x *exchange) ask(ctx context.Context, chat *chatRequest, target snapshot.Target) (*http.Response, error) {
	url, err := upstreamURL(target.Provider, x.entry.Endpoint)
	if err != nil {
		return nil, err
	}
	body, err := chat.upstreamBody(target.UpstreamModel)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Authorization", "Bearer "+target.Provider.APIKey.Reveal())
	req.Header.Set("X-Request-ID", x.entry.RequestID)
	return x.client.Do(req)
}

// upstreamURL returns where a provider takes requests for an endpoint of ours, which begins with /v1.
func upstreamURL(p *snapshot.Provider, endpoint string) (string, error) {
	switch p.Type {
	case "openai", "compatible", "custom":
		return p.Destination().API() + strings.TrimPrefix(endpoint, "/v1"), nil
	}
	return "", fmt.Errorf("this balancer does not speak the protocol of type %q", p.Type)
}

// answer passes an upstream's answer on. When it breaks off in the middle, so
// does ours: the client must not take half an answer for a whole one.
func (x *exchange) answer(resp *http.Response, chat *chatRequest, target snapshot.Target) {
	defer resp.Body.Close() //nolint:errcheck // only read
	err := x.pass(resp, chat)
	x.estimate(chat)
	if err == nil && len(x.entry.Failures) < x.entry.Attempts { // it is no failure
		x.breaker.Succeeded(target)
	}
	switch {
	case x.receiver.gone != nil, err != nil && x.r.Context().Err() != nil:
		x.entry.Error = "the client went away"
		panic(http.ErrAbortHandler)
	case err != nil:
		x.entry.Error = "the answer broke off: " + err.Error()
		x.failed(target, &logbuf.Failure{Status: resp.StatusCode, Class: logbuf.FailedNetwork, LatencyMS: x.elapsed()})
		panic(http.ErrAbortHandler)
	}
}

// refuse answers in the form that OpenAI clients understand.
func (x *exchange) refuse(status int, err error) {
	x.entry.Status, x.entry.Error = status, err.Error()
	if held, ok := errors.AsType[*snapshot.ErrHeld](err); ok {
		x.w.Header().Set("Retry-After", strconv.Itoa(int(held.RetryAfter(x.start).Seconds())))
	}
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(status)
	_ = json.NewEncoder(x.w).Encode(map[string]any{
		"error": map[string]any{"message": err.Error(), "type": errorType(status)},
	})
}

func errorType(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= 500:
		return "server_error"
	}
	return "invalid_request_error"
}

// statusOf says how a refusal of the View is answered.
func statusOf(err error) int {
	if _, held := errors.AsType[*snapshot.ErrHeld](err); held {
		return http.StatusTooManyRequests
	}
	for refusal, status := range map[snapshot.Refusal]int{
		snapshot.ErrUnknownToken:  http.StatusUnauthorized,
		snapshot.ErrKeyDisabled:   http.StatusUnauthorized,
		snapshot.ErrKeyExpired:    http.StatusUnauthorized,
		snapshot.ErrAddress:       http.StatusForbidden,
		snapshot.ErrUnknownModel:  http.StatusNotFound,
		snapshot.ErrNamespace:     http.StatusForbidden,
		snapshot.ErrNotAllowed:    http.StatusForbidden,
		snapshot.ErrModelDisabled: http.StatusNotFound,

		snapshot.ErrUnknownProject:   http.StatusForbidden,
		snapshot.ErrProjectDisabled:  http.StatusForbidden,
		snapshot.ErrProjectNamespace: http.StatusForbidden,
		snapshot.ErrProjectGroup:     http.StatusForbidden,
		snapshot.ErrProjectModel:     http.StatusForbidden,
	} {
		if errors.Is(err, refusal) {
			return status
		}
	}
	return http.StatusServiceUnavailable
}

// clientAddr returns who is on the other end. Behind a proxy that would be the
// proxy: such a balancer has to read the header that its proxy sets.
func clientAddr(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(host) // the zero Addr is in no range
	return addr.Unmap()
}
