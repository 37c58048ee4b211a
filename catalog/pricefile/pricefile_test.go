package pricefile_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/pricefile"
)

const liteLLM = `{
"sample_spec": {"input_cost_per_token": 0, "litellm_provider": "one of many"},
"gpt-x": {"litellm_provider": "openai", "input_cost_per_token": 1.5000999999999998e-07, "output_cost_per_token": 8e-06,
  "cache_read_input_token_cost": 5e-08, "input_cost_per_token_batches": 1e-06, "max_input_tokens": 2000000.0},
"claude-x": {"litellm_provider": "anthropic", "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
  "cache_creation_input_token_cost": 3.75e-06, "input_cost_per_token_above_200k_tokens": 6e-06,
  "output_cost_per_token_above_200k_tokens": 2.25e-05, "cache_read_input_token_cost_above_200k_tokens": 6e-07,
  "search_context_cost_per_query": {"search_context_size_high": 0.01}},
"dashscope/qwen-x": {"litellm_provider": "dashscope", "tiered_pricing": [
  {"range": [0, 256000.0], "input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07},
  {"range": [256000.0, 1e6], "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06}]},
"vertex_ai/claude-x": {"litellm_provider": "vertex_ai-anthropic_models", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6,
  "cache_read_input_token_cost": 0},
"free": {"litellm_provider": "openai", "input_cost_per_token": 0, "output_cost_per_token": 0.0},
"image": {"litellm_provider": "openai", "output_cost_per_image": 0.04},
"search": {"litellm_provider": "you", "input_cost_per_request": 0.005},
"broken": {"litellm_provider": "openai", "input_cost_per_token": "a lot"},
"negative": {"litellm_provider": "openai", "input_cost_per_token": -1e-6}
}`

const modelsDev = `{
"minimax": {"id": "minimax", "models": {
  "m1": {"id": "m1", "cost": {"input": 0.3, "output": 1.2, "cached_input": 0.03, "cached_write": 0.375, "input_audio": 1}},
  "m2": {"id": "m2", "cost": {"input": 2.5, "output": 15, "cache_read": 0.25, "cache_write": 0,
    "tiers": [{"tier": {"size": 272000}, "input": 5, "output": 22.5}]}},
  "free": {"id": "free", "cost": {"input": 0, "output": 0}},
  "unknown": {"id": "unknown"},
  "odd": {"id": "odd", "cost": {"input": 1, "output": 1, "tiers": [{"tier": {"type": "time", "size": 5}, "input": 2}]}}
}}}`

// show writes prices in one line.
func show(p catalog.Prices) string {
	amount := func(v *catalog.NanoUSD) string {
		if v == nil {
			return "?"
		}
		return v.String()
	}
	cells := []string{amount(p.InputPrice), amount(p.OutputPrice), amount(p.CacheReadPrice), amount(p.CacheWritePrice),
		amount(p.RequestPrice)}
	for _, t := range p.PriceTiers {
		cells = append(cells, "above", catalog.NanoUSD(t.AboveInputTokens*1e9).String(), amount(t.InputPrice),
			amount(t.OutputPrice), amount(t.CacheReadPrice), amount(t.CacheWritePrice))
	}
	return strings.Join(cells, " ")
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		text, source  string
		want, skipped map[string]string
		left          map[string]string
	}{
		{liteLLM, pricefile.LiteLLM, map[string]string{
			"openai gpt-x":                        "0.15001 8 0.05 ? ?",
			"anthropic claude-x":                  "3 15 ? 3.75 ? above 200000 6 22.5 0.6 ?",
			"dashscope qwen-x":                    "0.05 0.4 ? ? ? above 256000 0.25 2 ? ?",
			"vertex_ai-anthropic_models claude-x": "1 1 ? ? ?",
			"openai free":                         "0 0 ? ? ?",
			"you search":                          "? ? ? ? 0.005",
		}, map[string]string{
			"image":    "has no price of tokens or requests; it is priced by output_cost_per_image",
			"broken":   "input_cost_per_token is no number",
			"negative": "input_cost_per_token is no amount that can be a price",
		}, map[string]string{"gpt-x": "input_cost_per_token_batches", "claude-x": "search_context_cost_per_query"}},
		{modelsDev, pricefile.ModelsDev, map[string]string{
			"minimax m1": "0.3 1.2 0.03 0.375 ?", "minimax m2": "2.5 15 0.25 ? ? above 272000 5 22.5 ? ?",
			"minimax free": "0 0 ? ? ?",
		}, map[string]string{
			"unknown": "has no cost", "odd": "has tiers that go by something else than the input",
		}, map[string]string{"m1": "input_audio"}},
	} {
		list, err := pricefile.Parse([]byte(tc.text))
		if err != nil {
			t.Fatal(err)
		}
		got, left, skipped := map[string]string{}, map[string]string{}, map[string]string{}
		for _, r := range list.Records {
			got[r.Provider+" "+r.Model] = show(r.Prices)
			if len(r.Left) > 0 {
				left[r.Model] = strings.Join(r.Left, " ")
			}
			if r.Free() != (r.Model == "free") {
				t.Errorf("%s is free: %v", r.Model, r.Free())
			}
		}
		for _, s := range list.Skipped {
			skipped[s.Model] = s.Reason
		}
		if list.Source != tc.source {
			t.Errorf("source %s", list.Source)
		}
		for what, diff := range map[string]string{
			"prices": cmp.Diff(tc.want, got), "skipped": cmp.Diff(tc.skipped, skipped), "left": cmp.Diff(tc.left, left),
		} {
			if diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
	}
	for _, text := range []string{"", "[]", "{}", `{"a": 1}`, `{"a": {}}`} {
		if _, err := pricefile.Parse([]byte(text)); err == nil {
			t.Errorf("%q is a price list", text)
		}
	}
}

