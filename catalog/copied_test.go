package catalog_test

import (
	"fmt"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// What other control planes keep in memory is told apart from what only data planes have.
func TestCopied(t *testing.T) {
	store := memstore.New(nil)
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	ctx := t.Context()
	revision := func() catalog.Revision {
		var head catalog.Head
		if err := store.Read(ctx, func(r catalog.Reader) error { head = r.Head(); return nil }); err != nil {
			t.Fatal(err)
		}
		return head.Revision
	}
	want := func(what string, copied bool) {
		t.Helper()
		if got, err := catalog.Copied(ctx, store, revision()); err != nil || got != copied {
			t.Errorf("%s: %t, %v; want %t", what, got, err, copied)
		}
	}
	projectsOf(t, tables, catalog.Project{Name: "a"}, catalog.Project{Name: "b"})
	want("a project", false)
	key := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	want("a key in no project", false)
	must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k", Project: "a"}))
	want("a key in a project", true)
	patch := func(text string) { must[catalog.Key](t)(tables.Keys.Patch(ctx, key.ID, 0, []byte(text))) }
	patch(`{"status":"disabled"}`)
	want("a key that is revoked", false)
	for _, path := range []string{`"a"`, `"b"`, `null`} {
		patch(fmt.Sprintf(`{"project":%s}`, path))
		want("a key that moves to "+path, true)
	}
	must[catalog.Hold](t)(tables.Holds.Create(ctx, catalog.Hold{Target: fmt.Sprint("key/", key.ID)}))
	want("a hold", false)
	must[catalog.Revision](t)(tables.Keys.Delete(ctx, key.ID, 0))
	want("a key that is deleted", false)
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	want("a model", true)
	must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "m"}))
	want("a binding", false)
	must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai"}))
	want("a provider", true)
	operator := must[catalog.Operator](t)(tables.Operators.Create(ctx,
		catalog.Operator{Name: "o", Role: catalog.RoleAdmin}))
	want("an operator", true)
	must[catalog.Revision](t)(tables.Operators.Delete(ctx, operator.ID, 0))
	want("an operator that is deleted", true)
	must[catalog.Revision](t)(tables.Update(ctx, func(tx *catalog.Tx) error {
		for i := range 600 {
			if _, err := tx.Keys.Create(ctx, catalog.Key{Name: fmt.Sprint("many ", i)}); err != nil {
				return err
			}
		}
		_, err := tx.Keys.Create(ctx, catalog.Key{Name: "last", Project: "a"})
		return err
	}))
	want("a project behind 600 others", true)
}
