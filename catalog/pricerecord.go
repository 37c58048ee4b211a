package catalog

import (
	"slices"
)

// Prices is one record of what tokens and requests cost: a [Model] has one, and
// a [Provider] one for each of the upstream models that it prices. A record
// prices a request whole; two records are never mixed. In each price nil is
// unknown and 0 is free. A record without any price prices nothing.
type Prices struct {
	InputPrice      *NanoUSD `json:"input_price" doc:"The price of a million input tokens in USD. null means that it is unknown, and 0 that it is free."`
	OutputPrice     *NanoUSD `json:"output_price" doc:"The price of a million output tokens in USD. null means that it is unknown, and 0 that it is free."`
	CacheReadPrice  *NanoUSD `json:"cache_read_price" doc:"The price of a million input tokens that were read from the cache in USD. null means that they cost as much as other input, and 0 that they are free."`
	CacheWritePrice *NanoUSD `json:"cache_write_price" doc:"The price of a million input tokens that were written to the cache in USD. null means that it is unknown, and 0 that it is free."`
	RequestPrice    *NanoUSD `json:"request_price" doc:"The price of a request that succeeds in USD. null means that there is none."`

	// PriceTiers are other prices for requests with much input, sorted by their
	// bounds. See [Prices.For].
	PriceTiers []PriceTier `json:"price_tiers" maxItems:"16" doc:"Other prices for requests with much input. The highest tier whose bound the input exceeds prices the whole request."`
}

// PriceTier holds the prices of requests whose input, cache reads and writes
// included, exceeds a bound. A price that is nil here is that of the record.
type PriceTier struct {
	AboveInputTokens int64    `json:"above_input_tokens" create:"required" minimum:"1" maximum:"9007199254740991" doc:"The bound: a number of input tokens, those read from the cache or written to it included."`
	InputPrice       *NanoUSD `json:"input_price" doc:"The price of a million input tokens in USD. null means the price outside the tiers."`
	OutputPrice      *NanoUSD `json:"output_price" doc:"The price of a million output tokens in USD. null means the price outside the tiers."`
	CacheReadPrice   *NanoUSD `json:"cache_read_price" doc:"The price of a million input tokens that were read from the cache in USD. null means the price outside the tiers."`
	CacheWritePrice  *NanoUSD `json:"cache_write_price" doc:"The price of a million input tokens that were written to the cache in USD. null means the price outside the tiers."`
	RequestPrice     *NanoUSD `json:"request_price" doc:"The price of a request that succeeds in USD. null means the price outside the tiers."`
}

// PriceSourceManual is the price_source of prices that a person has set.
const PriceSourceManual = "manual"

const (
	maxTiers  = 16
	maxPrices = 1 << 20 // bytes of JSON of a provider's prices
)

// For returns the prices of a request with so many input tokens, cache reads
// and writes included: those of the highest tier whose bound the input exceeds,
// and the record's own where that tier has none. The result has no tiers.
func (p Prices) For(inputTokens int64) Prices {
	tiers := p.PriceTiers
	p.PriceTiers = nil
	var at *PriceTier
	for i := range tiers {
		if t := &tiers[i]; inputTokens > t.AboveInputTokens && (at == nil || t.AboveInputTokens > at.AboveInputTokens) {
			at = t
		}
	}
	if at == nil {
		return p
	}
	record := p.amounts()
	for i, tier := range at.amounts() {
		if *tier.value != nil {
			*record[i].value = *tier.value
		}
	}
	return p
}

// HasAny reports whether any price is known, in the record itself or in a tier.
func (p Prices) HasAny() bool {
	return hasAmount(p.amounts()) || slices.ContainsFunc(p.PriceTiers,
		func(t PriceTier) bool { return hasAmount(t.amounts()) })
}

// amount is one of the prices of a record or a tier.
type amount struct {
	field string
	value **NanoUSD
}

func (p *Prices) amounts() [5]amount {
	return [5]amount{
		{"input_price", &p.InputPrice},
		{"output_price", &p.OutputPrice},
		{"cache_read_price", &p.CacheReadPrice},
		{"cache_write_price", &p.CacheWritePrice},
		{"request_price", &p.RequestPrice},
	}
}

func (t *PriceTier) amounts() [5]amount {
	return [5]amount{
		{"input_price", &t.InputPrice},
		{"output_price", &t.OutputPrice},
		{"cache_read_price", &t.CacheReadPrice},
		{"cache_write_price", &t.CacheWritePrice},
		{"request_price", &t.RequestPrice},
	}
}

func hasAmount(amounts [5]amount) bool {
	return slices.ContainsFunc(amounts[:], func(a amount) bool { return *a.value != nil })
}

// normalize sorts the tiers.
func (p *Prices) normalize() {
	p.PriceTiers = slices.SortedStableFunc(slices.Values(p.PriceTiers), func(a, b PriceTier) int {
		return int(max(-1, min(1, a.AboveInputTokens-b.AboveInputTokens)))
	})
	if p.PriceTiers == nil {
		p.PriceTiers = []PriceTier{}
	}
}

// check says what is not acceptable. prefix stands before the names of fields.
func (p *Prices) check(errs *FieldErrors, prefix string) {
	for _, a := range p.amounts() {
		checkPrice(errs, prefix+a.field, *a.value)
	}
	at := prefix + "price_tiers"
	if len(p.PriceTiers) > maxTiers {
		errs.add(at, "must have at most %d elements", maxTiers)
		return
	}
	for i := range p.PriceTiers {
		t := &p.PriceTiers[i]
		tier := elementPath(at, i)
		if t.AboveInputTokens < 1 || t.AboveInputTokens > maxExact {
			errs.add(tier+".above_input_tokens", "must be 1 to 2^53-1")
		}
		if i > 0 && t.AboveInputTokens == p.PriceTiers[i-1].AboveInputTokens {
			errs.add(tier+".above_input_tokens", "must differ from that of every other tier")
		}
		if !hasAmount(t.amounts()) {
			errs.add(tier, "must have a price; leave the tier out if it changes none")
		}
		for _, a := range t.amounts() {
			checkPrice(errs, tier+"."+a.field, *a.value)
		}
	}
}

func checkPrice(errs *FieldErrors, field string, price *NanoUSD) {
	if price != nil && *price < 0 {
		errs.add(field, "must not be negative")
	}
}

// Clone returns a copy that shares no memory with p.
func (p Prices) Clone() Prices {
	for _, a := range p.amounts() {
		*a.value = cloneAmount(*a.value)
	}
	p.PriceTiers = slices.Clone(p.PriceTiers)
	for i := range p.PriceTiers {
		for _, a := range p.PriceTiers[i].amounts() {
			*a.value = cloneAmount(*a.value)
		}
	}
	return p
}

func cloneAmount(v *NanoUSD) *NanoUSD {
	if v == nil {
		return nil
	}
	return new(*v)
}
