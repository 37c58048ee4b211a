package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
)

// A token is in the answers that make it, and in no other.
func TestTokenIsShownOnce(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	created := s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "alice"}).object(t)
	token, _ := created["token"].(string)
	if !catalog.IsToken(token) || !strings.HasSuffix(token, created["token_hint"].(string)) {
		t.Fatalf("created %v", created)
	}
	path := "/keys/" + number(created["id"])
	rotated := s.must(http.StatusOK, admin, "POST", path+"/rotate", object{"grace_seconds": 60}).object(t)
	second, _ := rotated["token"].(string)
	if !catalog.IsToken(second) || second == token || rotated["rotated_at"] == nil {
		t.Fatalf("rotated %v", rotated)
	}
	for name, tok := range map[string]string{"in its grace": token, "current": second} {
		if _, err := s.plane.Keys.Authenticate(t.Context(), catalog.NewSecret(tok)); err != nil {
			t.Errorf("the token %s: %v", name, err)
		}
	}
	third := s.must(http.StatusOK, admin, "POST", path+"/rotate", nil).object(t)["token"].(string)
	for name, tok := range map[string]string{"first": token, "second": second} {
		if _, err := s.plane.Keys.Authenticate(t.Context(), catalog.NewSecret(tok)); err == nil {
			t.Errorf("the %s token still works", name)
		}
	}
	for _, path := range []string{path, "/keys", "/changes"} {
		body := s.must(http.StatusOK, admin, "GET", path, nil).body
		for _, tok := range []string{token, second, third} {
			if strings.Contains(body, tok) || strings.Contains(body, catalog.HashToken(tok)) {
				t.Errorf("GET %s holds a token or its hash", path)
			}
		}
	}
	patched := s.must(http.StatusOK, admin, "PATCH", path, object{"name": "bob"}).object(t)
	if _, shown := patched["token"]; shown {
		t.Error("PATCH shows a token")
	}
}

func TestImportTokens(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	const token = "my-own-token-0123456789"
	shows(t, s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "a", "token": token}).object(t), object{"token": token})
	got := s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "b", "token_hashes": []string{catalog.HashToken("another")}}).object(t)
	if got["token"] != "" {
		t.Errorf("the token of a hash is %q", got["token"])
	}
	s.do(admin, "POST", "/keys", object{"name": "c", "token": token}).problem(t, http.StatusConflict, "exists")
	s.do(admin, "POST", "/keys", object{"name": "c", "token": "short"}).problem(t, http.StatusUnprocessableEntity, "invalid")
	s.do(admin, "PATCH", "/keys/1", object{"token": token}).problem(t, http.StatusUnprocessableEntity, "invalid")
}
