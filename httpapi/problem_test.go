package httpapi_test

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
)

// Whatever is wrong with a request is said in a problem document of a known
// kind, which names the fields.
func TestProblems(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "m"})
	s.must(http.StatusCreated, admin, "POST", "/bindings", object{"model": "m"})
	s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "k", "external_id": "x"})
	s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "named", "external_id": "theirs"})
	large := `{"name":"` + strings.Repeat("a", 1<<20) + `"}`
	for _, tc := range []struct {
		name    string
		method  string
		path    string
		body    any
		headers []string
		status  int
		slug    string
		fields  []string
	}{
		{name: "no such path", method: "GET", path: "/nothing", status: 404, slug: "not-found"},
		{name: "apply no JSON", method: "POST", path: "/apply", body: "{]", status: 400, slug: "malformed"},
		{name: "apply what is not acceptable", method: "POST", path: "/apply", body: object{"models": []object{{}},
			"bindings": []object{{"model": "m", "selector_type": "x"}}, "holds": 7}, status: 422, slug: "invalid",
			fields: []string{"holds"}},
		{name: "apply another's", method: "POST", path: "/apply?owner=me", body: object{"models": []object{{"name": "m"}}},
			status: 409, slug: "owned", fields: []string{"models[0]"}},
		{name: "apply a name that is taken", method: "POST", path: "/apply", body: object{"models": []object{{"name": "m",
			"external_id": "one"}, {"name": "named"}}}, status: 409, slug: "exists",
			fields: []string{"models[1].namespace", "models[1].name"}},
		{name: "prune nobody's", method: "POST", path: "/apply?prune=true", body: object{}, status: 422, slug: "invalid",
			fields: []string{"owner"}},
		{name: "expect what is no plan", method: "POST", path: "/apply?expect=x", body: object{}, status: 422,
			slug: "invalid", fields: []string{"expect"}},
		{name: "expect another plan", method: "POST", path: "/apply?expect=" + strings.Repeat("0", 64), body: object{},
			status: 412, slug: "precondition-failed"},
		{name: "export with a parameter", method: "GET", path: "/export?owner=me", status: 422, slug: "invalid",
			fields: []string{"owner"}},
		{name: "revert to nothing", method: "POST", path: "/revert", body: object{}, status: 422, slug: "invalid",
			fields: []string{"to"}},
		{name: "revert twice", method: "POST", path: "/revert", body: object{"to": 1, "revision": 1}, status: 422,
			slug: "invalid", fields: []string{"revision"}},
		{name: "revert to what is not there yet", method: "POST", path: "/revert", body: object{"to": 99}, status: 422,
			slug: "invalid", fields: []string{"to"}},
		{name: "a slash too many", method: "GET", path: "/keys/", status: 404, slug: "not-found"},
		{name: "another case", method: "GET", path: "/Keys", status: 404, slug: "not-found"},
		{name: "no such method", method: "PATCH", path: "/keys", status: 405, slug: "method-not-allowed"},
		{name: "no such id", method: "GET", path: "/keys/999", status: 404, slug: "not-found"},
		{name: "no id at all", method: "GET", path: "/keys/abc", status: 404, slug: "not-found"},
		{name: "no id to patch", method: "PATCH", path: "/keys/0", body: object{}, status: 404, slug: "not-found"},
		{name: "no id to delete", method: "DELETE", path: "/keys/+1", status: 404, slug: "not-found"},
		{name: "an id that is too large", method: "GET", path: "/keys/99999999999999999999", status: 404, slug: "not-found"},
		{name: "the id of another noun", method: "GET", path: "/providers/1", status: 404, slug: "not-found"},

		{name: "no body", method: "POST", path: "/keys", status: 400, slug: "malformed"},
		{name: "no JSON", method: "POST", path: "/keys", body: "{", status: 400, slug: "malformed"},
		{name: "no object", method: "POST", path: "/keys", body: "[]", status: 400, slug: "malformed"},
		{name: "two objects", method: "POST", path: "/keys", body: "{} {}", status: 400, slug: "malformed"},
		{name: "no UTF-8", method: "POST", path: "/keys", body: "{\"name\":\"\xff\"}", status: 400, slug: "malformed"},
		{name: "too large a body", method: "POST", path: "/keys", body: large, status: 413, slug: "too-large"},
		{name: "a form", method: "POST", path: "/keys", body: "name=k", headers: []string{"Content-Type",
			"application/x-www-form-urlencoded"}, status: 415, slug: "unsupported-media-type"},
		{name: "a merge patch to create", method: "POST", path: "/keys", body: "{}",
			headers: []string{"Content-Type", "application/merge-patch+json"}, status: 415, slug: "unsupported-media-type"},
		{name: "a JSON patch", method: "PATCH", path: "/models/1", body: "[]", headers: []string{"Content-Type",
			"application/json-patch+json"}, status: 415, slug: "unsupported-media-type"},
		{name: "a compressed body", method: "POST", path: "/keys", body: "{}", headers: []string{"Content-Encoding",
			"gzip"}, status: 415, slug: "unsupported-media-type"},

		{name: "an unknown field", method: "POST", path: "/keys", body: object{"name": "k", "nmae": "k"},
			status: 422, slug: "invalid", fields: []string{"nmae"}},
		{name: "several wrong fields", method: "POST", path: "/providers",
			body: object{"weight": "x", "models": "m"}, status: 422, slug: "invalid", fields: []string{"models", "weight"}},
		{name: "what is missing", method: "POST", path: "/providers", body: object{}, status: 422, slug: "invalid",
			fields: []string{"name", "type"}},
		{name: "a private upstream", method: "POST", path: "/providers", body: object{"name": "p", "type": "custom",
			"base_url": "http://127.0.0.1"}, status: 422, slug: "invalid", fields: []string{"base_url"}},
		{name: "a wrong patch", method: "PATCH", path: "/models/1", body: object{"kind": "x"}, status: 422,
			slug: "invalid", fields: []string{"kind"}},
		{name: "a binding without a model", method: "POST", path: "/bindings", body: object{"model": "none"},
			status: 422, slug: "invalid", fields: []string{"model"}},
		{name: "a binding moved away from its model", method: "PATCH", path: "/bindings/2",
			body: object{"model": "none"}, status: 422, slug: "invalid", fields: []string{"model"}},

		{name: "a name that is taken", method: "POST", path: "/models", body: object{"name": "m"}, status: 409,
			slug: "exists", fields: []string{"namespace", "name"}},
		{name: "an external_id that is taken", method: "POST", path: "/keys",
			body: object{"name": "l", "external_id": "x"}, status: 409, slug: "exists", fields: []string{"external_id"}},
		{name: "a model with bindings", method: "DELETE", path: "/models/1", status: 409, slug: "referenced"},
		{name: "a model with bindings, renamed", method: "PATCH", path: "/models/1", body: object{"name": "n"},
			status: 409, slug: "referenced"},

		{name: "another revision", method: "PATCH", path: "/models/1", body: object{}, headers: []string{"If-Match", `"99"`}, status: 412, slug: "precondition-failed"},
		{name: "somebody else's ETag", method: "DELETE", path: "/bindings/2", headers: []string{"If-Match", `"abc"`}, status: 412, slug: "precondition-failed"},
		{name: "a weak ETag", method: "DELETE", path: "/bindings/2", headers: []string{"If-Match", `W/"2"`}, status: 400, slug: "malformed"},
		{name: "an ETag without quotes", method: "PATCH", path: "/models/1", body: object{}, headers: []string{"If-Match", `1`}, status: 400, slug: "malformed"},
		{name: "an ETag with a sign", method: "PATCH", path: "/models/1", body: object{}, headers: []string{"If-Match", `"+1"`}, status: 412, slug: "precondition-failed"},
		{name: "an ETag with a zero before it", method: "PATCH", path: "/models/1", body: object{}, headers: []string{"If-Match", `"01"`}, status: 412, slug: "precondition-failed"},
		{name: "an empty ETag", method: "PATCH", path: "/models/1", body: object{}, headers: []string{"If-Match", ""},
			status: 400, slug: "malformed"},
		{name: "a blank ETag", method: "DELETE", path: "/bindings/2", headers: []string{"If-Match", " "}, status: 400,
			slug: "malformed"},
		{name: "a put over any that is not there", method: "PUT", path: "/models", body: object{"name": "absent"},
			headers: []string{"If-Match", "*"}, status: 412, slug: "precondition-failed"},
		{name: "two ETags", method: "DELETE", path: "/bindings/2", headers: []string{"If-Match", `"1", "2"`}, status: 400, slug: "malformed"},

		{name: "a limit of none", method: "GET", path: "/keys?limit=0", status: 422, slug: "invalid",
			fields: []string{"limit"}},
		{name: "a limit of too many", method: "GET", path: "/keys?limit=1001", status: 422, slug: "invalid",
			fields: []string{"limit"}},
		{name: "a limit that is no number", method: "GET", path: "/keys?limit=ten", status: 422, slug: "invalid",
			fields: []string{"limit"}},
		{name: "a cursor of nobody's", method: "GET", path: "/keys?cursor=xyz", status: 422, slug: "invalid",
			fields: []string{"cursor"}},
		{name: "no such status", method: "GET", path: "/keys?status=on", status: 422, slug: "invalid",
			fields: []string{"status"}},
		{name: "half a label", method: "GET", path: "/keys?label=team", status: 422, slug: "invalid",
			fields: []string{"label"}},
		{name: "a label of two values", method: "GET", path: "/keys?label=a=1&label=a=2", status: 422,
			slug: "invalid", fields: []string{"label"}},
		{name: "a filter that does not apply", method: "GET", path: "/providers?namespace=x", status: 422,
			slug: "invalid", fields: []string{"namespace"}},
		{name: "a parameter that is misspelt", method: "POST", path: "/sync/snapshot?forse=true", status: 422,
			slug: "invalid", fields: []string{"forse"}},
		{name: "a parameter given twice", method: "GET", path: "/keys?limit=1&limit=2", status: 422,
			slug: "invalid", fields: []string{"limit"}},
		{name: "no query at all", method: "GET", path: "/keys?%zz", status: 400, slug: "malformed"},
		{name: "a parameter without a value", method: "POST", path: "/sync/snapshot?force&new_epoch=true",
			status: 400, slug: "malformed"},
		{name: "no such wait", method: "POST", path: "/keys?wait=long", body: object{"name": "w"}, status: 422,
			slug: "invalid", fields: []string{"wait"}},
		{name: "too long a wait", method: "POST", path: "/keys?wait=published&timeout=61s",
			body: object{"name": "w"}, status: 422, slug: "invalid", fields: []string{"timeout"}},

		{name: "too long a grace", method: "POST", path: "/keys/3/rotate", body: object{"grace_seconds": 2592001},
			status: 422, slug: "invalid", fields: []string{"grace_seconds"}},
		{name: "grace of the wrong type", method: "POST", path: "/keys/3/rotate",
			body: object{"grace_seconds": "1"}, status: 422, slug: "invalid", fields: []string{"grace_seconds"}},
		{name: "grace of half a second", method: "POST", path: "/keys/3/rotate", body: `{"grace_seconds":0.5}`, status: 422, slug: "invalid", fields: []string{"grace_seconds"}},
		{name: "grace of no number", method: "POST", path: "/keys/3/rotate", body: `{"grace_seconds":1e400}`, status: 422, slug: "invalid", fields: []string{"grace_seconds"}},
		{name: "a field of a rotation twice", method: "POST", path: "/keys/3/rotate", body: `{"grace_seconds":1,"grace_seconds":1}`, status: 422, slug: "invalid", fields: []string{"grace_seconds"}},
		{name: "a token to look up, twice", method: "POST", path: "/keys/lookup", body: `{"token":"a","token":"b"}`, status: 422, slug: "invalid", fields: []string{"token"}},
		{name: "an empty token to look up", method: "POST", path: "/keys/lookup", body: object{"token": "", "hash": ""},
			status: 422, slug: "invalid", fields: []string{"hash", "token"}},
		{name: "a lookup of nothing", method: "POST", path: "/keys/lookup", body: object{}, status: 422,
			slug: "invalid", fields: []string{"token"}},
		{name: "a lookup of two things", method: "POST", path: "/keys/lookup",
			body: object{"token": "a", "hash": strings.Repeat("b", 64)}, status: 422, slug: "invalid",
			fields: []string{"token"}},
		{name: "a lookup of no hash", method: "POST", path: "/keys/lookup", body: object{"hash": "b"}, status: 422,
			slug: "invalid", fields: []string{"hash"}},
		{name: "a lookup of a token of nobody's", method: "POST", path: "/keys/lookup",
			body: object{"token": "nobody's"}, status: 404, slug: "not-found"},
		{name: "a method that a lookup has not", method: "GET", path: "/keys/lookup", status: 405,
			slug: "method-not-allowed"},
		{name: "an empty filter", method: "GET", path: "/keys?group=", status: 422, slug: "invalid",
			fields: []string{"group"}},
		{name: "several empty filters", method: "GET", path: "/keys?q=&label=a=1&label=&external_id=", status: 422,
			slug: "invalid", fields: []string{"external_id", "label", "q"}},
		{name: "an empty wait", method: "POST", path: "/keys?wait=", body: object{"name": "w"}, status: 422,
			slug: "invalid", fields: []string{"wait"}},
		{name: "deltas after an empty position", method: "GET", path: "/sync/deltas?after=", status: 422,
			slug: "invalid", fields: []string{"after"}},
		{name: "a control character in a filter", method: "GET", path: "/keys?q=a%00b", status: 422,
			slug: "invalid", fields: []string{"q"}},
		{name: "a filter that is not UTF-8", method: "GET", path: "/keys?name=%ff", status: 422, slug: "invalid",
			fields: []string{"name"}},
		{name: "a count of maybe", method: "GET", path: "/keys?count=maybe", status: 422, slug: "invalid",
			fields: []string{"count"}},
		{name: "a put without a name to find it by", method: "PUT", path: "/keys", body: object{"name": "p"},
			status: 422, slug: "invalid", fields: []string{"external_id"}},
		{name: "a put over what another one named", method: "PUT", path: "/models",
			body: object{"name": "named", "external_id": "mine"}, status: 409, slug: "exists",
			fields: []string{"namespace", "name"}},
		{name: "a put of another revision", method: "PUT", path: "/models", body: object{"name": "m"}, headers: []string{"If-Match", `"99"`}, status: 412, slug: "precondition-failed"},
		{name: "a put of what is not there", method: "PUT", path: "/models", body: object{"name": "absent"}, headers: []string{"If-Match", `"1"`}, status: 412, slug: "precondition-failed"},
		{name: "an unknown field of a rotation", method: "POST", path: "/keys/3/rotate", body: object{"grace": 1},
			status: 422, slug: "invalid", fields: []string{"grace"}},
		{name: "a rotation that is no object", method: "POST", path: "/keys/3/rotate", body: "[1]", status: 400,
			slug: "malformed"},
		{name: "a rotation that is no JSON", method: "POST", path: "/keys/3/rotate", body: "{", status: 400,
			slug: "malformed"},
		{name: "a rotation of another revision", method: "POST", path: "/keys/3/rotate", headers: []string{"If-Match", `"99"`}, status: 412, slug: "precondition-failed"},
		{name: "a rotation of nothing", method: "POST", path: "/keys/99/rotate", status: 404, slug: "not-found"},

		{name: "changes before the first", method: "GET", path: "/changes?after=-1", status: 422, slug: "invalid",
			fields: []string{"after"}},
		{name: "logs that end before they begin", method: "GET",
			path: "/logs?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", status: 422, slug: "invalid",
			fields: []string{"since"}},
		{name: "logs since no time", method: "GET", path: "/logs?since=yesterday", status: 422, slug: "invalid",
			fields: []string{"since"}},
		{name: "logs since the zero time", method: "GET", path: "/logs?since=0001-01-01T00:00:00Z", status: 422,
			slug: "invalid", fields: []string{"since"}},
		{name: "logs until the last day", method: "GET", path: "/logs?until=9999-12-31T00:00:01Z", status: 422,
			slug: "invalid", fields: []string{"until"}},
		{name: "logs with a cursor of nobody's", method: "GET", path: "/logs?cursor=xyz", status: 422,
			slug: "invalid", fields: []string{"cursor"}},
		{name: "logs with no status", method: "GET", path: "/logs?status=99", status: 422, slug: "invalid",
			fields: []string{"status"}},
		{name: "usage by nothing known", method: "GET", path: "/usage?group_by=key,colour", status: 422,
			slug: "invalid", fields: []string{"group_by[1]"}},
		{name: "usage a year", method: "GET", path: "/usage?interval=year", status: 422, slug: "invalid",
			fields: []string{"interval"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.t = t
			p := s.do(admin, tc.method, tc.path, tc.body, tc.headers...).problem(t, tc.status, tc.slug)
			if diff := cmp.Diff(tc.fields, p.fields()); diff != "" {
				t.Errorf("fields (-want +got):\n%s\n%+v", diff, p)
			}
			if p.Detail == "" {
				t.Error("no detail")
			}
		})
	}
	s.must(http.StatusNoContent, admin, "DELETE", "/bindings/2", nil, "If-Match", "*")
}

