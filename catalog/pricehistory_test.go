package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// What the history says of any time is what a list said then; also of what was deleted, renamed
// or has come back since, and after the feed was pruned.
func TestPriceHistoryTellsWhatThereWas(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ctx := t.Context()
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		clock := func() time.Time { return now }
		store := memstore.New(&memstore.Options{Clock: clock})
		tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), &catalog.Options{Clock: clock})
		list := catalog.NewPriceList()
		follower := catalog.NewFollower(store, list)
		names, upstreams := []string{"a", "b", "a/*", "*"}, []string{"u", "u*", "v"}
		type moment struct {
			at     time.Time
			quotes map[catalog.PriceKey]catalog.Quote
		}
		var moments []moment
		var models, providers []int64
		price := func(name string) catalog.Prices {
			return catalog.Prices{InputPrice: usd(catalog.NanoUSD(rapid.Int64Range(0, 9).Draw(r, name)))}
		}
		keys := func() (all []catalog.PriceKey) {
			for _, id := range append([]int64{0}, providers...) {
				for _, upstream := range append(upstreams, "uu") {
					for _, name := range append(names, "a/x", "z") {
						all = append(all, catalog.PriceKey{ProviderID: id, UpstreamModel: upstream, Namespace: "default", Model: name})
					}
				}
			}
			return all
		}
		prunedAt := time.Time{}
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2).Draw(r, "minutes")) * time.Minute)
			switch rapid.SampledFrom([]string{"create", "edit", "edit", "delete", "provider", "drop provider", "key",
				"prune"}).Draw(r, "step") {
			case "create":
				if m, err := tables.Models.Create(ctx, catalog.Model{Name: rapid.SampledFrom(names).Draw(r, "name"),
					Prices: price("price")}); err == nil {
					models = append(models, m.ID)
				}
			case "edit":
				if len(models) > 0 {
					_, _ = tables.Models.Edit(ctx, rapid.SampledFrom(models).Draw(r, "model"), func(m *catalog.Model) error {
						m.Name, m.Prices = rapid.SampledFrom(names).Draw(r, "name"), price("price")
						return nil
					})
				}
			case "delete":
				if len(models) > 0 {
					_, _ = tables.Models.Delete(ctx, rapid.SampledFrom(models).Draw(r, "model"), 0)
				}
			case "provider":
				p, err := tables.Providers.Create(ctx, catalog.Provider{Name: fmt.Sprint("p", len(providers)), Type: "openai",
					Prices: map[string]catalog.Prices{rapid.SampledFrom(upstreams).Draw(r, "upstream"): price("price")}})
				if err != nil {
					r.Fatal(err)
				}
				providers = append(providers, p.ID)
			case "drop provider":
				if len(providers) > 0 {
					_, _ = tables.Providers.Delete(ctx, rapid.SampledFrom(providers).Draw(r, "provider"), 0)
				}
			case "key":
				if _, err := tables.Keys.Create(ctx, catalog.Key{Name: "k"}); err != nil {
					r.Fatal(err)
				}
			case "prune":
				if n, err := store.PruneChanges(ctx, now.Add(-5*time.Minute)); err != nil {
					r.Fatal(err)
				} else if n > 0 {
					prunedAt = now.Add(-5 * time.Minute)
				}
			}
			if _, err := follower.Refresh(ctx); err != nil {
				r.Fatal(err)
			}
			quotes := make(map[catalog.PriceKey]catalog.Quote)
			for _, k := range keys() {
				quotes[k], _ = list.Quote(k)
			}
			if n := len(moments); n > 0 && moments[n-1].at.Equal(now) {
				moments = moments[:n-1] // the last of what happened at a time is what held
			}
			moments = append(moments, moment{now, quotes})
		}
		history, err := catalog.ReadPriceHistory(ctx, store)
		if err != nil {
			r.Fatal(err)
		}
		if begins := history.Begins(); begins.IsZero() != prunedAt.IsZero() {
			r.Fatalf("the history begins at %s; changes before %s were pruned", begins, prunedAt)
		}
		for _, m := range moments {
			for k, want := range m.quotes {
				got, ok := history.Quote(k, m.at)
				if early := m.at.Before(history.Begins()); ok == early {
					r.Fatalf("at %s: known %t; the history begins at %s", m.at, ok, history.Begins())
				} else if early {
					continue
				}
				if diff := cmp.Diff(want, got); diff != "" {
					r.Fatalf("%+v at %s (-want +got):\n%s", k, m.at, diff)
				}
			}
		}
	})
}

