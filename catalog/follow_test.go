package catalog_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// warned returns a context that collects warnings.
func warned(t *testing.T) (context.Context, *[]string) {
	var got []string
	return catalog.WithWarnings(t.Context(), func(w catalog.Warning) { got = append(got, w.String()) }), &got
}

func TestRenamingAModelWarnsAndCascades(t *testing.T) {
	tables := newTables(t, nil)
	keyWith := func(namespaces []string, models ...string) catalog.Key {
		return must[catalog.Key](t)(tables.Keys.Create(t.Context(), catalog.Key{Name: "k", Namespaces: namespaces,
			Models: models}))
	}
	m := must[catalog.Model](t)(tables.Models.Create(t.Context(), catalog.Model{Name: "old"}))
	must[catalog.Model](t)(tables.Models.Create(t.Context(), catalog.Model{Name: "old", Namespace: "other"}))
	own, both := []string{"default"}, []string{"default", "other"}
	first, only, shared := keyWith(own, "a", "old", "b"), keyWith(own, "old"), keyWith(both, "old", "c")
	elsewhere, pattern, has := keyWith([]string{"other"}, "old"), keyWith(own, "ol*"), keyWith(own, "new", "old")

	ctx, got := warned(t)
	m = must[catalog.Model](t)(tables.Models.Patch(ctx, m.ID, 0, []byte(`{"name":"new"}`)))
	if diff := cmp.Diff([]string{"4 keys name it; the lists stay as they are without cascade"}, *got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	must[catalog.Model](t)(tables.Models.Patch(t.Context(), m.ID, 0, []byte(`{"name":"old"}`)))

	lists := func() (all [][]string) {
		for _, k := range []catalog.Key{first, only, shared, elsewhere, pattern, has} {
			all = append(all, must[catalog.Key](t)(tables.Keys.Get(t.Context(), k.ID)).Models)
		}
		return all
	}
	ctx, got = warned(t)
	m = must[catalog.Model](t)(tables.Models.Patch(catalog.WithCascade(ctx), m.ID, 0, []byte(`{"name":"new"}`)))
	if diff := cmp.Diff([][]string{{"a", "new", "b"}, {"new"}, {"old", "new", "c"}, {"old"}, {"ol*"}, {"new"}},
		lists()); diff != "" {
		t.Errorf("lists after renaming (-want +got):\n%s", diff)
	}
	if !slices.Equal(*got, []string{"4 lists were changed with it"}) {
		t.Errorf("warnings %q", *got)
	}
	if k := must[catalog.Key](t)(tables.Keys.Get(t.Context(), first.ID)); k.Revision != m.Revision {
		t.Errorf("the list changed at %d, the model at %d", k.Revision, m.Revision)
	}

	ctx, got = warned(t)
	if _, err := tables.Models.Delete(catalog.WithCascade(ctx), m.ID, 0); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{"a", "b"}, {"new"}, {"old", "c"}, {"old"}, {"ol*"}, {"new"}}, lists()); diff != "" {
		t.Errorf("lists after deleting (-want +got):\n%s", diff)
	}
	want := []string{"2 lists were changed with it", "it stays on 2 lists, where it is the only name: a list " +
		"without names allows all models"}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestPricesThatLookWrongAreTakenWithAWarning(t *testing.T) {
	tables := newTables(t, nil)
	ctx, got := warned(t)
	m := must[catalog.Model](t)(catalog.Decode[catalog.Model]([]byte(`{"name":"m","input_price":0.0000025,"output_price":10001,"cache_read_price":0,"cache_write_price":0.0001,
		"request_price":0.00001,"price_tiers":[{"above_input_tokens":5,"input_price":0.00009}]}`)))
	must[catalog.Model](t)(tables.Models.Create(ctx, m))
	p := must[catalog.Provider](t)(catalog.Decode[catalog.Provider]([]byte(`{"name":"p","type":"openai","prices":{"gpt-4o":{"input_price":20000}}}`)))
	if _, err := tables.Update(ctx, func(tx *catalog.Tx) error {
		_, err := tx.Providers.Create(ctx,
			p)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	below, above := " is below 0.0001 USD per million tokens; is it the price of a single token?",
		" is above 10,000 USD per million tokens"
	want := []string{"input_price" + below, "output_price" + above, "price_tiers[0].input_price" + below,
		"prices.gpt-4o.input_price" + above}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	*got = nil
	if _, err := tables.Models.Create(ctx, m); err == nil || len(*got) > 0 {
		t.Errorf("a write that was refused: %v, warnings %q", err, *got)
	}
}

// A key that is not acceptable any more, or cannot even be read, holds up the
// maintenance of no other, and its own ended tokens go all the same.
func TestMaintenanceGoesOn(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	store, ctx := memstore.New(nil), t.Context()
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(),
		&catalog.Options{Clock: func() time.Time { return now }})
	var ids []int64
	for i := range 4 {
		k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: fmt.Sprint("k", i)}))
		must[catalog.Key](t)(tables.Keys.Rotate(ctx, k.ID, time.Minute, 0))
		ids = append(ids, k.ID)
	}
	spoil := func(id int64, spoil func(*catalog.Entity)) {
		var e catalog.Entity
		if err := store.Read(ctx, func(r catalog.Reader) (err error) {
			e, err = r.Get(ctx, catalog.KindKey,
				id)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		spoil(&e)
		if _, err := store.Commit(ctx,
			catalog.Commit{Time: now,
				Writes: []catalog.Write{{Entity: e, If: e.Revision, Change: catalog.Change{Action: catalog.ActionUpdate,
					Kind: e.Kind, ID: e.ID}}}}); err != nil {
			t.Fatal(err)
		}
	}
	spoil(ids[0], func(e *catalog.Entity) { e.Name = "a\tb" })                    // no rule of today allows it
	spoil(ids[1], func(e *catalog.Entity) { e.Spec = json.RawMessage(`"none"`) }) // nothing can be read of it
	now = now.Add(time.Hour)
	err := tables.Maintain(ctx)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("key %d", ids[1])) ||
		strings.Contains(err.Error(), fmt.Sprintf("key %d:", ids[0])) {
		t.Errorf("Maintain: %v; want an error about key %d alone", err, ids[1])
	}
	for _, i := range []int{0, 2, 3} {
		if k := must[catalog.Key](t)(tables.Keys.Get(ctx, ids[i])); len(k.Tokens) != 1 {
			t.Errorf("key %d still has %d tokens", i, len(k.Tokens))
		}
	}
}

