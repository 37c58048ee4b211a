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

// Cascade changes lists, and no list allows more afterwards.
func TestCascadeNeverWidensAList(t *testing.T) {
	store := memstore.New(nil)
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	model := func(namespace, name string) catalog.Model {
		return must[catalog.Model](t)(tables.Models.Create(t.Context(), catalog.Model{Namespace: namespace, Name: name,
			Meta: catalog.Meta{ExternalID: namespace + name}}))
	}
	key := func(namespaces []string, models ...string) int64 {
		return must[catalog.Key](t)(tables.Keys.Create(t.Context(), catalog.Key{Name: "k", Namespaces: namespaces,
			Models: models})).ID
	}
	check := func(id int64, want ...string) {
		t.Helper()
		if got := must[catalog.Key](t)(tables.Keys.Get(t.Context(), id)).Models; !slices.Equal(got, want) {
			t.Errorf("the list is %q, want %q", got, want)
		}
	}
	rename := func(m catalog.Model, name string, warnings ...string) catalog.Model {
		t.Helper()
		ctx, got := warned(t)
		m.Name = name
		m = must[catalog.Model](t)(tables.Models.Put(catalog.WithCascade(ctx), m)) // found by its external id
		if diff := cmp.Diff(warnings, *got); diff != "" {
			t.Errorf("warnings of %q (-want +got):\n%s", name, diff)
		}
		return m
	}
	const pattern = " it; the lists stay as they are " +
		"because a name with * stands there for every model whose name begins so"
	cheap := model("default", "cheap")
	k := key([]string{"default"}, "cheap", "other")
	all := rename(cheap, "*", "1 key names"+pattern)
	check(k, "cheap", "other")
	cheap = rename(all, "cheap")
	cheap = rename(cheap, "openai/*", "1 key names"+pattern)
	check(k, "cheap", "other")

	// The list means the models below, not the record.
	below := key([]string{"default"}, "openai/*", "x")
	ctx, got := warned(t)
	if _, err := tables.Models.Delete(catalog.WithCascade(ctx), cheap.ID, 0); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(*got, []string{"1 key names" + pattern}) {
		t.Errorf("warnings of deleting a wildcard: %q", *got)
	}
	check(below, "openai/*", "x")

	// Another model that the key can reach has the new name.
	first := model("default", "first")
	model("eu", "second")
	both, own := key([]string{"default", "eu"}, "first", "a"), key([]string{"default"}, "first", "a")
	broken := key([]string{"default"}, "first", "a")
	spoil(t, store, catalog.KindKey, broken, unreadable)
	rename(first, "second", "1 list was changed with it",
		"it stays on 1 list, where the new name would allow another model, too", "it stays on 1 list, which cannot be read")
	check(both, "first", "a")
	check(own, "second", "a")
}

// crowd is a store that says that many more keys name a model.
type crowd struct{ catalog.Store }

func (s crowd) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	return s.Store.Read(ctx, func(r catalog.Reader) error { return fn(crowdReader{r}) })
}

type crowdReader struct{ catalog.Reader }

func (r crowdReader) Count(ctx context.Context, k catalog.Kind, q catalog.Query) (int64, error) {
	n, err := r.Reader.Count(ctx, k, q)
	if len(q.Mentions) > 0 {
		n += 100_000
	}
	return n, err
}

