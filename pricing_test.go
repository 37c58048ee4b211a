package ezapi_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// catcher is a log buffer that keeps what it is given.
type catcher struct {
	mu      sync.Mutex
	entries []logbuf.Entry
	closed  atomic.Bool
}

func (c *catcher) Append(_ context.Context, entries ...logbuf.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = append(c.entries, entries...)
	return nil
}

func (c *catcher) Flush(context.Context) error { return nil }
func (c *catcher) Close(context.Context) error { c.closed.Store(true); return nil }
func (c *catcher) Stats() logbuf.Stats         { return logbuf.Stats{Durability: "elsewhere"} }

func (c *catcher) take() []logbuf.Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.entries
	c.entries = nil
	return taken
}

// A plane takes any log buffer: its entries are priced, and it is closed with the plane.
func TestPlaneTakesAnyLogBuffer(t *testing.T) {
	buffer := &catcher{}
	plane, err := ezapi.New(ezapi.Config{LogBuffer: buffer})
	if err != nil {
		t.Fatal(err)
	}
	price := catalog.NanoUSD(2_000_000)
	if _, err := plane.Models.Create(t.Context(),
		ezapi.Model{Name: "m", Prices: catalog.Prices{InputPrice: &price}}); err != nil {
		t.Fatal(err)
	}
	entries := []ezapi.LogEntry{{Model: "m", InputTokens: 3}, {Model: "m", CostNanoUSD: new(int64(1)), PricedRevision: 8}}
	if err := plane.AppendLogs(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	got := buffer.take()
	if len(got) != 2 || *got[0].CostNanoUSD != 6 || got[0].PricedRevision != 1 || *got[1].CostNanoUSD != 1 ||
		got[1].PricedRevision != 0 {
		t.Errorf("the buffer got %+v", got)
	}
	if entries[0].CostNanoUSD != nil || entries[1].PricedRevision != 8 {
		t.Errorf("the caller's entries were changed: %+v", entries)
	}
	if plane.Stats().Logs.Durability != "elsewhere" || plane.LogsReady() != nil {
		t.Errorf("stats %+v", plane.Stats().Logs)
	}
	if err := plane.Close(t.Context()); err != nil || !buffer.closed.Load() {
		t.Errorf("Close: %v, closed %t", err, buffer.closed.Load())
	}
}

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
		buffer := &catcher{}
		plane := newPlane(t, ezapi.Config{LogBuffer: buffer, Catalog: memstore.New(nil), Keeper: catalog.NewRandomKeyRing()})
		models := map[string]catalog.Prices{}
		for _, name := range []string{"a/b", "a/*", "*"} {
			if rapid.Bool().Draw(r, "model "+name) {
				models[name] = entryPrices().Draw(r, name)
				if _, err := plane.Models.Create(t.Context(), ezapi.Model{Name: name, Prices: models[name]}); err != nil {
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
		provider, err := plane.Providers.Create(t.Context(), ezapi.Provider{Name: "p", Type: "openai", Prices: upstreams})
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
		if err := plane.AppendLogs(t.Context(), rapid.SliceOfN(entry, 1, 20).Draw(r, "entries")...); err != nil {
			r.Fatal(err)
		}
		for _, e := range buffer.take() {
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

// deaf is a store that does not tell of commits.
type deaf struct{ catalog.Store }

func (deaf) Wait(ctx context.Context, _ catalog.Revision) (catalog.Revision, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// An entry is priced at the later of what this process knows and what the balancer had
// applied: another process may have answered a write that has not come here yet.
func TestEntryKnowsALaterRevision(t *testing.T) {
	for name, c := range map[string]struct {
		revision string
		cost     int64
		at       int64
	}{
		"knows nothing":       {"", 1, 2},
		"knows as much":       {"5-2", 1, 2},
		"knows more":          {"5-3", 7, 3},
		"is ahead of all":     {"5-999", 7, 3}, // not true: then what there is counts
		"another epoch":       {"99-1", 7, 3},
		"an older epoch":      {"4-999", 1, 2},
		"is no position":      {"1", 1, 2},
		"is larger than all":  {"0-99999999999999999999", 1, 2},
		"is of no sense here": {"-5--5", 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, keeper := memstore.New(nil), catalog.NewRandomKeyRing()
				if _, err := store.Commit(t.Context(), catalog.Commit{Sync: true, Epoch: 5, Time: time.Now()}); err != nil {
					t.Fatal(err)
				}
				other := newPlane(t, ezapi.Config{Catalog: store, Keeper: keeper})
				m, err := other.Models.Create(t.Context(),
					ezapi.Model{Name: "m", Prices: catalog.Prices{InputPrice: new(catalog.NanoUSD(1_000_000))}})
				if err != nil {
					t.Fatal(err)
				}
				sink := memstore.NewSink(nil)
				plane := runPlane(t, ezapi.Config{Catalog: deaf{store}, Keeper: keeper, LogSink: sink,
					Publisher: deafPublisher{memstore.NewPublisher()}})
				eventually(t, "prices are known", func() bool { return plane.Stats().Copies.Revision == 2 })
				if _, err := other.Models.Edit(t.Context(), m.ID, func(m *ezapi.Model) error {
					m.InputPrice = new(catalog.NanoUSD(7_000_000))
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if err := plane.AppendLogs(t.Context(), ezapi.LogEntry{Model: "m", InputTokens: 1,
					Revision: c.revision}); err != nil {
					t.Fatal(err)
				}
				if err := plane.Logs().Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				page, err := sink.Logs(t.Context(), logbuf.LogQuery{})
				if err != nil || len(page.Entries) != 1 {
					t.Fatalf("%d entries, %v", len(page.Entries), err)
				}
				if e := page.Entries[0]; *e.CostNanoUSD != c.cost || e.PricedRevision != c.at {
					t.Errorf("cost %d at %d; want %d at %d", *e.CostNanoUSD, e.PricedRevision, c.cost, c.at)
				}
			})
		})
	}
}

// deafPublisher takes nothing, so that no relay makes commits of its own.
type deafPublisher struct{ *memstore.Publisher }

func (deafPublisher) Head(context.Context) (snapshot.Head, error) {
	return snapshot.Head{}, errors.New("the publisher is away")
}

// What is not looked after is not used: while the catalog does not answer, entries stay without a
// cost, and get the one of the revision at which they leave.
func TestNoEntryIsPricedByAnOldCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, keeper := &awayStore{Store: memstore.New(nil)}, catalog.NewRandomKeyRing()
		sink := memstore.NewSink(nil)
		plane := runPlane(t, ezapi.Config{Catalog: store, Keeper: keeper, LogSink: sink,
			Publisher: deafPublisher{memstore.NewPublisher()}})
		price := func(n int64) func(*ezapi.Model) error {
			return func(m *ezapi.Model) error { m.InputPrice = new(catalog.NanoUSD(n * 1_000_000)); return nil }
		}
		m := ezapi.Model{Name: "m"}
		_ = price(1)(&m)
		m, err := plane.Models.Create(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if err := plane.CatchUp(t.Context(), m.Revision); err != nil { // copies may be half a second old
			t.Fatal(err)
		}
		entry := ezapi.LogEntry{Model: "m", InputTokens: 1, RequestID: "before"}
		if err := plane.AppendLogs(t.Context(), entry); err != nil {
			t.Fatal(err)
		}
		store.away.Store(true)
		time.Sleep(time.Minute)
		for _, entry.RequestID = range []string{"during", "during", "during"} {
			if err := plane.AppendLogs(t.Context(), entry); err != nil {
				t.Fatal(err)
			}
		}
		other := newPlane(t, ezapi.Config{Catalog: store.Store, Keeper: keeper})
		if _, err := other.Models.Edit(t.Context(), m.ID, price(7)); err != nil {
			t.Fatal(err)
		}
		store.away.Store(false)
		if err := plane.Logs().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for request, want := range map[string]int64{"before": 1, "during": 7} {
			page, err := sink.Logs(t.Context(), logbuf.LogQuery{RequestID: request})
			if err != nil || len(page.Entries) == 0 {
				t.Fatalf("%d entries, %v", len(page.Entries), err)
			}
			for _, e := range page.Entries {
				if e.CostNanoUSD == nil || *e.CostNanoUSD != want {
					t.Errorf("an entry from %s costs %v; want %d", request, e.CostNanoUSD, want)
				}
			}
		}
	})
}

// awayStore does not answer while it is away.
type awayStore struct {
	catalog.Store
	away atomic.Bool
}

func (s *awayStore) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	if s.away.Load() {
		return errors.New("the store is away")
	}
	return s.Store.Read(ctx, fn)
}

// While prices change and entries come in, with 5,000 models: none is priced by an older
// price than the one whose write was answered as applied.
func TestPricesAreNeverOlderThanApplied(t *testing.T) {
	const models, writers, readers, rounds = 5000, 2, 4, 100
	buffer := &catcher{}
	plane := runPlane(t, ezapi.Config{LogBuffer: buffer})
	ids := make([]int64, models)
	for n := range ids {
		m, err := plane.Models.Create(t.Context(), ezapi.Model{Name: fmt.Sprint("m", n),
			Prices: catalog.Prices{InputPrice: new(catalog.NanoUSD(0))}})
		if err != nil {
			t.Fatal(err)
		}
		ids[n] = m.ID
	}
	loads := plane.Stats().Copies.Loads
	var applied [writers]atomic.Int64 // the price of a writer's model that was answered last
	var work, watch sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			for price := int64(1); price <= rounds; price++ {
				m, err := plane.Models.Edit(t.Context(), ids[w], func(m *ezapi.Model) error {
					m.InputPrice = new(catalog.NanoUSD(price * 1_000_000))
					return nil
				})
				if err == nil {
					err = plane.CatchUp(t.Context(), m.Revision)
				}
				if err != nil {
					t.Error(err)
					return
				}
				applied[w].Store(price)
			}
		})
	}
	stop := make(chan struct{})
	var checked atomic.Int64
	for r := range readers {
		watch.Go(func() {
			w := r % writers
			for {
				select {
				case <-stop:
					return
				default:
				}
				least := applied[w].Load()
				entry := ezapi.LogEntry{Model: fmt.Sprint("m", w), InputTokens: 1, RequestID: fmt.Sprint(r)}
				if err := plane.AppendLogs(t.Context(), entry); err != nil {
					t.Error(err)
					return
				}
				for _, e := range buffer.of(entry.RequestID) {
					checked.Add(1)
					if e.CostNanoUSD == nil || *e.CostNanoUSD < least {
						t.Errorf("cost %v after price %d was applied", e.CostNanoUSD, least)
						return
					}
				}
			}
		})
	}
	work.Wait()
	close(stop)
	watch.Wait()
	if checked.Load() == 0 {
		t.Error("nothing was checked")
	}
	if got := plane.Stats().Copies.Loads; got > max(loads, 1) {
		t.Errorf("all models were read %d times", got)
	}
}

// of takes the entries of a request out.
func (c *catcher) of(request string) (found []logbuf.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = slices.DeleteFunc(c.entries, func(e logbuf.Entry) bool {
		if e.RequestID == request {
			found = append(found, e)
			return true
		}
		return false
	})
	return found
}
