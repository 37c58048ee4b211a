package httpapi_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
)

// schemas returns the schemas of the OpenAPI document.
func (s *service) schemas() object { return s.document()["components"].(object)["schemas"].(object) }

// kinds of a schema: "string", "null".
func kindsOf(s object) []string {
	if one, ok := s["type"].(string); ok {
		return []string{one}
	}
	return strs(s["type"])
}

// Every field is described, in whole sentences.
func TestEveryFieldIsDescribed(t *testing.T) {
	sentence := regexp.MustCompile(`^[A-Z"<a].*\.$`)
	for name, schema := range newService(t, ezapi.Config{}, nil).schemas() {
		properties, _ := schema.(object)["properties"].(object)
		for field, p := range properties {
			if text, _ := p.(object)["description"].(string); p.(object)["$ref"] == nil && !sentence.MatchString(text) {
				t.Errorf("%s.%s: its description %q is no sentence; it is the tag doc beside the field", name, field, text)
			}
		}
	}
}

// A patch requires nothing, and no body has defaults, or generated clients would send what nobody said.
func TestPatchSchemasChangeNothingUnasked(t *testing.T) {
	eachNoun(t, func(s *service, _, name string, c nounCase) {
		t := s.t
		patch := s.schemas()[name+"Patch"].(object)
		if patch["required"] != nil {
			t.Errorf("a patch requires %v", patch["required"])
		}
		for field, p := range patch["properties"].(object) {
			nullable := slices.Contains(kindsOf(p.(object)), "null")
			if _, required := c.least[field]; required == nullable && p.(object)["$ref"] == nil {
				t.Errorf("field %s of a patch: null is documented: %v", field, nullable)
			}
		}
		for schema, v := range s.schemas() {
			properties, _ := v.(object)["properties"].(object)
			for field, p := range properties {
				if d, has := p.(object)["default"]; has {
					t.Errorf("%s.%s has the default %v", schema, field, d)
				}
			}
		}
		status := s.schemas()[name+"Create"].(object)["properties"].(object)["status"].(object)
		if text := fmt.Sprint(status["description"]); !strings.HasSuffix(text, "The default is active.") {
			t.Errorf("the default of status is not described: %q", text)
		}
	})
}