func TestAllow(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	for _, tc := range []struct{ method, path, allow string }{
		{"PATCH", "/keys", "GET, HEAD, OPTIONS, POST, PUT"},
		{"POST", "/keys/1", "DELETE, GET, HEAD, OPTIONS, PATCH"},
		{"HEAD", "/keys/1/rotate", "OPTIONS, POST"},
		{"PATCH", "/keys/lookup", "OPTIONS, POST"},
	} {
		a := s.do(admin, tc.method, tc.path, nil)
		if got := a.Header.Get("Allow"); got != tc.allow || a.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %d, Allow %q, want %q", tc.method, tc.path, a.StatusCode, got, tc.allow)
		}
	}
	a := s.must(http.StatusNoContent, nobody, "OPTIONS", "/keys", nil)
	if got := a.Header.Get("Allow"); got != "GET, HEAD, OPTIONS, POST, PUT" {
		t.Errorf("OPTIONS: Allow %q", got)
	}
	a = s.must(http.StatusNoContent, nobody, "OPTIONS", "/keys/lookup", nil)
	if got := a.Header.Get("Allow"); got != "OPTIONS, POST" {
		t.Errorf("OPTIONS of a lookup: Allow %q", got)
	}
}

// A failure of ours tells the log what it is, and the client nothing.
func TestFailures(t *testing.T) {
	const secret = "sk-in-an-error-0123456789"
	store := &brokenStore{err: errors.New("dial tcp: " + secret)}
	s := newService(t, ezapi.Config{Catalog: store, Keeper: keeper()}, nil)
	p := s.do(admin, "GET", "/keys", nil, "X-Request-ID", "req-1").problem(t, http.StatusInternalServerError, "internal")
	if p.Detail != "" || p.RequestID != "req-1" {
		t.Errorf("problem %+v", p)
	}
	if log := s.log.String(); !strings.Contains(log, "dial tcp") || !strings.Contains(log, "req-1") ||
		!strings.Contains(log, "GET /keys") {
		t.Errorf("the log does not say what happened: %s", log)
	}
}

