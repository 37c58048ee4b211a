package catalog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

func desired(t testing.TB, text string) catalog.Desired {
	t.Helper()
	d, err := catalog.ParseDesired([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// apply brings the catalog into a state, which has to work.
func apply(t testing.TB, tables *catalog.Tables, text string, opts *catalog.ApplyOptions) catalog.Plan {
	t.Helper()
	plan, err := tables.Apply(context.Background(), desired(t, text), opts)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

const small = `{
	"keys": [{"external_id": "k", "name": "alice", "models": ["gpt"]}],
	"bindings": [{"model": "gpt"}, {"model": "gpt", "route_group": "vip"}],
	"providers": [{"name": "p", "type": "openai", "api_key": "sk-0123456789abcdef", "models": ["gpt"]}],
	"models": [{"name": "gpt", "input_price": "2.5"}]
}`

// A file that names a model without prices leaves those alone that an importer has set, and a return
// to an earlier revision does not.
func TestImportedPricesStay(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	const file = `{"models": [{"name": "m", "context_window": 5}]}`
	apply(t, tables, file, nil)
	m := must[catalog.Model](t)(tables.Models.Find(ctx, catalog.ByNaturalKey, "default.m"))
	patch := func(text string) { must[catalog.Model](t)(tables.Models.Patch(ctx, m.ID, 0, []byte(text))) }
	priced := func(what string, want, source string) {
		t.Helper()
		now := must[catalog.Model](t)(tables.Models.Get(ctx, m.ID))
		got := "none"
		if now.InputPrice != nil {
			got = now.InputPrice.String()
		}
		if got != want || now.PriceSource != source {
			t.Errorf("%s the price is %s from %s, want %s from %s", what, got, now.PriceSource, want, source)
		}
	}
	const imported = `{"input_price": "2.5", "price_source": "litellm"}`
	patch(imported)
	if plan := apply(t, tables, file, nil); plan.Changes() {
		t.Errorf("the same file again:\n%s", &plan)
	}
	apply(t, tables, strings.Replace(file, "5", "6", 1), nil)
	priced("after a file without prices", "2.5", "litellm")
	must[catalog.Model](t)(tables.Models.Put(ctx, catalog.Model{Name: "m", ContextWindow: 7}))
	priced("after a PUT without prices, which makes equal", "none", "manual")
	patch(imported)
	must[catalog.Plan](t)(tables.Revert(ctx, m.Revision, nil))
	priced("after a return", "none", "manual")
	patch(imported)
	patch(`{"input_price": null, "price_source": null}`)
	priced("after a patch", "none", "manual")
	patch(imported)
	apply(t, tables, `{"models": [{"name": "m", "input_price": "3"}]}`, nil)
	priced("after a file with prices", "3", "manual")
	apply(t, tables, file, nil)
	priced("when the file has none any more", "none", "manual")
}

// One entity that two items describe is refused, by whatever they name it.
func TestApplyRefusesTwoItemsOfOneEntity(t *testing.T) {
	tables := newTables(t, nil)
	apply(t, tables, `{"models": [{"name": "m", "external_id": "x"}, {"name": "n"}]}`, nil)
	n := must[catalog.Model](t)(tables.Models.Find(t.Context(), catalog.ByNaturalKey, "default.n"))
	var store string
	err := tables.Store().Read(t.Context(), func(r catalog.Reader) error {
		store = r.Head().Store
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct{ items, field string }{
		"by id twice": {fmt.Sprintf(`{"id": %[1]d, "name": "o"}, {"id": %[1]d, "name": "p"}`, n.ID), "models[1]"},
		"by external id twice": {`{"external_id": "x", "name": "o"}, {"external_id": "x", "name": "p"}`,
			"models[1].external_id"},
		"by one name": {`{"name": "n"}, {"name": "n"}`, "models[1].name"},
		"by the name of what another is by id": {fmt.Sprintf(`{"id": %d, "name": "o"}, {"name": "n"}, {"name": "o"}`, n.ID),
			"models[2].name"},
	} {
		d := desired(t, fmt.Sprintf(`{"store": %q, "models": [%s]}`, store, tc.items))
		_, err := tables.Plan(t.Context(), d, nil)
		if fields := catalog.FieldsOf(err); !errors.Is(err, catalog.ErrInvalid) || len(fields) == 0 ||
			fields[0].Field != tc.field {
			t.Errorf("%s: %v, want an error about %s", what, err, tc.field)
		}
	}
}

// Items come in any order, the plan says what was done, and the second time there is nothing to do.
func TestApply(t *testing.T) {
	tables := newTables(t, nil)
	ctx := t.Context()
	would, err := tables.Plan(ctx, desired(t, small), nil)
	if err != nil {
		t.Fatal(err)
	}
	did := apply(t, tables, small, &catalog.ApplyOptions{Expect: would.Hash})
	want := catalog.Summary{Create: 5}
	if would.Summary != want || did.Summary != want || !did.Applied || did.Revision != 1 || would.Applied {
		t.Errorf("planned %+v, did %+v", would.Summary, did)
	}
	if len(did.Tokens) != 1 || did.Tokens[0].Item != "keys[0]" {
		t.Errorf("tokens %+v", did.Tokens)
	}
	key, err := tables.Keys.Authenticate(ctx, did.Tokens[0].Token)
	if err != nil || key.Name != "alice" || key.ID != did.Tokens[0].ID {
		t.Errorf("%+v, %v", key, err)
	}
	for i := range did.Steps {
		if did.Steps[i].ID < 1 || did.Steps[i].ID > 100 {
			t.Errorf("step %+v", did.Steps[i])
		}
	}
	again := apply(t, tables, small, nil)
	if again.Summary != (catalog.Summary{Unchanged: 5}) || again.Revision != 1 || !again.Applied || len(again.Tokens) > 0 {
		t.Errorf("again: %+v", again)
	}
	p, err := tables.Providers.Find(ctx, catalog.ByNaturalKey, "p")
	if err != nil || p.APIKey.Reveal() != "sk-0123456789abcdef" {
		t.Errorf("provider %+v, %v", p, err)
	}
}

// What is refused names each item and field, and nothing is done.
func TestApplyRefuses(t *testing.T) {
	tables := newTables(t, nil)
	apply(t, tables, `{"models": [{"name": "used"}, {"name": "mine", "external_id": "m"}], "bindings": [{"model": "used"}],
		"keys": [{"external_id": "old", "name": "old", "token": "an-imported-token-1"}],
		"providers": [{"name": "theirs", "type": "openai", "labels": {"owner": "them"}}, {"name": "nobodys", "type": "openai"}]}`, nil)
	owner := &catalog.ApplyOptions{PlanOptions: catalog.PlanOptions{Owner: "me"}}
	for name, tc := range map[string]struct {
		text string
		opts *catalog.ApplyOptions
		err  error
		want []string
	}{
		"values": {`{"models": [{"name": "a"}, {}], "providers": [{"name": "p", "type": "openai", "weight": -1}]}`, nil,
			catalog.ErrInvalid, []string{"providers[0].weight", "models[1].name"}},
		"references": {`{"bindings": [{"model": "used", "route_group": "x"}, {"model": "nothing"}]}`, nil,
			catalog.ErrInvalid, []string{"bindings[1].model"}},
		"twice by name": {`{"models": [{"name": "a"}, {"name": "a"}]}`, nil, catalog.ErrInvalid, []string{"models[1].name"}},
		"twice by external id": {`{"models": [{"name": "a", "external_id": "x"}, {"name": "b", "external_id": "x"}]}`, nil,
			catalog.ErrInvalid, []string{"models[1].external_id"}},
		"the same token": {`{"keys": [{"external_id": "a", "name": "a", "token": "an-imported-token-2"},
			{"external_id": "b", "name": "b", "token": "an-imported-token-2"}]}`, nil, catalog.ErrInvalid, []string{"keys[1].token"}},
		"another's token": {`{"keys": [{"external_id": "a", "name": "a"},
			{"external_id": "b", "name": "b", "token": "an-imported-token-1"}]}`, nil, catalog.ErrExists, []string{"keys[1].token"}},
		"a key that nothing tells of": {`{"keys": [{"name": "a"}]}`, nil, catalog.ErrInvalid, []string{"keys[0].external_id"}},
		"has an external id": {`{"models": [{"name": "mine"}]}`, nil, catalog.ErrExists,
			[]string{"models[0].namespace", "models[0].name"}},
		"another's and nobody's": {`{"providers": [{"name": "theirs", "type": "openai"}, {"name": "nobodys", "type": "openai"}]}`,
			owner, catalog.ErrOwned, []string{"providers[0]", "providers[1]"}},
		"labelled as another's": {`{"models": [{"name": "n", "labels": {"owner": "you"}}]}`, owner, catalog.ErrInvalid,
			[]string{"models[0].labels.owner"}},
		"prune without owner": {`{"models": []}`, &catalog.ApplyOptions{PlanOptions: catalog.PlanOptions{Prune: true}},
			catalog.ErrInvalid, []string{"owner"}},
		"a name that is referred to": {`{"models": [{"name": "other", "external_id": "u"}, {"name": "x", "external_id": "m"}],
			"bindings": [{"model": "mine"}]}`, nil, catalog.ErrInvalid, []string{"bindings[0].model"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tables.Apply(t.Context(), desired(t, tc.text), tc.opts)
			var got []string
			for _, f := range catalog.FieldsOf(err) {
				got = append(got, f.Field)
			}
			if !errors.Is(err, tc.err) || !slices.Equal(got, tc.want) {
				t.Errorf("%v, fields %q", err, got)
			}
		})
	}
	if n, err := tables.Models.Count(t.Context(), catalog.Query{}); n != 2 || err != nil {
		t.Errorf("%d models, %v", n, err)
	}
}

func TestParseDesiredRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                             "malformed",
		`{"models": [}`:                  "malformed",
		`{"models": []} x`:               "malformed",
		`{"models": {}}`:                 "models must be a list",
		`{"modles": []}`:                 "modles is not known here",
		`{"models": [7, {"nmae": "x"}]}`: "models[0] must be a JSON object",
		`{"models": [{"name": "x", "nmae": "x"}]}`:          "models[0].nmae is not a field",
		`{"models": [{"name": "x", "name": "y"}]}`:          "models[0].name occurs twice",
		`{"models": [], "models": []}`:                      "models occurs twice",
		`{"providers": [{"api_key": {"sk": "sk-secret"}}]}`: "providers[0].api_key must be a string",
	} {
		_, err := catalog.ParseDesired([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sk-secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Two entities swap their names, with external ids and, in the store that gave them, with ids.
func TestApplySwapsNames(t *testing.T) {
	tables := newTables(t, nil)
	apply(t, tables, `{"providers": [{"name": "a", "type": "openai", "external_id": "1"}, {"name": "b", "type": "openai",
		"external_id": "2"}, {"name": "c", "type": "openai"}, {"name": "d", "type": "openai"}]}`, nil)
	var out strings.Builder
	if err := tables.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	swapped := strings.NewReplacer(`"name":"a"`, `"name":"b"`, `"name":"b"`, `"name":"a"`, `"name":"c"`, `"name":"d"`,
		`"name":"d"`, `"name":"c"`).Replace(out.String())
	plan := apply(t, tables, swapped, nil)
	if plan.Summary != (catalog.Summary{Update: 4}) {
		t.Fatalf("%s", &plan)
	}
	for name, id := range map[string]int64{"a": 2, "b": 1, "c": 4, "d": 3} {
		if p, err := tables.Providers.Find(t.Context(), catalog.ByNaturalKey, name); err != nil || p.ID != id {
			t.Errorf("%s: %d, %v", name, p.ID, err)
		}
	}
}

// What people have decided stays while a state does not name it: a status, an owner, and that
// something is protected.
func TestApplyKeepsWhatItDoesNotName(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	apply(t, tables, `{"models": [{"name": "m", "labels": {"tier": "gold"}}]}`, &catalog.ApplyOptions{PlanOptions: catalog.PlanOptions{Owner: "platform"}})
	m := must[catalog.Model](t)(tables.Models.Find(ctx, catalog.ByNaturalKey, catalog.ModelKey("default", "m")))
	must[catalog.Model](t)(tables.Models.Patch(ctx, m.ID, 0,
		[]byte(`{"status": "disabled", "labels": {"protected": "true", "tier": "tin", "mine": "x"}}`)))
	for _, tc := range []struct {
		state, owner string
		status       catalog.Status
		labels       map[string]string
	}{
		{`{"models": [{"name": "m", "labels": {"tier": "gold"}, "status": null}]}`, "platform", catalog.Disabled,
			map[string]string{"owner": "platform", "protected": "true", "tier": "gold"}},
		{`{"models": [{"name": "m", "input_price": 3}]}`, "", catalog.Disabled,
			map[string]string{"owner": "platform", "protected": "true"}},
		{`{"models": [{"name": "m", "status": "active", "labels": {"owner": "me", "protected": "false"}}]}`, "",
			catalog.Active, map[string]string{"owner": "me", "protected": "false"}},
		{`{"models": [{"name": "m", "status": "disabled"}]}`, "", catalog.Disabled,
			map[string]string{"owner": "me", "protected": "false"}},
	} {
		plan := apply(t, tables, tc.state, &catalog.ApplyOptions{PlanOptions: catalog.PlanOptions{Owner: tc.owner}})
		got := must[catalog.Model](t)(tables.Models.Get(ctx, m.ID))
		if got.Status != tc.status || !maps.Equal(got.Labels, tc.labels) {
			t.Errorf("%s: %s %v\n%s", tc.state, got.Status, got.Labels, &plan)
		}
	}
	if got := must[catalog.Model](t)(tables.Models.Put(ctx, catalog.Model{Name: "m"})); got.Status != catalog.Active {
		t.Errorf("who puts says all of it: %+v", got)
	}

	many := map[string]string{"owner": "o"}
	for i := range 63 {
		many[fmt.Sprint("l", i)] = ""
	}
	full := must[catalog.Model](t)(tables.Models.Put(ctx, catalog.Model{Name: "m", Meta: catalog.Meta{Labels: many}}))
	delete(many, "owner")
	many["another"] = ""
	var d catalog.Desired
	catalog.Want(&d, catalog.Model{Name: "m", Meta: catalog.Meta{Labels: many}})
	if _, err := tables.Apply(ctx, d, nil); !slices.Equal(fieldsOf(err), []string{"models[0].labels"}) {
		t.Errorf("too many labels with those that stay: %v", err)
	}
	if got := must[catalog.Model](t)(tables.Models.Get(ctx, m.ID)); got.Revision != full.Revision {
		t.Errorf("it was changed: %+v", got)
	}
}

// An id of this catalog finds what has no external id, and not what has one by now.
func TestApplyByIDRefusesWhatHasAnExternalIDByNow(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	state := desired(t, fmt.Sprintf(`{"store": %q, "keys": [{"id": %d, "name": "renamed"}]}`,
		must[catalog.Plan](t)(tables.Plan(ctx, catalog.Desired{}, nil)).Store, k.ID))
	must[catalog.Key](t)(tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"external_id": "mine"}`)))
	if _, err := tables.Apply(ctx, state, nil); !errors.Is(err, catalog.ErrExists) ||
		!slices.Equal(fieldsOf(err), []string{"keys[0].external_id"}) {
		t.Errorf("%v", err)
	}
	must[catalog.Key](t)(tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"external_id": null}`)))
	must[catalog.Plan](t)(tables.Apply(ctx, state, nil))
}

// What an owner does not name any more goes; what is protected or another's stays.
func TestApplyPrunes(t *testing.T) {
	tables := newTables(t, nil)
	me := &catalog.ApplyOptions{PlanOptions: catalog.PlanOptions{Owner: "me", Prune: true}}
	apply(t, tables, `{"models": [{"name": "theirs", "labels": {"owner": "them"}}, {"name": "nobodys"}]}`, nil)
	apply(t, tables, `{"models": [{"name": "kept", "labels": {"protected": "true"}}, {"name": "a"}, {"name": "b"}],
		"bindings": [{"model": "a"}], "keys": [{"external_id": "k", "name": "k"}]}`, me)
	plan := apply(t, tables, `{"models": [{"name": "b"}], "bindings": []}`, me)
	if plan.Summary != (catalog.Summary{Unchanged: 1, Delete: 2, Kept: 3}) || len(plan.Kept) != 3 {
		t.Errorf("%s%+v", &plan, plan.Kept)
	}
	if n, err := tables.Keys.Count(t.Context(), catalog.Query{}); n != 1 || err != nil {
		t.Errorf("%d keys, %v", n, err)
	}
	kept, err := tables.Models.Find(t.Context(), catalog.ByNaturalKey, "default.kept")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tables.Models.Delete(t.Context(), kept.ID, 0); !errors.Is(err, catalog.ErrProtected) {
		t.Errorf("delete what is protected: %v", err)
	}
}

// Deleting more than half, and more than ten, has to be forced.
func TestApplyGuards(t *testing.T) {
	tables := newTables(t, nil)
	me := &catalog.ApplyOptions{PlanOptions: catalog.PlanOptions{Owner: "me", Prune: true}}
	var d catalog.Desired
	for i := range 21 {
		catalog.Want(&d, catalog.Model{Name: strings.Repeat("m", i+1)})
	}
	if _, err := tables.Apply(t.Context(), d, me); err != nil {
		t.Fatal(err)
	}
	var fewer catalog.Desired
	catalog.Want(&fewer, catalog.Wanted[catalog.Model](d)[:10]...)
	plan, err := tables.Apply(t.Context(), fewer, me)
	if !errors.Is(err, catalog.ErrForce) || !slices.Equal(plan.NeedsForce, []catalog.Kind{catalog.KindModel}) {
		t.Errorf("%v, %+v", err, plan.NeedsForce)
	}
	force := *me
	force.Force = true
	if plan, err = tables.Apply(t.Context(), fewer, &force); err != nil || plan.Summary.Delete != 11 {
		t.Errorf("%v, %+v", err, plan.Summary)
	}
}

// A plan depends on what it changes and refers to: what others do elsewhere, and the end of a
// rotated token's grace, leave it as it is.
func TestPlanDependsOnWhatItChanges(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	tables := newTables(t, &catalog.Options{Clock: func() time.Time { return now }})
	ctx := t.Context()
	apply(t, tables, small, nil)
	key := must[catalog.Key](t)(tables.Keys.Find(ctx, catalog.ByExternalID, "k"))
	must[catalog.Key](t)(tables.Keys.Rotate(ctx, key.ID, time.Minute, 0))

	d := desired(t, strings.Replace(small, "alice", "bob", 1))
	planned := must[catalog.Plan](t)(tables.Plan(ctx, d, nil))
	must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "other"}))
	must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "other", Type: "openai"}))
	now = now.Add(time.Hour)
	if err := tables.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	if k := must[catalog.Key](t)(tables.Keys.Get(ctx, key.ID)); len(k.Tokens) != 1 {
		t.Fatalf("maintenance has left %d tokens", len(k.Tokens))
	}
	if again := must[catalog.Plan](t)(tables.Plan(ctx, d, nil)); again.Hash != planned.Hash {
		t.Errorf("the plan was\n%sand is\n%s", &planned, &again)
	}
	must[catalog.Key](t)(tables.Keys.Patch(ctx, key.ID, 0, []byte(`{"rpm_limit": 5}`)))
	if plan, err := tables.Apply(ctx, d, &catalog.ApplyOptions{Expect: planned.Hash}); !errors.Is(err,
		catalog.ErrPlanChanged) || plan.Hash == planned.Hash {
		t.Errorf("somebody has changed the key: %v\n%s", err, &plan)
	}
}

