package costs_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/costs"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// entryPrices draws a record: prices, some of them unknown, and tiers.
func entryPrices() *rapid.Generator[catalog.Prices] {
	return rapid.Custom(func(r *rapid.T) (p catalog.Prices) {
		maybe := func(name string) *catalog.NanoUSD {
			if rapid.IntRange(0, 3).Draw(r, name+" known") == 0 {
				return nil
			}
			v := catalog.NanoUSD(rapid.OneOf(
				rapid.Int64Range(0, 10), rapid.Int64Range(0, 20_000_000_000), rapid.Int64Range(0, 1<<62),
			).Draw(r, name))
			return &v
		}
		p.InputPrice, p.OutputPrice = maybe("input"), maybe("output")
		p.CacheReadPrice, p.CacheWritePrice, p.RequestPrice = maybe("read"), maybe("write"), maybe("request")
		for _, above := range rapid.SliceOfNDistinct(rapid.Int64Range(1, 1000), 0, 3, rapid.ID[int64]).Draw(r, "tiers") {
			tier := catalog.PriceTier{AboveInputTokens: above, InputPrice: maybe("input above"),
				OutputPrice:    maybe("output above"),
				CacheReadPrice: maybe("read above"), CacheWritePrice: maybe("write above"), RequestPrice: maybe("request above")}
			if tier.InputPrice == nil && tier.OutputPrice == nil {
				tier.InputPrice = new(catalog.NanoUSD(1))
			}
			p.PriceTiers = append(p.PriceTiers, tier)
		}
		return p
	})
}

// bigCost prices an entry by the words of the contract, with big numbers. It is nil when the
// cost is not known.
func bigCost(e *logbuf.Entry, record *catalog.Prices) *big.Int {
	failed := e.Status >= 400
	if e.InputTokens+e.OutputTokens+e.CacheReadTokens+e.CacheWriteTokens == 0 && failed {
		return new(big.Int)
	}
	if record == nil || !record.HasAny() {
		return nil
	}
	tier := catalog.PriceTier{}
	for _, t := range record.PriceTiers {
		if e.InputTokens+e.CacheReadTokens+e.CacheWriteTokens > t.AboveInputTokens &&
			t.AboveInputTokens > tier.AboveInputTokens {
			tier = t
		}
	}
	pick := func(prices ...*catalog.NanoUSD) *catalog.NanoUSD {
		i := slices.IndexFunc(prices, func(p *catalog.NanoUSD) bool { return p != nil })
		if i < 0 {
			return nil
		}
		return prices[i]
	}
	input := pick(tier.InputPrice, record.InputPrice)
	sum := new(big.Int)
	for _, part := range []struct {
		tokens int64
		price  *catalog.NanoUSD
	}{
		{e.InputTokens, input},
		{e.OutputTokens, pick(tier.OutputPrice, record.OutputPrice)},
		{e.CacheReadTokens, pick(tier.CacheReadPrice, record.CacheReadPrice, input)},
		{e.CacheWriteTokens, pick(tier.CacheWritePrice, record.CacheWritePrice)},
	} {
		if part.tokens == 0 {
			continue
		}
		if part.price == nil {
			return nil
		}
		sum.Add(sum, new(big.Int).Mul(big.NewInt(part.tokens), big.NewInt(int64(*part.price))))
	}
	if request := pick(tier.RequestPrice, record.RequestPrice); request != nil && !failed {
		sum.Add(sum, new(big.Int).Mul(big.NewInt(int64(*request)), big.NewInt(1e6)))
	}
	cost, rem := new(big.Int).QuoRem(sum, big.NewInt(1e6), new(big.Int))
	if half := rem.Cmp(big.NewInt(5e5)); half > 0 || half == 0 && cost.Bit(0) == 1 {
		cost.Add(cost, big.NewInt(1))
	}
	if cost.Cmp(big.NewInt(logbuf.MaxCost)) > 0 {
		return nil
	}
	return cost
}

