package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ez-api/ez-api"
)

// A second If-Match would be overlooked, and so would what it guards.
func TestIfMatchIsSentOnce(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "m"})
	r := httptest.NewRequest("PATCH", "/models/1", strings.NewReader(`{"labels":{"a":"b"}}`))
	r.Header.Set("Authorization", "Bearer "+admin)
	r.Header["If-Match"] = []string{`"1"`, `"99"`}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// With * a PUT changes what is there, and creates nothing.
func TestIfMatchAny(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	s.must(http.StatusPreconditionFailed, admin, "PUT", "/models", object{"name": "m"}, "If-Match", "*")
	s.must(http.StatusNotFound, admin, "GET", "/models/1", nil)
	s.must(http.StatusCreated, admin, "PUT", "/models", object{"name": "m"})
	s.must(http.StatusOK, admin, "PUT", "/models", object{"name": "m", "kind": "embedding"}, "If-Match", "*")
	s.must(http.StatusOK, admin, "PATCH", "/models/1", object{"kind": "chat"}, "If-Match", "*")
	s.must(http.StatusNoContent, admin, "DELETE", "/models/1", nil, "If-Match", "*")
}

// With If-None-Match: * a PUT creates, and changes nothing that is there.
func TestIfNoneMatchOnlyCreates(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	s.must(http.StatusCreated, admin, "PUT", "/models", object{"name": "m"}, "If-None-Match", "*")
	s.must(http.StatusPreconditionFailed, admin, "PUT", "/models", object{"name": "m", "kind": "audio"},
		"If-None-Match", "*")
	s.must(http.StatusPreconditionFailed, admin, "PUT", "/models", object{"name": "m"}, "If-None-Match", "*") // equal
	if is := s.must(http.StatusOK, admin, "GET", "/models/1", nil).body; !strings.Contains(is, `"kind":"chat"`) {
		t.Errorf("%s", is)
	}
	s.must(http.StatusBadRequest, admin, "PUT", "/models", object{"name": "m"}, "If-None-Match", `"1"`)
	s.must(http.StatusBadRequest, admin, "PUT", "/models", object{"name": "m"}, "If-None-Match", "")
	s.must(http.StatusBadRequest, admin, "PUT", "/models", object{"name": "m"}, "If-None-Match", "*", "If-Match", "*")
}

// A precondition that a write does not look at is refused, so that nobody relies on it.
func TestPreconditionsThatDoNotCountAreRefused(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "m"})
	for _, header := range []string{"If-None-Match", "If-Unmodified-Since", "If-Modified-Since", "If-Range"} {
		s.must(http.StatusBadRequest, admin, "PATCH", "/models/1", object{"kind": "audio"}, header, "*")
		s.must(http.StatusBadRequest, admin, "DELETE", "/models/1", nil, header, "*")
		s.must(http.StatusBadRequest, admin, "POST", "/models", object{"name": "n"}, header, "*")
		s.must(http.StatusBadRequest, admin, "POST", "/apply", object{"models": []any{}}, header, "*")
		s.must(http.StatusBadRequest, admin, "POST", "/logs", object{}, header, "*")
	}
	s.must(http.StatusBadRequest, admin, "POST", "/models", object{"name": "n"}, "If-Match", "*")
	s.must(http.StatusNoContent, admin, "DELETE", "/models/1", nil)
}

// A GET of what has not changed has no body.
func TestUnchangedResourcesAreNotSentAgain(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "m"})
	s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "k"})
	for _, path := range []string{"/models/1", "/keys/2"} {
		etag := s.do(admin, "GET", path, nil).Header.Get("ETag")
		for _, seen := range []string{etag, "W/" + etag, `"9", ` + etag, "*"} {
			a := s.must(http.StatusNotModified, admin, "GET", path, nil, "If-None-Match", seen)
			if a.body != "" || a.Header.Get("ETag") != etag {
				t.Errorf("%s with %s: %q, ETag %s", path, seen, a.body, a.Header.Get("ETag"))
			}
		}
		s.must(http.StatusOK, admin, "GET", path, nil, "If-None-Match", `"9"`)
	}
	s.must(http.StatusNotFound, admin, "GET", "/models/9", nil, "If-None-Match", "*")
}