// Secrets are part of what is expected, though nobody sees them.
func TestPlanExpectsSecrets(t *testing.T) {
	keeper := catalog.NewRandomKeyRing()
	store := memstore.New(nil)
	tables, other := catalog.NewTables(store, keeper, nil), catalog.NewTables(store, keeper, nil)
	with := func(secret string) catalog.Desired {
		return desired(t, strings.Replace(small, "sk-0123456789abcdef", secret, 1))
	}
	one := must[catalog.Plan](t)(tables.Plan(t.Context(), with("sk-one-0123456"), nil))
	if same := must[catalog.Plan](t)(other.Plan(t.Context(), with("sk-one-0123456"), nil)); same.Hash != one.Hash {
		t.Error("another server with the same keys makes another plan of the same state")
	}
	if two := must[catalog.Plan](t)(tables.Plan(t.Context(), with("sk-two-0123456"), nil)); two.Hash == one.Hash {
		t.Error("another secret makes the same plan")
	}
}

// A model takes its new name along into allow-lists, but not into those that the state itself says.
func TestApplyCascades(t *testing.T) {
	tables := newTables(t, nil)
	apply(t, tables, `{"models": [{"name": "old", "external_id": "m"}], "keys": [
		{"external_id": "theirs", "name": "theirs", "models": ["old"]}, {"external_id": "mine", "name": "mine", "models": ["old"]}]}`, nil)
	const renamed = `{"models": [{"name": "new", "external_id": "m"}],
		"keys": [{"external_id": "mine", "name": "mine", "models": ["old"]}]}`
	plan := must[catalog.Plan](t)(tables.Plan(t.Context(), desired(t, renamed), nil))
	if len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0].Message, "2 keys name it") {
		t.Errorf("warnings %+v", plan.Warnings)
	}
	plan = must[catalog.Plan](t)(tables.Apply(catalog.WithCascade(t.Context()), desired(t, renamed), nil))
	if plan.Summary != (catalog.Summary{Update: 2, Unchanged: 1}) || plan.Steps[2].Item != "" ||
		plan.Steps[2].ExternalID != "theirs" {
		t.Errorf("%s%+v", &plan, plan.Steps)
	}
	for id, want := range map[string]string{"theirs": "new", "mine": "old"} {
		if k := must[catalog.Key](t)(tables.Keys.Find(t.Context(), catalog.ByExternalID, id)); !slices.Equal(k.Models,
			[]string{want}) {
			t.Errorf("%s: %q", id, k.Models)
		}
	}
}

