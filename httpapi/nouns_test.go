package httpapi_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
)

// A nounCase is what the tests know of a noun. Every noun needs one.
type nounCase struct {
	before   []stored // what has to be there
	least    object   // what has to be sent
	other    object   // what makes another of it, where that is not its name
	defaults object   // some of what is shown then
	more     object   // every other field that may be sent, none at its default
	once     object   // fields that are sent to create only, and are not shown
	fixed    object   // fields that can have no other value when they are sent
	shown    object   // what is shown of more, where it is not what was sent

	together map[string][]string // fields that have to be sent together with another
}

// stored is something that is created first.
type stored struct {
	path string
	body object
}

var nounCases = map[catalog.Kind]nounCase{
	catalog.KindProject: {
		least:    object{"name": "p"},
		defaults: object{"name": "p", "models": []any{}, "groups": []any{}, "namespaces": []any{}, "budgets": []any{}},
		more: object{
			"models": []any{"m"}, "groups": []any{"g"}, "namespaces": []any{"n"}, "rpm_limit": 1.0, "tpm_limit": 1.0,
			"max_parallel": 1.0, "max_keys": 1.0, "budgets": []any{budget()}, "external_id": "x",
			"labels": object{"a": "b"}, "status": "disabled",
		},
	},
	catalog.KindOperator: {
		before:   []stored{{"/projects", object{"name": "acme"}}},
		least:    object{"name": "o", "role": "viewer"},
		defaults: object{"name": "o", "role": "viewer", "status": "active", "project": nil},
		more: object{
			"project": "acme", "expires_at": "2030-01-01T00:00:00Z", "external_id": "x",
			"labels": object{"a": "b"}, "status": "disabled",
		},
		once: object{"token": "0123456789abcdef", "token_hashes": nil},
	},
	catalog.KindHold: {
		before:   []stored{{"/keys", object{"name": "k"}}, {"/keys", object{"name": "l"}}},
		least:    object{"target": "key/1"},
		other:    object{"target": "key/2"},
		defaults: object{"target": "key/1", "reason": "admin", "status": "active", "until": nil},
		more: object{
			"until": "2100-01-01T00:00:00Z", "message": "stop", "external_id": "x", "labels": object{"a": "b"},
			"status": "disabled",
		},
		fixed: object{"reason": "admin"},
	},
	catalog.KindProvider: {
		least: object{"name": "p", "type": " Vertex "},
		defaults: object{"name": "p", "type": "vertex", "group": "default", "weight": 1.0, "status": "active",
			"google_location": "global"},
		more: object{
			"base_url": "https://example.com", "api_key": "0123456789abcdef", "google_project": "gcp-project",
			"google_location": "europe-west4", "group": "g", "models": []any{"m", "n"}, "weight": 5.0, "priority": 5.0,
			"auto_ban": false, "options": object{"a": 1.0}, "external_id": "x", "labels": object{"a": "b"}, "status": "disabled",
			"prices": object{"m": prices(object{"input_price": "1.5"})},
		},
		shown:    object{"api_key": nil},
		together: map[string][]string{"base_url": {"api_key"}, "google_location": {"api_key"}, "google_project": {"api_key"}},
	},
	catalog.KindModel: {
		least: object{"name": "m"},
		defaults: object{"namespace": "default", "kind": "chat", "input_price": nil, "price_tiers": []any{},
			"price_source": "manual"},
		more: prices(object{
			"namespace": "n", "kind": "image", "external_id": "x", "labels": object{"a": "b"}, "status": "disabled",
			"context_window": 8192.0, "max_output_tokens": 1.0, "supports_vision": true, "supports_functions": true,
			"supports_tool_choice": true, "supports_fim": true, "supports_stream": true, "input_price": "2.5",
			"output_price": "10.000000001", "cache_read_price": "0", "cache_write_price": "2", "request_price": "0.01",
			"price_tiers": []any{tier(object{"above_input_tokens": 200_000.0, "input_price": "5"})}, "price_source": "vendor",
		}),
	},
	catalog.KindBinding: {
		before: []stored{{"/models", object{"name": "m"}}, {"/models", object{"name": "m", "namespace": "n"}}},
		least:  object{"model": "m"},
		defaults: object{"namespace": "default", "provider_group": "default", "selector_type": "exact",
			"selector_value": "m"},
		more: object{
			"namespace": "n", "route_group": "g", "provider_group": "h", "weight": 5.0, "priority": 5.0,
			"selector_type":  "regex",
			"selector_value": ".*", "external_id": "x", "labels": object{"a": "b"}, "status": "disabled",
		},
	},
	catalog.KindKey: {
		before:   []stored{{"/projects", object{"name": "acme"}}},
		least:    object{"name": "k"},
		defaults: object{"name": "k", "default_namespace": "default", "namespaces": []any{"default"}, "status": "active"},
		more: object{
			"group": "g", "namespaces": []any{"a", "b"}, "default_namespace": "b", "models": []any{"m"}, "scopes": []any{"s"},
			"allow_ips": []any{"::1"}, "expires_at": "2030-01-01T00:00:00Z", "rpm_limit": 1.0, "tpm_limit": 1.0,
			"max_parallel": 1.0, "project": "acme", "budgets": []any{budget()}, "external_id": "x",
			"labels": object{"a": "b"}, "status": "disabled",
		},
		once:     object{"token": "0123456789abcdef", "token_hashes": nil},
		together: map[string][]string{"namespaces": {"default_namespace"}, "default_namespace": {"namespaces"}},
	},
}

