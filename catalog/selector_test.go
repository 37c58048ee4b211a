package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

func TestSelectors(t *testing.T) {
	for _, tc := range []struct {
		typ, value string
		models     []string
		want       string
		hits       int
	}{
		{"exact", "gpt-4o", []string{"gpt-4o", "gpt-4o-mini"}, "gpt-4o", 1},
		{"exact", "gpt-4o", []string{"gpt-4"}, "", 0},
		{"exact", "gpt-4o", []string{"gpt-*", "*"}, "gpt-4o", 1},
		{"exact", "gpt-4o", []string{"*", "gpt-4o", "gpt-*"}, "gpt-4o", 1},
		{"exact", "gpt-4o", []string{"claude-*"}, "", 0},
		{"exact", "openai/*", []string{"*"}, "openai/*", 1},
		{"exact", "openai/*", []string{"openai/*"}, "openai/*", 1},
		{"exact", "openai/*", []string{"open*"}, "openai/*", 1},
		{"exact", "openai/*", []string{"openai/gpt-*"}, "", 0},
		{"exact", "openai/*", []string{"openai/"}, "", 0},
		{"exact", "*", []string{"*"}, "*", 1},
		{"exact", "*", []string{"gpt-*"}, "", 0},
		{"regex", `gpt-4o(-\d{4}-\d{2}-\d{2})?`, []string{"gpt-4o-2024-08-06", "gpt-4"}, "gpt-4o-2024-08-06", 1},
		{"regex", `gpt-4.*`, []string{"gpt-4", "gpt-4o"}, "gpt-4o", 2},
		{"regex", `.*`, []string{"*", "gpt-*"}, "", 0},
		{"regex", `\Qm1`, []string{"m1", "m2"}, "m1", 1},
		{"regex", `a|b`, []string{"xa", "b"}, "b", 1},
		{"regex", `(?i)GPT`, []string{"gpt"}, "gpt", 1},
		{"normalize_exact", " Vendor/GPT-4o ", []string{"openai/gpt-4O"}, "openai/gpt-4O", 1},
		{"normalize_exact", "gpt", []string{"a/gpt", "b/gpt"}, "b/gpt", 2},
		{"normalize_exact", "gpt", []string{"*"}, "", 0},
	} {
		s, err := catalog.ParseSelector(tc.typ, tc.value)
		if err != nil {
			t.Errorf("%s %q: %v", tc.typ, tc.value, err)
			continue
		}
		model, hits, err := s.Pick(t.Context(), catalog.NewModelList(tc.models))
		if err != nil || hits != tc.hits || hits == 1 && model != tc.want {
			t.Errorf("%s %q of %q: %q, %d; want %q, %d", tc.typ, tc.value, tc.models, model, hits, tc.want, tc.hits)
		}
	}
}

