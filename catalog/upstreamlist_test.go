package catalog_test

import (
	"context"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// The list knows what the catalog holds, by the feed and anew.
func TestUpstreamListFollows(t *testing.T) {
	tables, ctx := newTables(t, nil), context.Background()
	list := catalog.NewUpstreamList()
	follower := catalog.NewFollower(tables.Store(), list)
	if listed, _ := list.Lists(1, ""); list.Loaded() || listed {
		t.Error("it knows something before anybody looked")
	}
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "openai", Models: []string{"m", "d*"}}))
	check := func(what string, model string, listed, serves, bans bool) {
		t.Helper()
		for _, l := range []*catalog.UpstreamList{list, catalog.NewUpstreamList()} {
			f := follower
			if l != list {
				f = catalog.NewFollower(tables.Store(), l)
			}
			must[catalog.Head](t)(f.Refresh(ctx))
			is, byName := l.Lists(p.ID, model)
			if !l.Loaded() || is != listed || l.Serves(p.ID, model) != serves || l.AutoBan(p.ID) != bans {
				t.Errorf("%s, %q: listed %t, serves %t, may be held %t", what, model, is, l.Serves(p.ID, model), l.AutoBan(p.ID))
			}
			if named := listed && model != "d1"; byName != named || l.ListsByName(p.ID, model) != named {
				t.Errorf("%s, %q: listed by name %t", what, model, byName)
			}
		}
	}
	for model, listed := range map[string]bool{"": true, "m": true, "d1": true, "x": false, "d\x01": false} {
		check("new", model, listed, listed, true)
	}
	edit := func(edit func(*catalog.Provider)) {
		t.Helper()
		must[catalog.Provider](t)(tables.Providers.Edit(ctx, p.ID, func(p *catalog.Provider) error { edit(p); return nil }))
	}
	edit(func(p *catalog.Provider) { p.Status, p.AutoBan = catalog.Disabled, new(false) })
	check("disabled", "m", true, false, false)
	edit(func(p *catalog.Provider) { p.Status, p.Models = catalog.Active, []string{"n"} })
	check("without the model", "m", false, false, false)
	check("with another", "n", true, true, false)
	if _, err := tables.Providers.Delete(ctx, p.ID, 0); err != nil {
		t.Fatal(err)
	}
	check("deleted", "", false, false, false)
}
