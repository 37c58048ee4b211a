package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// One record of every kind cannot be read. Lists, exports and transactions about others go on, and
// it is shown as damaged.
func TestDamagedRecordsHoldUpNothingElse(t *testing.T) {
	store, ctx := memstore.New(nil), t.Context()
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	whole, broken := map[catalog.Kind]int64{}, map[catalog.Kind]int64{}
	for i, ids := range []map[catalog.Kind]int64{whole, broken} {
		name := fmt.Sprint("n", i)
		p := must[catalog.Project](t)(tables.Projects.Create(ctx, catalog.Project{Name: name}))
		provider := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: name, Type: "openai",
			APIKey: catalog.NewSecret("sk-0123456789abcdef"), Models: []string{name}}))
		m := must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: name, ContextWindow: 5}))
		b := must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: name}))
		k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: name, Meta: catalog.Meta{ExternalID: name}}))
		o := must[catalog.Operator](t)(tables.Operators.Create(ctx, catalog.Operator{Name: name, Role: "admin"}))
		h := must[catalog.Hold](t)(tables.Holds.Create(ctx, catalog.Hold{Target: fmt.Sprint("provider/", provider.ID)}))
		ids[catalog.KindProject], ids[catalog.KindProvider], ids[catalog.KindModel] = p.ID, provider.ID, m.ID
		ids[catalog.KindBinding], ids[catalog.KindKey], ids[catalog.KindOperator] = b.ID, k.ID, o.ID
		ids[catalog.KindHold] = h.ID
	}
	for _, k := range catalog.Kinds() {
		spoil(t, store, k, broken[k], unreadable)
	}
	showsDamaged(t, tables.Projects, whole, broken)
	showsDamaged(t, tables.Providers, whole, broken)
	showsDamaged(t, tables.Models, whole, broken)
	showsDamaged(t, tables.Bindings, whole, broken)
	showsDamaged(t, tables.Keys.Table, whole, broken)
	showsDamaged(t, tables.Operators.Table, whole, broken)
	showsDamaged(t, tables.Holds, whole, broken)

	var out bytes.Buffer
	if err := tables.Export(ctx, &out); err != nil {
		t.Fatal(err)
	}
	d := must[catalog.Desired](t)(catalog.ParseDesired(out.Bytes()))
	if d.Len() != 5 || !strings.Contains(out.String(), fmt.Sprintf(`"damaged":["projects/%d","providers/%d"`,
		broken[catalog.KindProject], broken[catalog.KindProvider])) {
		t.Errorf("the export has %d resources: %s", d.Len(), out.String())
	}
	if plan := must[catalog.Plan](t)(tables.Apply(ctx, d, nil)); plan.Changes() {
		t.Errorf("the export, applied again:\n%s", &plan)
	}
	if _, err := tables.At(ctx, 5); err != nil {
		t.Errorf("the catalog as it was: %v", err)
	}
}

func showsDamaged[T catalog.Noun](t *testing.T, table catalog.Table[T], whole, broken map[catalog.Kind]int64) {
	t.Helper()
	k, ctx := table.Kind(), t.Context()
	all := must[[]T](t)(table.List(ctx, catalog.Query{}))
	var damaged, others []int64
	for _, v := range all {
		if m := table.Meta(v); m.Damaged {
			damaged = append(damaged, m.ID)
		} else {
			others = append(others, m.ID)
		}
	}
	if fmt.Sprint(damaged, others) != fmt.Sprint([]int64{broken[k]}, []int64{whole[k]}) {
		t.Errorf("%s: %v are damaged and %v are not", k, damaged, others)
	}
	if v := must[T](t)(table.Get(ctx, broken[k])); !table.Meta(v).Damaged {
		t.Errorf("one of the %s is not shown as damaged by itself", k)
	}
	_, err := table.Patch(ctx, broken[k], 0, []byte(`{"labels":{"a":"b"}}`))
	mustField(t, "a patch of one of the "+string(k), err, "damaged")
}

