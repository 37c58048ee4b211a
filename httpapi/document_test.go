package httpapi_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
)

// The document lists exactly the routes that there are.
func TestDocumentListsEveryRoute(t *testing.T) {
	s := newService(t, ezapi.Config{}, &httpapi.Options{Metrics: http.NotFoundHandler(), Version: "1.2.3"})
	a := s.must(http.StatusOK, nobody, "GET", "/openapi.json", nil)
	if got := a.Header.Get("Content-Type"); got != "application/openapi+json" {
		t.Errorf("content type %q", got)
	}
	doc := a.object(t)
	if got := doc["info"].(object)["version"]; got != "1.2.3" {
		t.Errorf("version %v", got)
	}
	var documented []string
	for path, item := range doc["paths"].(object) {
		for method := range item.(object) {
			route := strings.ToUpper(method) + " " + path
			documented = append(documented, route)
			got := s.do(admin, strings.ToUpper(method), strings.ReplaceAll(path, "{id}", "1"), nil)
			if p := got.body; strings.Contains(p, "nothing is at this path") || got.StatusCode == http.StatusMethodNotAllowed {
				t.Errorf("%s is documented and is not there", route)
			}
		}
	}
	routes := s.api.(*httpapi.Handler).Routes()
	slices.Sort(documented)
	slices.Sort(routes)
	if diff := cmp.Diff(routes, documented); diff != "" {
		t.Errorf("routes that are there (-) and documented ones (+):\n%s", diff)
	}
	for _, path := range []string{"/docs", "/openapi.yaml", "/openapi-3.0.json", "/schemas/Key"} {
		s.do(admin, "GET", path, nil).problem(t, http.StatusNotFound, "not-found")
	}
}

// What was promised is there, and stays.
func TestRoutes(t *testing.T) {
	s := newService(t, ezapi.Config{}, &httpapi.Options{Metrics: http.NotFoundHandler()})
	routes := s.api.(*httpapi.Handler).Routes()
	for _, kind := range catalog.Kinds() {
		noun := "/" + string(kind)
		for _, route := range []string{
			"POST " + noun, "PUT " + noun, "GET " + noun, "GET " + noun + "/{id}", "PATCH " + noun + "/{id}",
			"DELETE " + noun + "/{id}",
		} {
			if !slices.Contains(routes, route) {
				t.Errorf("%s is not there", route)
			}
		}
	}
	for _, route := range []string{
		"POST /keys/{id}/rotate", "POST /keys/lookup", "POST /sync/snapshot", "GET /sync/snapshot",
		"POST /providers/{id}/test", "GET /providers/{id}/upstream-models", "GET /health/providers",
		"GET /sync/deltas", "POST /sync/nodes", "GET /sync/status", "GET /changes", "GET /explain", "POST /logs",
		"GET /logs", "GET /usage",
		"GET /healthz", "GET /readyz", "GET /openapi.json", "GET /metrics",
	} {
		if !slices.Contains(routes, route) {
			t.Errorf("%s is not there", route)
		}
	}
	// Without metrics there is no such route, in the document neither.
	s = newService(t, ezapi.Config{}, nil)
	s.do(admin, "GET", "/metrics", nil).problem(t, http.StatusNotFound, "not-found")
	if paths := s.must(http.StatusOK, nobody, "GET", "/openapi.json",
		nil).object(t)["paths"].(object); paths["/metrics"] != nil {
		t.Error("GET /metrics is documented and is not there")
	}
}

// Every schema that is referred to is there, and every one that is there is
// referred to.
func TestDocumentIsWhole(t *testing.T) {
	text := newService(t, ezapi.Config{}, nil).must(http.StatusOK, nobody, "GET", "/openapi.json", nil)
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`"#/components/schemas/(\w+)"`).FindAllStringSubmatch(text.body, -1) {
		used[m[1]] = true
	}
	schemas := text.object(t)["components"].(object)["schemas"].(object)
	for name := range used {
		if schemas[name] == nil {
			t.Errorf("schema %s is not there", name)
		}
	}
	for name := range schemas {
		if !used[name] {
			t.Errorf("schema %s is of no use", name)
		}
	}
	for _, slug := range []string{"malformed", "invalid", "not-found", "exists", "referenced",
		"precondition-failed", "overloaded"} {
		if !strings.Contains(text.body, `"urn:ezapi:`+slug+`"`) {
			t.Errorf("slug %s is not listed", slug)
		}
	}
}
