package catalog_test

import (
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
