package pricefile

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// liteLLM reads a member of model_prices_and_context_window.json: prices of one token, in USD.
// The name may begin with that of the provider.
func (l *List) liteLLM(name string, object map[string]any) {
	provider, ok := object["litellm_provider"].(string)
	if !ok || name == "sample_spec" {
		return
	}
	model := strings.TrimPrefix(name, provider+"/")
	if model == name { // such as vertex_ai/… of vertex_ai-anthropic_models
		family, _, _ := strings.Cut(provider, "-")
		model = strings.TrimPrefix(name, family+"/")
	}
	mode, _ := object["mode"].(string)
	r := Record{Provider: provider, Model: model, name: name}
	r.mute = slices.Contains([]string{"embedding", "rerank", "moderation"}, mode) || hasNoOutput(name)
	if err := r.liteLLM(object); err != nil {
		l.skip(provider, model, err.Error())
		return
	}
	l.add(r)
}

// litePrices are the names of prices, and where they belong.
func litePrices(p *catalog.Prices) map[string]**catalog.NanoUSD {
	return map[string]**catalog.NanoUSD{
		"input_cost_per_token": &p.InputPrice, "output_cost_per_token": &p.OutputPrice,
		"cache_read_input_token_cost": &p.CacheReadPrice, "cache_creation_input_token_cost": &p.CacheWritePrice,
	}
}

var aboveForm = regexp.MustCompile(`^(.*)_above_(\d{1,6})k_tokens$`)

func (r *Record) liteLLM(object map[string]any) error {
	tiers := map[int64]*catalog.Prices{}
	tier := func(above int64) *catalog.Prices {
		if tiers[above] == nil {
			tiers[above] = &catalog.Prices{}
		}
		return tiers[above]
	}
	own := litePrices(&r.Prices)
	for _, name := range slices.Sorted(maps.Keys(object)) {
		v := object[name]
		if into, ok := own[name]; ok {
			if err := setPrice(into, v, perMillion); err != nil {
				return fmt.Errorf("%s %w", name, err)
			}
			continue
		}
		if m := aboveForm.FindStringSubmatch(name); m != nil {
			thousands, _ := strconv.ParseInt(m[2], 10, 64)
			if into, ok := litePrices(tier(thousands * 1000))[m[1]]; ok {
				if err := setPrice(into, v, perMillion); err != nil {
					return fmt.Errorf("%s %w", name, err)
				}
				continue
			}
		}
		switch {
		case name == "input_cost_per_request":
			if err := setPrice(&r.Prices.RequestPrice, v, 0); err != nil {
				return fmt.Errorf("%s %w", name, err)
			}
		case name == "tiered_pricing":
			if err := r.ranges(v, tier); err != nil {
				return err
			}
		case strings.Contains(name, "cost") && nonZero(v):
			r.Left = append(r.Left, name)
		}
	}
	r.setTiers(tiers)
	r.doubtZeros()
	return nil
}

// ranges reads prices by ranges of input tokens: {"range": [0, 256000], "input_cost_per_token": …}.
// The first range is what the record itself has.
func (r *Record) ranges(v any, tier func(above int64) *catalog.Prices) error {
	list, ok := v.([]any)
	if !ok {
		return fmt.Errorf("tiered_pricing is no list")
	}
	for _, e := range list {
		object, _ := e.(map[string]any)
		bounds, _ := object["range"].([]any)
		if len(bounds) == 0 {
			return fmt.Errorf("tiered_pricing has an element without range")
		}
		number, _ := bounds[0].(json.Number)
		from, err := wholeNumber(number)
		if err != nil {
			return fmt.Errorf("tiered_pricing has a range that is no number of tokens")
		}
		into := &r.Prices
		if from > 0 {
			into = tier(from)
		}
		for name, p := range litePrices(into) {
			if err := setPrice(p, object[name], perMillion); err != nil {
				return fmt.Errorf("tiered_pricing.%s %w", name, err)
			}
		}
		for name, v := range object {
			if _, known := litePrices(into)[name]; !known && strings.Contains(name, "cost") && nonZero(v) {
				r.Left = append(r.Left, "tiered_pricing."+name)
			}
		}
	}
	slices.Sort(r.Left)
	r.Left = slices.Compact(r.Left)
	return nil
}

// wholeNumber reads a number of tokens, which may be written 2000000.0 or 2e6.
func wholeNumber(n json.Number) (int64, error) {
	usd, err := price(n, 0)
	if err != nil || usd == nil || int64(*usd)%1_000_000_000 != 0 {
		return 0, fmt.Errorf("is no whole number")
	}
	return int64(*usd) / 1_000_000_000, nil
}

// setPrice sets a price, where there is one.
func setPrice(into **catalog.NanoUSD, v any, shift int) error {
	p, err := price(v, shift)
	if p != nil {
		*into = p
	}
	return err
}

// setTiers adds the tiers that have a price, sorted.
func (r *Record) setTiers(tiers map[int64]*catalog.Prices) {
	for _, above := range slices.Sorted(maps.Keys(tiers)) {
		p := tiers[above]
		if p.HasAny() {
			r.Prices.PriceTiers = append(r.Prices.PriceTiers, catalog.PriceTier{
				AboveInputTokens: above, InputPrice: p.InputPrice, OutputPrice: p.OutputPrice,
				CacheReadPrice: p.CacheReadPrice, CacheWritePrice: p.CacheWritePrice, RequestPrice: p.RequestPrice,
			})
		}
	}
}

// nonZero reports whether a value says that something costs something.
func nonZero(v any) bool {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		return err != nil || f != 0
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), nonZero)
	}
	return false
}
