package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// twoProjects is a catalog with projects acme, acme/search, acme2 and other, a key in each and one
// in none, a hold of each key and each project, and of what else there is one of a kind.
func twoProjects(t *testing.T) (tables *catalog.Tables, keys map[string]catalog.Key) {
	t.Helper()
	tables, keys = newTables(t, nil), map[string]catalog.Key{}
	ctx := t.Context()
	projectsOf(t, tables, catalog.Project{Name: "acme"}, catalog.Project{Name: "acme/search"},
		catalog.Project{Name: "acme2"},
		catalog.Project{Name: "other"})
	hold := func(target string) { must[catalog.Hold](t)(tables.Holds.Create(ctx, catalog.Hold{Target: target})) }
	for _, path := range []string{"", "acme", "acme/search", "acme2", "other"} {
		k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "of " + path, Project: path,
			Meta: catalog.Meta{ExternalID: "x-" + path}}))
		keys[path] = k
		hold(fmt.Sprint("key/", k.ID))
		if path != "" {
			hold("project/" + path)
		}
	}
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai"}))
	hold(fmt.Sprint("provider/", p.ID))
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "m"}))
	must[catalog.Operator](t)(tables.Operators.Create(ctx,
		catalog.Operator{Name: "o", Role: catalog.RoleAdmin, Project: "acme"}))
	return tables, keys
}

// names lists what a table shows, and checks that it is found, counted and got alike.
func names[T catalog.Noun](t *testing.T, ctx context.Context, all context.Context, table catalog.Table[T],
	name func(T) string) string {
	t.Helper()
	var text string
	seen := map[int64]bool{}
	for v, err := range table.All(ctx, catalog.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		text += name(v) + " "
		seen[table.Meta(v).ID] = true
	}
	if n, err := table.Count(ctx, catalog.Query{}); err != nil || int(n) != len(seen) {
		t.Errorf("%s: counted %d, %v; listed %d", table.Kind(), n, err, len(seen))
	}
	for v, err := range table.All(all, catalog.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		id := table.Meta(v).ID
		if _, err := table.Get(ctx, id); (err == nil) != seen[id] || err != nil && !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("%s %d: got: %v; listed: %t", table.Kind(), id, err, seen[id])
		}
		page, err := table.List(ctx, catalog.Query{IDs: []int64{id}, Limit: 1})
		if err != nil || (len(page) == 1) != seen[id] {
			t.Errorf("%s %d: %d in a list of it alone, %v", table.Kind(), id, len(page), err)
		}
		if seen[id] {
			continue
		}
		if _, err := table.Delete(ctx, id, 99); !errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrConflict) {
			t.Errorf("%s %d: delete of what is not seen, at another revision: %v", table.Kind(), id, err)
		}
		if _, err := table.Patch(ctx, id, 99, []byte(`{"labels":{"a":"b"}}`)); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("%s %d: patch of what is not seen, at another revision: %v", table.Kind(), id, err)
		}
	}
	return text
}

// Who is limited to a project sees what is of it, and below it, and nothing else.
func TestWithinProjectSees(t *testing.T) {
	tables, keys := twoProjects(t)
	all := t.Context()
	ctx := catalog.WithinProject(all, "acme")
	id := func(path string) string { return fmt.Sprint("key/", keys[path].ID) }
	for what, tt := range map[string]struct{ got, want string }{
		"projects": {names(t, ctx, all, tables.Projects, func(p catalog.Project) string { return p.Name }),
			"acme acme/search "},
		"keys": {names(t, ctx, all, tables.Keys.Table, func(k catalog.Key) string { return k.Project }),
			"acme acme/search "},
		"holds": {names(t, ctx, all, tables.Holds, func(h catalog.Hold) string { return h.Target }),
			id("acme") + " project/acme " + id("acme/search") + " project/acme/search "},
		"providers": {names(t, ctx, all, tables.Providers, func(p catalog.Provider) string { return p.Name }), ""},
		"models":    {names(t, ctx, all, tables.Models, func(m catalog.Model) string { return m.Name }), "m "},
		"bindings":  {names(t, ctx, all, tables.Bindings, func(b catalog.Binding) string { return b.Model }), "m "},
		"operators": {names(t, ctx, all, tables.Operators.Table, func(o catalog.Operator) string { return o.Name }), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q; want %q", what, tt.got, tt.want)
		}
	}
	for query, want := range map[string]int{"": 2, "acme": 2, "acme/search": 1, "other": 0, "acme2": 0, "a": 0} {
		list := must[[]catalog.Key](t)(tables.Keys.List(ctx, catalog.Query{RefUnder: query}))
		if n := must[int64](t)(tables.Keys.Count(ctx, catalog.Query{RefUnder: query})); len(list) != want || int(n) != want {
			t.Errorf("keys under %q: %d, counted %d; want %d", query, len(list), n, want)
		}
	}
	if _, err := tables.Keys.Authenticate(ctx, keys["other"].Token); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("the key of another's token: %v", err)
	}
	if k, err := tables.Keys.Find(ctx, catalog.ByHash, keys["acme"].Tokens[0].Hash); err != nil ||
		k.ID != keys["acme"].ID {
		t.Errorf("the key of one's own token: %v", err)
	}
}

