package httpapi_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
)

// What is accepted and may not be meant comes with a warning; what is refused, and what is read, with none.
func TestWarnings(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	cheap := s.must(http.StatusCreated, admin, "POST", "/models",
		object{"name": "m", "input_price": "0.0000025", "output_price": "20000"})
	if got := cheap.Header.Values("EZ-Warning"); len(got) != 2 || !strings.HasPrefix(got[0], "input_price ") ||
		!strings.HasPrefix(got[1], "output_price ") {
		t.Errorf("warnings %q", got)
	}
	put := s.must(http.StatusOK, admin, "PUT", "/models", object{"name": "m", "input_price": "0.00001"})
	if got := put.Header.Values("EZ-Warning"); len(got) != 1 {
		t.Errorf("warnings of PUT %q", got)
	}
	for i := range 3 {
		s.must(http.StatusCreated, admin, "POST", "/keys",
			object{"name": "k" + strconv.Itoa(i), "models": []string{"m", "n"}})
	}
	renamed := s.must(http.StatusOK, admin, "PATCH", "/models/1", object{"name": "o"})
	if got := strings.Join(renamed.Header.Values("EZ-Warning"), "; "); !strings.Contains(got, "3 ") {
		t.Errorf("renaming what three keys name warns %q", got)
	}
	s.must(http.StatusOK, admin, "PATCH", "/models/1", object{"name": "m", "input_price": "1"})
	s.must(http.StatusOK, admin, "PATCH", "/models/1?cascade=true", object{"name": "p"})
	got := s.must(http.StatusOK, viewer, "GET", "/keys/2", nil).object(t)["models"]
	if diff := cmp.Diff([]any{"p", "n"}, got); diff != "" {
		t.Errorf("the key's models after a rename with cascade=true (-want +got):\n%s", diff)
	}
	s.must(http.StatusOK, admin, "PATCH", "/models/1", object{"external_id": "e"})
	s.must(http.StatusOK, admin, "PUT", "/models?cascade=true", object{"external_id": "e", "name": "r"})
	got = s.must(http.StatusOK, viewer, "GET", "/keys/2", nil).object(t)["models"]
	if diff := cmp.Diff([]any{"r", "n"}, got); diff != "" {
		t.Errorf("the key's models after a PUT with cascade=true (-want +got):\n%s", diff)
	}
	s.do(admin, "PUT", "/keys?cascade=true", object{}).problem(t, http.StatusUnprocessableEntity, "invalid")
	s.must(http.StatusNoContent, admin, "DELETE", "/models/1?cascade=true", nil)
	got = s.must(http.StatusOK, viewer, "GET", "/keys/2", nil).object(t)["models"]
	if diff := cmp.Diff([]any{"n"}, got); diff != "" {
		t.Errorf("the key's models after deleting with cascade=true (-want +got):\n%s", diff)
	}
	for _, a := range []answer{
		s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "q"}),
		s.must(http.StatusOK, viewer, "GET", "/models", nil),
		s.do(admin, "POST", "/models", object{"name": "q", "input_price": "0.000001"}),
		s.do(admin, "PATCH", "/keys/2?cascade=true", object{"name": "q"}),
	} {
		if got := a.Header.Get("EZ-Warning"); got != "" {
			t.Errorf("status %d warns %q", a.StatusCode, got)
		}
	}
	s.do(admin, "PATCH", "/keys/2?cascade=true", object{}).problem(t, http.StatusUnprocessableEntity, "invalid")
}

// An answer has no more warnings than a client reads.
func TestWarningsAreBounded(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	prices := object{}
	for i := range 50 {
		prices["m"+strconv.Itoa(i)] = object{"input_price": "0.000001"}
	}
	a := s.must(http.StatusCreated, admin, "POST", "/providers", object{"name": "p", "type": "openai",
		"api_key": "sk-1", "models": []string{"*"}, "prices": prices})
	got := a.Header.Values("EZ-Warning")
	if len(got) != 21 || got[20] != "there are 30 more warnings" {
		t.Errorf("%d warnings, the last %q", len(got), got[len(got)-1])
	}
}
