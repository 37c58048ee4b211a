package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// mustField checks that an error is about a field.
func mustField(t *testing.T, what string, err error, field string) {
	t.Helper()
	fields := catalog.FieldsOf(err)
	if len(fields) != 1 || fields[0].Field != field {
		t.Errorf("%s: %v; want an error about %s", what, err, field)
	}
}

// projectsOf creates projects, and returns them by name.
func projectsOf(t *testing.T, tables *catalog.Tables, projects ...catalog.Project) map[string]catalog.Project {
	t.Helper()
	all := map[string]catalog.Project{}
	for _, p := range projects {
		all[p.Name] = must[catalog.Project](t)(tables.Projects.Create(t.Context(), p))
	}
	return all
}

// Projects are a tree: what is above must be there, what is below keeps it from going, and the
// name stays.
func TestProjectsAreATree(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	_, err := tables.Projects.Create(ctx, catalog.Project{Name: "acme/search"})
	mustField(t, "a project below none", err, "name")
	if !errors.Is(err, catalog.ErrReferenced) {
		t.Errorf("a project below none: %v", err)
	}
	p := projectsOf(t, tables, catalog.Project{Name: "acme"}, catalog.Project{Name: "acme/search"},
		catalog.Project{Name: "acme/search/eu"})
	_, err = tables.Projects.Edit(ctx, p["acme"].ID, func(p *catalog.Project) error { p.Name = "other"; return nil })
	mustField(t, "another name", err, "name")
	for _, name := range []string{"acme", "acme/search"} {
		if _, err := tables.Projects.Delete(ctx, p[name].ID, 0); !errors.Is(err, catalog.ErrReferenced) {
			t.Errorf("deleting %s, which has one below it: %v", name, err)
		}
	}
	_, err = tables.Keys.Create(ctx, catalog.Key{Name: "k", Project: "none"})
	mustField(t, "a key of no project", err, "project")
	key := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k", Project: "acme/search/eu"}))
	if _, err := tables.Projects.Delete(ctx, p["acme/search/eu"].ID, 0); !errors.Is(err, catalog.ErrReferenced) {
		t.Errorf("deleting a project with a key: %v", err)
	}
	o := must[catalog.Operator](t)(tables.Operators.Create(ctx,
		catalog.Operator{Name: "o", Role: "admin", Project: "acme/search/eu"}))
	must[catalog.Key](t)(tables.Keys.Patch(ctx, key.ID, 0, []byte(`{"project":null}`)))
	if _, err := tables.Projects.Delete(ctx, p["acme/search/eu"].ID, 0); !errors.Is(err, catalog.ErrReferenced) {
		t.Errorf("deleting a project that an operator is limited to: %v", err)
	}
	must[catalog.Revision](t)(tables.Operators.Delete(ctx, o.ID, 0))
	for _, name := range []string{"acme/search/eu", "acme/search", "acme"} {
		must[catalog.Revision](t)(tables.Projects.Delete(ctx, p[name].ID, 0))
	}
	if got := catalog.ProjectPath("a/b/c"); !slices.Equal(got, []string{"a", "a/b", "a/b/c"}) {
		t.Errorf("the path of a/b/c: %q", got)
	}
	if catalog.ParentProject("a") != "" || catalog.ParentProject("a/b") != "a" {
		t.Error("the parents of a and a/b are wrong")
	}
}

// A key has what all projects above allow, when it comes or asks for more.
func TestKeysFitTheirProjects(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	projectsOf(t, tables, catalog.Project{Name: "a", Groups: []string{"default", "vip"}},
		catalog.Project{Name: "a/b", Namespaces: []string{"default", "eu"}})
	create := func(k catalog.Key) error {
		k.Name = "k"
		_, err := tables.Keys.Create(ctx, k)
		return err
	}
	mustField(t, "a group of neither", create(catalog.Key{Project: "a/b", Group: "other"}), "group")
	mustField(t, "a namespace of neither", create(catalog.Key{Project: "a/b", Namespaces: []string{"eu", "us"}}),
		"namespaces[1]")
	if err := create(catalog.Key{Project: "a", Namespaces: []string{"us"}}); err != nil {
		t.Errorf("a namespace that only the project below refuses: %v", err)
	}
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k", Project: "a/b", Group: "vip"}))

	// The project narrows later: the key can be changed all the same, but not asks for more.
	p := must[catalog.Project](t)(tables.Projects.Find(ctx, catalog.ByNaturalKey, "a"))
	must[catalog.Project](t)(tables.Projects.Patch(ctx, p.ID, 0, []byte(`{"groups":["default"]}`)))
	must[catalog.Key](t)(tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"name":"renamed"}`)))
	_, err := tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"group":"x"}`))
	mustField(t, "another group", err, "group")
	_, err = tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"namespaces":["default","us"]}`))
	mustField(t, "another namespace", err, "namespaces[1]")
	_, err = tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"project":"a"}`))
	mustField(t, "another project", err, "group")
}

