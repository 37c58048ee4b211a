package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// Role says what a caller may do.
type Role string

// The roles. Viewer and Balancer each may do a part of what Admin may.
const (
	Admin    Role = "admin"    // everything
	Viewer   Role = "viewer"   // reads, secrets excepted, which nobody does
	Balancer Role = "balancer" // reads snapshots, posts logs and reports about itself

	open Role = "" // of routes: nobody has to say who they are
)

// may reports whether a caller of the role may use a route that is for another.
func (r Role) may(route Role) bool {
	return route == open || r == Admin || r == route && (r == Viewer || r == Balancer)
}

// Caller is who makes a request.
type Caller struct {
	Role Role

	// Actor and Reason are what the change feed records about writes. The
	// actor defaults to the role.
	Actor, Reason string
}

// ErrUnauthenticated is what an [Auth] returns, or wraps, when a request does
// not prove who makes it.
var ErrUnauthenticated = errors.New("unauthenticated")

// Auth decides who makes a request. Implementations are safe for concurrent
// use. An error that wraps ErrUnauthenticated is answered with 401, any other with
// 500, and logged.
type Auth interface {
	Authenticate(r *http.Request) (Caller, error)
}

// AuthFunc is a function as an [Auth].
type AuthFunc func(r *http.Request) (Caller, error)

// Authenticate calls f.
func (f AuthFunc) Authenticate(r *http.Request) (Caller, error) { return f(r) }

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
	for _, role := range []struct {
		role   Role
		tokens []string
	}{{Admin, list.Admin}, {Viewer, list.Viewer}, {Balancer, list.Balancer}} {
		for _, t := range role.tokens {
			if t != "" {
				known = append(known, token{sha256.Sum256([]byte(t)), Caller{Role: role.role, Actor: string(role.role) + ":" + fingerprint(t)}})
			}
		}
	}
	return known
}

type tokens []token

type token struct {
	hash   [sha256.Size]byte
	caller Caller
}

// fingerprint tells tokens apart. It is no part of the hash by which they are known.
func fingerprint(t string) string {
	sum := sha256.Sum256([]byte("ezapi actor\x00" + t))
	return hex.EncodeToString(sum[:4])
}

// Authenticate tries every token, whichever fits.
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

// enter returns the context of a caller who may use a route for the role.
func (h *Handler) enter(r *http.Request, route Role) (context.Context, error) {
	ctx := r.Context()
	if route == open {
		return ctx, nil
	}
	caller, err := h.auth.Authenticate(r)
	if err != nil {
		return ctx, fmt.Errorf("authenticate: %w", err)
	}
	if !caller.Role.may(route) {
		return ctx, errForbidden
	}
	if caller.Actor == "" {
		caller.Actor = string(caller.Role)
	}
	return catalog.WithActor(ctx, caller.Actor, caller.Reason), nil
}
