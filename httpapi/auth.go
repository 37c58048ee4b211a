package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// Role says what a caller may do.
type Role string

// The roles. Viewer and Balancer each may do a part of what Admin may.
const (
	Admin    Role = "admin"    // everything
	Viewer   Role = "viewer"   // reads, but never secrets, which nobody can read
	Balancer Role = "balancer" // reads snapshots, posts logs and reports about itself

	everybody Role = "" // of routes: nobody has to say who they are
)

// may reports whether a caller of the role may use a route that is for another.
func (r Role) may(route Role) bool {
	return route == everybody || r == Admin || r == route && (r == Viewer || r == Balancer)
}

// Caller is who makes a request.
type Caller struct {
	Role Role

	// Actor and Reason are what the change feed records about writes. The
	// actor defaults to the role.
	Actor, Reason string

	// Project limits the caller to a project and all below it: its keys, their logs and
	// usage. "" limits nothing. It is for Admin and Viewer.
	Project string
}

// ErrUnauthenticated is what an [Auth] returns, or wraps, when a request does
// not prove who makes it.
var ErrUnauthenticated = errors.New("unauthenticated")

// Auth decides who makes a request. Implementations are safe for concurrent
// use. An error that wraps ErrUnauthenticated is answered with 401, any other with
// 500, and logged. An error's text goes to the log, so it must not hold credentials.
//
// An Auth that is a [Describer] too says in its own words how to authenticate.
type Auth interface {
	Authenticate(r *http.Request) (Caller, error)
}

// AuthFunc is a function as an [Auth].
type AuthFunc func(r *http.Request) (Caller, error)

// Authenticate calls f.
func (f AuthFunc) Authenticate(r *http.Request) (Caller, error) { return f(r) }

// Describer is implemented by an [Auth] that says how callers prove who they are. If an Auth does
// not implement it, the answers with status 401 name no way to authenticate.
type Describer interface {
	Scheme() Scheme
}

// TokenHolder is implemented by an [Auth] that knows callers by tokens. Such a token is refused as
// the token of a key or of an operator, because its holder could then also do what the token allows
// here.
type TokenHolder interface {
	// HoldsToken reports whether a caller is known by the token with a hash, see [catalog.HashToken].
	// It is called concurrently.
	HoldsToken(hash string) bool
}

// Scheme says how callers prove who they are. Empty fields are left out.
type Scheme struct {
	// Name is what the OpenAPI document calls the scheme. Defaults to "auth".
	Name string

	// Type is that of an OpenAPI security scheme: http, apiKey, mutualTLS or
	// openIdConnect. Without it the OpenAPI document has no security scheme.
	Type string

	// HTTPScheme is the scheme in the Authorization header, such as basic, for
	// the type http.
	HTTPScheme string

	// In and Parameter say where the key is, for the type apiKey: in a header,
	// a query or a cookie of that name.
	In, Parameter string

	// DiscoveryURL is where an OpenID provider describes itself, for the type
	// openIdConnect.
	DiscoveryURL string

	// Description is for the readers of the OpenAPI document.
	Description string

	// Challenge is the header WWW-Authenticate of a 401, such as `Basic realm="x"`.
	Challenge string

	// Remedy is the detail of a 401: what to do, in one sentence.
	Remedy string
}

// WithScheme returns an Auth that decides as auth does, and is described by s.
func WithScheme(auth Auth, s Scheme) Auth { return described{auth, s} }

type described struct {
	Auth
	scheme Scheme
}

// Scheme implements [Describer].
func (d described) Scheme() Scheme { return d.scheme }

// HoldsToken implements [TokenHolder].
func (d described) HoldsToken(hash string) bool {
	holder, ok := d.Auth.(TokenHolder)
	return ok && holder.HoldsToken(hash)
}

// TokenList holds the bearer tokens of each role. Tokens are secrets: let them
// be random and at least 32 characters long. Empty ones are left out. A token that is in
// several lists has the first of its roles in the order of the fields.
type TokenList struct {
	Admin    []string
	Viewer   []string // without any, only Admin may view
	Balancer []string // without any, only Admin may do what balancers do
}

// Tokens returns an Auth that knows callers by "Authorization: Bearer TOKEN".
// It keeps only the tokens' hashes, and compares in constant time. The actor of
// writes is the role and a fingerprint of the token, such as "admin:3f1c09ab".
func Tokens(list TokenList) Auth {
	var known tokens
	for _, of := range []struct {
		role   Role
		tokens []string
	}{{Admin, list.Admin}, {Viewer, list.Viewer}, {Balancer, list.Balancer}} {
		for _, t := range of.tokens {
			if t != "" {
				caller := Caller{Role: of.role, Actor: string(of.role) + ":" + fingerprint(t)}
				known = append(known, token{sha256.Sum256([]byte(t)), caller})
			}
		}
	}
	return known
}

type tokens []token

var _ interface {
	Auth
	Describer
	TokenHolder
} = tokens(nil)

type token struct {
	hash   [sha256.Size]byte
	caller Caller
}

