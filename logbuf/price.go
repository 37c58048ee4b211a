package logbuf

import (
	"cmp"
	"math"
	"math/bits"
)

// Prices looks up what a model costs; ok is false when it is not known. It is
// called once for each entry that says no cost itself, so it has to be fast, and
// it must be safe for concurrent use.
type Prices func(namespace, model string) (p Price, ok bool)

// A Price is what a million tokens of a model cost, in nano-USD; nil is not known, 0 is free.
type Price struct {
	Input      *int64
	Output     *int64
	CacheRead  *int64
	CacheWrite *int64
	Revision   int64 // of the catalog that says so
}

// Fill prices the entries that have no cost yet, in place, and returns how many
// have none still: their model, or the price of a kind of token they used, is not
// known.
func (p Prices) Fill(entries []Entry) (unpriced int) {
	for i := range entries {
		e := &entries[i]
		if e.CostNanoUSD != nil {
			continue
		}
		if p != nil {
			if price, ok := p(cmp.Or(e.Namespace, defaultNamespace), e.Model); ok {
				if cost, ok := price.Cost(e); ok {
					e.CostNanoUSD, e.PricedRevision = &cost, price.Revision
					continue
				}
			}
		}
		unpriced++
	}
	return unpriced
}

// Cost returns what the tokens of an entry cost in nano-USD: exact, and rounded
// once, half to even. It is not ok when a price that is needed is not known, or
// when the cost does not fit.
func (p Price) Cost(e *Entry) (nanoUSD int64, ok bool) {
	// The product of two positive int64 is below 2^126: the sum of four fits
	// 128 bits exactly.
	var hi, lo uint64
	for _, part := range [...]struct {
		tokens int64
		price  *int64
	}{
		{e.InputTokens, p.Input},
		{e.OutputTokens, p.Output},
		{e.CacheReadTokens, p.CacheRead},
		{e.CacheWriteTokens, p.CacheWrite},
	} {
		if part.tokens == 0 {
			continue
		}
		if part.price == nil || *part.price < 0 || part.tokens < 0 {
			return 0, false
		}
		h, l := bits.Mul64(uint64(part.tokens), uint64(*part.price))
		var carry uint64
		lo, carry = bits.Add64(lo, l, 0)
		hi, _ = bits.Add64(hi, h, carry)
	}
	const million = 1_000_000
	if hi >= million { // the quotient would not fit 64 bits
		return 0, false
	}
	quo, rem := bits.Div64(hi, lo, million)
	if quo > math.MaxInt64 {
		return 0, false
	}
	if rem > million/2 || rem == million/2 && quo&1 == 1 {
		quo++
	}
	return int64(quo), quo <= math.MaxInt64
}
