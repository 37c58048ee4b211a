package httpapi_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ez-api/ez-api"
)

// A request that gives two credentials does not say who asks.
func TestOneAuthorization(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	r := httptest.NewRequest("GET", "/models", nil)
	r.Header["Authorization"] = []string{"Bearer " + admin, "Bearer other"}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// A cursor is as the answer before gave it.
func TestPageCursorsHaveOneForm(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	for _, text := range []string{"id:05", "id:+5"} {
		s.must(http.StatusUnprocessableEntity, admin, "GET",
			"/models?cursor="+base64.RawURLEncoding.EncodeToString([]byte(text)), nil)
	}
}

// The answer says whether one of two fields is missing or one is too many.
func TestRevertSaysWhatIsWrong(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	for body, want := range map[string]string{`{"to":1,"revision":1}`: "must not be sent together", `{}`: "is required"} {
		r := httptest.NewRequest("POST", "/revert", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+admin)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: status %d: %s", body, w.Code, w.Body)
		}
	}
}
