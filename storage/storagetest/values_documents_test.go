package storagetest_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// isExported checks that an export has what is shown, and that applying it changes nothing.
func isExported(t *testing.T, plane *ezapi.Plane, shown map[catalog.Kind][]map[string]any) {
	t.Helper()
	var out bytes.Buffer
	if err := plane.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	exported := object(t, out.Bytes())
	for _, k := range catalog.DesiredKinds() {
		items := exported[string(k)].([]any)
		if len(items) != len(shown[k]) {
			t.Fatalf("%d %s are exported, and %d shown", len(items), k, len(shown[k]))
		}
		for i, item := range items {
			fields := item.(map[string]any)
			for field, value := range fields {
				if diff := cmp.Diff(shown[k][i][field], value); diff != "" {
					t.Errorf("%s %d: %s (-shown +exported):\n%s", k, i, field, diff)
				}
			}
			for field := range shown[k][i] { // those that the server sets are not exported
				if _, ok := fields[field]; !ok && !slices.Contains([]string{"id", "created_at", "updated_at", "revision",
					"api_key_hint", "token_hint"}, field) {
					t.Errorf("%s %d: %s is not exported", k, i, field)
				}
			}
		}
	}
	d, err := catalog.ParseDesired(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	plan, err := plane.Apply(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range plan.Steps {
		if s.Action != catalog.Unchanged {
			t.Errorf("an export that is applied: %s of %s %d: %v", s.Action, s.Kind, s.ID, s.Fields)
		}
	}
}

// isPublished checks that each document has what is shown of what it is made of.
func isPublished(t *testing.T, plane *ezapi.Plane, shown map[catalog.Kind][]map[string]any) {
	t.Helper()
	if _, err := plane.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range shown[catalog.KindModel] {
		key := catalog.ModelKey(m["namespace"].(string), m["name"].(string))
		sameFields(t, m, published[snapshot.ModelDoc](t, plane, key), "name", "namespace", "kind", "status", "input_price",
			"output_price", "request_price", "context_window", "labels")
		published[snapshot.BindingDoc](t, plane, key)
	}
	for _, p := range shown[catalog.KindProvider] {
		sameFields(t, p, published[snapshot.ProviderDoc](t, plane, fmt.Sprint(p["id"])), "name", "base_url", "models",
			"weight", "priority", "auto_ban", "options", "status")
	}
	for _, b := range shown[catalog.KindBinding] {
		doc := published[snapshot.BindingDoc](t, plane, catalog.ModelKey(b["namespace"].(string), b["model"].(string)))
		candidates := doc["candidates"].([]any)
		i := slices.IndexFunc(candidates, func(c any) bool { return c.(map[string]any)["route_group"] == b["route_group"] })
		if i < 0 {
			t.Fatalf("binding %v is not published", b["id"])
		}
		sameFields(t, b, candidates[i].(map[string]any), "provider_group", "weight", "priority", "selector_type",
			"selector_value", "status")
	}
	for _, p := range shown[catalog.KindProject] {
		sameFields(t, p, published[snapshot.ProjectDoc](t, plane, p["name"].(string)), "name", "status", "models", "groups",
			"namespaces", "rpm_limit")
	}
	tokens := map[string]string{} // the hashes of keys, by their id
	for k, err := range plane.Keys.All(t.Context(), catalog.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		tokens[fmt.Sprint(k.ID)] = k.Tokens[0].Hash
	}
	for _, k := range shown[catalog.KindKey] {
		sameFields(t, k, published[snapshot.KeyDoc](t, plane, tokens[fmt.Sprint(k["id"])]), "id", "name", "project", "status",
			"group", "namespaces", "default_namespace", "models", "scopes", "allow_ips", "expires_at", "rpm_limit", "labels")
	}
	for _, h := range shown[catalog.KindHold] {
		sameFields(t, h, published[snapshot.HoldDoc](t, plane, h["target"].(string)), "target", "until", "reason", "message")
	}
}

// published returns a published document, which a balancer can read.
func published[T snapshot.Doc](t *testing.T, plane *ezapi.Plane, key string) map[string]any {
	t.Helper()
	kind := kindOf[T](t)
	docs, err := plane.Publisher().Lookup(t.Context(), kind, key)
	if err != nil || len(docs) != 1 {
		t.Fatalf("%s %s: %d documents, %v", kind, key, len(docs), err)
	}
	if _, err := snapshot.Decode[T](docs[0]); err != nil {
		t.Error(err)
	}
	return object(t, docs[0].Doc)
}

// kindOf returns the kind of a type of documents.
func kindOf[T snapshot.Doc](t *testing.T) catalog.Kind {
	t.Helper()
	var empty T
	d, err := snapshot.Encode("", empty)
	if err != nil {
		t.Fatal(err)
	}
	return d.Kind
}

// sameFields compares fields of what is shown with those of a document, which leaves out empty lists.
func sameFields(t *testing.T, shown, doc map[string]any, fields ...string) {
	t.Helper()
	for _, field := range fields {
		value, in := doc[field]
		if list, isList := shown[field].([]any); isList && len(list) == 0 && !in {
			continue
		}
		if diff := cmp.Diff(shown[field], value); diff != "" {
			t.Errorf("%s of %v (-shown +published):\n%s", field, shown["id"], diff)
		}
	}
}