// Money is text wherever it is documented, so that no client makes a float of it.
func TestMoneyIsText(t *testing.T) {
	money := regexp.MustCompile(`_price$|^limit$|^spent$`)
	seen := 0
	for name, schema := range newService(t, ezapi.Config{}, nil).schemas() {
		properties, _ := schema.(object)["properties"].(object)
		for field, p := range properties {
			if !money.MatchString(field) {
				continue
			}
			seen++
			kinds := slices.DeleteFunc(kindsOf(p.(object)), func(k string) bool { return k == "null" })
			if !slices.Equal(kinds, []string{"string"}) || p.(object)["pattern"] == nil || p.(object)["oneOf"] != nil {
				t.Errorf("%s.%s is documented as %v", name, field, p)
			}
			form := regexp.MustCompile(p.(object)["pattern"].(string))
			for amount, ok := range map[string]bool{"0": true, "2.5": true, "0.000000001": true, "9223372036.854775807": true,
				"00001.5": false, "1.": false, ".5": false, "1.0000000001": false, "-1": false, "": false} {
				if form.MatchString(amount) != ok {
					t.Errorf("%s.%s: the form is wrong about %q", name, field, amount)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d amounts of money are documented", seen)
	}
}

// Everything that is sent has bounds, and the document is right about them.
func TestBoundsAreTrue(t *testing.T) {
	eachNoun(t, func(s *service, path, name string, c nounCase) {
		t := s.t
		sent := both(both(c.least, c.more), c.once)
		refused := func(field string, value any) {
			t.Helper()
			p := s.do(admin, "POST", path, both(sent, object{field: value})).problem(t, http.StatusUnprocessableEntity,
				"invalid")
			if !slices.ContainsFunc(p.fields(), func(f string) bool { return strings.HasPrefix(f, field) }) {
				t.Errorf("a wrong %s: the problem names %v", field, p.fields())
			}
		}
		for field, v := range s.schemas()[name+"Create"].(object)["properties"].(object) {
			schema := v.(object)
			wrap := func(v any) any { return v }
			if slices.Contains(kindsOf(schema), "array") {
				most, ok := schema["maxItems"].(float64)
				if !ok {
					t.Errorf("list %s has no maxItems", field)
				}
				if items := schema["items"].(object); items["$ref"] == nil {
					refused(field, make([]any, int(most)+1))
					schema, wrap = items, func(v any) any { return []any{v} }
				}
			}
			switch kinds := kindsOf(schema); {
			case slices.Contains(kinds, "string"):
				most, bounded := schema["maxLength"].(float64)
				if bounded {
					refused(field, wrap(strings.Repeat("a", int(most)+1)))
				} else if schema["enum"] == nil && schema["pattern"] == nil && schema["format"] == nil {
					t.Errorf("text %s has neither a length nor a form", field)
				}
				if schema["enum"] != nil || schema["pattern"] != nil || schema["format"] != nil {
					refused(field, wrap("no such value !"))
				}
			case slices.Contains(kinds, "integer"):
				least, hasLeast := schema["minimum"].(float64)
				most, hasMost := schema["maximum"].(float64)
				if !hasLeast || !hasMost {
					t.Fatalf("number %s has no bounds", field)
				}
				refused(field, least-1)
				refused(field, strconv.FormatFloat(most, 'f', -1, 64)+"0")
				refused(field, most*2)
			case field == "labels":
				most := int(schema["additionalProperties"].(object)["maxLength"].(float64))
				names := schema["propertyNames"].(object)
				longest := int(names["maxLength"].(float64))
				refused(field, object{"a": strings.Repeat("é", most+1)})
				refused(field, object{strings.Repeat("é", longest+1): "x"})
				form := regexp.MustCompile(names["pattern"].(string))
				for _, name := range []string{"a b", "a=b", ""} {
					if refused(field, object{name: "x"}); form.MatchString(name) {
						t.Errorf("a label may be called %q, says the document", name)
					}
				}
				s.must(http.StatusCreated, admin, "PUT", path, both(sent, object{"external_id": "labelled",
					field: object{strings.Repeat("é", longest): strings.Repeat("é", most)}}))
			}
		}
	})
}

// An empty text, which a variable that was not set makes, is refused for every field of every noun,
// and the document says so.
func TestAnEmptyTextIsNotTheDefault(t *testing.T) {
	texts := 0
	eachNoun(t, func(s *service, path, name string, c nounCase) {
		t := s.t
		sent := both(c.least, c.more)
		sent["external_id"] = "x"
		one := path + "/" + number(s.must(http.StatusCreated, admin, "PUT", path, sent).object(t)["id"])
		for _, body := range []string{"Create", "Patch"} {
			for field, v := range s.schemas()[name+body].(object)["properties"].(object) {
				schema := v.(object)
				if !slices.Contains(kindsOf(schema), "string") {
					continue
				}
				texts++
				least, _ := schema["minLength"].(float64)
				pattern, _ := schema["pattern"].(string)
				if least == 0 && schema["enum"] == nil && schema["format"] != "date-time" &&
					(pattern == "" || regexp.MustCompile(pattern).MatchString("")) {
					t.Errorf("%s%s.%s may be empty, says the document", name, body, field)
				}
				for _, empty := range []string{"", " "} {
					answers := []answer{s.do(admin, "PATCH", one, object{field: empty})}
					if body == "Create" {
						answers = []answer{s.do(admin, "POST", path, both(c.least, object{field: empty})),
							s.do(admin, "PUT", path, both(sent, object{field: empty}))}
					}
					for _, a := range answers {
						if p := a.problem(t, http.StatusUnprocessableEntity, "invalid"); !slices.Contains(p.fields(), field) {
							t.Errorf("%s with %q as %s: the problem names %v", path, empty, field, p.fields())
						}
					}
				}
			}
		}
		shows(t, s.must(http.StatusOK, viewer, "GET", one, nil).object(t),
			both(both(c.more, c.shown), object{"external_id": "x"}))
	})
	if texts < 40 {
		t.Errorf("only %d texts were tried", texts)
	}
}

// The lists of values are those of the catalog.
func TestEnumsAreTheCatalogs(t *testing.T) {
	schemas := newService(t, ezapi.Config{}, nil).schemas()
	for _, tc := range []struct {
		schema, field string
		values        []string
	}{
		{"Provider", "type", catalog.ProviderTypes()}, {"Model", "kind", catalog.ModelKinds()},
		{"Binding", "selector_type", catalog.SelectorTypes()}, {"Budget", "window", catalog.BudgetWindows()},
		{"Budget", "action", catalog.BudgetActions()}, {"Hold", "reason", catalog.HoldReasons()},
		{"Operator", "role", catalog.OperatorRoles()},
		{"Key", "status", []string{string(catalog.Active), string(catalog.Disabled)}},
	} {
		got := strs(schemas[tc.schema].(object)["properties"].(object)[tc.field].(object)["enum"])
		if want := slices.Sorted(slices.Values(tc.values)); !slices.Equal(got, want) {
			t.Errorf("%s.%s: %q, want %q", tc.schema, tc.field, got, want)
		}
	}
}

// Operations are named by a verb and a noun, and schemas as a person would name them.
func TestNames(t *testing.T) {
	s := newService(t, ezapi.Config{}, &httpapi.Options{Metrics: http.NotFoundHandler()})
	operation := regexp.MustCompile(`^(list|create|put|get|patch|delete|rotate|lookup|publish|report|reprice|explain|apply|export|revert|test)[A-Z][A-Za-z]+$`)
	seen := map[string]bool{}
	s.eachOperation(func(route string, op object) {
		id := op["operationId"].(string)
		if !operation.MatchString(id) || seen[id] {
			t.Errorf("%s is called %q", route, id)
		}
		seen[id] = true
	})
	for _, id := range []string{"createKey", "listKeys", "putKey", "lookupKey", "reportNode", "getUsage",
		"getSyncStatus", "explainRoute"} {
		if !seen[id] {
			t.Errorf("no operation is called %s", id)
		}
	}
	for name := range s.schemas() {
		if !regexp.MustCompile(`^[A-Z][A-Za-z]+$`).MatchString(name) || regexp.MustCompile(`Body|Page|With[A-SU-Z]`).MatchString(name) {
			t.Errorf("a schema is called %s", name)
		}
	}
}

// eachOperation calls fn for every documented operation.
func (s *service) eachOperation(fn func(route string, op object)) {
	s.t.Helper()
	for path, item := range s.document()["paths"].(object) {
		for method, op := range item.(object) {
			fn(strings.ToUpper(method)+" "+path, op.(object))
		}
	}
}

// Every operation lists the problems that it may answer with, and every kind of problem is listed.
func TestProblemsAreDocumented(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	found := map[string][]string{}
	s.eachOperation(func(route string, op object) {
		for status, response := range op["responses"].(object) {
			text, _ := response.(object)["description"].(string)
			if text == "" {
				t.Errorf("%s: response %s has no description", route, status)
			}
			for _, m := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(text, -1) {
				found[route] = append(found[route], status+" "+m[1])
			}
		}
		slices.Sort(found[route])
	})
	common := []string{ // of any query, and of all that need a role
		"400 malformed", "422 invalid", "401 unauthenticated", "403 forbidden", "429 throttled", "503 unavailable",
	}
	for route, want := range map[string][]string{
		"GET /sync/snapshot": {"503 damaged", "503 nothing-published"},
		"GET /sync/deltas":   {"410 gap", "503 damaged", "503 nothing-published"},
		"GET /sync/status":   {},
		"GET /explain":       {"404 not-found", "409 conflict", "503 nothing-published"},
		"POST /sync/nodes":   {"413 too-large", "415 unsupported-media-type"},
		"POST /sync/snapshot": {
			"409 conflict", "409 force-required", "409 outranked", "503 unconfirmed",
		},
		"DELETE /models/{id}": {
			"404 not-found", "409 conflict", "409 protected", "409 referenced", "412 precondition-failed",
			"503 unconfirmed",
		},
	} {
		if strings.HasPrefix(route, "GET ") {
			want = append(want, "503 crowded") // for any answer may be large
		}
		want = append(want, common...)
		slices.Sort(want)
		if diff := cmp.Diff(want, found[route]); diff != "" {
			t.Errorf("%s (-want +documented):\n%s", route, diff)
		}
	}
	var urns []string
	for _, slug := range []string{
		"malformed", "unauthenticated", "forbidden", "not-found", "method-not-allowed", "exists", "referenced",
		"protected", "owned", "conflict", "busy",
		"force-required", "outranked", "compacted", "gap", "precondition-failed", "too-large", "unsupported-media-type",
		"invalid",
		"overloaded", "throttled", "too-soon", "untestable", "internal", "sealed", "nothing-published", "damaged",
		"crowded", "unavailable", "unconfirmed",
	} {
		urns = append(urns, "urn:ezapi:"+slug)
	}
	slices.Sort(urns)
	properties := s.schemas()["Problem"].(object)["properties"].(object)
	if diff := cmp.Diff(urns, strs(properties["type"].(object)["enum"])); diff != "" {
		t.Errorf("types of problems (-want +documented):\n%s", diff)
	}
}

// What comes in is bounded, in the document too.
func TestBodiesAreBounded(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	for _, name := range []string{"NodeReport", "Lookup", "Rotation", "Reprice", "ProviderTesting"} {
		for field, p := range s.schemas()[name].(object)["properties"].(object) {
			bound := "maxLength"
			switch p := p.(object); {
			case p["enum"] != nil || p["pattern"] != nil || p["format"] == "date-time" || p["type"] == "boolean":
				continue
			case p["type"] == "integer":
				bound = "minimum"
			case p["type"] == "object":
				bound = "maxProperties"
			}
			if p.(object)[bound] == nil {
				t.Errorf("%s.%s has no %s", name, field, bound)
			}
		}
	}
}

// The document says which version it is of.
func TestVersion(t *testing.T) {
	for _, tc := range []struct{ option, want string }{{"1.2.3", "^1\\.2\\.3$"},
		{"", "^(v[0-9].*|[0-9a-f]{12}|unreleased)$"}} {
		s := newService(t, ezapi.Config{}, &httpapi.Options{Version: tc.option})
		if got := fmt.Sprint(s.document()["info"].(object)["version"]); !regexp.MustCompile(tc.want).MatchString(got) {
			t.Errorf("version %q", got)
		}
	}
}
