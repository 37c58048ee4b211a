package catalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
)

func usd(n catalog.NanoUSD) *catalog.NanoUSD { return &n }

// decoded makes and stores a noun as the API does, and reads it back.
func decoded[T catalog.Noun](t *testing.T, table catalog.Table[T], body string) T {
	t.Helper()
	v := must[T](t)(catalog.Decode[T]([]byte(body)))
	stored := must[T](t)(table.Create(t.Context(), v))
	return stored
}

func TestPricesGoEverywhere(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	m := decoded(t, tables.Models, `{"name":"m","input_price":0.30000000000000004,"output_price":"2","request_price":1e-2,"context_window":2000000.0,
		"price_tiers":[{"above_input_tokens":1e6,"input_price":"4"},{"above_input_tokens":200000.0,"input_price":3,"output_price":null}],"price_source":"litellm"}`)
	want := catalog.Prices{
		InputPrice: usd(300_000_000), OutputPrice: usd(2_000_000_000), RequestPrice: usd(10_000_000),
		PriceTiers: []catalog.PriceTier{
			{AboveInputTokens: 200_000, InputPrice: usd(3_000_000_000)},
			{AboveInputTokens: 1_000_000, InputPrice: usd(4_000_000_000)},
		},
	}
	read := must[catalog.Model](t)(tables.Models.Get(ctx, m.ID))
	for _, got := range []catalog.Model{m, read} {
		if diff := cmp.Diff(want, got.Prices); diff != "" || got.PriceSource != "litellm" || got.ContextWindow != 2_000_000 {
			t.Errorf("a model's prices (-want +got):\n%s", diff)
		}
	}
	text, err := json.Marshal(read)
	if err != nil || !strings.Contains(string(text), `"input_price":"0.3","output_price":"2","cache_read_price":null,"cache_write_price":null,"request_price":"0.01",`+
		`"price_tiers":[{"above_input_tokens":200000,"input_price":"3",`) {
		t.Errorf("%s, %v", text, err)
	}
	again := must[catalog.Model](t)(tables.Models.Patch(ctx, m.ID, 0, text))
	if again.Revision != m.Revision {
		t.Error("sending back what was read has changed the model")
	}
	plain := decoded(t, tables.Models, `{"name":"plain"}`)
	if plain.PriceSource != catalog.PriceSourceManual || plain.HasAny() || plain.PriceTiers == nil {
		t.Errorf("a model without prices: %+v", plain)
	}

	p := decoded(t, tables.Providers, `{"name":"p","type":"openai","models":["gpt-4o","ft:*"],"prices":{"gpt-4o":{"input_price":"1"},"ft:*":{"request_price":0.5}}}`)
	p = must[catalog.Provider](t)(tables.Providers.Patch(ctx, p.ID, 0, []byte(`{"prices":{"gpt-4o":{"output_price":2,"price_tiers":[{"above_input_tokens":5,"input_price":"7"}]},"ft:*":null}}`)))
	diff := cmp.Diff(map[string]catalog.Prices{"gpt-4o": {
		InputPrice: usd(1_000_000_000), OutputPrice: usd(2_000_000_000),
		PriceTiers: []catalog.PriceTier{{AboveInputTokens: 5, InputPrice: usd(7_000_000_000)}},
	}}, must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID)).Prices)
	if diff != "" {
		t.Errorf("a provider's prices after a patch (-want +got):\n%s", diff)
	}
	if p = must[catalog.Provider](t)(tables.Providers.Patch(ctx, p.ID, 0, []byte(`{"prices":null}`))); len(p.Prices) != 0 || p.Prices == nil {
		t.Errorf("prices after null: %+v", p.Prices)
	}
}

