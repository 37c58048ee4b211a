package snapshot_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// served writes a published binding: route group to provider group, upstream
// models by provider, and what is wrong.
func served(t *testing.T, docs map[string]string, name string) (out []string) {
	t.Helper()
	var b snapshot.BindingDoc
	if err := json.Unmarshal([]byte(docs["bindings "+name]), &b); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, c := range b.Candidates {
		line := fmt.Sprintf("%s to %s %s %v", c.RouteGroup, c.ProviderGroup, c.Status, c.Upstreams)
		if c.Error != "" {
			line += " " + c.Error
		}
		out = append(out, line)
	}
	return out
}

// A binding replaces what is implied for its own route group, and leaves the other
// groups as they are.
func TestImpliedBindings(t *testing.T) {
	w, ctx := newWorld(t, syncKey), t.Context()
	provider := func(name, group string, models ...string) {
		ok[catalog.Provider](t)(w.tables.Providers.Create(ctx, catalog.Provider{Name: name, Type: "openai",
			Group: group, Models: models}))
	}
	provider("one", "a", "m")
	provider("two", "b", "m", "x")
	provider("three", "c", "x")
	provider("all", "d", "*")
	provider("open", "e", "openai/*", "m*")
	for _, name := range []string{"m", "x", "none", "openai/*", "*"} {
		ok[catalog.Model](t)(w.tables.Models.Create(ctx, catalog.Model{Name: name}))
	}
	docs := func() map[string]string {
		ok[snapshot.Head](t)(w.relay.Sync(ctx))
		return published(t, w.pub, w.keys)
	}
	check := func(name string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, served(t, docs(), "default."+name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	check("m", "a to a active map[1:m]", "b to b active map[2:m]", "d to d active map[4:m]", "e to e active map[5:m]")
	check("x", "b to b active map[2:x]", "c to c active map[3:x]", "d to d active map[4:x]")
	check("openai/*", "d to d active map[4:openai/*]", "e to e active map[5:openai/*]")
	check("*", "d to d active map[4:*]")

	b := ok[catalog.Binding](t)(w.tables.Bindings.Create(ctx, catalog.Binding{Model: "m", RouteGroup: "a",
		ProviderGroup: "b"}))
	check("m", "a to b active map[2:m]", "b to b active map[2:m]", "d to d active map[4:m]", "e to e active map[5:m]")
	ok[catalog.Binding](t)(w.tables.Bindings.Patch(ctx, b.ID, 0, []byte(`{"status":"disabled"}`)))
	check("m", "a to b disabled map[2:m]", "b to b active map[2:m]", "d to d active map[4:m]", "e to e active map[5:m]")
	ok[catalog.Binding](t)(w.tables.Bindings.Patch(ctx, b.ID, 0, []byte(`{"provider_group":"c","status":null}`)))
	check("m", "a to c active map[] config_error", "b to b active map[2:m]", "d to d active map[4:m]",
		"e to e active map[5:m]")
	if _, err := w.tables.Bindings.Delete(ctx, b.ID, 0); err != nil {
		t.Fatal(err)
	}
	check("m", "a to a active map[1:m]", "b to b active map[2:m]", "d to d active map[4:m]", "e to e active map[5:m]")
	ok[catalog.Binding](t)(w.tables.Bindings.Create(ctx, catalog.Binding{Model: "openai/*", RouteGroup: "e",
		ProviderGroup: "d", SelectorValue: "*"}))
	check("openai/*", "d to d active map[4:openai/*]", "e to d active map[4:*]")
}

// A provider whose secret cannot be opened is published as such, and everything
// else is published as ever.
func TestSealedProvidersArePublished(t *testing.T) {
	w, ctx := newWorld(t, syncKey), t.Context()
	p := ok[catalog.Provider](t)(w.tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai",
		APIKey: catalog.NewSecret("sk-0123456789abcdef"), Models: []string{"m"}}))
	k := ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	ok[snapshot.Head](t)(w.relay.Sync(ctx))

	lost := catalog.NewTables(w.tables.Store(), catalog.NewRandomKeyRing(), nil)
	relay := snapshot.NewRelay(lost, w.pub, &snapshot.RelayOptions{Keys: w.keys})
	if _, err := lost.Keys.Delete(ctx, k.ID, 0); err != nil {
		t.Fatal(err)
	}
	ok[catalog.Model](t)(lost.Models.Create(ctx, catalog.Model{Name: "m"}))
	ok[catalog.Provider](t)(lost.Providers.Patch(ctx, p.ID, 0, []byte(`{"labels":{"a":"b"}}`)))
	ok[snapshot.Head](t)(relay.Sync(ctx))
	docs := published(t, w.pub, w.keys)
	if docs["keys "+catalog.HashToken(k.Token.Reveal())] != "" {
		t.Error("a revocation was held up")
	}
	var doc snapshot.ProviderDoc
	if err := json.Unmarshal([]byte(docs[fmt.Sprintf("providers %d", p.ID)]), &doc); err != nil ||
		doc.Error != snapshot.ConfigError || doc.SealedAPIKey != "" {
		t.Errorf("the provider is published as %+v, %v", doc, err)
	}
	if got := served(t, docs, "default.m"); len(got) != 1 {
		t.Errorf("the model is served by %q", got)
	}
}

// storedAs is a keeper that opens whatever is stored as one secret.
type storedAs struct {
	catalog.Keeper
	secret string
}

func (s storedAs) Open(string, string) (string, error) { return s.secret, nil }

// A credential of an older version that looks sealed stops no balancer: without sync keys it is not published.
func TestASecretThatLooksSealedStopsNobody(t *testing.T) {
	const secret = "enc:v1:k:AAAA"
	for list, want := range map[string]snapshot.ProviderDoc{
		"": {Error: snapshot.ConfigError}, syncKey: {SealedAPIKey: secret},
	} {
		w, ctx := newWorld(t, list), t.Context()
		p := ok[catalog.Provider](t)(w.tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai",
			APIKey: catalog.NewSecret("sk-0123456789abcdef"), Models: []string{"m"}}))
		w.tables = catalog.NewTables(w.tables.Store(), storedAs{catalog.NewRandomKeyRing(), secret}, nil)
		ok[snapshot.Head](t)(w.newRelay().Sync(ctx))
		v := ok[*snapshot.View](t)(snapshot.LoadView(ctx, w.pub, w.keys))
		if got, found := v.Provider(p.ID); !found || got.Error != want.Error || got.APIKey.Reveal() != want.SealedAPIKey {
			t.Errorf("with the sync keys %q the provider is %+v", list, got)
		}
	}
}
