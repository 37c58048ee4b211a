package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

func mustRefresh(t *testing.T, f *catalog.Follower) catalog.Head {
	t.Helper()
	return must[catalog.Head](t)(f.Refresh(t.Context()))
}

func TestPriceListFollows(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	list := catalog.NewPriceList()
	follower := catalog.NewFollower(tables.Store(), list)
	ask := catalog.PriceKey{Namespace: "default", Model: "m"}
	if _, ok := list.Quote(ask); ok {
		t.Error("prices before the first refresh")
	}
	m := must[catalog.Model](t)(tables.Models.Create(ctx,
		catalog.Model{Name: "m", Prices: catalog.Prices{InputPrice: usd(5)}}))
	for range 2 { // the second finds nothing changed
		mustRefresh(t, follower)
		if q, ok := list.Quote(ask); !ok || q.Revision != 1 || *q.Prices.InputPrice != 5 || q.Prices.OutputPrice != nil {
			t.Errorf("quote %+v, %t", q, ok)
		}
	}
	must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	mustRefresh(t, follower)
	if q, _ := list.Quote(ask); q.Revision != 2 || q.Prices == nil {
		t.Errorf("after a change of something else: %+v", q)
	}
	must[catalog.Model](t)(tables.Models.Patch(ctx, m.ID, 0, []byte(`{"name":"n","input_price":null,"output_price":"1"}`)))
	mustRefresh(t, follower)
	if q, ok := list.Quote(ask); q.Prices != nil || !ok {
		t.Errorf("of a model that is called otherwise now: %+v", q)
	}
	if q, _ := list.Quote(catalog.PriceKey{Namespace: "default", Model: "n"}); q.Revision != 3 ||
		q.Prices.InputPrice != nil || q.Prices.OutputPrice == nil {
		t.Errorf("after a change: %+v", q)
	}
	if s := follower.Status(); s.Loads != 1 || s.Revision != 3 || s.LastError != "" {
		t.Errorf("status %+v; want one load", s)
	}
}

// The first record that exists decides: the provider's before the model's, the exact one
// before those with a star, the longest star first. Records are never mixed.
func TestPriceListLooksLikeRouting(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	price := func(n catalog.NanoUSD) catalog.Prices { return catalog.Prices{InputPrice: usd(n)} }
	for name, p := range map[string]catalog.Prices{
		"a/b": price(1), "a/*": price(2), "a/b/*": price(3), "*": price(4), "empty": {}, "star/*": price(6),
	} {
		must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: name, Prices: p}))
	}
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Namespace: "other", Name: "a/b", Prices: price(7)}))
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "openai", Prices: map[string]catalog.Prices{
			"gpt-4o": price(10), "gpt-*": price(11), "gpt-4*": price(12), "o": {OutputPrice: usd(13)},
		}}))
	list := catalog.NewPriceList()
	mustRefresh(t, catalog.NewFollower(tables.Store(), list))
	for _, c := range []struct {
		provider               int64
		upstream, space, model string
		want                   catalog.NanoUSD // input; 0: none
	}{
		{0, "", "default", "a/b", 1},
		{0, "", "default", "a/c", 2},
		{0, "", "default", "a/b/c", 3},
		{0, "", "default", "a/b/c/d", 3},
		{0, "", "default", "a", 4},
		{0, "", "default", "a/*", 2}, // the name of a record
		{0, "", "default", "empty", 0},
		{0, "", "default", "", 0},
		{0, "", "default", "x*", 0},
		{0, "", "default", strings.Repeat("x", 257), 0},
		{0, "", "default", strings.Repeat("x/", 9) + "x", 0},
		{0, "", "other", "a/b", 7},
		{0, "", "other", "a/c", 0},
		{0, "", "none", "a/b", 0},
		{p.ID, "gpt-4o", "default", "a/b", 10},
		{p.ID, "gpt-4o-mini", "default", "a/b", 12},
		{p.ID, "gpt-5", "default", "a/b", 11},
		{p.ID, "claude", "default", "a/b", 1},
		{p.ID, "", "default", "a/b", 1},
		{p.ID, "o", "default", "a/b", 0}, // not mixed with the model's input price
		{p.ID + 1000, "gpt-4o", "default", "a/b", 1},
	} {
		q, ok := list.Quote(catalog.PriceKey{ProviderID: c.provider, UpstreamModel: c.upstream, Namespace: c.space,
			Model: c.model})
		var got catalog.NanoUSD
		if q.Prices != nil && q.Prices.InputPrice != nil {
			got = *q.Prices.InputPrice
		}
		if !ok || got != c.want {
			t.Errorf("%.20q of provider %d, %.20q in %s: %d, %t; want %d", c.upstream, c.provider, c.model, c.space, got, ok,
				c.want)
		}
	}
}

