// Package pricefile reads the price lists that others keep: LiteLLM's
// model_prices_and_context_window.json and models.dev's api.json.
//
// Prices are computed with decimals, from the digits that stand in the file, and rounded half
// to even to the nine decimals that a catalog keeps.
package pricefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// The sources, as a model's price_source names them.
const (
	LiteLLM   = "litellm"
	ModelsDev = "models.dev"
)

// List is a price list.
type List struct {
	Source  string
	Records []Record // sorted by provider and model
	Skipped []Skipped
}

// Record is what a provider charges for a model.
type Record struct {
	Provider string // as the list calls it
	Model    string // as the provider calls it
	Prices   catalog.Prices
	Left     []string // prices of the list that have no place in a catalog, by name
	Odd      []string // what of the prices may not be meant as it stands
}

// Skipped is a model of the list without prices that a catalog can have.
type Skipped struct{ Provider, Model, Reason string }

// Free reports whether a model costs nothing: often a sign of a subscription, or of a price that
// nobody has filled in.
func (r *Record) Free() bool {
	p := r.Prices
	return isZero(p.InputPrice) && isZero(p.OutputPrice) && (p.RequestPrice == nil || *p.RequestPrice == 0)
}

func isZero(price *catalog.NanoUSD) bool { return price != nil && *price == 0 }

// Parse reads a list in either form.
func Parse(text []byte) (*List, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var all map[string]map[string]any
	if err := dec.Decode(&all); err != nil {
		return nil, errors.New("is no price list: it is not a JSON object of objects")
	}
	list := &List{Source: LiteLLM}
	for _, v := range all {
		if _, ok := v["models"].(map[string]any); ok {
			list.Source = ModelsDev
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if list.Source == ModelsDev {
			list.modelsDev(name, all[name])
		} else {
			list.liteLLM(name, all[name])
		}
	}
	if len(list.Records) == 0 {
		return nil, errors.New("is no price list of LiteLLM or models.dev: it has no price of a model")
	}
	slices.SortFunc(list.Records, func(a, b Record) int {
		return strings.Compare(a.Provider+"\x00"+a.Model, b.Provider+"\x00"+b.Model)
	})
	return list, nil
}

// Providers lists the providers of the list.
func (l *List) Providers() (names []string) {
	for _, r := range l.Records {
		if len(names) == 0 || names[len(names)-1] != r.Provider {
			names = append(names, r.Provider)
		}
	}
	return names
}

// Find returns what a provider charges for a model.
func (l *List) Find(provider, model string) (Record, bool) {
	i, ok := slices.BinarySearchFunc(l.Records, provider+"\x00"+model, func(r Record, key string) int {
		return strings.Compare(r.Provider+"\x00"+r.Model, key)
	})
	if !ok {
		return Record{}, false
	}
	return l.Records[i], true
}

func (l *List) skip(provider, model, reason string) {
	l.Skipped = append(l.Skipped, Skipped{provider, model, reason})
}

// PerMillion turns the price of a token into that of a million, rounded half to even to nine
// decimals.
func PerMillion(perToken json.Number) (catalog.NanoUSD, error) {
	p, err := price(perToken, perMillion)
	if err != nil {
		return 0, err
	}
	return *p, nil
}

// price reads a price, and multiplies it by a power of ten. It is nil where there is none.
func price(v any, shift int) (*catalog.NanoUSD, error) {
	number, ok := v.(json.Number)
	if !ok {
		if v == nil {
			return nil, nil
		}
		return nil, errors.New("is no number")
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(string(number)), "e")
	if exponent != "" {
		n, err := strconv.Atoi(exponent)
		if err != nil || n < -maxExponent || n > maxExponent {
			return nil, errors.New("is no number that can be a price")
		}
		shift += n
	}
	var usd catalog.NanoUSD
	if err := json.Unmarshal(fmt.Appendf(nil, "%se%d", mantissa, shift), &usd); err != nil {
		return nil, errors.New("is no amount that can be a price")
	}
	return &usd, nil
}

const (
	maxExponent = 400
	perMillion  = 6 // the power of ten between a token and a million
)

// doubtZeros takes a cache that costs nothing beside input that does for one whose price
// nobody has filled in: it becomes unknown.
func (r *Record) doubtZeros() {
	doubt := func(input, cache **catalog.NanoUSD, name string) {
		if isZero(*cache) && *input != nil && **input > 0 {
			*cache = nil
			r.Odd = append(r.Odd, name)
		}
	}
	doubt(&r.Prices.InputPrice, &r.Prices.CacheReadPrice, "cache_read_price")
	doubt(&r.Prices.InputPrice, &r.Prices.CacheWritePrice, "cache_write_price")
	for i := range r.Prices.PriceTiers {
		t := &r.Prices.PriceTiers[i]
		doubt(&t.InputPrice, &t.CacheReadPrice, fmt.Sprintf("price_tiers[%d].cache_read_price", i))
		doubt(&t.InputPrice, &t.CacheWritePrice, fmt.Sprintf("price_tiers[%d].cache_write_price", i))
	}
}
