// Package pricefile reads the price lists that others keep: LiteLLM's
// model_prices_and_context_window.json and models.dev's api.json.
//
// Prices are computed with decimals, from the digits that stand in the file, and rounded half
// to even to the nine decimals that a catalog keeps.
package pricefile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
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
	Names    []string // under which the list has it with different prices; else none

	name string // that the list has
	mute bool   // the model has no output that could cost anything: an embedding
}

// Skipped is a model of the list without prices that a catalog can have.
type Skipped struct{ Provider, Model, Reason string }

// Free reports whether a model costs nothing by the list: often a sign of a subscription, or of a
// price that nobody has filled in.
func (r *Record) Free() bool {
	p := &r.Prices
	all := []*catalog.NanoUSD{p.InputPrice, p.OutputPrice, p.CacheReadPrice, p.CacheWritePrice, p.RequestPrice}
	for _, t := range p.PriceTiers {
		all = append(all, t.InputPrice, t.OutputPrice, t.CacheReadPrice, t.CacheWritePrice, t.RequestPrice)
	}
	return !slices.ContainsFunc(all, costs)
}

func isZero(price *catalog.NanoUSD) bool { return price != nil && *price == 0 }

func costs(price *catalog.NanoUSD) bool { return price != nil && *price > 0 }

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
		return cmp.Or(strings.Compare(a.key(), b.key()), strings.Compare(a.name, b.name))
	})
	list.unite()
	return list, nil
}

func (r *Record) key() string { return r.Provider + "\x00" + r.Model }

// unite makes one record of those that a provider has under one name. Where their prices differ,
// nobody can say which is meant.
func (l *List) unite() {
	united := l.Records[:0]
	for _, r := range l.Records {
		last := len(united) - 1
		if last < 0 || united[last].key() != r.key() {
			united = append(united, r)
			continue
		}
		first := &united[last]
		if !reflect.DeepEqual(first.Prices, r.Prices) {
			if len(first.Names) == 0 {
				first.Names = []string{first.name}
			}
			first.Names = append(first.Names, r.name)
		}
	}
	l.Records = united
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
		return strings.Compare(r.key(), key)
	})
	if !ok {
		return Record{}, false
	}
	return l.Records[i], true
}

// Why says why the list has no price of a model; "" where it does not have the model.
func (l *List) Why(provider, model string) string {
	for _, s := range l.Skipped {
		if s.Provider == provider && s.Model == model {
			return s.Reason
		}
	}
	return ""
}

// add takes a record, unless it has no price that means something.
func (l *List) add(r Record) {
	switch {
	case !r.Prices.HasAny():
		l.skip(r.Provider, r.Model, "has no price of tokens or requests"+r.besides())
	case r.Free() && len(r.Left) > 0:
		l.skip(r.Provider, r.Model, "has 0 for tokens"+r.besides())
	default:
		l.Records = append(l.Records, r)
	}
}

func (r *Record) besides() string {
	if len(r.Left) == 0 {
		return ""
	}
	return "; it is priced by " + strings.Join(r.Left, ", ")
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

// doubtZeros makes a price of 0 unknown when a related price of the same record is above 0: most
// likely nobody has filled it in. Embeddings have no output that could cost anything.
func (r *Record) doubtZeros() {
	doubt := func(beside, price **catalog.NanoUSD, name string) {
		if isZero(*price) && costs(*beside) {
			*price = nil
			r.Odd = append(r.Odd, name)
		}
	}
	own := func(input, output, read, write **catalog.NanoUSD, at string) {
		doubt(input, read, at+"cache_read_price")
		doubt(input, write, at+"cache_write_price")
		if !r.mute {
			doubt(input, output, at+"output_price")
			doubt(output, input, at+"input_price")
		}
	}
	p := &r.Prices
	own(&p.InputPrice, &p.OutputPrice, &p.CacheReadPrice, &p.CacheWritePrice, "")
	for i := range p.PriceTiers {
		t := &p.PriceTiers[i]
		own(&t.InputPrice, &t.OutputPrice, &t.CacheReadPrice, &t.CacheWritePrice, fmt.Sprintf("price_tiers[%d].", i))
	}
}

// hasNoOutput reports whether the name of a model says that it answers with no text.
func hasNoOutput(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"embed", "rerank", "moderation", "bge-", "gte-"},
		func(part string) bool { return strings.Contains(name, part) })
}