// budget returns a budget with every field.
func budget() object {
	return object{
		"limit": "12.5", "window": "day", "timezone": "Asia/Shanghai", "action": "alert", "alert_at": []any{50.0, 100.0},
	}
}

// prices returns the prices of a record, where those that are not given are unknown.
func prices(known object) object {
	all := object{
		"input_price": nil, "output_price": nil, "cache_read_price": nil, "cache_write_price": nil, "request_price": nil,
		"price_tiers": []any{},
	}
	maps.Copy(all, known)
	return all
}

// tier returns a tier of prices, where those that are not given are unknown.
func tier(known object) object {
	all := prices(known)
	delete(all, "price_tiers")
	return all
}

// eachNoun runs a test for every noun that there is, in a service of its own.
func eachNoun(t *testing.T, test func(s *service, path, name string, c nounCase)) {
	for _, kind := range catalog.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			c, ok := nounCases[kind]
			if !ok {
				t.Fatalf("nounCases has no entry for %s, so that nothing of it would be tested", kind)
			}
			s := newService(t, ezapi.Config{}, nil)
			for _, b := range c.before {
				s.must(http.StatusCreated, admin, "POST", b.path, b.body)
			}
			word := kind.Noun()
			test(s, "/"+string(kind), strings.ToUpper(word[:1])+word[1:], c)
		})
	}
}