// A damaged record is mended by sending all of it, where nothing is lost with it, or deleted.
func TestDamagedRecordsAreReplaced(t *testing.T) {
	store, ctx := memstore.New(nil), t.Context()
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	const secret = "sk-0123456789abcdef"
	project := must[catalog.Project](t)(tables.Projects.Create(ctx, catalog.Project{Name: "p", MaxKeys: 1}))
	provider := must[catalog.Provider](t)(tables.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "openai", APIKey: catalog.NewSecret(secret)}))
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "m"}))
	model := must[catalog.Model](t)(tables.Models.Find(ctx, catalog.ByNaturalKey, "default.m"))
	key := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k", Meta: catalog.Meta{ExternalID: "k"}}))
	for k, id := range map[catalog.Kind]int64{catalog.KindProject: project.ID, catalog.KindProvider: provider.ID,
		catalog.KindModel: model.ID, catalog.KindKey: key.ID} {
		spoil(t, store, k, id, unreadable)
	}

	_, err := tables.Keys.Create(ctx, catalog.Key{Name: "new", Project: "p"})
	mustField(t, "a key of a project whose limits are not known", err, "project")
	must[catalog.Project](t)(tables.Projects.Put(ctx, catalog.Project{Name: "p", MaxKeys: 2}))
	must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "new", Project: "p"}))

	_, err = tables.Providers.Put(ctx, catalog.Provider{Name: "p", Type: "openai"})
	mustField(t, "a provider whose secret is lost", err, "api_key")
	plan, err := tables.Plan(ctx, desired(t, `{"providers":[{"name":"p","type":"openai"}]}`), nil)
	mustField(t, "the same in a plan", err, "providers[0].api_key")
	if plan.Changes() {
		t.Errorf("the plan that was refused is\n%s", &plan)
	}
	p := must[catalog.Provider](t)(tables.Providers.Put(ctx,
		catalog.Provider{Name: "p", Type: "openai", APIKey: catalog.NewSecret(secret)}))
	if p.Damaged || p.ID != provider.ID || must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID)).Damaged {
		t.Errorf("the provider that was sent again is %+v", p)
	}
	apply(t, tables, `{"models":[{"name":"m","context_window":7}]}`, nil) // its binding stays
	if m := must[catalog.Model](t)(tables.Models.Get(ctx, model.ID)); m.Damaged || m.ContextWindow != 7 {
		t.Errorf("the model that was sent again is %+v", m)
	}

	if _, err := tables.Keys.Authenticate(ctx, key.Token); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("a damaged key lets its holder in: %v", err)
	}
	_, err = tables.Keys.Put(ctx, catalog.Key{Name: "k", Meta: catalog.Meta{ExternalID: "k"}})
	mustField(t, "a key whose tokens are lost", err, "damaged")
	_, err = tables.Keys.Rotate(ctx, key.ID, 0, 0)
	mustField(t, "rotating it", err, "damaged")
	must[catalog.Revision](t)(tables.Keys.Delete(ctx, key.ID, 0))
	all := changes(t, tables)
	if last := all[len(all)-1]; len(last.Touches.Hashes) != 1 ||
		last.Touches.Hashes[0] != catalog.HashToken(key.Token.Reveal()) {
		t.Errorf("the end of the key names the hashes %q", last.Touches.Hashes)
	}
	// What it was is not known, so it does not come back.
	_, err = tables.RevertOne(ctx, all[len(all)-1].Revision, nil)
	mustField(t, "taking its end back", err, fmt.Sprintf("keys/%d.damaged", key.ID))
}

// What somebody else than a server has written may lack what servers always write: it has the default.
func TestMissingDefaults(t *testing.T) {
	store, ctx := memstore.New(nil), t.Context()
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	provider := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai"}))
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	binding := must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "m"}))
	bare := func(e *catalog.Entity) { e.Spec = []byte(`{"type":"openai"}`) }
	spoil(t, store, catalog.KindProvider, provider.ID, bare)
	spoil(t, store, catalog.KindBinding, binding.ID, bare)
	p := must[catalog.Provider](t)(tables.Providers.Get(ctx, provider.ID))
	b := must[catalog.Binding](t)(tables.Bindings.Get(ctx, binding.ID))
	if p.Weight == nil || *p.Weight != 1 || p.AutoBan == nil || !*p.AutoBan || b.Weight == nil || *b.Weight != 1 {
		t.Errorf("provider %+v, binding %+v", p, b)
	}
}