// After any changes, a list that followed them says what one says that reads the whole.
func TestPriceListFollowsAnything(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		tables := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
		ctx := t.Context()
		list := catalog.NewPriceList()
		follower := catalog.NewFollower(tables.Store(), list)
		names := []string{"a", "b", "a/*", "a/b", "*"}
		prices := rapid.Custom(func(r *rapid.T) (p catalog.Prices) {
			if rapid.Bool().Draw(r, "known") {
				p.InputPrice = usd(catalog.NanoUSD(rapid.Int64Range(0, 1000).Draw(r, "price")))
			}
			return p
		})
		var models, providers []int64
		fresh := 0
		r.Repeat(map[string]func(*rapid.T){
			"create a model": func(r *rapid.T) {
				m, err := tables.Models.Create(ctx, catalog.Model{
					Namespace: rapid.SampledFrom([]string{"default", "x"}).Draw(r, "namespace"),
					Name:      rapid.SampledFrom(names).Draw(r, "name"), Prices: prices.Draw(r, "prices"),
				})
				if err == nil {
					models = append(models, m.ID)
				}
			},
			"change a model": func(r *rapid.T) {
				if len(models) > 0 {
					_, _ = tables.Models.Edit(ctx, rapid.SampledFrom(models).Draw(r, "model"), func(m *catalog.Model) error {
						m.Name, m.Prices = rapid.SampledFrom(names).Draw(r, "name"), prices.Draw(r, "prices")
						return nil
					})
				}
			},
			"delete a model": func(r *rapid.T) {
				if len(models) > 0 {
					_, _ = tables.Models.Delete(ctx, rapid.SampledFrom(models).Draw(r, "model"), 0)
				}
			},
			"write a provider": func(r *rapid.T) {
				records := map[string]catalog.Prices{}
				for _, name := range []string{"u", "u*", "v"} {
					if p := prices.Draw(r, name); p.HasAny() {
						records[name] = p
					}
				}
				if len(providers) < 2 {
					fresh++
					p, err := tables.Providers.Create(ctx,
						catalog.Provider{Name: fmt.Sprint("p", fresh), Type: "openai", Prices: records})
					if err != nil {
						r.Fatal(err)
					}
					providers = append(providers, p.ID)
					return
				}
				_, _ = tables.Providers.Edit(ctx, rapid.SampledFrom(providers).Draw(r, "provider"),
					func(p *catalog.Provider) error {
						p.Prices = records
						return nil
					})
			},
			"delete a provider": func(r *rapid.T) {
				if len(providers) > 0 {
					id := rapid.SampledFrom(providers).Draw(r, "provider")
					_, _ = tables.Providers.Delete(ctx, id, 0)
					providers = slices.DeleteFunc(providers, func(o int64) bool { return o == id })
				}
			},
			"": func(r *rapid.T) {
				if rapid.Bool().Draw(r, "wait for more") {
					return
				}
				if _, err := follower.Refresh(ctx); err != nil {
					r.Fatal(err)
				}
				whole := catalog.NewPriceList()
				if _, err := catalog.NewFollower(tables.Store(), whole).Refresh(ctx); err != nil {
					r.Fatal(err)
				}
				for _, id := range append(slices.Clone(providers), 0) {
					for _, upstream := range []string{"u", "uu", "v", "w"} {
						for _, name := range append(names, "a/c", "c") {
							for _, space := range []string{"default", "x"} {
								k := catalog.PriceKey{ProviderID: id, UpstreamModel: upstream, Namespace: space, Model: name}
								got, _ := list.Quote(k)
								want, _ := whole.Quote(k)
								if diff := cmp.Diff(want, got); diff != "" {
									r.Fatalf("%+v (-want +got):\n%s", k, diff)
								}
							}
						}
					}
				}
			},
		})
		if s := follower.Status(); s.Loads > 1 {
			r.Fatalf("the whole was read %d times", s.Loads)
		}
	})
}