// A regular expression that every publish would spend minutes on is refused.
func TestExpensiveSelectors(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	for _, value := range []string{
		strings.Repeat("(a|b.|c)?", 113)[:905], `(\w{1,100}){1,10}`, strings.Repeat(`[a-z]{1,99}`, 80), `(((a{1,10}){1,10}){1,10}){1,10}`,
		"(", "[", "a{2,1}", `\8`, "a**",
	} {
		var field *catalog.FieldError
		_, err := tables.Bindings.Create(ctx, catalog.Binding{Model: "m", SelectorType: "regex", SelectorValue: value})
		if !errors.As(err, &field) || field.Field != "selector_value" {
			t.Errorf("%.40q: %v", value, err)
		}
	}
	// Small ones are refused when there is too much to match them against.
	list := func(provider int) (models []string) {
		for i := range 10_000 {
			models = append(models, fmt.Sprintf("%d-%d-%s", provider, i, strings.Repeat("x", 36)))
		}
		return models
	}
	regex := strings.Repeat("(x|y)*", 20) + "z"
	b := must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "m", ProviderGroup: "g",
		SelectorType: "regex", SelectorValue: regex}))
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai",
		Group: "g", Models: list(0)}))
	var failed error
	for i := range 40 {
		if _, failed = tables.Providers.Create(ctx, catalog.Provider{Name: fmt.Sprint(i), Type: "openai",
			Group: "g", Models: list(i + 1)}); failed != nil {
			break
		}
	}
	if fields := catalog.FieldsOf(failed); len(fields) != 1 || fields[0].Field != "models" ||
		!strings.Contains(fields[0].Message, "take too long to match") {
		t.Errorf("too many models: %v", failed)
	}
	var second error
	for i := range 40 {
		if _, second = tables.Bindings.Create(ctx, catalog.Binding{Model: "m", RouteGroup: fmt.Sprint("r", i),
			ProviderGroup: "g", SelectorType: "regex", SelectorValue: regex}); second != nil {
			break
		}
	}
	if fields := catalog.FieldsOf(second); len(fields) != 1 || fields[0].Field != "selector_value" {
		t.Errorf("too many expressions: %v", second)
	}
	// What is there already can be changed to take less.
	must[catalog.Provider](t)(tables.Providers.Patch(ctx, p.ID, 0, []byte(`{"models":["x"]}`)))
	must[catalog.Binding](t)(tables.Bindings.Patch(ctx, b.ID, 0, []byte(`{"selector_type":"exact","selector_value":"x"}`)))
}

// Lists that have the same in them are matched once, whatever their order, others each. A record
// that cannot be read makes no work, and holds up no other.
func TestWorkIsCountedByList(t *testing.T) {
	store := memstore.New(nil)
	tables, ctx := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil), t.Context()
	var models []string
	for i := range 9_900 {
		models = append(models, fmt.Sprintf("model-%05d-%s", i, strings.Repeat("x", 30)))
	}
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	for i := range 29 { // 29 expressions of some 10 steps on 0.4 MB
		must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "m", RouteGroup: fmt.Sprint("r", i),
			ProviderGroup: "g", SelectorType: "regex", SelectorValue: fmt.Sprintf(".*-%05d-.*", i)}))
	}
	provider := func(i int, models []string) (catalog.Provider, error) {
		return tables.Providers.Create(ctx, catalog.Provider{Name: fmt.Sprint("p", i), Type: "openai", Group: "g",
			Models: models})
	}
	for i := range 8 {
		slices.Reverse(models[:1000*i])
		if _, err := provider(i, models); err != nil {
			t.Fatalf("the same list in another order: %v", err)
		}
	}
	other := func(i int) []string { return append(slices.Clone(models[1:]), fmt.Sprint("other-", i)) }
	var failed error
	n := 0
	for ; n < 8 && failed == nil; n++ {
		_, failed = provider(100+n, other(n))
	}
	if fields := catalog.FieldsOf(failed); len(fields) != 1 || fields[0].Field != "models" || strings.Contains(failed.Error(), `"g"`) {
		t.Fatalf("%d other lists: %v; want an error about models", n, failed)
	}
	p := must[catalog.Provider](t)(tables.Providers.Find(ctx, catalog.ByNaturalKey, "p100"))
	spoil(t, store, catalog.KindProvider, p.ID, unreadable)
	if _, err := provider(200, other(200)); err != nil {
		t.Errorf("in the place of a provider that cannot be read: %v", err)
	}
	b := must[catalog.Binding](t)(tables.Bindings.Find(ctx, catalog.ByNaturalKey,
		catalog.BindingKey("default", "m", "r0", "g")))
	spoil(t, store, catalog.KindBinding, b.ID, unreadable)
	if _, err := provider(201, nil); err != nil {
		t.Errorf("beside a binding that cannot be read: %v", err)
	}
}

