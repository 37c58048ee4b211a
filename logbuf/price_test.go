package logbuf_test

import (
	"context"
	"errors"
	"math"
	"math/big"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

func TestCost(t *testing.T) {
	all := &logbuf.Price{
		Input: new(int64(3e9)), Output: new(int64(15e9)), CacheRead: new(int64(3e8)), CacheWrite: new(int64(375e7)),
		Request: new(int64(20)),
	}
	input := func(price int64) *logbuf.Price { return &logbuf.Price{Input: &price} }
	tests := []struct {
		name  string
		price *logbuf.Price
		entry logbuf.Entry
		want  int64
		ok    bool
	}{
		{"every kind", all, logbuf.Entry{InputTokens: 1000, OutputTokens: 200, CacheReadTokens: 50, CacheWriteTokens: 10},
			3_000_000 + 3_000_000 + 15_000 + 37_500 + 20, true},
		{"nothing used", all, logbuf.Entry{}, 20, true},
		{"nothing used, and failed", all, logbuf.Entry{Status: 400}, 0, true},
		{"failed after tokens", all, logbuf.Entry{Status: 500, InputTokens: 1000}, 3_000_000, true},
		{"served below 400", all, logbuf.Entry{Status: 399}, 20, true},
		{"free", input(0), logbuf.Entry{InputTokens: 5}, 0, true},
		{"half to even, down", input(500_000), logbuf.Entry{InputTokens: 1}, 0, true},
		{"half to even, up", input(500_000), logbuf.Entry{InputTokens: 3}, 2, true},
		{"just above half", input(500_001), logbuf.Entry{InputTokens: 1}, 1, true},
		{"rounded once, not per kind", &logbuf.Price{Input: new(int64(400_000)), Output: new(int64(400_000))},
			logbuf.Entry{InputTokens: 1, OutputTokens: 1}, 1, true},
		{"price missing, not needed", input(1e6), logbuf.Entry{InputTokens: 7}, 7, true},
		{"price missing, needed", input(1e6), logbuf.Entry{InputTokens: 7, OutputTokens: 1}, 0, false},
		{"price missing, needed by a failure", input(1e6), logbuf.Entry{Status: 500, OutputTokens: 1}, 0, false},
		{"cache reads as input", input(1e6), logbuf.Entry{CacheReadTokens: 4}, 4, true},
		{"cache writes have no other price", input(1e6), logbuf.Entry{CacheWriteTokens: 4}, 0, false},
		{"no record", nil, logbuf.Entry{}, 0, false},
		{"no record, and failed", nil, logbuf.Entry{Status: 404}, 0, true},
		{"no record, and failed after tokens", nil, logbuf.Entry{Status: 500, InputTokens: 1}, 0, false},
		{"largest", input(1e6), logbuf.Entry{InputTokens: logbuf.MaxCost}, logbuf.MaxCost, true},
		{"more than is taken", input(1e6), logbuf.Entry{InputTokens: logbuf.MaxCost + 1}, 0, false},
		{"rounded to the largest", &logbuf.Price{Input: new(int64(1e6)), Output: new(int64(1))},
			logbuf.Entry{InputTokens: logbuf.MaxCost, OutputTokens: 500_000}, logbuf.MaxCost, true},
		{"rounded to more than is taken", &logbuf.Price{Input: new(int64(1e6)), Output: new(int64(1))},
			logbuf.Entry{InputTokens: logbuf.MaxCost, OutputTokens: 500_001}, 0, false},
		{"far from fitting", &logbuf.Price{Input: new(int64(math.MaxInt64)), Output: new(int64(math.MaxInt64))},
			logbuf.Entry{InputTokens: math.MaxInt64, OutputTokens: math.MaxInt64}, 0, false},
		{"a negative price", input(-1), logbuf.Entry{InputTokens: 1}, 0, false},
		{"negative tokens", input(1), logbuf.Entry{InputTokens: -1}, 0, false},
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
		number := rapid.OneOf(rapid.Int64Range(0, 1e7), rapid.Int64Range(0, 1e13), rapid.Int64Range(0, math.MaxInt64))
		tokens := [4]int64{number.Draw(t, "in"), number.Draw(t, "out"), number.Draw(t, "read"), number.Draw(t, "write")}
		prices := [5]int64{
			number.Draw(t, "inPrice"), number.Draw(t, "outPrice"), number.Draw(t, "readPrice"),
			number.Draw(t, "writePrice"), number.Draw(t, "request"),
		}
		price := logbuf.Price{Input: &prices[0], Output: &prices[1], CacheRead: &prices[2], CacheWrite: &prices[3],
			Request: &prices[4]}
		entry := logbuf.Entry{InputTokens: tokens[0], OutputTokens: tokens[1], CacheReadTokens: tokens[2],
			CacheWriteTokens: tokens[3]}

		sum := new(big.Int).Mul(big.NewInt(prices[4]), big.NewInt(1e6))
		for i := range tokens {
			sum.Add(sum, new(big.Int).Mul(big.NewInt(tokens[i]), big.NewInt(prices[i])))
		}
		want, rem := new(big.Int).QuoRem(sum, big.NewInt(1e6), new(big.Int))
		if half := rem.Cmp(big.NewInt(5e5)); half > 0 || half == 0 && want.Bit(0) == 1 {
			want.Add(want, big.NewInt(1))
		}

		got, ok := price.Cost(&entry)
		if fits := want.Cmp(big.NewInt(logbuf.MaxCost)) <= 0; ok != fits || ok && got != want.Int64() {
			t.Fatalf("Cost = %d, %v; want %s", got, ok, want)
		}
	})
}

