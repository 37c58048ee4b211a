package httpapi_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
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

// A token of the server's settings becomes no operator's: the list would say viewer where it is admin.
func TestTokensOfTheServerAreTaken(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	for path, body := range map[string]object{
		"/operators": {"name": "o", "role": "viewer", "token": admin}, "/keys": {"name": "k", "token": admin},
	} {
		p := s.do(admin, "POST", path, body).problem(t, http.StatusUnprocessableEntity, "invalid")
		if !slices.Equal(p.fields(), []string{"token"}) {
			t.Errorf("POST %s names %v", path, p.fields())
		}
	}
	auth := httpapi.WithScheme(httpapi.Tokens(httpapi.TokenList{Viewer: []string{"v"}}), httpapi.Scheme{})
	holder := auth.(httpapi.TokenHolder)
	if !holder.HoldsToken(catalog.HashToken("v")) || holder.HoldsToken(catalog.HashToken("w")) {
		t.Error("a described Auth does not say which tokens it knows")
	}
}

// A body that says it is too long is not asked for. A client that waits to be asked never sends it.
func TestTooLongBodiesAreNotAskedFor(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	for _, path := range []string{"/models", "/apply", "/logs"} {
		r := httptest.NewRequest("POST", path, unread{t})
		r.ContentLength = 99_999_999
		r.Header.Set("Content-Length", "99999999")
		r.Header.Set("Authorization", "Bearer "+admin)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		if w.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: status %d: %s", path, w.Code, w.Body)
		}
	}
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, io.EOF
}
