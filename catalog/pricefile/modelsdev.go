package pricefile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/ez-api/ez-api/catalog"
)

// modelsDev reads a provider of api.json: prices of a million tokens, in USD.
func (l *List) modelsDev(provider string, object map[string]any) {
	models, _ := object["models"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(models)) {
		model, _ := models[name].(map[string]any)
		cost, ok := model["cost"].(map[string]any)
		if !ok {
			l.skip(provider, name, "has no cost")
			continue
		}
		r := Record{Provider: provider, Model: name, name: name, mute: hasNoOutput(name)}
		if err := r.modelsDev(cost); err != nil {
			l.skip(provider, name, err.Error())
			continue
		}
		l.add(r)
	}
}

// devPrices are the names of prices, some of which are written in several ways, and where they
// belong.
func devPrices(p *catalog.Prices) map[string]**catalog.NanoUSD {
	return map[string]**catalog.NanoUSD{
		"input": &p.InputPrice, "output": &p.OutputPrice, "cache_read": &p.CacheReadPrice,
		"cached_input": &p.CacheReadPrice, "cache_input": &p.CacheReadPrice, "cache_write": &p.CacheWritePrice,
		"cached_write": &p.CacheWritePrice,
	}
}

func (r *Record) modelsDev(cost map[string]any) error {
	if err := r.set(devPrices(&r.Prices), cost); err != nil {
		return err
	}
	tiers := map[int64]*catalog.Prices{}
	list, _ := cost["tiers"].([]any)
	for _, e := range list {
		object, _ := e.(map[string]any)
		tier, _ := object["tier"].(map[string]any)
		size, _ := tier["size"].(json.Number)
		above, err := wholeNumber(size)
		if err != nil || above <= 0 {
			return fmt.Errorf("has a tier without a size")
		}
		if kind, given := tier["type"]; given && kind != "context" {
			return fmt.Errorf("has tiers that go by something else than the input")
		}
		if tiers[above] != nil {
			return fmt.Errorf("has two tiers of the same size")
		}
		tiers[above] = &catalog.Prices{}
		if err := r.set(devPrices(tiers[above]), object); err != nil {
			return err
		}
	}
	r.setTiers(tiers)
	r.doubtZeros()
	return nil
}

// set sets the prices that an object has, and notes the others.
func (r *Record) set(own map[string]**catalog.NanoUSD, object map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		into, ok := own[name]
		if !ok {
			if name != "tiers" && name != "tier" && nonZero(object[name]) && !slices.Contains(r.Left, name) {
				r.Left = append(r.Left, name)
			}
			continue
		}
		if err := setPrice(into, object[name], 0); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
	}
	return nil
}