// Entries cost what the contract says, to the last nano-dollar: one record prices each as a
// whole, the provider's first.
func TestEntriesCostExactly(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		store, prices, accounts := memstore.New(nil), catalog.NewPriceList(), catalog.NewAccounts()
		tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
		completer := costs.NewCompleter(prices, accounts, catalog.NewFollower(store, prices, accounts))
		models := map[string]catalog.Prices{}
		for _, name := range []string{"a/b", "a/*", "*"} {
			if rapid.Bool().Draw(r, "model "+name) {
				models[name] = entryPrices().Draw(r, name)
				if _, err := tables.Models.Create(t.Context(), catalog.Model{Name: name, Prices: models[name]}); err != nil {
					r.Fatal(err)
				}
			}
		}
		upstreams := map[string]catalog.Prices{}
		for _, name := range []string{"up-1", "up-*", "*"} {
			if p := entryPrices().Draw(r, name); p.HasAny() && rapid.Bool().Draw(r, "upstream "+name) {
				upstreams[name] = p
			}
		}
		provider, err := tables.Providers.Create(t.Context(), catalog.Provider{Name: "p", Type: "openai", Prices: upstreams})
		if err != nil {
			r.Fatal(err)
		}
		record := func(e *logbuf.Entry) *catalog.Prices {
			find := func(records map[string]catalog.Prices, names ...string) *catalog.Prices {
				for _, name := range names {
					if p, ok := records[name]; ok {
						return &p
					}
				}
				return nil
			}
			if e.ProviderID == provider.ID && e.UpstreamModel != "" {
				var names []string
				for _, name := range []string{e.UpstreamModel, "up-*", "*"} {
					if name == e.UpstreamModel || strings.HasPrefix(e.UpstreamModel, strings.TrimSuffix(name, "*")) {
						names = append(names, name)
					}
				}
				if p := find(upstreams, names...); p != nil {
					return p
				}
			}
			names := []string{e.Model, "*"}
			if strings.HasPrefix(e.Model, "a/") {
				names = []string{e.Model, "a/*", "*"}
			}
			return find(models, names...)
		}
		tokens := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 1000), rapid.Int64Range(0, logbuf.MaxTokens))
		entry := rapid.Custom(func(r *rapid.T) logbuf.Entry {
			return logbuf.Entry{
				ProviderID:    rapid.SampledFrom([]int64{0, provider.ID, 999}).Draw(r, "provider"),
				UpstreamModel: rapid.SampledFrom([]string{"", "up-1", "up-2", "x"}).Draw(r, "upstream"),
				Model:         rapid.SampledFrom([]string{"a/b", "a/c", "c"}).Draw(r, "model"),
				Status:        rapid.SampledFrom([]int{0, 200, 399, 400, 500}).Draw(r, "status"),
				InputTokens:   tokens.Draw(r, "input"), OutputTokens: tokens.Draw(r, "output"),
				CacheReadTokens: tokens.Draw(r, "read"), CacheWriteTokens: tokens.Draw(r, "write"),
			}
		})
		entries := rapid.SliceOfN(entry, 1, 20).Draw(r, "entries")
		completer.Prepare(t.Context())
		for _, e := range entries {
			e.Namespace = "default"
			if !completer.Complete(&e) {
				r.Fatalf("%+v waits", e)
			}
			want := bigCost(&e, record(&e))
			switch {
			case want == nil && e.CostNanoUSD == nil:
			case want == nil || e.CostNanoUSD == nil || want.Int64() != *e.CostNanoUSD:
				got := "unknown"
				if e.CostNanoUSD != nil {
					got = fmt.Sprint(*e.CostNanoUSD)
				}
				r.Fatalf("%+v costs %s; want %v", e, got, want)
			}
			if e.PricedRevision != int64(provider.Revision) {
				r.Fatalf("priced at %d; want %d", e.PricedRevision, provider.Revision)
			}
		}
	})
}
