package console

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/httpapi/internal/outbox"
	"github.com/ez-api/ez-api/httpapi/internal/room"
)

// Options are the settings of [New]; nil and zero fields mean the defaults.
type Options struct {
	// Logger gets the causes of failures; never a secret. Defaults to the plane's.
	Logger *slog.Logger

	// Key seals the cookies of sessions. It is 32 random bytes, the same in all servers that the
	// requests of one person may reach. Defaults to a key that New makes: sessions then end with
	// the process, and are valid at this server alone.
	Key []byte

	// ClientAddress tells from which address a request comes: failed sign-ins are limited by it.
	// Defaults to the address of the connection. A server behind a proxy that it trusts may
	// return what the proxy says. It is called concurrently.
	ClientAddress func(*http.Request) string

	// OIDC lets people sign in through an identity provider, beside tokens; see [NewOIDC]. Defaults
	// to none.
	OIDC *OIDC

	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
}

// Console serves the pages. It is safe for concurrent use.
type Console struct {
	log      *slog.Logger
	now      func() time.Time
	sessions sessions
	forms    *onceForms
	oidc     *OIDC // nil: nobody signs in through an identity provider
	nouns    nounTable
	outbox   *outbox.Outbox
	room     *room.Room // for forms
	openRoom *room.Room // for those of who is not signed in

	// load makes what follows, at the first request: it takes some megabytes, and many servers are
	// never asked for a page.
	load    func() error
	api     *httpapi.Handler // of the console's own, for callers that it has authenticated
	client  *client.Client   // of api
	views   views
	assets  assets
	handler http.Handler
}

var _ http.Handler = (*Console)(nil)

// How often an address may fail to sign in: five times, and once more every twelve seconds.
const (
	signInBurst  = 5
	signInRefill = 12 * time.Second
)

// New returns the console of a plane. auth decides who signs in: it is given a request with the token
// as "Authorization: Bearer TOKEN", as by [httpapi.Tokens]. Operators of the catalog sign in with
// their tokens too. A nil opts means the defaults.
func New(plane *ezapi.Plane, auth httpapi.Auth, opts *Options) (*Console, error) {
	if plane == nil || auth == nil {
		return nil, errors.New("console: New needs a plane, and an Auth such as httpapi.Tokens returns")
	}
	if opts == nil {
		opts = &Options{}
	}
	key := opts.Key
	if key == nil {
		key = make([]byte, keySize)
		_, _ = rand.Read(key) // it never fails
	}
	sealer, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	c := &Console{
		log: opts.Logger, now: opts.Clock, sessions: sessions{sealer}, oidc: opts.OIDC, nouns: newNouns(),
		forms: &onceForms{forms: map[onceKey]*onceForm{}}, outbox: outbox.New(),
		room: room.New(maxForms), openRoom: room.New(maxOpen),
	}
	if c.log == nil {
		c.log = plane.Logger()
	}
	if c.now == nil {
		c.now = time.Now
	}
	c.load = sync.OnceValue(func() error { return c.prepare(plane, auth, opts.ClientAddress) })
	return c, nil
}

// prepare makes what requests need.
func (c *Console) prepare(plane *ezapi.Plane, auth httpapi.Auth, address func(*http.Request) string) (err error) {
	c.api = httpapi.New(plane, signedIn(auth), &httpapi.Options{
		Logger: c.log, ClientAddress: address,
		Failures: httpapi.FailureLimit{Burst: signInBurst, Refill: signInRefill},
	})
	c.client, err = client.New("http://console", "", &client.Options{
		HTTP: &http.Client{Transport: inProcess{c.api}}, Tries: 1, UserAgent: "ez-api-console",
	})
	if err != nil {
		return err
	}
	if c.assets, err = loadAssets(); err != nil {
		return err
	}
	if c.views, err = loadViews(c); err != nil {
		return err
	}
	c.handler = http.NewCrossOriginProtection().Handler(c.routes())
	return nil
}

