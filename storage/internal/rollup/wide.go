package rollup

import (
	"math"
	"math/bits"
)

// Wide is a sum of 128 bits, so that no number of int64 makes it overflow.
type Wide struct {
	high int64
	low  uint64
}

// Add adds a number.
func (w *Wide) Add(n int64) {
	var carry uint64
	w.low, carry = bits.Add64(w.low, uint64(n), 0) //nolint:gosec // two's complement
	w.high += n>>63 + int64(carry)                 //nolint:gosec // 0 or 1
}

// AddWide adds another sum.
func (w *Wide) AddWide(v Wide) {
	var carry uint64
	w.low, carry = bits.Add64(w.low, v.low, 0)
	w.high += v.high + int64(carry) //nolint:gosec // 0 or 1
}

// Int64 returns the sum, or the nearest int64 when none holds it.
func (w Wide) Int64() int64 {
	switch n := int64(w.low); { //nolint:gosec // compared with the sign below
	case w.high == n>>63:
		return n
	case w.high < 0:
		return math.MinInt64
	default:
		return math.MaxInt64
	}
}

// Take takes as much off the sum as an int64 holds, and returns that.
func (w *Wide) Take() int64 {
	n := w.Int64()
	var borrow uint64
	w.low, borrow = bits.Sub64(w.low, uint64(n), 0) //nolint:gosec // two's complement
	w.high -= n>>63 + int64(borrow)                 //nolint:gosec // 0 or 1
	return n
}

// Halves returns the sum as high × 2³² + low, for sums of halves that are added up apart.
func (w Wide) Halves() (high, low int64) {
	return w.high<<32 | int64(w.low>>32), int64(w.low & math.MaxUint32) //nolint:gosec // halves
}

// FromHalves returns high × 2³² + low.
func FromHalves(high, low int64) Wide {
	w := Wide{high: high >> 32, low: uint64(high) << 32} //nolint:gosec // two's complement
	w.Add(low)
	return w
}

// negate changes the sign.
func (w *Wide) negate() {
	var carry uint64
	w.low, carry = bits.Add64(^w.low, 1, 0)
	w.high = ^w.high + int64(carry) //nolint:gosec // 0 or 1
}