// Who is limited to a project changes what is of it, and nothing else, and widens nothing.
func TestWithinProjectChanges(t *testing.T) {
	tables, keys := twoProjects(t)
	all := t.Context()
	ctx := catalog.WithinProject(all, "acme")
	own := must[catalog.Project](t)(tables.Projects.Find(all, catalog.ByNaturalKey, "acme"))
	below := must[catalog.Project](t)(tables.Projects.Find(all, catalog.ByNaturalKey, "acme/search"))
	model := must[catalog.Model](t)(tables.Models.Find(all, catalog.ByNaturalKey, "default.m"))
	before := head(t, tables)
	outside := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, catalog.ErrOutside) {
			t.Errorf("%s: %v; want ErrOutside", what, err)
		}
	}
	key := func(k catalog.Key) error { _, err := tables.Keys.Create(ctx, k); return err }
	mustField(t, "a key of no project", key(catalog.Key{Name: "n"}), "project")
	mustField(t, "a key of another project", key(catalog.Key{Name: "n", Project: "other"}), "project")
	mustField(t, "a key of a project with a like name", key(catalog.Key{Name: "n", Project: "acme2"}), "project")
	_, err := tables.Keys.Patch(ctx, keys["acme"].ID, 0, []byte(`{"project":null}`))
	mustField(t, "a key that leaves", err, "project")
	_, err = tables.Keys.Patch(ctx, keys["acme"].ID, 0, []byte(`{"project":"other"}`))
	mustField(t, "a key that goes elsewhere", err, "project")
	_, err = tables.Keys.Put(ctx, catalog.Key{Name: "n", Project: "acme", Meta: catalog.Meta{ExternalID: "x-other"}})
	mustField(t, "another's external id", err, "external_id")
	if !errors.Is(err, catalog.ErrExists) {
		t.Errorf("another's external id: %v", err)
	}
	_, err = tables.Projects.Create(ctx, catalog.Project{Name: "mine"})
	mustField(t, "a project elsewhere", err, "name")
	_, err = tables.Projects.Put(ctx, catalog.Project{Name: "other", MaxKeys: 1})
	mustField(t, "another's project", err, "name")
	_, err = tables.Projects.Patch(ctx, own.ID, 0, []byte(`{"max_keys":1000}`))
	outside("one's own project", err)
	_, err = tables.Projects.Delete(ctx, own.ID, 0)
	outside("deleting one's own project", err)
	for _, target := range []string{"project/other", "project/none", "key/99999", fmt.Sprint("key/", keys["other"].ID),
		fmt.Sprint("key/", keys[""].ID), "provider/1", "provider/99"} {
		_, err := tables.Holds.Create(ctx, catalog.Hold{Target: target, Message: "mine"})
		if got := catalog.Dangling(catalog.KindHold).Error(); err == nil || err.Error() != got {
			t.Errorf("a hold of %s: %v; want %q", target, err, got)
		}
	}
	_, err = tables.Holds.Create(ctx, catalog.Hold{Target: "project/acme", Reason: catalog.HoldBudget})
	outside("a hold of one's own project", err)
	_, err = tables.Models.Patch(ctx, model.ID, 0, []byte(`{"input_price":"1"}`))
	outside("a model", err)
	_, err = tables.Models.Create(ctx, catalog.Model{Name: "n"})
	outside("a new model", err)
	_, err = tables.Providers.Create(ctx, catalog.Provider{Name: "n", Type: "openai"})
	outside("a new provider", err)
	_, err = tables.Operators.Create(ctx, catalog.Operator{Name: "n", Role: catalog.RoleAdmin, Project: "acme"})
	outside("a new operator", err)
	state := desired(t, `{"keys":[{"external_id":"n","name":"n","project":"other"}]}`)
	_, err = tables.Apply(ctx, state, nil)
	outside("a desired state", err)
	_, err = tables.Plan(ctx, state, nil)
	outside("a plan", err)
	_, err = tables.Revert(ctx, before, nil)
	outside("a return", err)
	_, err = tables.RevertOne(ctx, before, nil)
	outside("taking a revision back", err)
	_, err = tables.At(ctx, before)
	outside("the catalog as it was", err)
	outside("an export", tables.Export(ctx, io.Discard))
	if now := head(t, tables); now != before {
		t.Fatalf("what was refused made %d revisions", now-before)
	}

	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "n", Project: "acme"}))
	must[catalog.Key](t)(tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"project":"acme/search"}`)))
	must[catalog.Key](t)(tables.Keys.Rotate(ctx, k.ID, 0, 0))
	must[catalog.Project](t)(tables.Projects.Create(ctx, catalog.Project{Name: "acme/new"}))
	must[catalog.Project](t)(tables.Projects.Patch(ctx, below.ID, 0, []byte(`{"max_keys":5}`)))
	held := must[catalog.Hold](t)(tables.Holds.Create(ctx, catalog.Hold{Target: fmt.Sprint("key/", k.ID)}))
	must[catalog.Revision](t)(tables.Holds.Delete(ctx, held.ID, 0))
	must[catalog.Revision](t)(tables.Keys.Delete(ctx, k.ID, 0))
}