// ServeHTTP implements [http.Handler]. The path "/" of the request is the overview.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if err := c.load(); err != nil {
		c.log.ErrorContext(r.Context(), "the console cannot be loaded", "error", err)
		http.Error(w, "The console cannot be loaded; the server's log says why.", http.StatusInternalServerError)
		return
	}
	answer := c.outbox.Answer(w, r)
	defer answer.Close()
	c.handler.ServeHTTP(answer, r)
	if err := answer.End(); !errors.Is(err, outbox.ErrCrowded) {
		return // who does not read it has gone
	}
	if !answer.Reset() {
		panic(http.ErrAbortHandler) // whoever reads it has to see that it has no end
	}
	h.Set("Retry-After", "5")
	http.Error(answer, "Too many large pages are being read; try again in a few seconds.",
		http.StatusServiceUnavailable)
	_ = answer.End()
}

const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"

// routes says what there is.
func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /static/{name}", c.assets.serve)
	open := func(pattern string, do func(*page) error) { mux.HandleFunc(pattern, c.open(do)) }
	serve := func(pattern string, do func(*page) error) { mux.HandleFunc(pattern, c.signedIn(do)) }
	// What is typed in these is carried through a sign-in that they meet.
	keep := func(pattern string, do func(*page) error) { mux.HandleFunc(pattern, c.kept(do)) }

	open("GET /signin", (*page).signInForm)
	open("POST /signin", (*page).signIn)
	open("POST /signout", (*page).signOut)
	if c.oidc != nil {
		open("GET /signin/provider", (*page).toProvider)
		open("GET /"+callbackPath, (*page).callback)
		open("POST /signin/as", (*page).choose)
	}
	open("POST /settings", (*page).settings)

	serve("GET /{$}", (*page).overview)
	serve("GET /progress", (*page).progress)
	serve("GET /logs", (*page).logs)
	serve("GET /logs/entry", (*page).logEntry)
	serve("GET /logs.csv", (*page).logsCSV)
	serve("GET /usage", (*page).usage)
	serve("GET /usage.csv", (*page).usageCSV)
	serve("GET /explain", (*page).explain)
	serve("GET /lookup", (*page).lookupForm)
	serve("POST /lookup", (*page).lookup)
	serve("GET /changes", (*page).changes)
	serve("GET /revert", (*page).revert)
	keep("POST /revert", (*page).revert)
	serve("GET /bindings/selector", (*page).selector)
	serve("GET /budgets", (*page).budgets)
	serve("GET /unpriced", (*page).unpriced)
	serve("GET /models/prices", (*page).pricesForm)
	keep("POST /models/prices", (*page).prices)
	serve("GET /alerts", (*page).alerts)
	serve("GET /alerts/test", func(p *page) error { return p.backTo("alerts") })
	serve("POST /alerts/test", (*page).testAlert)
	serve("GET /system", (*page).system)
	serve("GET /system/resync", func(p *page) error { return p.backTo("system") })
	serve("POST /system/resync", (*page).resync)
	serve("GET /apply", (*page).applyForm)
	keep("POST /apply", (*page).apply)
	serve("GET /export.json", (*page).export)
	for _, n := range c.nouns {
		path := "/" + string(n.kind)
		of := func(do func(*page, *noun) error) func(*page) error {
			return func(p *page) error { return do(p, n) }
		}
		serve("GET "+path, of((*page).list))
		serve("GET "+path+"/new", of((*page).newForm))
		keep("POST "+path+"/new", of((*page).create))
		serve("GET "+path+"/{id}", of((*page).detail))
		serve("GET "+path+"/{id}/edit", of((*page).editForm))
		keep("POST "+path+"/{id}/edit", of((*page).edit))
		serve("GET "+path+"/{id}/status", of((*page).statusForm))
		serve("POST "+path+"/{id}/status", of((*page).setStatus))
		serve("GET "+path+"/{id}/delete", of((*page).deleteForm))
		serve("POST "+path+"/{id}/delete", of((*page).delete))
		if n.kind == catalog.KindProvider {
			serve("GET "+path+"/{id}/test", of((*page).backFromTest))
			serve("POST "+path+"/{id}/test", of((*page).test))
			serve("GET "+path+"/{id}/upstream-models", of((*page).upstreamModels))
			serve("POST "+path+"/{id}/upstream-models", of((*page).addModels))
		}
		if n.kind.HasTokens() {
			serve("GET "+path+"/{id}/rotate", of((*page).rotateForm))
			serve("POST "+path+"/{id}/rotate", of((*page).rotate))
		}
	}
	serve("/", func(*page) error { return errNoPage })
	return mux
}