// However many come at once, a project has no more keys than max_keys, those below it included.
func TestMaxKeys(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	p := projectsOf(t, tables, catalog.Project{Name: "a", MaxKeys: 5}, catalog.Project{Name: "a/b"},
		catalog.Project{Name: "c"})
	var group sync.WaitGroup
	var mu sync.Mutex
	var made []catalog.Key
	for i := range 12 {
		group.Go(func() {
			k, err := tables.Keys.Create(ctx, catalog.Key{Name: fmt.Sprint(i), Project: []string{"a", "a/b"}[i%2]})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made = append(made, k)
				return
			}
			mustField(t, "one too many", err, "project")
		})
	}
	group.Wait()
	if len(made) != 5 {
		t.Fatalf("%d keys came into a project that may have 5", len(made))
	}
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "c", Project: "c"}))
	_, err := tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"project":"a/b"}`))
	mustField(t, "one that moves in", err, "project")
	must[catalog.Key](t)(tables.Keys.Patch(ctx, made[0].ID, 0, []byte(`{"name":"changed"}`)))
	must[catalog.Key](t)(tables.Keys.Patch(ctx, made[1].ID, 0, []byte(`{"project":"a"}`))) // within

	// In one transaction, what comes and what goes counts together.
	_, err = tables.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.Keys.Create(ctx, catalog.Key{Name: "new", Project: "a"}); err != nil {
			return err
		}
		_, err := tx.Keys.Delete(ctx, made[2].ID, 0)
		return err
	})
	if err != nil {
		t.Errorf("one for another: %v", err)
	}
	_, err = tables.Update(ctx, func(tx *catalog.Tx) error {
		_, err := tx.Keys.Create(ctx, catalog.Key{Name: "more", Project: "a"})
		return err
	})
	mustField(t, "one more in a transaction", err, "project")
	must[catalog.Project](t)(tables.Projects.Patch(ctx, p["a"].ID, 0, []byte(`{"max_keys":null}`)))
	must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "more", Project: "a/b"}))
}

// It holds, too, for an apply of thousands of writes, between whose reading and whose commit
// somebody else always comes.
func TestMaxKeysOfLargeApplies(t *testing.T) {
	const most = 1500
	store, ctx := &racingStore{Store: memstore.New(nil)}, t.Context()
	keeper := catalog.NewRandomKeyRing()
	tables, other := catalog.NewTables(store, keeper, nil), catalog.NewTables(store.Store, keeper, nil)
	projectsOf(t, tables, catalog.Project{Name: "a", MaxKeys: most})
	keys := func(n int) (d catalog.Desired) {
		for i := range n {
			catalog.Want(&d, catalog.Key{Meta: catalog.Meta{ExternalID: fmt.Sprint(i)}, Name: "k", Project: "a"})
		}
		return d
	}
	intrude := func() { must[catalog.Key](t)(other.Keys.Create(ctx, catalog.Key{Name: "theirs", Project: "a"})) }

	store.before = intrude
	_, err := tables.Apply(ctx, keys(most), nil)
	mustField(t, "one key too many", err, "keys[1499].project")
	store.before = func() { must[catalog.Key](t)(other.Keys.Create(ctx, catalog.Key{Name: "without project"})) }
	plan := must[catalog.Plan](t)(tables.Apply(ctx, keys(most-1), nil))
	n := must[int64](t)(other.Keys.Count(ctx, catalog.Query{RefUnder: "a"}))
	if plan.Summary.Create != most-1 || n != most {
		t.Errorf("%d keys were created, and %d are there; want %d, %d", plan.Summary.Create, n, most-1, most)
	}
}

// Renaming a model changes the lists of projects as it does those of keys.
func TestCascadeReachesProjects(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	m := must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "old"}))
	elsewhere := must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "both"}))
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "both", Namespace: "n"}))
	p := projectsOf(t, tables, catalog.Project{Name: "a", Models: []string{"old", "x", "both"}},
		catalog.Project{Name: "other", Models: []string{"old"}, Namespaces: []string{"n"}},
		catalog.Project{Name: "only", Models: []string{"old"}})
	must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k", Models: []string{"old"}}))
	var warnings []string
	noted := catalog.WithWarnings(ctx, func(w catalog.Warning) { warnings = append(warnings, w.String()) })
	must[catalog.Model](t)(tables.Models.Patch(noted, m.ID, 0, []byte(`{"name":"between"}`)))
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "1 key and 2 projects name it") {
		t.Errorf("warnings %q", warnings)
	}
	must[catalog.Model](t)(tables.Models.Patch(noted, m.ID, 0, []byte(`{"name":"old"}`)))
	must[catalog.Model](t)(tables.Models.Patch(catalog.WithCascade(noted), m.ID, 0, []byte(`{"name":"new"}`)))
	must[catalog.Model](t)(tables.Models.Patch(catalog.WithCascade(noted), elsewhere.ID, 0, []byte(`{"name":"mine"}`)))
	list := func(name string) string {
		return strings.Join(must[catalog.Project](t)(tables.Projects.Get(ctx, p[name].ID)).Models, " ")
	}
	if list("a") != "new x both mine" || list("other") != "old" || list("only") != "new" {
		t.Errorf("the lists are %q, %q and %q", list("a"), list("other"), list("only"))
	}
	must[catalog.Revision](t)(tables.Models.Delete(catalog.WithCascade(noted), m.ID, 0))
	if list("a") != "x both mine" || list("only") != "new" {
		t.Errorf("after the model has gone the lists are %q and %q", list("a"), list("only"))
	}
}

// A list is selected by project, with all below it.
func TestListsByProject(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	projectsOf(t, tables, catalog.Project{Name: "a"}, catalog.Project{Name: "a/b"}, catalog.Project{Name: "a-b"})
	for _, name := range []string{"", "a", "a/b", "a-b"} {
		must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "of " + name, Project: name}))
	}
	err := tables.Store().Read(ctx, func(r catalog.Reader) error {
		return errors.Join(countIs(ctx, r, catalog.KindKey, catalog.Query{RefUnder: "a"}, 2),
			countIs(ctx, r, catalog.KindProject, catalog.Query{KeyUnder: "a"}, 2))
	})
	if err != nil {
		t.Error(err)
	}
}

func countIs(ctx context.Context, r catalog.Reader, k catalog.Kind, q catalog.Query, want int64) error {
	n, err := r.Count(ctx, k, q)
	if err == nil && n != want {
		err = fmt.Errorf("%d %s, want %d", n, k, want)
	}
	return err
}
