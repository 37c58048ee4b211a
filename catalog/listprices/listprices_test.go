package listprices_test

import (
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/listprices"
)

func usd(t *testing.T, text string) catalog.NanoUSD {
	t.Helper()
	v, err := catalog.ParseUSD(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTable(t *testing.T) {
	table, err := listprices.Load()
	if err != nil {
		t.Fatal(err)
	}
	if table.Len() < 1000 || table.Date == "" || table.Source == "" {
		t.Errorf("%d models of %q, %q", table.Len(), table.Source, table.Date)
	}
	p, ok := table.For(catalog.Provider{Type: "anthropic"}, "claude-sonnet-4-5-20250929")
	if !ok || *p.InputPrice != usd(t, "3") || *p.OutputPrice != usd(t, "15") || len(p.PriceTiers) != 1 {
		t.Fatalf("%v %+v", ok, p)
	}
	tier := p.PriceTiers[0]
	if tier.AboveInputTokens != 200_000 || *tier.InputPrice != usd(t, "6") || *tier.CacheReadPrice != usd(t, "0.6") {
		t.Errorf("tier %+v", tier)
	}
	*p.InputPrice = 7
	if again, _ := table.Find("anthropic", "claude-sonnet-4-5-20250929"); *again.InputPrice == 7 {
		t.Error("the table shares its memory")
	}
}

func TestVendor(t *testing.T) {
	for _, tc := range []struct{ typ, url, want string }{
		{"openai", "", "openai"}, {"openai", "https://api.openai.com/v1", "openai"},
		{"openai", "https://gw.example.com/v1", ""},
		{"azure", "https://acme.openai.azure.com", "azure"}, {"azure", "https://vendor.example.com", "azure"},
		{"compatible", "https://api.deepseek.com/v1", "deepseek"}, {"custom", "https://notapi.deepseek.com.example", ""},
		{"vertex-express", "", "vertex_ai"}, {"custom", "", ""}, {"claude-code", "", "anthropic"}, {"custom", "%", ""},
	} {
		if got := listprices.Vendor(tc.typ, tc.url); got != tc.want {
			t.Errorf("vendor of %s at %q: %q, want %q", tc.typ, tc.url, got, tc.want)
		}
	}
}
