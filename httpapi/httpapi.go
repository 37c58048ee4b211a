// Package httpapi is the documented HTTP surface of a control plane.
//
//	auth := httpapi.Tokens(httpapi.TokenList{Admin: []string{token}})
//	err := http.ListenAndServe(addr, httpapi.New(plane, auth, nil))
//
// It can be mounted under a prefix in another server: http.StripPrefix in front
// is enough, for all its links are relative. GET /openapi.json describes every
// route. Errors are problem documents (RFC 9457), which never repeat a value of the request.
package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/julienschmidt/httprouter"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// Options are the settings of [New]; nil and zero fields mean the defaults.
type Options struct {
	// Logger gets the causes of failures; never a secret. Defaults to
	// slog.Default().
	Logger *slog.Logger

	// Checks are what GET /readyz asks beside the plane's own engines, by the
	// name under which it shows them. A check that fails makes the server
	// degraded. Defaults to none.
	Checks map[string]Check

	// Metrics is served at GET /metrics, to viewers. Defaults to nothing: the
	// route is not there.
	Metrics http.Handler

	// Observer is told about every request. Defaults to nobody.
	Observer Observer

	// Version is what GET /openapi.json says about the program. Defaults to "dev".
	Version string
}

// Observer is told what the API does, for metrics. It is called concurrently
// and must not block.
type Observer interface {
	// Request is called after each request. The route is one of
	// [Handler.Routes], or "other" where none fits.
	Request(route string, status int, took time.Duration)

	// Ingest is called for each body of POST /logs that could be read. What it
	// holds must not be kept.
	Ingest(logbuf.Decoded)
}

// Handler serves the API. It is safe for concurrent use.
type Handler struct {
	plane    *ezapi.Plane
	auth     Auth
	log      *slog.Logger
	observer Observer
	health   health

	draining context.Context // ends when what waits should
	drain    context.CancelFunc

	router   *httprouter.Router
	api      huma.API
	routes   []string
	spec     []byte
	decoder  logbuf.Decoder
	decoding chan struct{} // a place for each processor
	inbox    inbox
	exporter *snapshot.Exporter
}

var _ http.Handler = (*Handler)(nil)

// New returns the HTTP surface of a plane. It panics without a plane or an
// auth, so that nobody forgets it: see [Tokens]. A nil opts means the defaults.
func New(plane *ezapi.Plane, auth Auth, opts *Options) *Handler {
	if plane == nil || auth == nil {
		panic("httpapi: New needs a plane, and an Auth such as Tokens returns")
	}
	if opts == nil {
		opts = &Options{}
	}
	h := &Handler{plane: plane, auth: auth, log: opts.Logger, observer: opts.Observer}
	if h.log == nil {
		h.log = slog.Default()
	}
	h.exporter = snapshot.NewExporter(plane.Publisher(), plane.SyncKeys())
	h.draining, h.drain = context.WithCancel(context.Background())
	h.health = newHealth(plane, opts.Checks, h.log)
	h.decoder.Retention = max(0, plane.LogRetention())
	h.decoding = make(chan struct{}, runtime.GOMAXPROCS(0))
	h.router = h.newRouter()
	h.api = newAPI(h.router, opts.Version)
	h.register(opts)
	h.describe()
	return h
}

// Routes returns every route as it is called in metrics and in the OpenAPI
// document, such as "PATCH /keys/{id}".
func (h *Handler) Routes() []string { return append([]string(nil), h.routes...) }

func (h *Handler) newRouter() *httprouter.Router {
	r := httprouter.New()
	r.RedirectTrailingSlash, r.RedirectFixedPath = false, false
	r.NotFound = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		newProblem(r.Context(), notFound, "nothing is at this path").write(w)
	})
	r.MethodNotAllowed = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowHead(w.Header())
		newProblem(r.Context(), methodNotAllowed, "header Allow says which are").write(w)
	})
	r.GlobalOPTIONS = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		allowHead(w.Header())
		w.WriteHeader(http.StatusNoContent)
	})
	return r
}

// Drain ends at once what only waits: deltas that balancers follow, and writes
// that wait until they are published or applied, which then are answered as far as they came. Call it when
// a server shuts down; see [http.Server.RegisterOnShutdown].
func (h *Handler) Drain() { h.drain() }

// waiting returns a context for what only waits, and for no longer than limit.
func (h *Handler) waiting(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(h.draining, cancel)
	return ctx, func() { stop(); cancel() }
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x, r := newExchange(w, r)
	defer h.finish(x)
	h.router.ServeHTTP(x, r)
}

// finish tells the observer, and answers where a handler could not.
func (h *Handler) finish(x *exchange) {
	cause := recover()
	if cause != nil {
		h.recovered(x, cause)
	}
	if h.observer != nil {
		h.observer.Request(x.route, x.status, time.Since(x.start))
	}
	if cause != nil && x.broken {
		panic(http.ErrAbortHandler) // the connection has to end, for the answer has not
	}
}

// recovered answers after a panic, or says that it is too late to. A panic's
// value may be anything, a secret too: only those of the runtime are logged.
func (h *Handler) recovered(x *exchange, cause any) {
	x.broken = x.status != 0
	if cause == http.ErrAbortHandler { //nolint:errorlint // it is never wrapped
		x.broken = true
		return
	}
	text := fmt.Sprintf("%T", cause)
	if err, ok := cause.(interface {
		error
		RuntimeError()
	}); ok {
		text = err.Error()
	}
	h.log.Error("a handler panicked", "panic", text, "route", x.route, "request_id", x.id, "stack", stack())
	if !x.broken {
		newProblem(context.WithValue(context.Background(), exchangeKey{}, x), internal, "").write(x)
	}
}
