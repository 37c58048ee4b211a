package httpapi_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/ez-api/ez-api"
)

// Whatever patch is sent, the answer is one of those that the contract lists;
// one that was refused changes nothing, and one that was taken changes nothing more
// when it comes again.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"name":null}`, `{"weight":1e400}`, `{"weight":7,"labels":{"a":null,"b":"c"}}`, `{"options":{"a":{"b":{"c":null}}}}`,
		`{"models":["m","m"]}`, `{"api_key":"sk-0123456789abcdef","base_url":"https://example.com"}`, `{"api_key":null}`, `{"id":9,"revision":9}`,
		`{"status":"disabled","status":"active"}`, `{"labels":{"\u0000":"\ud800"}}`, `{"type":" VERTEX "}`, "{\"name\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	s := newService(f, ezapi.Config{}, nil)
	s.must(http.StatusCreated, admin, "POST", "/providers", object{
		"name": "p", "type": "openai", "api_key": "sk-0123456789abcdef", "labels": object{"a": "1"},
		"options": object{"a": object{"b": 1}},
	})
	f.Fuzz(func(t *testing.T, patch []byte) {
		s.t = t
		before := s.must(http.StatusOK, viewer, "GET", "/providers/1", nil)
		a := s.do(admin, "PATCH", "/providers/1", patch, "Content-Type", "application/merge-patch+json")
		after := s.must(http.StatusOK, viewer, "GET", "/providers/1", nil)
		switch a.StatusCode {
		case http.StatusOK:
			if !json.Valid([]byte(a.body)) || a.body != after.body {
				t.Errorf("the answer is %s, and what is there %s", a.body, after.body)
			}
			if again := s.must(http.StatusOK, admin, "PATCH", "/providers/1", patch); again.body != after.body {
				t.Errorf("the same patch again makes %s of %s", again.body, after.body)
			}
		case 400, 413, 422:
			if before.body != after.body {
				t.Errorf("%d, and yet %s became %s", a.StatusCode, before.body, after.body)
			}
		default:
			t.Errorf("status %d: %s", a.StatusCode, a.body)
		}
	})
}