// Two models exchange their names in one revision, in whatever order.
func TestPriceListExchangesNames(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	a := must[catalog.Model](t)(tables.Models.Create(ctx,
		catalog.Model{Name: "a", Prices: catalog.Prices{InputPrice: usd(1)}}))
	b := must[catalog.Model](t)(tables.Models.Create(ctx,
		catalog.Model{Name: "b", Prices: catalog.Prices{InputPrice: usd(2)}}))
	list := catalog.NewPriceList()
	list.Arrive(catalog.Head{})
	follower := catalog.NewFollower(tables.Store(), list)
	mustRefresh(t, follower)
	// As an engine records it that lets go of both names before it writes them.
	err := list.Apply(ctx, nil, []catalog.Change{
		{Revision: 3, Kind: catalog.KindModel, ID: b.ID, After: []byte(`{"namespace":"default","name":"a","input_price":"0.000000002"}`)},
		{Revision: 3, Kind: catalog.KindModel, ID: a.ID, After: []byte(`{"namespace":"default","name":"b","input_price":"0.000000001"}`)},
	}, 3)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]catalog.NanoUSD{"a": 2, "b": 1} {
		if q, _ := list.Quote(catalog.PriceKey{Namespace: "default", Model: name}); q.Prices == nil ||
			*q.Prices.InputPrice != want {
			t.Errorf("%s: %+v; want %d", name, q.Prices, want)
		}
	}
}

// fickle is a store whose history can be pruned, and which can be away.
type fickle struct {
	catalog.Store
	away   atomic.Bool
	pruned atomic.Bool
	reads  atomic.Int64
	lists  atomic.Int64
}

type fickleReader struct {
	catalog.Reader
	store *fickle
}

var errAway = errors.New("the database is away")

func (s *fickle) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	s.reads.Add(1)
	if s.away.Load() {
		return errAway
	}
	return s.Store.Read(ctx, func(r catalog.Reader) error { return fn(fickleReader{r, s}) })
}

func (r fickleReader) List(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
	r.store.lists.Add(1)
	return r.Reader.List(ctx, k, q)
}

func (r fickleReader) Changes(
	ctx context.Context, after catalog.Cursor, limit int, kinds ...catalog.Kind,
) ([]catalog.Change, error) {
	if r.store.pruned.Load() {
		return nil, catalog.ErrCompacted
	}
	return r.Reader.Changes(ctx, after, limit, kinds...)
}

// A change costs a change, and never a look at all models; the whole is read again when the
// feed was pruned.
func TestFollowerReadsTheWholeSeldom(t *testing.T) {
	store := &fickle{Store: memstore.New(nil)}
	tables, ctx := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil), t.Context()
	list := catalog.NewPriceList()
	follower := catalog.NewFollower(store, list)
	mustRefresh(t, follower)
	store.lists.Store(0)
	for n := range 50 {
		must[catalog.Model](t)(tables.Models.Create(ctx,
			catalog.Model{Name: fmt.Sprint("m", n), Prices: catalog.Prices{InputPrice: usd(1)}}))
		if n%7 == 0 {
			mustRefresh(t, follower)
		}
	}
	if n := store.lists.Load(); n != 0 {
		t.Errorf("following 50 changes listed models %d times", n)
	}
	must[catalog.Model](t)(tables.Models.Create(ctx,
		catalog.Model{Name: "m50", Prices: catalog.Prices{InputPrice: usd(1)}}))
	store.pruned.Store(true)
	mustRefresh(t, follower)
	if q, _ := list.Quote(catalog.PriceKey{Namespace: "default", Model: "m50"}); q.Prices == nil || q.Revision != 51 {
		t.Errorf("after a pruned feed: %+v", q)
	}
	if s := follower.Status(); s.Loads != 2 {
		t.Errorf("the whole was read %d times; want 2", s.Loads)
	}
}