func TestPricesThatAreRefused(t *testing.T) {
	tables := newTables(t, nil)
	tier := `{"above_input_tokens":%d,"input_price":1}`
	var tiers []string
	for i := range 17 {
		tiers = append(tiers, fmt.Sprintf(tier, i+1))
	}
	for _, tt := range []struct {
		kind        catalog.Kind
		body, field string
	}{
		{catalog.KindModel, `{"name":"m","request_price":"1.0000000001"}`, "request_price"},
		{catalog.KindModel, `{"name":"m","request_price":-1e-12}`, "request_price"},
		{catalog.KindModel, `{"name":"m","price_tiers":{}}`, "price_tiers"},
		{catalog.KindModel, `{"name":"m","price_tiers":[null]}`, "price_tiers[0]"},
		{catalog.KindModel, `{"name":"m","price_tiers":[{"above_input_tokens":1}]}`, "price_tiers[0]"},
		{catalog.KindModel, `{"name":"m","price_tiers":[{"input_price":1}]}`, "price_tiers[0].above_input_tokens"},
		{catalog.KindModel, `{"name":"m","price_tiers":[{"above_input_tokens":1.5,"input_price":1}]}`, "price_tiers[0].above_input_tokens"},
		{catalog.KindModel, `{"name":"m","price_tiers":[{"above_input_tokens":9007199254740992,"input_price":1}]}`, "price_tiers[0].above_input_tokens"},
		{catalog.KindModel, `{"name":"m","price_tiers":[{"above_input_tokens":5,"input_price":1},{"above_input_tokens":5,"input_price":2}]}`, "price_tiers[1].above_input_tokens"},
		{catalog.KindModel, `{"name":"m","price_tiers":[{"above_input_tokens":5,"input_prize":1}]}`, "price_tiers[0].input_prize"},
		{catalog.KindModel, `{"name":"m","price_tiers":[{"above_input_tokens":5,"input_price":1,"input_price":2}]}`, "price_tiers[0].input_price"},
		{catalog.KindModel, `{"name":"m","price_tiers":[` + strings.Join(tiers, ",") + `]}`, "price_tiers"},
		{catalog.KindModel, `{"name":"m","price_source":"a b"}`, "price_source"},
		{catalog.KindProvider, `{"name":"p","type":"openai","prices":[]}`, "prices"},
		{catalog.KindProvider, `{"name":"p","type":"openai","prices":{"m":null}}`, "prices.m"},
		{catalog.KindProvider, `{"name":"p","type":"openai","prices":{"m":{}}}`, "prices.m"},
		{catalog.KindProvider, `{"name":"p","type":"openai","prices":{"m":{"input_price":null}}}`, "prices.m"},
		{catalog.KindProvider, `{"name":"p","type":"openai","prices":{"a*b":{"input_price":1}}}`, "prices.a*b"},
		{catalog.KindProvider, `{"name":"p","type":"openai","prices":{"m":{"input_price":"x"}}}`, "prices.m.input_price"},
		{catalog.KindProvider, `{"name":"p","type":"openai","prices":{"m":{"price_tiers":[{"above_input_tokens":0,"input_price":1}]}}}`, "prices.m.price_tiers[0].above_input_tokens"},
		{catalog.KindProvider, `{"name":"p","type":"openai","models":["a*b"]}`, "models[0]"},
		{catalog.KindProvider, `{"name":"p","type":"openai","models":["**"]}`, "models[0]"},
	} {
		err := decodeAndCreate(t, tables, tt.kind, tt.body)
		var field *catalog.FieldError
		if !errors.Is(err, catalog.ErrInvalid) || !errors.As(err, &field) || field.Field != tt.field {
			t.Errorf("%.100s: %v; want an error about %s", tt.body, err, tt.field)
		}
	}
}

func TestPricesForRequestsWithMuchInput(t *testing.T) {
	record := catalog.Prices{InputPrice: usd(1), OutputPrice: usd(2), PriceTiers: []catalog.PriceTier{
		{AboveInputTokens: 200, InputPrice: usd(10), RequestPrice: usd(0)}, {AboveInputTokens: 100, OutputPrice: usd(20)},
	}}
	for input, want := range map[int64]catalog.Prices{
		0:   {InputPrice: usd(1), OutputPrice: usd(2)},
		100: {InputPrice: usd(1), OutputPrice: usd(2)},
		101: {InputPrice: usd(1), OutputPrice: usd(20)},
		200: {InputPrice: usd(1), OutputPrice: usd(20)},
		201: {InputPrice: usd(10), OutputPrice: usd(2), RequestPrice: usd(0)},
	} {
		if diff := cmp.Diff(want, record.For(input)); diff != "" {
			t.Errorf("with %d tokens (-want +got):\n%s", input, diff)
		}
	}
	if record.RequestPrice != nil || len(record.PriceTiers) != 2 {
		t.Error("asking has changed the record")
	}
	copied := record.Clone()
	*copied.InputPrice, *copied.PriceTiers[0].InputPrice = 5, 5
	if *record.InputPrice != 1 || *record.PriceTiers[0].InputPrice != 10 {
		t.Error("the copy shares memory with the record")
	}
}
