package ezapi_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/budgets"
	"github.com/ez-api/ez-api/catalog/health"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

func newPlane(t *testing.T, config ezapi.Config) *ezapi.Plane {
	t.Helper()
	plane, err := ezapi.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return plane
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

func TestRunPublishesAndEnds(t *testing.T) {
	defer goleak.VerifyNone(t)
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(ctx) }()
	key, err := plane.Keys.Create(ctx, ezapi.Key{Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key is published", func() bool {
		docs, err := plane.Publisher().Lookup(ctx, catalog.KindKey, catalog.HashToken(key.Token.Reveal()))
		return err == nil && len(docs) == 1
	})
	eventually(t, "operators and the other copies follow", func() bool {
		s := plane.Stats()
		return s.Operators.Revision >= key.Revision && s.Copies.Revision >= key.Revision
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v, want nil when its context ends", err)
	}
	if err := plane.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestLogsArePricedAndStored(t *testing.T) {
	sink := memstore.NewSink(nil)
	plane := newPlane(t, ezapi.Config{LogSink: sink})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	price := catalog.NanoUSD(2_500_000_000)
	if _, err := plane.Models.Create(ctx, ezapi.Model{Name: "m", Prices: catalog.Prices{InputPrice: &price}}); err != nil {
		t.Fatal(err)
	}
	go plane.Run(ctx)
	entry := ezapi.LogEntry{Namespace: "default", Model: "m", InputTokens: 1000, Time: time.Now()}
	eventually(t, "the price is known", func() bool {
		e := entry
		if err := plane.AppendLogs(ctx, e); err != nil {
			t.Fatal(err)
		}
		if err := plane.Logs().Flush(ctx); err != nil {
			t.Fatal(err)
		}
		page, err := plane.Archive().Logs(ctx, logbuf.LogQuery{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, stored := range page.Entries {
			if stored.CostNanoUSD != nil {
				if *stored.CostNanoUSD != 2_500_000 || stored.PricedRevision == 0 {
					t.Fatalf("cost %d at revision %d", *stored.CostNanoUSD, stored.PricedRevision)
				}
				return true
			}
		}
		return false
	})
}

// What is logged is charged to budgets, and holds what has used its budget up.
func TestLogsUseUpBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plane := runPlane(t, ezapi.Config{})
		key, err := plane.Keys.Create(t.Context(), ezapi.Key{Name: "k", Budgets: []catalog.Budget{
			{Limit: new(catalog.NanoUSD(5)), Window: catalog.WindowTotal}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := plane.AppendLogs(t.Context(), ezapi.LogEntry{KeyID: key.ID, CostNanoUSD: new(int64(5))}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		found, _, err := plane.Budgets(t.Context(), budgets.Query{})
		if err != nil || len(found) != 1 || !found[0].Holds || found[0].Of.KeyID != key.ID {
			t.Errorf("budgets %+v, %v", found, err)
		}
		if s := plane.Stats().Budgets; s.Accounts != 1 || s.Holds != 1 || plane.BudgetsReady() != nil {
			t.Errorf("status %+v, %v", s, plane.BudgetsReady())
		}
		raised, err := plane.Alerts(t.Context(), alerts.Query{Limit: 10})
		if err != nil || len(raised) != 1 || raised[0].Kind != alerts.BudgetExhausted {
			t.Errorf("alerts %+v, %v", raised, err)
		}
	})
}

// What is logged holds the providers that it says fail, also where the log store keeps no notes of them.
func TestLogsHoldProviders(t *testing.T) {
	for name, sink := range map[string]logbuf.Sink{
		"notes are shared": memstore.NewSink(nil), "each judges by itself": struct{ logbuf.Sink }{memstore.NewSink(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plane := runPlane(t, ezapi.Config{LogSink: sink})
				provider, err := plane.Providers.Create(t.Context(),
					ezapi.Provider{Name: "p", Type: "openai", Models: []string{"m"}})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // then the copy that entries are counted by has it
				for range 10 {
					if err := plane.AppendLogs(t.Context(), ezapi.LogEntry{Status: 503, Time: plane.Now(),
						Failures: []logbuf.Failure{{ProviderID: provider.ID, UpstreamModel: "m", Class: "server"}}}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(15 * time.Second)
				rows, more, err := plane.ProviderHealth(t.Context(), health.Query{})
				if err != nil || more || len(rows) != 1 || rows[0].Failures != 10 || rows[0].Hold == nil {
					t.Errorf("%+v, %v", rows, err)
				}
				if s := plane.Stats().Health; s.Made != 1 || s.Held != 1 || s.LastError != "" {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

// hanging is a catalog that never answers.
type hanging struct{ catalog.Store }

func (hanging) Read(ctx context.Context, _ func(catalog.Reader) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// What a model costs is known to the first entry, too, whether Run has come that
// far or not; only a catalog that does not answer leaves it without.
func TestFirstLogIsPriced(t *testing.T) {
	store, keeper := memstore.New(nil), catalog.NewRandomKeyRing()
	price := catalog.NanoUSD(2_500_000_000)
	before := newPlane(t, ezapi.Config{Catalog: store, Keeper: keeper})
	if _, err := before.Models.Create(t.Context(),
		ezapi.Model{Name: "m", Prices: catalog.Prices{InputPrice: &price}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, namespace string
		store           catalog.Store
		want            string
	}{
		{"at once", "default", store, "2500000"},
		{"in the namespace that none means", "", store, "2500000"},
		{"of a catalog that hangs", "default", hanging{store}, "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := memstore.NewSink(nil)
				plane, err := ezapi.New(ezapi.Config{Catalog: c.store, Keeper: keeper, LogSink: sink})
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				for range 2 {
					if err := plane.AppendLogs(t.Context(), ezapi.LogEntry{Namespace: c.namespace, Model: "m",
						InputTokens: 1000}); err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(begin); took > 2*time.Second {
					t.Errorf("it took %s; want no longer wait, and only once", took)
				}
				if err := plane.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				page, err := sink.Logs(t.Context(), logbuf.LogQuery{})
				if err != nil || len(page.Entries) != 2 {
					t.Fatalf("%d entries, %v; want 2", len(page.Entries), err)
				}
				for _, e := range page.Entries {
					got := "unknown"
					if e.CostNanoUSD != nil {
						got = fmt.Sprint(*e.CostNanoUSD)
					}
					if got != c.want {
						t.Errorf("cost %s; want %s", got, c.want)
					}
				}
			})
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for name, config := range map[string]ezapi.Config{
		"a catalog without a keeper": {Catalog: memstore.New(nil)},
		"logs kept too short":        {LogRetention: time.Hour},
		"usage kept too short":       {UsageRetention: 31 * 24 * time.Hour},
	} {
		if _, err := ezapi.New(config); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}