func both(a, b object) object {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// Every noun goes through every route in the same way.
func TestEveryNounThroughEveryRoute(t *testing.T) {
	eachNoun(t, func(s *service, path, _ string, c nounCase) {
		t := s.t
		created := s.must(http.StatusCreated, admin, "POST", path, c.least)
		v := created.object(t)
		shows(t, v, c.defaults)
		one := path + "/" + number(v["id"])
		if got := created.Header.Get("Location"); got != one[1:] {
			t.Errorf("Location %q, want %q", got, one[1:])
		}
		etag := `"` + number(v["revision"]) + `"`
		if got := created.Header.Get("ETag"); got != etag {
			t.Errorf("ETag %s, want %s", got, etag)
		}
		got := s.must(http.StatusOK, viewer, "GET", one, nil)
		shows(t, got.object(t), c.defaults)
		if got.Header.Get("ETag") != etag {
			t.Errorf("ETag of GET %s, want %s", got.Header.Get("ETag"), etag)
		}
		if head := s.must(http.StatusOK, viewer, "HEAD", one, nil); head.body != "" || head.Header.Get("ETag") != etag {
			t.Errorf("HEAD: ETag %s, body %q", head.Header.Get("ETag"), head.body)
		}
		list := s.must(http.StatusOK, viewer, "GET", path+"?count=true", nil).object(t)
		if n := len(list["data"].([]any)); n == 0 || list["total"] != float64(n) || list["next_cursor"] != nil {
			t.Errorf("list %v", list)
		}

		patched := s.must(http.StatusOK, admin, "PATCH", one, c.more, "Content-Type",
			"application/merge-patch+json", "If-Match", etag)
		shows(t, patched.object(t), both(c.more, c.shown))
		newer := patched.Header.Get("ETag")
		if again := s.must(http.StatusOK, admin, "PATCH", one, c.more); again.Header.Get("ETag") != newer || newer == etag {
			t.Errorf("ETag %s, then %s, and %s when the patch comes again", etag, newer, again.Header.Get("ETag"))
		}
		s.do(admin, "PATCH", one, c.more, "If-Match", etag).problem(t, http.StatusPreconditionFailed, "precondition-failed")
		s.do(admin, "DELETE", one, nil, "If-Match", etag).problem(t, http.StatusPreconditionFailed, "precondition-failed")

		// What was read can be sent again, as a patch and as a whole.
		read := s.must(http.StatusOK, viewer, "GET", one, nil).object(t)
		if sent := s.must(http.StatusOK, admin, "PATCH", one, read); sent.Header.Get("ETag") != newer {
			t.Error("patching with what was read makes a revision")
		}
		if sent := s.must(http.StatusOK, admin, "PUT", path, read, "If-Match", newer); sent.Header.Get("ETag") != newer {
			t.Error("putting what was read makes a revision")
		}
		if gone := s.must(http.StatusNoContent, admin, "DELETE", one, nil, "If-Match", newer); gone.body != "" {
			t.Errorf("body of DELETE %q", gone.body)
		}
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			var body any
			if method == "PATCH" {
				body = object{}
			}
			s.do(admin, method, one, body).problem(t, http.StatusNotFound, "not-found")
		}
	})
}

// PUT creates, then makes equal, and finds what is there by external_id.
func TestPutNouns(t *testing.T) {
	eachNoun(t, func(s *service, path, _ string, c nounCase) {
		t := s.t
		mine := both(c.least, object{"external_id": "mine"})
		created := s.must(http.StatusCreated, admin, "PUT", path, mine)
		one := path + "/" + number(created.object(t)["id"])
		if got := created.Header.Get("Location"); got != one[1:] {
			t.Errorf("Location %q, want %q", got, one[1:])
		}
		full := both(both(mine, c.more), object{"external_id": "mine"})
		changed := s.must(http.StatusOK, admin, "PUT", path, full)
		if got := path + "/" + number(changed.object(t)["id"]); got != one {
			t.Errorf("PUT made another: %s, not %s", got, one)
		}
		shows(t, changed.object(t), both(both(c.more, c.shown), object{"external_id": "mine"}))
		s.do(admin, "PUT", path, full, "If-Match", created.Header.Get("ETag")).
			problem(t, http.StatusPreconditionFailed, "precondition-failed")
		s.do(admin, "PUT", path, both(c.least, object{"external_id": "another", "name": "another", "route_group": "another"}), "If-Match", `"1"`)
		if got := s.must(http.StatusOK, viewer, "GET", path+"?external_id=mine&count=true",
			nil).object(t); got["total"] != 1.0 {
			t.Errorf("found by external_id: %v", got)
		}
		// What is left out gets its default, but what a client is known by stays.
		token := changed.object(t)["token_hint"]
		if path == "/providers" { // a secret goes nowhere unasked
			return
		}
		back := s.must(http.StatusOK, admin, "PUT", path, mine).object(t)
		shows(t, back, c.defaults)
		if back["token_hint"] != token || back["token"] != nil {
			t.Errorf("token %v, hint %v, want %v", back["token"], back["token_hint"], token)
		}
	})
}

