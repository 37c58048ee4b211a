package snapshot_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// What is listed for a key is what it can ask for, by the names that it asks by.
func TestModelsOfAKey(t *testing.T) {
	model := func(namespace, name string) snapshot.Document {
		return doc(t, catalog.ModelKey(namespace, name),
			snapshot.ModelDoc{Namespace: namespace, Name: name, Status: catalog.Active})
	}
	var docs []snapshot.Document
	add := func(namespace, name string, c snapshot.Candidate, edits ...func(*snapshot.BindingDoc)) {
		b := snapshot.BindingDoc{Namespace: namespace, PublicModel: name, Status: catalog.Active,
			Candidates: []snapshot.Candidate{c}}
		for _, edit := range edits {
			edit(&b)
		}
		docs = append(docs, model(namespace, name), doc(t, catalog.ModelKey(namespace, name), b))
	}
	docs = append(docs, provider(t, 1, nil), provider(t, 2, func(p *snapshot.ProviderDoc) { p.Status = catalog.Disabled }),
		projectDoc(t, "a", func(p *snapshot.ProjectDoc) { p.Models = []string{"m", "w/one", "w/two"} }),
		holdDoc(t, "provider/1", "admin", time.Time{}))
	add("default", "m", candidate(nil, 1))
	add("default", "n", candidate(nil, 2, 1))
	add("default", "x.m", candidate(nil, 1)) // goes before m in namespace x
	add("default", "disabled", candidate(nil, 1), func(b *snapshot.BindingDoc) { b.Status = catalog.Disabled })
	add("default", "nobody", candidate(nil, 2))
	add("default", "vip", candidate(func(c *snapshot.Candidate) { c.RouteGroup = "vip" }, 1))
	add("default", "paused", candidate(func(c *snapshot.Candidate) { c.Status = catalog.Disabled }, 1))
	add("default", "w/*", candidate(nil, 1))
	add("x", "m", candidate(nil, 1))
	add("x", "o", candidate(nil, 1))
	add("y", "o", candidate(nil, 1))
	for name, c := range map[string]struct {
		key  func(*snapshot.KeyDoc)
		want []string
	}{
		"its namespace": {func(*snapshot.KeyDoc) {}, []string{"m", "n", "x.m"}},
		"another, too": {func(k *snapshot.KeyDoc) { k.Namespaces = []string{"default", "x"} },
			[]string{"m", "n", "x.m", "x.o"}},
		"another first": {func(k *snapshot.KeyDoc) { k.Namespaces, k.DefaultNamespace = []string{"x"}, "x" },
			[]string{"m", "o"}},
		"an allow-list": {func(k *snapshot.KeyDoc) { k.Models = []string{"n", "w/three", "gone", "w/*"} },
			[]string{"n", "w/three"}},
		"a project's": {func(k *snapshot.KeyDoc) { k.Project = "a" }, []string{"m", "w/one", "w/two"}},
		"both": {func(k *snapshot.KeyDoc) { k.Project, k.Models = "a", []string{"w/two", "n"} },
			[]string{"w/two"}},
		"another group":     {func(k *snapshot.KeyDoc) { k.Group = "vip" }, []string{"vip"}},
		"a project unknown": {func(k *snapshot.KeyDoc) { k.Project = "b" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := mustView(t, append(slices.Clone(docs), keyDoc(t, "t", c.key))...)
			k, _ := v.Key("t")
			var got []string
			for _, m := range v.Models(k) {
				got = append(got, m.Name)
				if m.Model == nil {
					t.Errorf("%s has no record", m.Name)
				}
				if _, err := v.Route(k, m.Name, time.Now().Add(-time.Hour)); err != nil &&
					err != snapshot.ErrNoUpstream { //nolint:errorlint // as it is
					t.Errorf("%s is listed and refused: %v", m.Name, err)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("models (-want +got):\n%s", diff)
			}
		})
	}
	if got := (&snapshot.View{}).Models(&snapshot.Key{}); len(got) != 0 {
		t.Error(fmt.Sprint("without a snapshot: ", got))
	}
}
