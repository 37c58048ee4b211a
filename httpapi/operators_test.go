package httpapi_test

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/httpapi"
)

// foreign is in the name of everything that an operator of acme must not see.
const foreign = "zzother"

// tenants is a service with two projects, a key in each and one below acme, and operators.
type tenants struct {
	*service
	tokens                   map[string]string // of operators
	own, below, other, bare  string            // ids of keys
	ownHold, otherHold       string
	ownProject, belowProject string
	otherProject             string
	operator, provider       string
	model, binding           string
	otherToken               string
}

func newTenants(t *testing.T) *tenants {
	t.Helper()
	return newTenantsOf(t, ezapi.Config{})
}

func newTenantsOf(t *testing.T, config ezapi.Config) *tenants {
	t.Helper()
	s := newService(t, config, &httpapi.Options{Metrics: http.NotFoundHandler()})
	w := &tenants{service: s, tokens: map[string]string{}}
	make := func(path string, body object) object {
		return s.must(http.StatusCreated, admin, "POST", path, body).object(t)
	}
	id := func(o object) string { return number(o["id"]) }
	w.ownProject, w.belowProject = id(make("/projects", object{"name": "acme"})), id(
		make("/projects", object{"name": "acme/search"}))
	w.otherProject = id(make("/projects", object{"name": foreign, "external_id": foreign + "-p",
		"budgets": []object{{"limit": 9, "window": "day"}}}))
	w.own = id(make("/keys", object{"name": "mine", "project": "acme"}))
	w.below = id(make("/keys", object{"name": "mine below", "project": "acme/search"}))
	their := make("/keys", object{"name": foreign + " key", "project": foreign, "external_id": foreign + "-x"})
	w.other, w.otherToken = id(their), their["token"].(string)
	w.bare = id(make("/keys", object{"name": foreign + " bare"}))
	w.provider = id(make("/providers", object{"name": foreign + " provider", "type": "openai", "models": []any{"m"}}))
	w.model = id(make("/models", object{"name": "m"}))
	w.binding = id(make("/bindings", object{"model": "m"}))
	w.ownHold = id(make("/holds", object{"target": "key/" + w.below}))
	w.otherHold = id(make("/holds", object{"target": "key/" + w.other, "message": foreign}))
	make("/holds", object{"target": "project/" + foreign})
	make("/holds", object{"target": "provider/" + w.provider, "until": "2100-01-01T00:00:00Z"})
	for name, o := range map[string]object{
		"admin": {"role": "admin"}, "viewer": {"role": "viewer"}, "balancer": {"role": "balancer"},
		"acme admin": {"role": "admin", "project": "acme"}, "acme viewer": {"role": "viewer", "project": "acme"},
		foreign: {"role": "admin", "project": foreign},
	} {
		o["name"] = name
		made := make("/operators", o)
		w.tokens[name], w.operator = made["token"].(string), id(made)
	}
	for key, project := range map[string]string{w.own: "acme", w.below: "acme/search", w.other: foreign, w.bare: ""} {
		s.must(http.StatusAccepted, balancer, "POST", "/logs", fmt.Sprintf(
			`{"key_id":%s,"project":%q,"ts":%q,"status":200,"model":%q,"cost_nano_usd":7,"request_id":"r-%s"}`,
			key, project, time.Now().UTC().Format(time.RFC3339), strings.TrimSpace(project+" m"), key))
	}
	for i, project := range []string{"", "acme", foreign} {
		err := s.plane.RaiseAlerts(t.Context(), alerts.Alert{
			Kind: alerts.BudgetExhausted, Subject: "project/" + project, Project: project, Message: "of " +
				cmp.Or(project, foreign),
			Identity: fmt.Sprint(i),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.plane.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// try is a request of an operator of acme, and what becomes of it.
type try struct {
	path   string // of the route, with ids in place
	body   any
	admin  int // the status that an admin of acme gets
	viewer int // and a viewer
}

// tries says what an operator of acme gets of each route: of what is its own, and of what is not.
func (w *tenants) tries() map[string][]try {
	const ok, made, gone, no, none, bad = http.StatusOK, http.StatusCreated, http.StatusNoContent, http.StatusForbidden,
		http.StatusNotFound, http.StatusUnprocessableEntity
	all := map[string][]try{
		"GET /projects": {{"/projects?count=true", nil, ok, ok}, {"/projects?project=" + foreign, nil, ok, ok},
			{"/projects?q=zz", nil, ok, ok}},
		"POST /projects": {{"/projects", object{"name": "acme/new"}, made, no},
			{"/projects", object{"name": foreign}, bad, no}, {"/projects", object{"name": "new"}, bad, no}},
		"PUT /projects": {{"/projects", object{"name": "acme/put"}, made, no},
			{"/projects", object{"name": foreign, "max_keys": 1}, bad, no},
			{"/projects", object{"name": "acme", "max_keys": 9}, no, no},
			{"/projects", object{"name": "acme/ext", "external_id": foreign + "-p"}, http.StatusConflict, no}},
		"GET /projects/{id}": {{"/projects/" + w.ownProject, nil, ok, ok},
			{"/projects/" + w.otherProject, nil, none, none}},
		"PATCH /projects/{id}": {{"/projects/" + w.belowProject, object{"max_keys": 9}, ok, no},
			{"/projects/" + w.ownProject, object{"max_keys": 9}, no, no},
			{"/projects/" + w.otherProject, object{"max_keys": 9}, none, no}},
		"DELETE /projects/{id}": {{"/projects/" + w.ownProject, nil, no, no}, {"/projects/" + w.otherProject, nil, none, no}},
		"GET /keys": {{"/keys?count=true", nil, ok, ok}, {"/keys?project=" + foreign, nil, ok, ok},
			{"/keys?q=zz&count=true", nil, ok, ok}, {"/keys?external_id=" + foreign + "-x", nil, ok, ok}},
		"POST /keys": {{"/keys", object{"name": "new", "project": "acme/search"}, made, no},
			{"/keys", object{"name": "new"}, bad, no},
			{"/keys", object{"name": "new", "project": foreign}, bad, no},
			{"/keys", object{"name": "new", "project": "acme", "external_id": foreign + "-x"}, http.StatusConflict, no}},
		"PUT /keys": {{"/keys", object{"name": "put", "project": "acme", "external_id": "put"}, made, no},
			{"/keys", object{"name": "put", "project": "acme", "external_id": foreign + "-x"}, http.StatusConflict, no}},
		"GET /keys/{id}": {{"/keys/" + w.own, nil, ok, ok}, {"/keys/" + w.other, nil, none, none},
			{"/keys/" + w.bare, nil, none, none}},
		"PATCH /keys/{id}": {{"/keys/" + w.own, object{"name": "mine too"}, ok, no},
			{"/keys/" + w.own, object{"project": nil}, bad, no}, {"/keys/" + w.own, object{"project": foreign}, bad, no},
			{"/keys/" + w.other, object{"name": "mine now"}, none, no}},
		"DELETE /keys/{id}": {{"/keys/" + w.other, nil, none, no}, {"/keys/" + w.bare, nil, none, no}},
		"POST /keys/{id}/rotate": {{"/keys/" + w.own + "/rotate", nil, ok, no},
			{"/keys/" + w.other + "/rotate", nil, none, no}},
		"POST /keys/lookup": {{"/keys/lookup", object{"token": w.otherToken}, none, no}},
		"GET /holds":        {{"/holds?count=true", nil, ok, ok}, {"/holds?name=project/" + foreign, nil, ok, ok}},
		"POST /holds": {{"/holds", object{"target": "key/" + w.own}, made, no},
			{"/holds", object{"target": "key/" + w.other, "message": "x"}, bad, no},
			{"/holds", object{"target": "project/" + foreign}, bad, no},
			{"/holds", object{"target": "project/acme"}, no, no},
			{"/holds", object{"target": "provider/" + w.provider}, bad, no}},
		"PUT /holds": {{"/holds", object{"target": "project/acme/search"}, made, no},
			{"/holds", object{"target": "project/" + foreign, "message": "mine"}, bad, no}},
		"GET /holds/{id}": {{"/holds/" + w.ownHold, nil, ok, ok}, {"/holds/" + w.otherHold, nil, none, none}},
		"PATCH /holds/{id}": {{"/holds/" + w.ownHold, object{"message": "mine"}, ok, no},
			{"/holds/" + w.otherHold, object{"status": "disabled"}, none, no}},
		"DELETE /holds/{id}": {{"/holds/" + w.otherHold, nil, none, no}, {"/holds/" + w.ownHold, nil, gone, no}},
		"GET /models":        {{"/models", nil, ok, ok}},
		"GET /models/{id}":   {{"/models/" + w.model, nil, ok, ok}},
		"GET /bindings":      {{"/bindings", nil, ok, ok}},
		"GET /bindings/{id}": {{"/bindings/" + w.binding, nil, ok, ok}},
		"GET /changes": {{"/changes?limit=1000", nil, ok, ok},
			{"/changes?kind=keys&id=" + w.other, nil, ok, ok}, {"/changes?kind=operators", nil, ok, ok}},
		"GET /explain": {{"/explain?model=m&key_id=" + w.own, nil, ok, ok},
			{"/explain?model=m&key_id=" + w.other, nil, none, none}},
		"GET /logs": {{"/logs", nil, ok, ok}, {"/logs?project=" + foreign, nil, ok, ok},
			{"/logs?key_id=" + w.other, nil, ok, ok}, {"/logs?request_id=r-" + w.bare, nil, ok, ok}},
		"GET /usage": {{"/usage?group_by=key,project,model", nil, ok, ok},
			{"/usage?project=" + foreign, nil, ok, ok}, {"/usage?group_by=key&key_id=" + w.other, nil, ok, ok}},
		"GET /healthz":           {{"/healthz", nil, ok, ok}},
		"GET /readyz":            {{"/readyz", nil, ok, ok}},
		"GET /openapi.json":      {{"/openapi.json", nil, ok, ok}},
		"POST /models":           {{"/models", object{"name": "n"}, no, no}},
		"PUT /models":            {{"/models", object{"name": "m", "input_price": 1}, no, no}},
		"PATCH /models/{id}":     {{"/models/" + w.model, object{"input_price": 1}, no, no}},
		"DELETE /models/{id}":    {{"/models/" + w.model, nil, no, no}},
		"POST /bindings":         {{"/bindings", object{"model": "m", "route_group": "g"}, no, no}},
		"PUT /bindings":          {{"/bindings", object{"model": "m"}, no, no}},
		"PATCH /bindings/{id}":   {{"/bindings/" + w.binding, object{"priority": 1}, no, no}},
		"DELETE /bindings/{id}":  {{"/bindings/" + w.binding, nil, no, no}},
		"GET /providers":         {{"/providers", nil, no, no}},
		"POST /providers":        {{"/providers", object{"name": "n", "type": "openai"}, no, no}},
		"PUT /providers":         {{"/providers", object{"name": "n", "type": "openai"}, no, no}},
		"GET /providers/{id}":    {{"/providers/" + w.provider, nil, no, no}, {"/providers/9999", nil, no, no}},
		"PATCH /providers/{id}":  {{"/providers/" + w.provider, object{"status": "disabled"}, no, no}},
		"DELETE /providers/{id}": {{"/providers/" + w.provider, nil, no, no}},
		"GET /operators":         {{"/operators", nil, no, no}},
		"POST /operators": {{"/operators", object{"name": "n", "role": "admin"}, no, no},
			{"/operators", object{"name": "n", "role": "viewer", "project": "acme"}, no, no}},
		"PUT /operators":                      {{"/operators", object{"name": "acme admin", "role": "admin"}, no, no}},
		"GET /operators/{id}":                 {{"/operators/" + w.operator, nil, no, no}},
		"PATCH /operators/{id}":               {{"/operators/" + w.operator, object{"project": nil}, no, no}},
		"DELETE /operators/{id}":              {{"/operators/" + w.operator, nil, no, no}},
		"GET /export":                         {{"/export", nil, no, no}},
		"POST /apply":                         {{"/apply", object{"models": []any{}}, no, no}},
		"POST /revert":                        {{"/revert", object{"to": 1}, no, no}},
		"POST /sync/snapshot":                 {{"/sync/snapshot", nil, no, no}},
		"GET /sync/snapshot":                  {{"/sync/snapshot", nil, no, no}},
		"GET /sync/deltas":                    {{"/sync/deltas?after=1-1", nil, no, no}},
		"POST /sync/nodes":                    {{"/sync/nodes", object{}, no, no}},
		"GET /sync/status":                    {{"/sync/status", nil, no, no}},
		"POST /logs":                          {{"/logs", object{}, no, no}},
		"POST /logs/reprice":                  {{"/logs/reprice", object{}, no, no}},
		"GET /health/providers":               {{"/health/providers", nil, no, no}},
		"POST /providers/{id}/test":           {{"/providers/" + w.provider + "/test", nil, no, no}},
		"GET /providers/{id}/upstream-models": {{"/providers/" + w.provider + "/upstream-models", nil, no, no}},
		"GET /alerts": {{"/alerts", nil, ok, ok},
			{"/alerts?kind=budget_exhausted&limit=1", nil, ok, ok}},
		"GET /budgets": {
			{"/budgets", nil, ok, ok}, {"/budgets?project=" + foreign, nil, ok, ok}, {"/budgets?key_id=" + w.other, nil, ok, ok},
			{"/budgets?over=1&limit=1", nil, ok, ok},
		},
		"POST /alerts/test":           {{"/alerts/test", nil, no, no}},
		"GET /metrics":                {{"/metrics", nil, no, no}},
		"POST /operators/{id}/rotate": {{"/operators/" + w.operator + "/rotate", nil, no, no}},
	}
	return all
}

// What an operator of a project gets of every route, of its own and of others': an answer never holds
// what is another's. A route that is added has to be thought of here.
func TestOperatorsOfAProject(t *testing.T) {
	for _, role := range []string{"acme admin", "acme viewer"} {
		t.Run(role, func(t *testing.T) {
			w := newTenants(t)
			w.t = t
			tries := w.tries()
			routes := w.api.(*httpapi.Handler).Routes()
			for route := range tries {
				if !slices.Contains(routes, route) {
					t.Errorf("there is no route %s", route)
				}
			}
			before := w.must(http.StatusOK, admin, "GET", "/export", nil).body
			// What is refused comes first, so that it finds everything as it was.
			for _, refused := range []bool{true, false} {
				for _, route := range routes {
					if len(tries[route]) == 0 {
						t.Errorf("%s: nobody has said what an operator of a project gets", route)
					}
					for _, try := range tries[route] {
						want := try.admin
						if role == "acme viewer" {
							want = try.viewer
						}
						if (want >= http.StatusBadRequest) != refused {
							continue
						}
						method, _, _ := strings.Cut(route, " ")
						got := w.do(w.tokens[role], method, try.path, try.body)
						if got.StatusCode != want {
							t.Errorf("%s %s %v: %d, want %d: %.300s", method, try.path, try.body, got.StatusCode, want, got.body)
						}
						if strings.Contains(got.body, foreign) || strings.Contains(fmt.Sprint(got.Header), foreign) {
							t.Errorf("%s %s %v shows what is another's: %.2000s", method, try.path, try.body, got.body)
						}
						if total := strings.Contains(try.path, "q=zz") && strings.Contains(try.path, "count"); total &&
							!strings.Contains(got.body, `"total":0`) {
							t.Errorf("%s counts what is another's: %s", try.path, got.body)
						}
					}
				}
				if after := w.must(http.StatusOK, admin, "GET", "/export", nil).body; refused && after != before {
					t.Error("what was refused has changed the catalog")
				}
			}
		})
	}
}

// Another id than one's own is not found, whatever precondition comes with it.
func TestOthersAreNotFoundBeforeAnythingElse(t *testing.T) {
	w := newTenants(t)
	for _, path := range []string{"/keys/" + w.other, "/projects/" + w.otherProject, "/holds/" + w.otherHold} {
		for method, body := range map[string]any{"PATCH": object{"labels": object{"a": "b"}}, "DELETE": nil} {
			p := w.do(w.tokens["acme admin"], method, path, body, "If-Match", `"1"`).problem(t, http.StatusNotFound, "not-found")
			absent := w.do(w.tokens["acme admin"], method, strings.TrimRight(path, "0123456789")+"99999", body, "If-Match", `"1"`).
				problem(t, http.StatusNotFound, "not-found")
			if p.Detail != absent.Detail {
				t.Errorf("%s %s: %q, and %q where there is nothing", method, path, p.Detail, absent.Detail)
			}
		}
	}
}

// The feed shows the sides of a change that are the caller's own: a key that comes is created, one
// that goes is deleted.
func TestChangesOfAProject(t *testing.T) {
	w := newTenants(t)
	start := w.must(http.StatusOK, admin, "GET", "/changes?limit=1000", nil).object(t)["next_cursor"].(string)
	w.must(http.StatusOK, admin, "PATCH", "/keys/"+w.other, object{"project": "acme"})
	w.must(http.StatusOK, admin, "PATCH", "/keys/"+w.other, object{"name": "guest"})
	w.must(http.StatusOK, admin, "PATCH", "/keys/"+w.other, object{"project": foreign})
	w.must(http.StatusOK, admin, "PATCH", "/keys/"+w.other, object{"name": foreign + " again"})
	got := w.must(http.StatusOK, w.tokens["acme viewer"], "GET", "/changes?after="+url.QueryEscape(start), nil)
	var seen []string
	for _, c := range got.object(t)["data"].([]any) {
		c := c.(object)
		seen = append(seen, fmt.Sprint(c["action"], " ", c["before"] != nil, " ", c["after"] != nil))
	}
	want := []string{"create false true", "update true true", "delete true false"}
	if !slices.Equal(seen, want) || strings.Contains(got.body, `"project":"`+foreign) {
		t.Errorf("seen are %q, want %q: %s", seen, want, got.body)
	}
	if who := w.must(http.StatusOK, w.tokens[foreign], "GET", "/changes?after="+url.QueryEscape(start),
		nil).object(t); len(who["data"].([]any)) != 3 {
		t.Errorf("the others see %v", who)
	}
}

// A hold is shown to the project that its key was in when it was made, changed or ended, and to no
// project that the key came into later.
func TestChangesOfHoldsOfAKeyThatMoves(t *testing.T) {
	w := newTenants(t)
	start := w.must(http.StatusOK, admin, "GET", "/changes?limit=1000", nil).object(t)["next_cursor"].(string)
	moving := w.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "moving", "project": foreign}).object(t)
	key := number(moving["id"])
	hold := func(message string) string {
		made := w.must(http.StatusCreated, admin, "POST", "/holds", object{"target": "key/" + key, "message": message})
		return "/holds/" + number(made.object(t)["id"])
	}
	first := hold("while it was there")
	w.must(http.StatusNoContent, admin, "DELETE", first, nil)
	w.must(http.StatusOK, admin, "PATCH", "/keys/"+key, object{"project": "acme"})
	second := hold("while it was here")
	w.must(http.StatusOK, admin, "PATCH", second, object{"message": "still here"})
	w.must(http.StatusNoContent, admin, "DELETE", second, nil)
	until := time.Now().Add(time.Second)
	w.must(http.StatusCreated, admin, "POST", "/holds", object{"target": "key/" + key, "message": "for a while",
		"until": until.UTC().Format(time.RFC3339Nano)})
	time.Sleep(time.Until(until))
	if err := w.plane.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.must(http.StatusCreated, admin, "POST", "/holds", object{"target": "key/" + key, "message": "last"})
	w.must(http.StatusNoContent, admin, "DELETE", "/keys/"+key, nil) // and its hold with it
	for who, want := range map[string][]string{
		"acme viewer": {"create while it was here", "update still here", "delete still here", "create for a while",
			"delete for a while", "create last", "delete last"},
		foreign: {"create while it was there", "delete while it was there"},
	} {
		got := w.must(http.StatusOK, w.tokens[who], "GET", "/changes?kind=holds&after="+url.QueryEscape(start), nil)
		var seen []string
		for _, c := range got.object(t)["data"].([]any) {
			c := c.(object)
			side, ok := c["after"].(object)
			if !ok {
				side, _ = c["before"].(object)
			}
			seen = append(seen, fmt.Sprint(c["action"], " ", side["message"]))
		}
		if !slices.Equal(seen, want) {
			t.Errorf("%s sees %q; want %q", who, seen, want)
		}
	}
}

// What a limited operator does stands in the feed under its name, and operators that are not limited
// do what their role may.
func TestOperatorsByRole(t *testing.T) {
	w := newTenants(t)
	w.must(http.StatusOK, w.tokens["acme admin"], "PATCH", "/keys/"+w.own, object{"name": "renamed"})
	last := w.must(http.StatusOK, admin, "GET", "/changes?actor=operator:acme%20admin", nil).object(t)["data"].([]any)
	if len(last) != 1 {
		t.Errorf("done by the operator: %v", last)
	}
	for _, tc := range []struct {
		who, method, path string
		body              any
		want              int
	}{
		{"admin", "GET", "/providers", nil, 200}, {"admin", "POST", "/keys", object{"name": "n"}, 201},
		{"admin", "POST", "/operators", object{"name": "new", "role": "admin"}, 201},
		{"admin", "GET", "/sync/snapshot", nil, 200},
		{"viewer", "GET", "/operators", nil, 200}, {"viewer", "POST", "/keys", object{"name": "n"}, 403},
		{"viewer", "GET", "/sync/snapshot", nil, 403},
		{"balancer", "GET", "/sync/snapshot", nil, 200}, {"balancer", "GET", "/keys", nil, 403},
		{"balancer", "POST", "/logs", object{"key_id": 1, "ts": time.Now().UTC(), "status": 200}, 202},
	} {
		if got := w.do(w.tokens[tc.who], tc.method, tc.path, tc.body); got.StatusCode != tc.want {
			t.Errorf("%s: %s %s: %d, want %d: %s", tc.who, tc.method, tc.path, got.StatusCode, tc.want, got.body)
		}
	}
}

// A token that was revoked, disabled, replaced or has expired is out at once.
func TestOperatorsAreRevoked(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	made := s.must(http.StatusCreated, admin, "POST", "/operators", object{"name": "o", "role": "viewer"})
	o := made.object(t)
	token, path := o["token"].(string), "/operators/"+number(o["id"])
	if !strings.HasPrefix(token, "ezo-") || strings.Contains(s.must(http.StatusOK, admin, "GET", path, nil).body, token) {
		t.Fatal("the token is not what it should be, or is shown again")
	}
	soon := func(token string, want int) {
		t.Helper()
		for start := time.Now(); ; time.Sleep(150 * time.Millisecond) {
			got := s.do(token, "GET", "/keys", nil)
			if got.StatusCode == want {
				return
			}
			if time.Since(start) > time.Second {
				t.Fatalf("after a second: %d, want %d", got.StatusCode, want)
			}
		}
	}
	soon(token, http.StatusOK)
	s.must(http.StatusOK, admin, "PATCH", path, object{"status": "disabled"})
	soon(token, http.StatusUnauthorized)
	s.must(http.StatusOK, admin, "PATCH", path, object{"status": "active"})
	soon(token, http.StatusOK)
	rotated := s.must(http.StatusOK, admin, "POST", path+"/rotate", nil).object(t)["token"].(string)
	soon(token, http.StatusUnauthorized)
	soon(rotated, http.StatusOK)
	s.must(http.StatusNoContent, admin, "DELETE", path, nil)
	soon(rotated, http.StatusUnauthorized)
}