// What the document says of an entity is what the API answers with, and what
// it says of bodies is what the API takes.
func TestDocumentOfNounsIsTrue(t *testing.T) {
	eachNoun(t, func(s *service, path, name string, c nounCase) {
		t := s.t
		schemas := s.document()["components"].(object)["schemas"].(object)
		shown, create, patch := schemas[name].(object), schemas[name+"Create"].(object), schemas[name+"Patch"].(object)
		full := both(both(both(c.least, c.more), c.once), c.fixed)
		names := func(o object) []string { return slices.Sorted(maps.Keys(o)) }
		if diff := cmp.Diff(names(full), names(create["properties"].(object))); diff != "" {
			t.Errorf("fields that are tried (-) and documented for creation (+):\n%s", diff)
		}
		for field := range c.once {
			delete(full, field)
		}
		if diff := cmp.Diff(names(full), names(patch["properties"].(object))); diff != "" {
			t.Errorf("fields that are tried (-) and documented for patches (+):\n%s", diff)
		}
		if diff := cmp.Diff(names(c.least), strs(create["required"])); diff != "" {
			t.Errorf("fields that are required (-) and documented as that (+):\n%s", diff)
		}
		got := s.must(http.StatusCreated, admin, "POST", path, both(full, c.once)).object(t)
		delete(got, "token")
		for field := range got {
			if shown["properties"].(object)[field] == nil {
				t.Errorf("shown field %s is not documented", field)
			}
		}
		for _, field := range strs(shown["required"]) {
			if _, ok := got[field]; !ok {
				t.Errorf("field %s is always there, says the document, and is not", field)
			}
		}
		// Null is the default of every field that is not required.
		empty := both(c.least, object{"name": "other"})
		if create["properties"].(object)["name"] == nil {
			delete(empty, "name")
		}
		for field := range both(both(c.more, c.once), c.fixed) {
			empty[field] = nil
		}
		empty = both(empty, c.other)
		s.must(http.StatusCreated, admin, "POST", path, empty)
	})
}

// Null restores the default of every field: what is left is what was created with nothing said.
func TestPatchNullRestoresDefaults(t *testing.T) {
	eachNoun(t, func(s *service, path, _ string, c nounCase) {
		t := s.t
		own := func(a answer) object { // without what no two have in common
			v := a.object(t)
			for _, field := range []string{"id", "revision", "created_at", "updated_at", "token", "token_hint"} {
				delete(v, field)
			}
			return v
		}
		plain := s.must(http.StatusCreated, admin, "POST", path, c.least)
		one := path + "/" + number(plain.object(t)["id"])
		full := own(s.must(http.StatusOK, admin, "PATCH", one, c.more))
		nulls := object{}
		want := own(plain)
		for field := range c.more {
			nulls[field] = nil
			if field != "api_key" && cmp.Equal(full[field], want[field]) {
				t.Errorf("field %s was at its default before: %v", field, full[field])
			}
		}
		if diff := cmp.Diff(want, own(s.must(http.StatusOK, admin, "PATCH", one, nulls))); diff != "" {
			t.Errorf("created (-) and with every field null (+):\n%s", diff)
		}
	})
}

