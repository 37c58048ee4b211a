package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/julienschmidt/httprouter"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/httpapi/internal/outbox"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// Options are the settings of [New]; nil and zero fields mean the defaults.
type Options struct {
	// Logger gets the causes of failures; never a secret. Defaults to the plane's.
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

	// Version is what GET /openapi.json says about the program. Defaults to the
	// version or the commit that the build recorded.
	Version string

	// ClientAddress tells from which address a request comes: failed
	// authentications are logged with it, and limited by it. Defaults to the
	// address of the connection. A server behind a proxy that it trusts may
	// return what the proxy says. It is called concurrently.
	ClientAddress func(*http.Request) string

	// Failures is how often an address may fail to authenticate. Defaults to 20 at once, and one
	// more every 3 seconds.
	Failures FailureLimit
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
	plane        *ezapi.Plane
	auth         Auth
	log          *slog.Logger
	observer     Observer
	dependencies dependencies
	heads        *shared[snapshot.Head] // for writes that wait until they are published
	scheme       Scheme
	throttle     *throttle
	address      func(*http.Request) string

	draining context.Context // ends when what waits should
	drain    context.CancelFunc

	router   *httprouter.Router
	literal  *httprouter.Router // see trees
	literals map[string]bool    // the paths that literal serves
	nouns    []reflect.Type     // in the order of their registration
	api      huma.API
	routes   []string
	spec     func() []byte // the OpenAPI document
	decoder  logbuf.Decoder
	decoding chan struct{} // a place for each processor
	planning chan struct{} // a place for one plan
	exports  chan struct{} // places for exports, each of which holds a connection of the catalog's
	inbox    inbox
	outbox   *outbox.Outbox
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
	h := &Handler{
		plane: plane, auth: auth, log: opts.Logger, observer: opts.Observer,
		scheme: schemeOf(auth), throttle: newThrottle(schemeOf(auth), opts.Failures), address: opts.ClientAddress,
	}
	if h.address == nil {
		h.address = remoteAddress
	}
	if h.log == nil {
		h.log = plane.Logger()
	}
	h.inbox, h.outbox = newInbox(), outbox.New()
	h.exporter = snapshot.NewExporter(plane.Publisher(), plane.SyncKeys())
	h.draining, h.drain = context.WithCancel(context.Background())
	h.heads = newShared(h.draining, plane.Sync)
	h.dependencies = newDependencies(plane, opts.Checks, h.log)
	h.decoder.Retention, h.decoder.Now = max(0, plane.LogRetention()), plane.LogTime
	h.decoding = make(chan struct{}, runtime.GOMAXPROCS(0))
	h.planning = make(chan struct{}, 1)
	h.exports = make(chan struct{}, exportsAtOnce)
	h.router, h.literal, h.literals = h.newRouter(), h.newRouter(), map[string]bool{}
	h.api = h.newAPI(cmp.Or(opts.Version, builtVersion()))
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
		newProblem(r.Context(), problemNotFound, "nothing is at this path").write(w)
	})
	r.MethodNotAllowed = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowHead(w.Header())
		newProblem(r.Context(), problemMethod, "the header Allow lists those that it has").write(w)
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
	x, r := newExchange(h.outbox.Answer(w, r), r)
	defer h.finish(x)
	router := h.router
	if h.literals[r.URL.Path] {
		router = h.literal
	}
	router.ServeHTTP(x, r)
}

// finish answers where a handler could not, sends the answer, and tells the observer.
func (h *Handler) finish(x *exchange) {
	defer x.Close()
	if cause := recover(); cause != nil {
		h.recovered(x, cause)
	}
	if !x.broken {
		h.send(x)
	}
	if h.observer != nil {
		h.observer.Request(x.route, x.Status(), time.Since(x.start))
	}
	if x.broken {
		panic(http.ErrAbortHandler) // the connection has to end, for the answer has not
	}
}

// send sends the answer, or that there is no room for it.
func (h *Handler) send(x *exchange) {
	err := x.End()
	if !errors.Is(err, outbox.ErrCrowded) {
		return // who does not read it has gone
	}
	if x.broken = x.Begun(); !x.broken {
		h.problem(x.context(), err).write(x)
		_ = x.End()
	}
}

// recovered answers after a panic, or says that it is too late to. A panic's
// value may be anything, a secret too: only those of the runtime are logged.
func (h *Handler) recovered(x *exchange, cause any) {
	x.broken = x.Begun()
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
		newProblem(x.context(), problemInternal, "").write(x)
	}
}
