package httpapi_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
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
	for _, noun := range []string{"/providers", "/models", "/bindings", "/keys"} {
		for _, route := range []string{"POST " + noun, "GET " + noun, "GET " + noun + "/{id}", "PATCH " + noun + "/{id}", "DELETE " + noun + "/{id}"} {
			if !slices.Contains(routes, route) {
				t.Errorf("%s is not there", route)
			}
		}
	}
	for _, route := range []string{
		"POST /keys/{id}/rotate", "POST /sync/snapshot", "GET /sync/snapshot", "GET /sync/deltas", "POST /sync/nodes", "GET /sync/status", "GET /changes", "GET /explain", "POST /logs", "GET /logs", "GET /usage",
		"GET /healthz", "GET /readyz", "GET /openapi.json", "GET /metrics",
	} {
		if !slices.Contains(routes, route) {
			t.Errorf("%s is not there", route)
		}
	}
	// Without metrics there is no such route, in the document neither.
	s = newService(t, ezapi.Config{}, nil)
	s.do(admin, "GET", "/metrics", nil).problem(t, http.StatusNotFound, "not-found")
	if paths := s.must(http.StatusOK, nobody, "GET", "/openapi.json", nil).object(t)["paths"].(object); paths["/metrics"] != nil {
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
	for _, slug := range []string{"malformed", "invalid", "not-found", "exists", "referenced", "precondition-failed", "overloaded"} {
		if !strings.Contains(text.body, `"urn:ezapi:`+slug+`"`) {
			t.Errorf("slug %s is not listed", slug)
		}
	}
}

// What the document says of an entity is what the API answers with, and what
// it says of bodies is what the API takes.
func TestDocumentIsTrue(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	schemas := s.must(http.StatusOK, nobody, "GET", "/openapi.json", nil).object(t)["components"].(object)["schemas"].(object)
	for _, tc := range []struct {
		noun, path string
		full       object
	}{
		{"Model", "/models", object{
			"name": "m", "namespace": "default", "kind": "chat", "external_id": "x", "labels": object{"a": "b"}, "status": "active",
			"context_window": 1, "max_output_tokens": 1, "supports_vision": true, "supports_functions": true, "supports_tool_choice": true,
			"supports_fim": true, "supports_stream": true, "input_price": 1, "output_price": "1", "cache_read_price": 0, "cache_write_price": nil,
			"request_price": "0.01", "price_tiers": []object{{"above_input_tokens": 2e5, "input_price": 2}}, "price_source": "litellm",
		}},
		{"Provider", "/providers", object{
			"name": "p", "type": "vertex", "base_url": "https://example.com", "api_key": "0123456789abcdef", "google_project": "g", "google_location": "l",
			"group": "g", "models": []string{"m"}, "weight": 1, "priority": 0, "auto_ban": true, "options": object{"a": 1}, "external_id": "x",
			"prices": object{"gpt-4o*": object{"input_price": 1, "request_price": nil, "price_tiers": []object{{"above_input_tokens": 1, "output_price": "2"}}}},
			"labels": object{}, "status": "active",
		}},
		{"Binding", "/bindings", object{
			"model": "m", "namespace": "default", "route_group": "g", "provider_group": "g", "weight": 1, "priority": 0, "selector_type": "regex",
			"selector_value": ".*", "external_id": "x", "labels": object{}, "status": "active",
		}},
		{"Key", "/keys", object{
			"name": "k", "group": "g", "namespaces": []string{"default"}, "default_namespace": "default", "models": []string{"m"}, "scopes": []string{"s"},
			"allow_ips": []string{"::1"}, "expires_at": "2030-01-01T00:00:00Z", "rpm_limit": 1, "tpm_limit": 1, "max_parallel": 1, "budget_limit": 1,
			"budget_window": "day", "external_id": "x", "labels": object{}, "status": "active", "token": "0123456789abcdef", "token_hashes": nil,
		}},
	} {
		t.Run(tc.noun, func(t *testing.T) {
			shown, create, patch := schemas[tc.noun].(object), schemas[tc.noun+"Create"].(object), schemas[tc.noun+"Patch"].(object)
			for field, s := range create["properties"].(object) {
				if _, sent := tc.full[field]; !sent && s.(object)["readOnly"] != true {
					t.Errorf("documented field %s is not tried", field)
				}
			}
			for field := range tc.full {
				if create["properties"].(object)[field] == nil {
					t.Errorf("field %s is not documented", field)
				}
				if patch["properties"].(object)[field] == nil && !strings.HasPrefix(field, "token") {
					t.Errorf("field %s is not documented for patches", field)
				}
			}
			got := s.must(http.StatusCreated, admin, "POST", tc.path, tc.full).object(t)
			delete(got, "token")
			for field := range got {
				if shown["properties"].(object)[field] == nil {
					t.Errorf("shown field %s is not documented", field)
				}
			}
			for _, field := range shown["required"].([]any) {
				if _, ok := got[field.(string)]; !ok {
					t.Errorf("field %s is always there, says the document, and is not", field)
				}
			}
			// Null is the default for whatever may be null, and only what is required may not.
			empty := object{}
			for field, s := range create["properties"].(object) {
				if text, _ := json.Marshal(s); strings.Contains(string(text), `"null"`) {
					empty[field] = nil
				}
			}
			empty["name"], empty["type"], empty["model"] = "other", "openai", "m"
			for _, field := range []string{"name", "type", "model"} {
				if create["properties"].(object)[field] == nil {
					delete(empty, field)
				}
			}
			s.must(http.StatusCreated, admin, "POST", tc.path, empty)
		})
	}
}
