package httpapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
)

// Each route is open to its role and to admin, and to nobody else.
func TestRoles(t *testing.T) {
	var asked int
	s := newService(t, ezapi.Config{}, &httpapi.Options{Metrics: http.NotFoundHandler(),
		ClientAddress: func(*http.Request) string {
			asked++ // each from another address, so that nobody is limited
			return strconv.Itoa(asked)
		}})
	public := map[string]bool{"GET /healthz": true, "GET /readyz": true, "GET /openapi.json": true}
	viewers := map[string]bool{
		"GET /sync/status": true, "GET /changes": true, "GET /logs": true, "GET /usage": true, "GET /explain": true,
		"GET /health/providers": true, "GET /alerts": true, "GET /budgets": true,
		"GET /metrics": true,
	}
	for _, k := range catalog.Kinds() {
		viewers["GET /"+string(k)], viewers["GET /"+string(k)+"/{id}"] = true, true
	}
	balancers := map[string]bool{"POST /logs": true, "GET /sync/snapshot": true, "GET /sync/deltas": true,
		"POST /sync/nodes": true}
	for _, route := range s.api.(*httpapi.Handler).Routes() {
		method, path, _ := strings.Cut(strings.ReplaceAll(route, "{id}", "77"), " ")
		for _, caller := range []struct {
			token  string
			may    bool
			status int
		}{
			{nobody, public[route], http.StatusUnauthorized},
			{"wrong-token-0123456789abcdef01234567890", public[route], http.StatusUnauthorized},
			{admin, true, 0},
			{viewer, public[route] || viewers[route], http.StatusForbidden},
			{balancer, public[route] || balancers[route], http.StatusForbidden},
		} {
			a := s.do(caller.token, method, path, nil)
			denied := a.StatusCode == http.StatusUnauthorized || a.StatusCode == http.StatusForbidden
			if denied == caller.may || denied && a.StatusCode != caller.status {
				t.Errorf("%s with %q: %d", route, caller.token, a.StatusCode)
			}
			if a.StatusCode == http.StatusUnauthorized {
				a.problem(t, http.StatusUnauthorized, "unauthenticated")
				if got := a.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
					t.Errorf("%s: WWW-Authenticate %q", route, got)
				}
			}
			if a.StatusCode == http.StatusForbidden {
				a.problem(t, http.StatusForbidden, "forbidden")
			}
		}
	}
}

func TestTokens(t *testing.T) {
	auth := httpapi.Tokens(httpapi.TokenList{Admin: []string{"", "new-admin", "old-admin"},
		Viewer: []string{"v", "old-admin"}})
	for _, tc := range []struct {
		header string
		role   httpapi.Role // empty: none
	}{
		{"Bearer new-admin", httpapi.Admin},
		{"Bearer old-admin", httpapi.Admin},
		{"bearer v", httpapi.Viewer},
		{"Bearer  v ", httpapi.Viewer},
		{"Basic v", ""},
		{"v", ""},
		{"Bearer ", ""},
		{"Bearer", ""},
		{"", ""},
		{"Bearer new-admi", ""},
		{"Bearer new-admin2", ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", tc.header)
		caller, err := auth.Authenticate(r)
		if caller.Role != tc.role || (err == nil) != (tc.role != "") || err != nil && !errors.Is(err,
			httpapi.ErrUnauthenticated) {
			t.Errorf("%q: %v, %v; want role %q", tc.header, caller, err, tc.role)
		}
		if tc.role != "" && !strings.HasPrefix(caller.Actor, string(tc.role)+":") {
			t.Errorf("%q: actor %q", tc.header, caller.Actor)
		}
	}
}

func TestNewNeedsAnAuth(t *testing.T) {
	plane := newService(t, ezapi.Config{}, nil).plane
	for name, build := range map[string]func(){
		"no plane": func() { httpapi.New(nil, httpapi.Tokens(httpapi.TokenList{}), nil) },
		"no auth":  func() { httpapi.New(plane, nil, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("New does not panic")
				}
			}()
			build()
		})
	}
}

// Who writes is in the change feed, by a caller's own names too.
func TestActor(t *testing.T) {
	plane := newService(t, ezapi.Config{}, nil).plane
	api := httpapi.New(plane, httpapi.AuthFunc(func(r *http.Request) (httpapi.Caller, error) {
		switch user := r.Header.Get("X-User"); user {
		case "":
			return httpapi.Caller{}, fmt.Errorf("no user: %w", httpapi.ErrUnauthenticated)
		case "broken":
			return httpapi.Caller{}, errors.New("the directory is down")
		case "plain":
			return httpapi.Caller{Role: httpapi.Admin}, nil
		case "stranger":
			return httpapi.Caller{Role: "owner"}, nil
		default:
			return httpapi.Caller{Role: httpapi.Admin, Actor: user, Reason: "ticket 7"}, nil
		}
	}), nil)
	s := &service{t: t, plane: plane, api: api, log: &logged{}}
	s.must(http.StatusCreated, nobody, "POST", "/models", object{"name": "a"}, "X-User", "alice")
	s.must(http.StatusCreated, nobody, "POST", "/models", object{"name": "b"}, "X-User", "plain")
	s.do(nobody, "GET", "/models", nil).problem(t, http.StatusUnauthorized, "unauthenticated")
	s.do(nobody, "GET", "/models", nil, "X-User", "stranger").problem(t, http.StatusForbidden, "forbidden")
	s.do(nobody, "GET", "/models", nil, "X-User", "broken").problem(t, http.StatusInternalServerError, "internal")
	changes := s.must(http.StatusOK, nobody, "GET", "/changes", nil, "X-User", "alice").object(t)["data"].([]any)
	shows(t, changes[0].(object), object{"actor": "alice", "reason": "ticket 7"})
	shows(t, changes[1].(object), object{"actor": "admin"})
}