// A plan can be kept as JSON, and is the same when it is read.
func TestPlanAsJSON(t *testing.T) {
	tables := newTables(t, nil)
	plan := must[catalog.Plan](t)(tables.Plan(t.Context(), desired(t, small),
		&catalog.PlanOptions{Owner: "me", Prune: true}))
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	var read catalog.Plan
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	inMemory := []cmp.Option{cmpopts.IgnoreUnexported(catalog.Step{}), cmpopts.IgnoreFields(catalog.Plan{}, "Feed")}
	if diff := cmp.Diff(plan, read, inMemory...); diff != "" {
		t.Errorf("kept (-) and read (+):\n%s", diff)
	}
	want := `+ provider  p
    name "p"
    type "openai"
    api_key (changed)
    models ["gpt"]
+ model     default.gpt
    name "gpt"
    input_price "2.5"
`
	plan = must[catalog.Plan](t)(tables.Plan(t.Context(), desired(t, small), nil))
	if !strings.HasPrefix(plan.String(), want) || !strings.HasSuffix(plan.String(),
		"\n5 to create, 0 to update, 0 to delete, 0 unchanged\n") {
		t.Errorf("printed:\n%s", &plan)
	}
}

// What somebody sends is read, or refused with the names of fields, and never repeated.
func FuzzParseDesired(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte(`{"store": 7, "models": [{"name": {"a": [1e400]}}, null], "keys": [{"token": "secret-0123456789"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := catalog.ParseDesired(data)
		if err != nil {
			if len(catalog.FieldsOf(err)) > 100 || strings.Contains(err.Error(), "secret-") {
				t.Errorf("the error: %v", err)
			}
			return
		}
		tables := newTables(t, nil)
		if _, err := tables.Plan(t.Context(), d, nil); err != nil && catalog.FieldsOf(err) == nil {
			t.Errorf("the error names no field: %v", err)
		}
	})
}

// A plan of 55,000 resources takes less than two seconds of a processor. What an entity costs is
// counted in allocations, which are the same on every machine: about 100.
func TestPlansAreCheap(t *testing.T) {
	const entities, most = 1000, 140
	tables, ctx := newTables(t, nil), t.Context()
	var d catalog.Desired
	for i := range entities {
		catalog.Want(&d, catalog.Key{
			Meta: catalog.Meta{ExternalID: fmt.Sprint("token-", i)}, Name: "user", Models: []string{"m"},
			Credential: catalog.Credential{Tokens: []catalog.TokenHash{{Hash: fmt.Sprintf("%064x", i)}}},
		})
	}
	opts := &catalog.PlanOptions{Owner: "importer", Prune: true}
	each := testing.AllocsPerRun(3, func() {
		if _, err := tables.Plan(ctx, d, opts); err != nil {
			t.Fatal(err)
		}
	}) / entities
	if each > most {
		t.Errorf("planning makes %.0f allocations for each key, want at most %d", each, most)
	}
	t.Logf("%.0f allocations for each key", each)
}