// A patch changes what it names, and nothing else.
func TestPatchChangesNothingElse(t *testing.T) {
	eachNoun(t, func(s *service, path, _ string, c nounCase) {
		t := s.t
		one := path + "/" + number(s.must(http.StatusCreated, admin, "POST", path, c.least).object(t)["id"])
		for _, field := range slices.Sorted(maps.Keys(c.more)) {
			patch := object{field: c.more[field]}
			for _, other := range c.together[field] {
				patch[other] = c.more[other]
			}
			before := s.must(http.StatusOK, admin, "GET", one, nil).object(t)
			s.must(http.StatusOK, admin, "PATCH", one, patch)
			after := s.must(http.StatusOK, admin, "GET", one, nil).object(t)
			for named := range both(patch, object{"revision": nil, "updated_at": nil}) {
				delete(before, named)
				delete(after, named)
			}
			for sent, follows := range map[string]string{"api_key": "api_key_hint", "budgets": "spend"} {
				if _, ok := patch[sent]; ok {
					delete(after, follows)
					delete(before, follows)
				}
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("a patch of %v changes something else, too (-before +after):\n%s", patch, diff)
			}
		}
	})
}

// Who renames a key that is disabled does not bring it back.
func TestRenamedKeyStaysDisabled(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "k", "status": "disabled", "group": "g"})
	got := s.must(http.StatusOK, admin, "PATCH", "/keys/1", object{"name": "l"}).object(t)
	shows(t, got, object{"name": "l", "status": "disabled", "group": "g"})
}

// document returns the OpenAPI document.
func (s *service) document() object {
	s.t.Helper()
	return s.must(http.StatusOK, nobody, "GET", "/openapi.json", nil).object(s.t)
}

// strs returns a JSON list of strings, sorted.
func strs(v any) (all []string) {
	list, _ := v.([]any)
	for _, s := range list {
		all = append(all, s.(string))
	}
	slices.Sort(all)
	return all
}

// A stored record that cannot be read fails no page: it is shown as damaged, and can be sent anew.
func TestDamagedRecordsAreShown(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	for _, name := range []string{"a", "b", "c"} {
		s.must(http.StatusCreated, admin, "POST", "/models", object{"name": name})
	}
	ctx, store := t.Context(), s.plane.Store()
	var e catalog.Entity
	err := store.Read(ctx, func(r catalog.Reader) (err error) {
		e, err = r.Find(ctx, catalog.KindModel, catalog.ByNaturalKey, "default.b")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Spec = []byte(`{"context_window":"many"}`)
	_, err = store.Commit(ctx, catalog.Commit{Time: time.Now(), Writes: []catalog.Write{{Entity: e, If: e.Revision,
		Change: catalog.Change{Action: catalog.ActionUpdate, Kind: e.Kind, ID: e.ID}}}})
	if err != nil {
		t.Fatal(err)
	}

	page := s.must(http.StatusOK, viewer, "GET", "/models?count=true", nil).object(t)
	all, _ := page["data"].([]any)
	if len(all) != 3 || page["total"] != 3.0 {
		t.Fatalf("the list has %d of %v", len(all), page["total"])
	}
	for i, name := range []string{"a", "b", "c"} {
		want := object{"name": name, "status": "active", "damaged": nil}
		if name == "b" {
			want["damaged"] = true
		}
		shows(t, all[i].(object), want)
	}
	one := fmt.Sprint("/models/", e.ID)
	p := s.do(admin, "PATCH", one, object{"context_window": 5}).problem(t, http.StatusUnprocessableEntity, "invalid")
	if !slices.Equal(p.fields(), []string{"damaged"}) {
		t.Errorf("a patch of what is damaged: %+v", p)
	}
	s.must(http.StatusOK, admin, "PUT", "/models", object{"name": "b", "context_window": 5})
	shows(t, s.must(http.StatusOK, viewer, "GET", one, nil).object(t), object{"context_window": 5.0, "damaged": nil})
}

// Who cannot delete something is told what refers to it.
func TestReferrersAreNamed(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	s.must(http.StatusCreated, admin, "POST", "/projects", object{"name": "acme"})
	s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "alice", "project": "acme"})
	a := s.do(admin, "DELETE", "/projects/1", nil)
	a.problem(t, http.StatusConflict, "referenced")
	if !strings.Contains(a.body, `"delete or change first what refers to it: key alice (id 2)"`) {
		t.Errorf("%s", a.body)
	}
}
