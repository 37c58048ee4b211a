package logbuf

import "math/bits"

// A Price has the prices of one request, in nano-USD: those of a million tokens of each kind, and
// that of the request itself. Unless the field says otherwise, nil is a price that is not known; 0
// is free.
type Price struct {
	Input      *int64
	Output     *int64
	CacheRead  *int64 // nil: as input
	CacheWrite *int64
	Request    *int64 // nil: none
}

// Cost returns what an entry costs in nano-USD: exact, and rounded once, half to even. It is
// not ok when a price that is needed is not known, or when the cost is more than [MaxCost],
// which no sum could take back.
//
// Failed entries (status of 400 or more) pay for tokens only, so one without tokens costs
// nothing, known price or not. The others need a price: a nil p, which stands for no record
// at all, prices none of them.
func (p *Price) Cost(e *Entry) (nanoUSD int64, ok bool) {
	served := e.Status < 400
	if p == nil {
		if served {
			return 0, false
		}
		p = new(Price)
	}
	cacheRead := p.CacheRead
	if cacheRead == nil {
		cacheRead = p.Input
	}
	var sum wideSum
	for _, part := range [...]struct {
		tokens int64
		price  *int64
	}{
		{e.InputTokens, p.Input},
		{e.OutputTokens, p.Output},
		{e.CacheReadTokens, cacheRead},
		{e.CacheWriteTokens, p.CacheWrite},
	} {
		if part.tokens == 0 {
			continue
		}
		if part.price == nil || !sum.add(part.tokens, *part.price) {
			return 0, false
		}
	}
	if served && p.Request != nil && !sum.add(million, *p.Request) {
		return 0, false
	}
	return sum.cost()
}

const million = 1_000_000

// wideSum adds up products in 128 bits.
type wideSum struct{ hi, lo uint64 }

// add adds a product. It is not ok when a factor is negative, or nothing could hold the sum.
func (s *wideSum) add(a, b int64) (ok bool) {
	if a < 0 || b < 0 {
		return false
	}
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, lo, 0)
	s.hi, carry = bits.Add64(s.hi, hi, carry)
	return carry == 0
}

// cost returns a millionth of the sum, rounded half to even.
func (s wideSum) cost() (n int64, ok bool) {
	if s.hi >= million { // the quotient would not fit 64 bits
		return 0, false
	}
	quo, rem := bits.Div64(s.hi, s.lo, million)
	if quo > MaxCost { // before it is rounded, which could overflow
		return 0, false
	}
	if rem > million/2 || rem == million/2 && quo&1 == 1 {
		quo++
	}
	return int64(quo), quo <= MaxCost //nolint:gosec // checked above
}