func TestACascadeHasABound(t *testing.T) {
	tables := catalog.NewTables(crowd{memstore.New(nil)}, catalog.NewRandomKeyRing(), nil)
	m := must[catalog.Model](t)(tables.Models.Create(t.Context(), catalog.Model{Name: "old"}))
	patch := func() error {
		_, err := tables.Models.Patch(catalog.WithCascade(t.Context()), m.ID, 0, []byte(`{"name":"new"}`))
		return err
	}
	k := must[catalog.Key](t)(tables.Keys.Create(t.Context(), catalog.Key{Name: "k", Models: []string{"old"}}))
	if err := patch(); len(catalog.FieldsOf(err)) != 1 || catalog.FieldsOf(err)[0].Field != "name" {
		t.Errorf("100,001 lists: %v; want an error about name", err)
	}
	if _, err := tables.Keys.Delete(t.Context(), k.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := patch(); err != nil {
		t.Errorf("100,000 lists: %v", err)
	}
}

// A key that cannot work is taken, and the answer says so.
func TestKeysThatCannotWork(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	tables := newTables(t, &catalog.Options{Clock: func() time.Time { return now }})
	const past, nothing = "expires_at is in the past: the key has ended already",
		"budgets[0].limit is 0: nothing may be spent"
	var id int64
	for _, tc := range []struct {
		body string
		want []string
	}{
		{`{"name":"k","expires_at":"1970-01-01T00:00:00Z","budgets":[{"limit":0,"window":"day"}]}`, []string{past, nothing}},
		{`{"labels":{"a":"b"}}`, nil}, // it was said
		{`{"expires_at":"2030-01-01T00:00:00Z","budgets":[{"limit":"0","window":"hour"}]}`, []string{past, nothing}},
		{`{"expires_at":"2030-01-01T00:00:01Z","budgets":[{"limit":"0","window":"day","action":"alert"}]}`, nil},
		{`{"expires_at":null,"budgets":[{"limit":1,"window":"day"}]}`, nil},
	} {
		ctx, got := warned(t)
		if id == 0 {
			k := must[catalog.Key](t)(catalog.Decode[catalog.Key]([]byte(tc.body)))
			id = must[catalog.Key](t)(tables.Keys.Create(ctx, k)).ID
		} else {
			must[catalog.Key](t)(tables.Keys.Patch(ctx, id, 0, []byte(tc.body)))
		}
		if diff := cmp.Diff(tc.want, *got); diff != "" {
			t.Errorf("warnings of %s (-want +got):\n%s", tc.body, diff)
		}
	}
	ctx, got := warned(t)
	must[catalog.Project](t)(tables.Projects.Create(ctx, catalog.Project{Name: "p",
		Budgets: []catalog.Budget{{Limit: new(catalog.NanoUSD), Window: catalog.WindowTotal}}}))
	must[catalog.Operator](t)(tables.Operators.Create(ctx, catalog.Operator{Name: "o", Role: catalog.RoleViewer,
		ExpiresAt: now}))
	want := []string{nothing, strings.Replace(past, "key", "operator", 1)}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("warnings of a project and of an operator (-want +got):\n%s", diff)
	}
}

func TestPricesThatLookWrongAreTakenWithAWarning(t *testing.T) {
	tables := newTables(t, nil)
	ctx, got := warned(t)
	m := must[catalog.Model](t)(catalog.Decode[catalog.Model]([]byte(`{"name":"m","input_price":0.0000025,"output_price":10001,"cache_read_price":0,"cache_write_price":0.0001,
		"request_price":0.00001,"price_tiers":[{"above_input_tokens":5,"input_price":0.00009}]}`)))
	must[catalog.Model](t)(tables.Models.Create(ctx, m))
	p := must[catalog.Provider](t)(catalog.Decode[catalog.Provider]([]byte(`{
		"name": "p", "type": "openai", "api_key": "sk-1", "models": ["gpt-*"], "prices": {"gpt-4o": {"input_price": 20000}}
	}`)))
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

// spoil changes an entity as no table would.
func spoil(t *testing.T, store catalog.Store, kind catalog.Kind, id int64, spoil func(*catalog.Entity)) {
	t.Helper()
	var e catalog.Entity
	err := store.Read(t.Context(), func(r catalog.Reader) (err error) {
		e, err = r.Get(t.Context(), kind, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	spoil(&e)
	_, err = store.Commit(t.Context(), catalog.Commit{Time: time.Now(), Writes: []catalog.Write{{
		Entity: e, If: e.Revision, Change: catalog.Change{Action: catalog.ActionUpdate, Kind: e.Kind, ID: e.ID},
	}}})
	if err != nil {
		t.Fatal(err)
	}
}

// unreadable makes an entity one of which nothing can be read.
func unreadable(e *catalog.Entity) { e.Spec = json.RawMessage(`"none"`) }

// A key that is not acceptable any more, or cannot even be read, holds up the
// maintenance of no other, and its own ended tokens go all the same.
func TestMaintenanceGoesOn(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	store, ctx := memstore.New(&memstore.Options{Clock: clock}), t.Context()
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), &catalog.Options{Clock: clock})
	var ids []int64
	for i := range 4 {
		k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: fmt.Sprint("k", i)}))
		must[catalog.Key](t)(tables.Keys.Rotate(ctx, k.ID, time.Minute, 0))
		ids = append(ids, k.ID)
	}
	spoil(t, store, catalog.KindKey, ids[0], func(e *catalog.Entity) { e.Name = "a\tb" }) // no rule of today allows it
	spoil(t, store, catalog.KindKey, ids[1], unreadable)
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