// Some servers' clocks were wrong for a while: what they dated ahead hides nothing that came later, and
// what they dated before hides nothing that came earlier.
func TestPriceHistoryOutlivesWrongClocks(t *testing.T) {
	t.Parallel()
	const day = 24 * 60 // minutes
	for name, c := range map[string]struct {
		dates []int // minutes at which the price became 1, 2, 3 …, by the clock of whoever set it
		want  []int // price at minutes 5, 15, 25 …; 0 is none
	}{
		"right":                  {[]int{0, 10, 20, 30}, []int{1, 2, 3, 4}},
		"ahead":                  {[]int{0, 100 * day, 20, 30}, []int{1, 1, 3, 4}},
		"ahead, and now past":    {[]int{0, 45, 20, 30, 40}, []int{1, 1, 3, 4, 5}},
		"two ahead":              {[]int{0, 100 * day, 100*day + 1, 30}, []int{1, 1, 1, 4}},
		"most are ahead":         {[]int{100 * day, 101 * day, 102 * day, 30}, []int{0, 0, 0, 4}},
		"the last is ahead":      {[]int{0, 10, 100 * day}, []int{1, 2, 2, 2, 2}},
		"before":                 {[]int{0, 10, -50 * day, 30}, []int{1, 3, 3, 4}},
		"the first is ahead":     {[]int{50, 10, 20, 30}, []int{0, 2, 3, 4}},
		"before the beginning":   {[]int{-50 * day, 10, 20, 30}, []int{1, 2, 3, 4}},
		"ahead, and then before": {[]int{0, 2, 100 * day, -50 * day, 30, 40}, []int{4, 4, 4, 5, 6}},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			now := begin
			clock := func() time.Time { return now }
			store := memstore.New(&memstore.Options{Clock: clock})
			tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), &catalog.Options{Clock: clock})
			id := int64(0)
			for i, minute := range c.dates {
				now = begin.Add(time.Duration(minute) * time.Minute)
				prices := catalog.Prices{InputPrice: usd(catalog.NanoUSD(i + 1))}
				if id == 0 {
					id = must[catalog.Model](t)(tables.Models.Create(t.Context(), catalog.Model{Name: "m", Prices: prices})).ID
					continue
				}
				must[catalog.Model](t)(tables.Models.Edit(t.Context(), id, func(m *catalog.Model) error {
					m.Prices = prices
					return nil
				}))
			}
			now = begin.Add(time.Hour)
			history := must[*catalog.PriceHistory](t)(catalog.ReadPriceHistory(t.Context(), store))
			for i, want := range c.want {
				at := begin.Add(time.Duration(5+10*i) * time.Minute)
				got := 0
				q, _ := history.Quote(catalog.PriceKey{Namespace: "default", Model: "m"}, at)
				if q.Prices != nil {
					got = int(*q.Prices.InputPrice)
				}
				if got != want || got != int(q.Revision) {
					t.Errorf("price at minute %d: %d, of revision %d; want %d", 5+10*i, got, q.Revision, want)
				}
			}
		})
	}
}

func TestPriceHistoryOfAStoreThatIsAway(t *testing.T) {
	store := &fickle{Store: memstore.New(nil)}
	store.away.Store(true)
	if _, err := catalog.ReadPriceHistory(context.Background(), store); !errors.Is(err, errAway) {
		t.Errorf("ReadPriceHistory: %v", err)
	}
}