// A star is taken where it stands for every ending, and refused where it would
// stand for nothing.
func TestStars(t *testing.T) {
	tables := newTables(t, nil)
	for _, body := range []string{`{"name":"*"}`, `{"name":"openai/*"}`, `{"name":"a/b/*"}`, `{"name":"literal"}`} {
		if err := create(t, tables.Models, body); err != nil {
			t.Errorf("model %s: %v", body, err)
		}
	}
	for _, tt := range []struct {
		kind        catalog.Kind
		body, field string // no field: it is taken
	}{
		{catalog.KindModel, `{"name":"gpt-*"}`, "name"},
		{catalog.KindModel, `{"name":"*/a"}`, "name"},
		{catalog.KindModel, `{"name":"a/**"}`, "name"},
		{catalog.KindModel, `{"name":"*x"}`, "name"},
		{catalog.KindModel, `{"name":"a/b/c/d/e/f/g/h/i/j"}`, "name"},
		{catalog.KindProvider, `{"name":"p1","type":"openai","models":["*","ft:gpt-4o*","openai/*"]}`, ""},
		{catalog.KindProvider, `{"name":"p","type":"openai","models":["*a"]}`, "models[0]"},
		{catalog.KindProvider, `{"name":"p","type":"openai","group":"*"}`, "group"},
		{catalog.KindKey, `{"name":"k","models":["bedrock/*","*","gpt-4*"]}`, ""},
		{catalog.KindKey, `{"name":"k","models":["a*b"]}`, "models[0]"},
		{catalog.KindKey, `{"name":"k","group":"*"}`, "group"},
		{catalog.KindKey, `{"name":"k","namespaces":["*"]}`, "namespaces[0]"},
		{catalog.KindKey, `{"name":"k","allow_ips":["*"]}`, "allow_ips[0]"},
		{catalog.KindBinding, `{"model":"literal","route_group":"*"}`, "route_group"},
		{catalog.KindBinding, `{"model":"literal","provider_group":"a*"}`, "provider_group"},
		{catalog.KindBinding, `{"model":"literal","selector_value":"gpt-*"}`, "selector_value"},
		{catalog.KindBinding, `{"model":"literal","selector_type":"normalize_exact","selector_value":"*"}`, "selector_value"},
		{catalog.KindBinding, `{"model":"literal","selector_type":"regex","selector_value":"gpt-.*"}`, ""},
		{catalog.KindBinding, `{"model":"openai/*"}`, ""},
		{catalog.KindBinding, `{"model":"openai/*","route_group":"b","selector_value":"*"}`, ""},
		{catalog.KindBinding, `{"model":"openai/*","route_group":"c","selector_value":"gpt"}`, "selector_value"},
		{catalog.KindBinding, `{"model":"openai/*","route_group":"c","selector_value":"*a*"}`, "selector_value"},
		{catalog.KindBinding, `{"model":"openai/*","route_group":"c","selector_type":"regex","selector_value":".*"}`, "selector_type"},
		{catalog.KindBinding, `{"model":"gpt-*"}`, "model"},
	} {
		err := decodeAndCreate(t, tables, tt.kind, tt.body)
		var field *catalog.FieldError
		if tt.field == "" && err != nil || tt.field != "" && (!errors.As(err, &field) || field.Field != tt.field) {
			t.Errorf("%s %s: %v; want an error about %q", tt.kind.Noun(), tt.body, err, tt.field)
		}
	}
}

func TestMatchesList(t *testing.T) {
	for _, tc := range []struct {
		list string
		name string
		want bool
	}{
		{"", "a", false}, {"a", "a", true}, {"a", "ab", false}, {"a*", "ab", true}, {"a*", "a", true},
		{"*", "anything/at all", true},
		{"bedrock/*", "bedrock/x", true}, {"bedrock/*", "bedrock", false}, {"x,bedrock/*", "bedrock/y/z", true},
		{"A*", "ab", false},
	} {
		var list []string
		if tc.list != "" {
			list = strings.Split(tc.list, ",")
		}
		if got := catalog.MatchesList(list, tc.name); got != tc.want {
			t.Errorf("%q on %q: %t", tc.name, tc.list, got)
		}
	}
}
