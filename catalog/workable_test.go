package catalog_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// What is taken and cannot work is warned of, and what can work is not.
func TestProvidersThatCannotWorkAreWarnedOf(t *testing.T) {
	for _, tt := range []struct{ body, warning string }{
		{`"type":"openai","api_key":"sk-1"`, ""},
		{`"type":"compatible","base_url":"https://up.example.com/v1"`, ""},
		{`"type":"openai"`, "api_key is missing"},
		{`"type":"openai","api_key":"Bearer sk-1"`, "api_key begins with Bearer"},
		{`"type":"openai","api_key":"sk 1"`, "api_key holds a space"},
		{`"type":"vertex","api_key":"{}"`, "google_project is missing"},
		{`"type":"vertex","google_project":"p","api_key":"sk-1"`, "api_key is not the JSON"},
		{`"type":"vertex","google_project":"p","api_key":"{}"`, ""},
		{`"type":"bedrock"`, "options.region is missing"},
		{`"type":"bedrock","options":{"region":"eu-1"}`, ""},
		{`"type":"openai","api_key":"sk-1","base_url":"https://up.example.com/v1/chat/completions/"`, "base_url ends in"},
		{`"type":"openai","api_key":"sk-1","prices":{"m":{"input_price":"1"}}`, "prices.m is for a model"},
		{`"type":"openai","api_key":"sk-1","models":["m*"],"prices":{"m":{"input_price":"1"}}`, ""},
	} {
		tables := newTables(t, nil)
		ctx, got := warned(t)
		p := must[catalog.Provider](t)(catalog.Decode[catalog.Provider]([]byte(`{"name":"p",` + tt.body + `}`)))
		must[catalog.Provider](t)(tables.Providers.Create(ctx, p))
		text := strings.Join(*got, "; ")
		if (text == "") != (tt.warning == "") || !strings.Contains(text, tt.warning) || strings.Contains(text, "sk-") {
			t.Errorf("%s: %q; want %q", tt.body, text, tt.warning)
		}
	}
}

// A binding to a group that no provider is in is warned of, once.
func TestBindingsToNobodyAreWarnedOf(t *testing.T) {
	tables := newTables(t, nil)
	ctx, got := warned(t)
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	b := must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "m", ProviderGroup: "tpyo"}))
	must[catalog.Binding](t)(tables.Bindings.Patch(ctx, b.ID, 0, []byte(`{"weight":2}`)))
	if len(*got) != 1 || !strings.HasPrefix((*got)[0], "provider_group has no provider") {
		t.Errorf("%q", *got)
	}
}

// A binding whose selector hits no model of the providers in its group is warned of, whatever its
// type. What one of them lists, by a star too, is enough.
func TestSelectorsThatHitNothingAreWarnedOf(t *testing.T) {
	tables := newTables(t, nil)
	must[catalog.Model](t)(tables.Models.Create(t.Context(), catalog.Model{Name: "m"}))
	for i, models := range [][]string{{"gpt-4o"}, {"ft:*", "Vendor/Other"}} {
		must[catalog.Provider](t)(tables.Providers.Create(t.Context(), catalog.Provider{Name: strconv.Itoa(i), Type: "openai",
			Group: "g", Models: models}))
	}
	for i, tt := range []struct {
		typ, value string
		nothing    bool
	}{
		{"exact", "gpt-4o", false}, {"exact", "gtp-4o", true}, {"exact", "ft:mine", false}, {"regex", "gpt-.*", false},
		{"regex", "$^", true}, {"normalize_exact", "OTHER", false}, {"normalize_exact", "ft:mine", true},
	} {
		ctx, got := warned(t)
		b := must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "m", RouteGroup: strconv.Itoa(i),
			ProviderGroup: "g", SelectorType: tt.typ, SelectorValue: tt.value}))
		text := strings.Join(*got, "; ")
		if strings.HasPrefix(text, "selector_value hits no model") != tt.nothing || !tt.nothing && text != "" {
			t.Errorf("%s %q: %q", tt.typ, tt.value, text)
		}
		*got = nil
		must[catalog.Binding](t)(tables.Bindings.Patch(ctx, b.ID, 0, []byte(`{"weight":2}`)))
		if len(*got) > 0 {
			t.Errorf("%s %q: a change of the weight warns of %q", tt.typ, tt.value, *got)
		}
	}
}

// A list that names what no model of its namespaces is called is warned of, for what is new in it.
func TestListsThatNameNothingAreWarnedOf(t *testing.T) {
	tables := newTables(t, nil)
	for _, m := range []catalog.Model{{Name: "here"}, {Name: "there", Namespace: "eu"}, {Name: "openai/*"}} {
		must[catalog.Model](t)(tables.Models.Create(t.Context(), m))
	}
	for _, tt := range []struct{ body, warning string }{
		{`"models":["here","openai/gpt-4o","any*"]`, ""},
		{`"models":["here","hree"]`, "models has 1 name that no model has"},
		{`"models":["there","bedrock/x"]`, "models has 2 names that no model has"},
		{`"models":["there"],"namespaces":["default","eu"]`, ""},
		{`"models":[]`, ""},
	} {
		ctx, got := warned(t)
		k := must[catalog.Key](t)(catalog.Decode[catalog.Key]([]byte(`{"name":"k",` + tt.body + `}`)))
		k = must[catalog.Key](t)(tables.Keys.Create(ctx, k))
		if text := strings.Join(*got, "; "); (text == "") != (tt.warning == "") || !strings.HasPrefix(text, tt.warning) {
			t.Errorf("%s: %q; want %q", tt.body, text, tt.warning)
		}
		*got = nil
		must[catalog.Key](t)(tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"rpm_limit":2}`)))
		if len(*got) > 0 {
			t.Errorf("%s: another change warns of %q", tt.body, *got)
		}
	}
	ctx, got := warned(t)
	must[catalog.Project](t)(tables.Projects.Create(ctx, catalog.Project{Name: "p", Models: []string{"there", "nowhere"}}))
	if len(*got) != 1 || !strings.HasPrefix((*got)[0], "models has 1 name") {
		t.Errorf("a project: %q", *got)
	}
	plan := must[catalog.Plan](t)(tables.Plan(t.Context(), desired(t, `{"keys":[{"external_id":"x","name":"k","models":["new","nowhere"]}],
		"models":[{"name":"new"}],"bindings":[{"model":"new","provider_group":"none"}]}`), nil))
	if len(plan.Warnings) != 2 || plan.Warnings[0].Kind != catalog.KindBinding ||
		!strings.HasPrefix(plan.Warnings[1].String(), "models has 1 name") {
		t.Errorf("a desired state: %v", plan.Warnings)
	}
}
