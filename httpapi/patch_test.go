package httpapi_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
)

// Null restores the default of every field: what is left is what was created with nothing said.
func TestPatchNullRestoresDefaults(t *testing.T) {
	for _, tc := range []struct {
		path, noun string
		least      object
		more       object // every other field that may be sent, none at its default
	}{
		{"/models", "Model", object{"name": "m"}, object{
			"namespace": "n", "kind": "image", "external_id": "x", "labels": object{"a": "b"}, "status": "disabled", "context_window": 1,
			"max_output_tokens": 1, "supports_vision": true, "supports_functions": true, "supports_tool_choice": true, "supports_fim": true,
			"supports_stream": true, "input_price": 1, "output_price": "1", "cache_read_price": 0, "cache_write_price": 2,
			"request_price": "0.01", "price_tiers": []object{{"above_input_tokens": 2e5, "input_price": 2}}, "price_source": "litellm",
		}},
		{"/providers", "Provider", object{"name": "p", "type": "vertex"}, object{
			"base_url": "https://example.com", "api_key": "0123456789abcdef", "google_project": "g", "google_location": "l", "group": "g",
			"models": []string{"m"}, "weight": 5, "priority": 5, "auto_ban": true, "options": object{"a": 1}, "external_id": "x",
			"prices": object{"gpt-4o*": object{"input_price": 1, "request_price": nil, "price_tiers": []object{{"above_input_tokens": 1, "output_price": "2"}}}},
			"labels": object{"a": "b"}, "status": "disabled",
		}},
		{"/bindings", "Binding", object{"model": "bound"}, object{
			"namespace": "n", "route_group": "g", "provider_group": "h", "weight": 5, "priority": 5, "selector_type": "regex", "selector_value": ".*",
			"external_id": "x", "labels": object{"a": "b"}, "status": "disabled",
		}},
		{"/keys", "Key", object{"name": "k"}, object{
			"group": "g", "namespaces": []string{"a", "b"}, "default_namespace": "b", "models": []string{"m"}, "scopes": []string{"s"},
			"allow_ips": []string{"::1"}, "expires_at": "2030-01-01T00:00:00Z", "rpm_limit": 1, "tpm_limit": 1, "max_parallel": 1, "budget_limit": 1,
			"budget_window": "day", "external_id": "x", "labels": object{"a": "b"}, "status": "disabled",
		}},
	} {
		t.Run(tc.noun, func(t *testing.T) {
			s := newService(t, ezapi.Config{}, nil)
			for _, namespace := range []string{"default", "n"} {
				s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "bound", "namespace": namespace})
			}
			schema := s.must(http.StatusOK, nobody, "GET", "/openapi.json", nil).object(t)["components"].(object)["schemas"].(object)[tc.noun+"Patch"].(object)
			for field, p := range schema["properties"].(object) {
				if _, known := tc.more[field]; !known && tc.least[field] == nil && p.(object)["readOnly"] != true {
					t.Errorf("field %s is not tried", field)
				}
			}
			own := func(a answer) object { // without what no two have in common
				v := a.object(t)
				for _, field := range []string{"id", "revision", "created_at", "updated_at", "token", "token_hint"} {
					delete(v, field)
				}
				return v
			}
			plain := s.must(http.StatusCreated, admin, "POST", tc.path, tc.least)
			path := tc.path + "/" + number(plain.object(t)["id"])
			full := own(s.must(http.StatusOK, admin, "PATCH", path, tc.more))
			nulls := object{}
			for field := range tc.more {
				nulls[field] = nil
				if field != "api_key" && cmp.Equal(full[field], own(plain)[field]) {
					t.Errorf("field %s was at its default before: %v", field, full[field])
				}
			}
			if diff := cmp.Diff(own(plain), own(s.must(http.StatusOK, admin, "PATCH", path, nulls))); diff != "" {
				t.Errorf("%s created (-) and with every field null (+):\n%s", tc.noun, diff)
			}
		})
	}
}

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
		"name": "p", "type": "openai", "api_key": "sk-0123456789abcdef", "labels": object{"a": "1"}, "options": object{"a": object{"b": 1}},
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
