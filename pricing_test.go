package ezapi_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
