package storagetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// testReferrers: who cannot delete or rename something is told what refers to it, of every kind that may: a few
// of them by name, as far as the caller is shown them, and none that the same transaction deletes.
func testReferrers(t testing.TB, h StoreHarness) {
	ctx := t.Context()
	tables := catalog.NewTables(h.Store, catalog.NewRandomKeyRing(), nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refuse := func(what string, err error, want string) {
		t.Helper()
		if got := catalog.ReferrersOf(err); !errors.Is(err, catalog.ErrReferenced) || got != want {
			t.Errorf("%s: %v; named %q, want %q", what, err, got, want)
		}
	}

	model, err := tables.Models.Create(ctx, catalog.Model{Name: "m"})
	must(err)
	binding, err := tables.Bindings.Create(ctx, catalog.Binding{Model: "m"})
	must(err)
	bound := fmt.Sprintf("binding (id %d)", binding.ID)
	_, err = tables.Models.Delete(ctx, model.ID, 0)
	refuse("a bound model goes", err, bound)
	_, err = tables.Models.Edit(ctx, model.ID, func(m *catalog.Model) error { m.Name = "n"; return nil })
	refuse("a bound model is renamed", err, bound)

	projects := map[string]catalog.Project{}
	for _, path := range []string{"a", "a/b", "a/b/c"} {
		projects[path], err = tables.Projects.Create(ctx, catalog.Project{Name: path})
		must(err)
	}
	below := projects["a/b"].ID
	_, err = tables.Projects.Delete(ctx, below, 0)
	child := fmt.Sprintf("project a/b/c (id %d)", projects["a/b/c"].ID)
	refuse("a project with one below it goes", err, child)
	_, err = tables.Operators.Create(ctx, catalog.Operator{Name: "bob", Role: catalog.RoleViewer, Project: "a/b"})
	must(err)
	_, err = tables.Holds.Create(ctx, catalog.Hold{Target: "project/a/b"}) // goes with it
	must(err)
	limited := catalog.WithinProject(ctx, "a")
	_, err = tables.Projects.Delete(limited, below, 0)
	refuse("to somebody who is shown no operators", err, child+"; and others")
	var keys []string
	for i := range 6 {
		k, err := tables.Keys.Create(ctx, catalog.Key{Name: fmt.Sprint("k", i), Project: "a/b"})
		must(err)
		keys = append(keys, fmt.Sprintf("key k%d (id %d)", i, k.ID))
	}
	_, err = tables.Projects.Delete(ctx, below, 0)
	refuse("a project with many keys", err, strings.Join(append([]string{child}, keys[:4]...), "; ")+"; and others")

	second, err := tables.Bindings.Create(ctx, catalog.Binding{Model: "m", RouteGroup: "x", ProviderGroup: "y"})
	must(err)
	_, err = tables.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.Bindings.Delete(ctx, binding.ID, 0); err != nil {
			return err
		}
		_, err := tx.Models.Delete(ctx, model.ID, 0)
		return err
	})
	refuse("one of two bindings goes, too", err, fmt.Sprintf("binding (id %d)", second.ID))
	_, err = tables.Bindings.Create(ctx, catalog.Binding{Model: "none"})
	refuse("what refers to nothing", err, "")
}
