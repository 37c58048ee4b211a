package rollup

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// big returns the sum as a number of any size.
func (w Wide) big() *big.Int {
	b := new(big.Int).Lsh(big.NewInt(w.high), 64)
	return b.Add(b, new(big.Int).SetUint64(w.low))
}

func TestWideIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w Wide
		want := new(big.Int)
		some := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, -1 << 62,
			1 << 62, -1, 0, 1}))
		for _, n := range rapid.SliceOf(some).Draw(t, "numbers") {
			w.Add(n)
			want.Add(want, big.NewInt(n))
		}
		if rapid.Bool().Draw(t, "negate") {
			w.negate()
			want.Neg(want)
		}
		if w.big().Cmp(want) != 0 {
			t.Fatalf("sum %s; want %s", w.big(), want)
		}
		nearest := want
		if low, high := big.NewInt(math.MinInt64), big.NewInt(math.MaxInt64); want.Cmp(low) < 0 {
			nearest = low
		} else if want.Cmp(high) > 0 {
			nearest = high
		}
		if n := w.Int64(); n != nearest.Int64() {
			t.Fatalf("Int64 %d; want %s", n, nearest)
		}
		high, low := w.Halves()
		if back := FromHalves(high, low); back != w || low < 0 || low > math.MaxUint32 {
			t.Fatalf("from halves %d and %d: %s; want %s", high, low, back.big(), want)
		}
		taken := new(big.Int)
		for rest := w; rest != (Wide{}); {
			taken.Add(taken, big.NewInt(rest.Take()))
		}
		if taken.Cmp(want) != 0 {
			t.Fatalf("taken %s; want %s", taken, want)
		}
	})
}