func TestExpiryAndTokensThatAreRefused(t *testing.T) {
	tables := newTables(t, nil)
	for body, want := range map[string]string{
		`{"name":"k","expires_at":"0001-01-01T00:00:00Z"}`: "expires_at", `{"name":"k","expires_at":"1969-12-31T23:59:59Z"}`: "expires_at",
		`{"name":"k","expires_at":""}`: "expires_at", `{"name":"k","expires_at":5}`: "expires_at", `{"name":"k","token":""}`: "token",
		`{"name":"k","options":{"a":1,"a":2}}`: "options.a", `{"name":"k","labels":{"a":"1","a":"2"}}`: "labels.a",
	} {
		err := create(t, tables.Keys.Table, body)
		if got := catalog.FieldsOf(err); len(got) == 0 || got[0].Field != want {
			t.Errorf("%s: %v; want an error about %s", body, err, want)
		}
	}
	if err := create(t, tables.Keys.Table, `{"name":"k","expires_at":"1970-01-01T00:00:00Z","token":null}`); err != nil {
		t.Errorf("the first second that can be: %v", err)
	}
	if err := create(t, tables.Models, `{"name":"m","context_window":2e6,"max_output_tokens":1000.0}`); err != nil {
		t.Errorf("whole numbers as floats: %v", err)
	}
}