// A price of 0 beside what is priced otherwise is none, and of two that differ neither is taken.
func TestDoubtfulRecords(t *testing.T) {
	list, err := pricefile.Parse([]byte(`{
"gemini/exp": {"litellm_provider": "gemini", "input_cost_per_token": 0, "output_cost_per_token": 0},
"exp": {"litellm_provider": "gemini", "input_cost_per_token": 3e-07, "output_cost_per_token": 2.5e-06},
"gemini/same": {"litellm_provider": "gemini", "input_cost_per_token": 1e-06},
"same": {"litellm_provider": "gemini", "input_cost_per_token": 0.000001},
"pixels": {"litellm_provider": "azure", "output_cost_per_token": 0.0, "input_cost_per_pixel": 1e-9},
"half": {"litellm_provider": "azure", "input_cost_per_token": 7.5e-08, "output_cost_per_token": 0},
"other half": {"litellm_provider": "azure", "input_cost_per_token": 0, "output_cost_per_token": 1e-06},
"vectors": {"litellm_provider": "azure", "mode": "embedding", "input_cost_per_token": 2e-08, "output_cost_per_token": 0},
"only output": {"litellm_provider": "azure", "output_cost_per_token": 0}}`))
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]string{
		"half": "0.075 ? ? ? ? [output_price]", "other half": "? 1 ? ? ? [input_price]", "vectors": "0.02 0 ? ? ? []",
		"only output": "? 0 ? ? ? []",
	} {
		r, ok := list.Find("azure", model)
		if got := fmt.Sprint(show(r.Prices), " ", r.Odd); !ok || got != want || r.Free() != (model == "only output") {
			t.Errorf("%s: %s, free %t; want %s", model, got, r.Free(), want)
		}
	}
	if r, _ := list.Find("gemini", "exp"); fmt.Sprint(r.Names) != "[exp gemini/exp]" {
		t.Errorf("two records that differ: %v", r.Names)
	}
	if r, _ := list.Find("gemini", "same"); len(r.Names) != 0 || show(r.Prices) != "1 ? ? ? ?" {
		t.Errorf("two records that say the same: %+v", r)
	}
	if _, ok := list.Find("azure", "pixels"); ok ||
		!strings.Contains(list.Why("azure", "pixels"), "input_cost_per_pixel") {
		t.Errorf("what is priced by pixels: %s", list.Why("azure", "pixels"))
	}
	if why := list.Why("azure", "none"); why != "" {
		t.Errorf("what is not there is left out because it %s", why)
	}
}

// Whatever digits a price has, it is the exact product with a million, rounded half to even to
// nine decimals.
func TestExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`(0|[1-9][0-9]{0,2})(\.[0-9]{1,25})?(e-[0-9]{1,2})?`).Draw(t, "price")
		list, err := pricefile.Parse([]byte(`{"m": {"litellm_provider": "p", "input_cost_per_token": ` + digits + `}}`))
		exact, _ := new(big.Rat).SetString(digits)
		costs := exact.Sign() > 0
		nano := exact.Mul(exact, new(big.Rat).SetInt64(1e15))
		whole, rest := new(big.Int).QuoRem(nano.Num(), nano.Denom(), new(big.Int))
		if half := rest.Lsh(rest, 1).Cmp(nano.Denom()); half > 0 || half == 0 && whole.Bit(0) == 1 {
			whole.Add(whole, big.NewInt(1))
		}
		if costs && whole.Sign() == 0 { // it is left out, and does not become free
			if err == nil {
				t.Fatalf("%s is taken", digits)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := int64(*list.Records[0].Prices.InputPrice); got != whole.Int64() {
			t.Errorf("%s is %d, want %s", digits, got, whole)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(liteLLM))
	f.Add([]byte(modelsDev))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := pricefile.Parse(text)
		if err != nil {
			return
		}
		for _, r := range list.Records {
			v := catalog.Model{Name: "m", Prices: r.Prices.Clone()}
			if err := catalog.Check(&v, nil); err != nil && len(r.Prices.PriceTiers) <= 16 &&
				!strings.Contains(err.Error(), "above_input_tokens") {
				t.Errorf("%s %s: %v", r.Provider, r.Model, err)
			}
			if got, ok := list.Find(r.Provider, r.Model); !ok || got.Model != r.Model {
				t.Errorf("%q %q is not found", r.Provider, r.Model)
			}
		}
	})
}
