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
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	endpoint    = "/v1/chat/completions"
	maxBody     = 32 << 20
	maxAttempts = 5
)

// A gateway answers chat requests: it looks up who asks and who can serve in a
// View, and asks no database and no Redis.
type gateway struct {
	name   string                // of this balancer, in logs
	view   func() *snapshot.View // the current one
	client *http.Client          // to upstreams
	logs   logbuf.Buffer
	logger *slog.Logger
}

func (g *gateway) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+endpoint, g.chat)
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
}

func (g *gateway) chat(w http.ResponseWriter, r *http.Request) {
	x := &exchange{gateway: g, w: w, r: r, start: time.Now()}
	x.entry = logbuf.Entry{
		Time: x.start, RequestID: uuid.NewString(), Balancer: g.name, Endpoint: endpoint,
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

	token, _ := strings.CutPrefix(x.r.Header.Get("Authorization"), "Bearer ")
	key, err := view.Authenticate(token, clientAddr(x.r), x.start)
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
	x.forward(chat, targets)
}

// forward tries the targets in order, until one gives an answer that is worth
// passing on. Nothing is sent to the client before that.
func (x *exchange) forward(chat *chatRequest, targets []snapshot.Target) {
	x.entry.Namespace, x.entry.Model = targets[0].Namespace, targets[0].Model
	targets = targets[:min(len(targets), maxAttempts)]
	for i, target := range targets {
		last := i == len(targets)-1
		x.entry.Attempts = i + 1
		x.entry.ProviderID, x.entry.UpstreamModel = target.Provider.ID, target.UpstreamModel
		resp, err := x.ask(chat, target)
		switch {
		case x.r.Context().Err() != nil: // nobody waits for an answer
			if err == nil {
				_ = resp.Body.Close()
			}
			x.entry.Status, x.entry.Error = 499, "client went away"
			return
		case err != nil:
			x.logger.Warn("upstream failed", "provider_id", target.Provider.ID, "error", err)
			if last {
				x.refuse(http.StatusBadGateway, errors.New("no upstream could be reached"))
			}
		case retriable(resp.StatusCode) && !last:
			x.logger.Warn("upstream refused", "provider_id", target.Provider.ID, "status", resp.StatusCode)
			_ = resp.Body.Close()
		default:
			x.answer(resp, chat)
			return
		}
	}
}

// retriable reports whether another upstream may do better.
func retriable(status int) bool { return status == http.StatusTooManyRequests || status >= 500 }

// ask sends the request to one upstream.
func (x *exchange) ask(chat *chatRequest, target snapshot.Target) (*http.Response, error) {
	url, err := chatURL(target.Provider)
	if err != nil {
		return nil, err
	}
	body, err := chat.upstreamBody(target.UpstreamModel)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(x.r.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Authorization", "Bearer "+target.Provider.APIKey.Reveal())
	req.Header.Set("X-Request-ID", x.entry.RequestID)
	return x.client.Do(req)
}

// chatURL returns where a provider takes chat requests. A base_url with and one
// without /v1 are both usual.
func chatURL(p *snapshot.Provider) (string, error) {
	base := p.BaseURL
	switch p.Type {
	case "openai":
		if base == "" {
			base = "https://api.openai.com"
		}
	case "compatible", "custom":
	default:
		return "", fmt.Errorf("this balancer does not speak the protocol of type %q", p.Type)
	}
	return strings.TrimSuffix(strings.TrimRight(base, "/"), "/v1") + endpoint, nil
}

// answer passes an upstream's answer on. When it breaks off in the middle, so
// does ours: the client must not take half an answer for a whole one.
func (x *exchange) answer(resp *http.Response, chat *chatRequest) {
	defer resp.Body.Close() //nolint:errcheck // only read
	if err := x.pass(resp, chat); err != nil {
		x.entry.Error = "the answer broke off: " + err.Error()
		panic(http.ErrAbortHandler)
	}
}

// refuse answers in the form that OpenAI clients understand.
func (x *exchange) refuse(status int, err error) {
	var held *snapshot.ErrHeld
	if errors.As(err, &held) { // such as when a budget is used up
		status = http.StatusTooManyRequests
		x.w.Header().Set("Retry-After", strconv.Itoa(int(held.RetryAfter(time.Now()).Seconds())))
	}
	x.entry.Status, x.entry.Error = status, err.Error()
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
	case status >= 500:
		return "server_error"
	}
	return "invalid_request_error"
}

// statusOf says how a refusal of the View is answered.
func statusOf(err error) int {
	for refusal, status := range map[snapshot.Refusal]int{
		snapshot.ErrUnknownToken:  http.StatusUnauthorized,
		snapshot.ErrKeyDisabled:   http.StatusUnauthorized,
		snapshot.ErrKeyExpired:    http.StatusUnauthorized,
		snapshot.ErrAddress:       http.StatusForbidden,
		snapshot.ErrUnknownModel:  http.StatusNotFound,
		snapshot.ErrNamespace:     http.StatusForbidden,
		snapshot.ErrNotAllowed:    http.StatusForbidden,
		snapshot.ErrModelDisabled: http.StatusNotFound,
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