// desk is a pricer that knows one price, from a revision on.
type desk struct {
	known    atomic.Bool
	revision atomic.Int64
	late     atomic.Int64 // entries priced late
	fail     atomic.Pointer[error]
}

func (d *desk) Complete(e *logbuf.Entry) bool {
	if d.known.Load() {
		d.fill(e, 7)
	}
	return d.known.Load()
}

func (d *desk) CompleteLate(_ context.Context, entries []*logbuf.Entry) error {
	if err := d.fail.Load(); err != nil {
		return *err
	}
	for _, e := range entries {
		d.fill(e, 8)
	}
	d.late.Add(int64(len(entries)))
	return nil
}

// fill fills in what the entry leaves open.
func (d *desk) fill(e *logbuf.Entry, cost int64) {
	if e.Project == "" {
		e.Project = "p" + strconv.FormatInt(cost, 10)
	}
	if e.CostNanoUSD == nil {
		e.CostNanoUSD, e.PricedRevision = &cost, d.revision.Load()
	}
}

// costs returns what was stored, by request.
func (l *ledger) costs() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	costs := make(map[string]string)
	for _, e := range l.stored {
		cost := "unknown"
		if e.CostNanoUSD != nil {
			cost = strconv.FormatInt(*e.CostNanoUSD, 10)
		}
		costs[e.RequestID] = cost + " at " + strconv.FormatInt(e.PricedRevision, 10) + " of " + e.Project
	}
	return costs
}

// Entries without a cost or a project get it when they come or, where that is not known then,
// when they leave, also by a queue that was opened later; what they bring is kept.
func TestQueuePrices(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		prices := &desk{}
		prices.known.Store(true)
		prices.revision.Store(3)
		opts := &logbuf.Options{Dir: dir, Completer: prices, MinBackoff: time.Millisecond, FlushInterval: time.Millisecond}
		sink := newLedger()
		q := mustOpen(t, sink, opts)
		entries := []logbuf.Entry{{RequestID: "early"}, {RequestID: "own", CostNanoUSD: new(int64(5)), PricedRevision: 9},
			{RequestID: "theirs", Project: "q"}}
		mustAppend(t, q, entries...)
		if entries[0].CostNanoUSD != nil || entries[1].PricedRevision != 9 {
			t.Errorf("the caller's entries were changed: %+v", entries)
		}
		prices.known.Store(false)
		away := errors.New("the catalog is away")
		prices.fail.Store(&away)
		mustAppend(t, q, logbuf.Entry{RequestID: "late", PricedRevision: 77},
			logbuf.Entry{RequestID: "own late", CostNanoUSD: new(int64(6)), PricedRevision: 77},
			logbuf.Entry{RequestID: "whole", CostNanoUSD: new(int64(6)), PricedRevision: 77, Project: "q"})
		want := map[string]string{"early": "7 at 3 of p7", "own": "5 at 0 of p7", "theirs": "7 at 3 of q",
			"late":     "8 at 4 of p8",
			"own late": "6 at 0 of p8", "whole": "6 at 0 of q"}
		if dir == "" {
			for q.Stats().LastError != away.Error() {
				time.Sleep(time.Millisecond)
			}
		} else {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			var unstored *logbuf.UnstoredError
			if err := q.Close(ctx); !errors.As(err, &unstored) || !unstored.Kept {
				t.Errorf("Close: %v", err)
			}
			cancel()
			q = mustOpen(t, sink, opts)
		}
		prices.revision.Store(4)
		prices.fail.Store(nil)
		mustClose(t, q)
		if diff := cmp.Diff(want, sink.costs()); diff != "" {
			t.Errorf("costs, dir %q (-want +got):\n%s", dir, diff)
		}
		checkIdentity(t, q.Stats())
	}
}

// A queue in memory that is closed while the prices cannot be found out stores entries
// without their cost rather than lose them.
func TestQueueClosesWithoutPrices(t *testing.T) {
	prices := &desk{}
	away := errors.New("the catalog is away")
	prices.fail.Store(&away)
	sink := newLedger()
	q := mustOpen(t, sink, &logbuf.Options{Completer: prices, MinBackoff: time.Millisecond})
	mustAppend(t, q, logbuf.Entry{RequestID: "r"})
	mustClose(t, q)
	if diff := cmp.Diff(map[string]string{"r": "unknown at 0 of "}, sink.costs()); diff != "" {
		t.Errorf("costs (-want +got):\n%s", diff)
	}
}
