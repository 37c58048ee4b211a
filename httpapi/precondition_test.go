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