// fingerprint tells tokens apart. It is no part of the hash by which they are known.
func fingerprint(t string) string {
	sum := sha256.Sum256([]byte("ezapi actor\x00" + t))
	return hex.EncodeToString(sum[:4])
}

// Authenticate compares with every token, also after one has matched, so that the time that it
// takes does not tell which one it was.
func (known tokens) Authenticate(r *http.Request) (Caller, error) {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	hash := sha256.Sum256([]byte(strings.TrimSpace(text)))
	found := -1
	for i := len(known) - 1; i >= 0; i-- {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], known[i].hash[:]), i, found)
	}
	if found < 0 || !strings.EqualFold(scheme, "Bearer") {
		return Caller{}, ErrUnauthenticated
	}
	return known[found].caller, nil
}

// Scheme implements [Describer].
func (tokens) Scheme() Scheme {
	return Scheme{
		Name: "bearer", Type: "http", HTTPScheme: "bearer", Challenge: `Bearer realm="ezapi"`,
		Description: "A token of the role that the operation names.",
		Remedy:      "send Authorization: Bearer TOKEN with a token that is valid",
	}
}

// HoldsToken implements [TokenHolder].
func (known tokens) HoldsToken(hash string) bool {
	return slices.ContainsFunc(known, func(t token) bool { return hex.EncodeToString(t.hash[:]) == hash })
}

// schemeOf returns how an Auth is described.
func schemeOf(auth Auth) (s Scheme) {
	if d, ok := auth.(Describer); ok {
		s = d.Scheme()
	}
	if s.Name == "" {
		s.Name = "auth"
	}
	return s
}

// enter returns the context of a caller who may use a route for the role. Who may not
// leaves a line in the log, without their credentials.
func (h *Handler) enter(r *http.Request, route Role) (context.Context, error) {
	ctx := r.Context()
	if route == everybody {
		return ctx, nil
	}
	caller, err := h.Caller(r)
	if err != nil {
		return ctx, err
	}
	if !caller.Role.may(route) {
		h.logRefusal(r, "a caller was refused by its role", "actor", caller.Actor, "needs", string(route))
		return ctx, errForbidden
	}
	if caller.Project != "" && reachOf(exchangeOf(ctx).route) == reachNothing {
		h.logRefusal(r, "a caller was refused because it is limited to a project", "actor", caller.Actor)
		return ctx, errLimited
	}
	if holder, ok := h.auth.(TokenHolder); ok {
		ctx = catalog.WithReservedTokens(ctx, holder.HoldsToken)
	}
	ctx = catalog.WithinProject(ctx, caller.Project)
	return catalog.WithActor(ctx, caller.Actor, caller.Reason), nil
}

// Caller returns who makes a request, as every route finds it out: by the Auth, or else as an
// operator of the catalog. The error wraps [ErrUnauthenticated], or is a [ThrottledError] while the
// request's address has failed too often. It is for a program that serves pages of its own beside
// the API.
func (h *Handler) Caller(r *http.Request) (Caller, error) {
	caller, err := h.authenticate(r)
	if err == nil && caller.Actor == "" {
		caller.Actor = string(caller.Role)
	}
	return caller, err
}

// authenticate asks the Auth, and limits how often an address may fail.
func (h *Handler) authenticate(r *http.Request) (Caller, error) {
	address, credentials := h.address(r), h.throttle.credentials(r)
	if err := h.throttle.check(throttledBy(address), credentials); err != nil {
		return Caller{}, err
	}
	caller, err := h.identify(r)
	switch {
	case errors.Is(err, ErrUnauthenticated):
		h.logRefusal(r, "a request was not authenticated", "error", err)
		if h.throttle.failed(throttledBy(address)) {
			h.logRefusal(r, "an address failed to authenticate too often, and is refused for a while")
		}
		return Caller{}, err
	case err != nil:
		return Caller{}, fmt.Errorf("authenticate: %w", err)
	}
	h.throttle.succeeded(credentials)
	return caller, nil
}

// identify asks the Auth, which needs no catalog, and then whether the token is an operator's.
// A request with several Authorization headers is refused, because it does not say who asks.
func (h *Handler) identify(r *http.Request) (Caller, error) {
	if len(r.Header.Values("Authorization")) > 1 {
		return Caller{}, ErrUnauthenticated
	}
	caller, err := h.auth.Authenticate(r)
	if !errors.Is(err, ErrUnauthenticated) {
		return caller, err
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); token == "" || !strings.EqualFold(scheme, "Bearer") {
		return caller, err
	}
	o, ok := h.plane.Operator(r.Context(), token)
	if !ok {
		return caller, err
	}
	return Caller{Role: Role(o.Role), Actor: "operator:" + o.Name, Project: o.Project}, nil
}

// logRefusal logs that a request was refused, and where it came from.
func (h *Handler) logRefusal(r *http.Request, what string, more ...any) {
	x := exchangeOf(r.Context())
	args := append([]any{"route", x.route, "address", h.address(r), "request_id", x.id}, more...)
	h.log.WarnContext(r.Context(), what, args...)
}