// A store that was set back to a backup, with other commits since, is read anew.
func TestFollowerNoticesAnotherHistory(t *testing.T) {
	ctx := t.Context()
	keeper := catalog.NewRandomKeyRing()
	var current atomic.Pointer[catalog.Store]
	fill := func(price catalog.NanoUSD) {
		var s catalog.Store = memstore.New(nil)
		must[catalog.Model](t)(catalog.NewTables(s, keeper, nil).Models.Create(ctx,
			catalog.Model{Name: "m", Prices: catalog.Prices{InputPrice: usd(price)}}))
		current.Store(&s)
	}
	fill(1)
	list := catalog.NewPriceList()
	follower := catalog.NewFollower(switching{&current}, list)
	mustRefresh(t, follower)
	fill(2)
	mustRefresh(t, follower)
	if q, _ := list.Quote(catalog.PriceKey{Namespace: "default", Model: "m"}); *q.Prices.InputPrice != 2 {
		t.Errorf("the price is that of another history: %+v", q.Prices)
	}
}

// switching is a store that another may take the place of.
type switching struct {
	current *atomic.Pointer[catalog.Store]
}

func (s switching) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	return (*s.current.Load()).Read(ctx, fn)
}
func (s switching) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	return (*s.current.Load()).Commit(ctx, c)
}
func (s switching) NextIDs(ctx context.Context, n int) (int64, error) {
	return (*s.current.Load()).NextIDs(ctx, n)
}
func (s switching) Wait(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
	return (*s.current.Load()).Wait(ctx, after)
}

// recorder counts log records by level.
type recorder struct{ warn, info atomic.Int64 }

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }
func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	if rec.Level >= slog.LevelWarn {
		r.warn.Add(1)
	} else {
		r.info.Add(1)
	}
	return nil
}

// While the store is away, the copies stay as they are, the status says so, and the log says
// it once.
func TestFollowerOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fickle{Store: memstore.New(nil)}
		tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
		ctx, stop := context.WithCancel(t.Context())
		list, log := catalog.NewPriceList(), &recorder{}
		follower := catalog.NewFollower(store, list)
		done := make(chan error, 1)
		go func() { done <- follower.Run(ctx, slog.New(log)) }()
		must[catalog.Model](t)(tables.Models.Create(ctx,
			catalog.Model{Name: "m", Prices: catalog.Prices{InputPrice: usd(1)}}))
		synctest.Wait()
		if !follower.Running() || follower.Status().Revision != 1 {
			t.Errorf("status %+v", follower.Status())
		}
		store.away.Store(true)
		must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "n"})) // wakes it
		time.Sleep(10 * time.Minute)
		s := follower.Status()
		if s.Revision != 1 || s.LastError == "" || s.FailsFrom.IsZero() || log.warn.Load() != 1 {
			t.Errorf("status %+v, warned %d times; want once", s, log.warn.Load())
		}
		if _, ok := list.Quote(catalog.PriceKey{Namespace: "default", Model: "m"}); !ok {
			t.Error("the prices are gone")
		}
		if err := follower.CatchUp(ctx, 2); !errors.Is(err, errAway) {
			t.Errorf("CatchUp: %v", err)
		}
		store.away.Store(false)
		if err := follower.CatchUp(ctx, 2); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if s := follower.Status(); s.Revision != 2 || s.LastError != "" || !s.FailsFrom.IsZero() || log.info.Load() != 1 {
			t.Errorf("status %+v, said %d times that it works", s, log.info.Load())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
