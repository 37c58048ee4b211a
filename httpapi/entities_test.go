package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/ez-api/ez-api"
)

// Every noun is created, shown, listed, changed and deleted in the same way.
func TestEntities(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "gpt-4o"})
	for _, tc := range []struct {
		path   string
		create object
		shows  object // with defaults
		patch  object
		after  object
	}{
		{
			"/providers", object{"name": "up", "type": " OpenAI ", "api_key": "sk-0123456789abcdef", "models": []string{"m"}},
			object{"name": "up", "type": "openai", "api_key_hint": "cdef", "group": "default", "weight": 1.0, "status": "active"},
			object{"weight": 7, "group": "eu"}, object{"weight": 7.0, "group": "eu", "api_key_hint": "cdef"},
		},
		{
			"/models", object{"name": "a/b.c", "input_price": 2.5, "output_price": "10.000000001"},
			object{"namespace": "default", "kind": "chat", "input_price": "2.5", "output_price": "10.000000001", "cache_read_price": nil},
			object{"input_price": nil, "context_window": 8192}, object{"input_price": nil, "context_window": 8192.0},
		},
		{
			"/bindings", object{"model": "gpt-4o", "route_group": "eu"},
			object{"namespace": "default", "provider_group": "eu", "selector_type": "exact", "selector_value": "gpt-4o"},
			object{"route_group": "us"}, object{"route_group": "us", "provider_group": "eu"},
		},
		{
			"/keys", object{"name": "alice", "budget_limit": "12.50", "allow_ips": []string{"192.0.2.1"}},
			object{"name": "alice", "budget_limit": "12.5", "budget_window": "total", "default_namespace": "default"},
			object{"status": "disabled", "labels": object{"team": "a"}}, object{"status": "disabled", "labels": object{"team": "a"}},
		},
	} {
		t.Run(tc.path[1:], func(t *testing.T) {
			created := s.must(http.StatusCreated, admin, "POST", tc.path, tc.create)
			v := created.object(t)
			shows(t, v, tc.shows)
			id := number(v["id"])
			path := tc.path + "/" + id
			if got := created.Header.Get("Location"); got != path[1:] {
				t.Errorf("Location %q, want %q", got, path[1:])
			}
			etag := `"` + number(v["revision"]) + `"`
			if got := created.Header.Get("ETag"); got != etag {
				t.Errorf("ETag %s, want %s", got, etag)
			}

			got := s.must(http.StatusOK, viewer, "GET", path, nil)
			shows(t, got.object(t), tc.shows)
			if got.Header.Get("ETag") != etag {
				t.Errorf("ETag of GET %s, want %s", got.Header.Get("ETag"), etag)
			}
			head := s.must(http.StatusOK, viewer, "HEAD", path, nil)
			if head.body != "" || head.Header.Get("ETag") != etag {
				t.Errorf("HEAD: ETag %s, body %q", head.Header.Get("ETag"), head.body)
			}
			list := s.must(http.StatusOK, viewer, "GET", tc.path, nil).object(t)
			if n := len(list["data"].([]any)); n == 0 || list["next_cursor"] != nil {
				t.Errorf("list %v", list)
			}

			patched := s.must(http.StatusOK, admin, "PATCH", path, tc.patch, "Content-Type", "application/merge-patch+json", "If-Match", etag)
			shows(t, patched.object(t), tc.after)
			if patched.Header.Get("ETag") == etag {
				t.Error("the ETag stays after a change")
			}
			again := s.must(http.StatusOK, admin, "PATCH", path, tc.patch, "Content-Type", "application/json")
			if again.Header.Get("ETag") != patched.Header.Get("ETag") {
				t.Error("a patch that changes nothing makes a revision")
			}
			s.do(admin, "PATCH", path, tc.patch, "If-Match", etag).problem(t, http.StatusPreconditionFailed, "precondition-failed")
			s.do(admin, "DELETE", path, nil, "If-Match", etag).problem(t, http.StatusPreconditionFailed, "precondition-failed")

			// What was read can be sent again.
			sent := s.must(http.StatusOK, admin, "PATCH", path, s.must(http.StatusOK, viewer, "GET", path, nil).object(t))
			if sent.Header.Get("ETag") != patched.Header.Get("ETag") {
				t.Error("sending what was read makes a revision")
			}

			deleted := s.must(http.StatusNoContent, admin, "DELETE", path, nil, "If-Match", patched.Header.Get("ETag"))
			if deleted.body != "" {
				t.Errorf("body of DELETE %q", deleted.body)
			}
			s.do(viewer, "GET", path, nil).problem(t, http.StatusNotFound, "not-found")
			s.do(admin, "PATCH", path, object{}).problem(t, http.StatusNotFound, "not-found")
			s.do(admin, "DELETE", path, nil).problem(t, http.StatusNotFound, "not-found")
		})
	}
}