// After a panic the client hears of it, the log hears where, and nobody what was in hand.
func TestPanic(t *testing.T) {
	const secret = "sk-in-a-panic-0123456789"
	s := newService(t, ezapi.Config{Catalog: &brokenStore{panics: secret}, Keeper: keeper()}, nil)
	s.do(admin, "GET", "/keys/1", nil).problem(t, http.StatusInternalServerError, "internal")
	if log := s.log.String(); !strings.Contains(log, "panic=string") || !strings.Contains(log, "brokenStore") ||
		strings.Contains(log, secret) {
		t.Errorf("log: %s", log)
	}
}

func TestRequestID(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	for _, tc := range []struct {
		sent string
		own  bool
	}{
		{"abc-123", true},
		{strings.Repeat("x", 128), true},
		{strings.Repeat("x", 129), false},
		{"two words", false},
		{"naïve", false},
		{"", false},
	} {
		got := s.do(nobody, "GET", "/healthz", nil, "X-Request-ID", tc.sent).Header.Get("X-Request-ID")
		if (got == tc.sent) != tc.own {
			t.Errorf("sent %q, got %q", tc.sent, got)
		}
	}
}

// A problem lists a hundred fields, and no more.
func TestProblemsListAHundredFields(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	wrong := make([]string, 250)
	for i := range wrong {
		wrong[i] = "a\x01b" + strconv.Itoa(i)
	}
	p := s.do(admin, "POST", "/keys", object{"name": "k", "models": wrong}).problem(t,
		http.StatusUnprocessableEntity, "invalid")
	if len(p.Errors) != 100 {
		t.Errorf("%d fields are listed", len(p.Errors))
	}
}

// A token that has leaked leads to its key, by itself or by its hash, and is in no answer.
func TestLookup(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	made := s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "k"}).object(t)
	token := made["token"].(string)
	rotated := s.must(http.StatusOK, admin, "POST", "/keys/1/rotate", `{"grace_seconds":6e1}`).object(t)["token"].(string)
	for _, body := range []object{
		{"token": token}, {"hash": catalog.HashToken(token)}, {"token": rotated}, {"hash": catalog.HashToken(rotated)},
	} {
		a := s.must(http.StatusOK, admin, "POST", "/keys/lookup", body)
		shows(t, a.object(t), object{"id": 1.0, "name": "k"})
		if strings.Contains(a.body, token) || strings.Contains(a.body, rotated) || a.Header.Get("ETag") == "" {
			t.Errorf("looked up: %s", a.body)
		}
	}
	if strings.Contains(s.log.String(), token) {
		t.Error("the token is in the log")
	}
}
