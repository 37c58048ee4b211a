package logbuf_test

import (
	"math"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

func TestCost(t *testing.T) {
	all := logbuf.Price{Input: new(int64(3e9)), Output: new(int64(15e9)), CacheRead: new(int64(3e8)), CacheWrite: new(int64(375e7))}
	tests := []struct {
		name  string
		price logbuf.Price
		entry logbuf.Entry
		want  int64
		ok    bool
	}{
		{"every kind", all, logbuf.Entry{InputTokens: 1000, OutputTokens: 200, CacheReadTokens: 50, CacheWriteTokens: 10}, 3_000_000 + 3_000_000 + 15_000 + 37_500, true},
		{"nothing used", all, logbuf.Entry{}, 0, true},
		{"free", logbuf.Price{Input: new(int64(0))}, logbuf.Entry{InputTokens: 5}, 0, true},
		{"half to even, down", logbuf.Price{Input: new(int64(500_000))}, logbuf.Entry{InputTokens: 1}, 0, true},
		{"half to even, up", logbuf.Price{Input: new(int64(500_000))}, logbuf.Entry{InputTokens: 3}, 2, true},
		{"just above half", logbuf.Price{Input: new(int64(500_001))}, logbuf.Entry{InputTokens: 1}, 1, true},
		{"rounded once, not per kind", logbuf.Price{Input: new(int64(400_000)), Output: new(int64(400_000))}, logbuf.Entry{InputTokens: 1, OutputTokens: 1}, 1, true},
		{"price missing, not needed", logbuf.Price{Input: new(int64(1e6))}, logbuf.Entry{InputTokens: 7}, 7, true},
		{"price missing, needed", logbuf.Price{Input: new(int64(1e6))}, logbuf.Entry{InputTokens: 7, OutputTokens: 1}, 0, false},
		{"largest that fits", logbuf.Price{Input: new(int64(1e6))}, logbuf.Entry{InputTokens: math.MaxInt64}, math.MaxInt64, true},
		{"does not fit", logbuf.Price{Input: new(int64(1e6 + 1))}, logbuf.Entry{InputTokens: math.MaxInt64}, 0, false},
		{"far from fitting", logbuf.Price{Input: new(int64(math.MaxInt64)), Output: new(int64(math.MaxInt64))}, logbuf.Entry{InputTokens: math.MaxInt64, OutputTokens: math.MaxInt64}, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := tt.price.Cost(&tt.entry)
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("Cost = %d, %v; want %d, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

// The cost is the exact sum, rounded half to even, whatever the numbers.
func TestCostIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(rapid.Int64Range(0, 1e7), rapid.Int64Range(0, math.MaxInt64))
		tokens := [4]int64{number.Draw(t, "in"), number.Draw(t, "out"), number.Draw(t, "read"), number.Draw(t, "write")}
		prices := [4]int64{number.Draw(t, "inPrice"), number.Draw(t, "outPrice"), number.Draw(t, "readPrice"), number.Draw(t, "writePrice")}
		price := logbuf.Price{Input: &prices[0], Output: &prices[1], CacheRead: &prices[2], CacheWrite: &prices[3]}
		entry := logbuf.Entry{InputTokens: tokens[0], OutputTokens: tokens[1], CacheReadTokens: tokens[2], CacheWriteTokens: tokens[3]}

		sum := new(big.Int)
		for i := range tokens {
			sum.Add(sum, new(big.Int).Mul(big.NewInt(tokens[i]), big.NewInt(prices[i])))
		}
		want, rem := new(big.Int).QuoRem(sum, big.NewInt(1e6), new(big.Int))
		if half := rem.Cmp(big.NewInt(5e5)); half > 0 || half == 0 && want.Bit(0) == 1 {
			want.Add(want, big.NewInt(1))
		}

		got, ok := price.Cost(&entry)
		if ok != want.IsInt64() || ok && got != want.Int64() {
			t.Fatalf("Cost = %d, %v; want %s", got, ok, want)
		}
	})
}

func TestPricesFill(t *testing.T) {
	prices := logbuf.Prices(func(namespace, model string) (logbuf.Price, bool) {
		return logbuf.Price{Input: new(int64(2e6)), Revision: 9}, namespace == "default" && model == "m"
	})
	entries := []logbuf.Entry{
		{Namespace: "default", Model: "m", InputTokens: 3},
		{Namespace: "default", Model: "m", InputTokens: 3, CostNanoUSD: new(int64(1)), PricedRevision: 4}, // sent: kept
		{Namespace: "default", Model: "m", OutputTokens: 3},                                               // no price for output
		{Namespace: "other", Model: "m"},
	}
	if got := prices.Fill(entries); got != 2 {
		t.Errorf("Fill = %d unpriced, want 2", got)
	}
	type result struct {
		Cost     *int64
		Revision int64
	}
	var got []result
	for _, e := range entries {
		got = append(got, result{e.CostNanoUSD, e.PricedRevision})
	}
	want := []result{{new(int64(6)), 9}, {new(int64(1)), 4}, {nil, 0}, {nil, 0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if got := logbuf.Prices(nil).Fill(entries); got != 2 {
		t.Errorf("Fill without prices = %d unpriced, want 2", got)
	}
}
