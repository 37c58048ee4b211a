package budgets

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// asked counts what a round asks the log store.
type asked struct {
	*memstore.Sink
	folds, sums int
}

func (a *asked) Fold(t context.Context) error { a.folds++; return a.Sink.Fold(t) }

func (a *asked) Spent(t context.Context, q logbuf.SpentQuery) (logbuf.SpentSums, error) {
	a.sums++
	return a.Sink.Spent(t, q)
}

// unraised are alerts that nobody hears of.
type unraised struct{}

func (unraised) Raise(context.Context, ...alerts.Alert) error { return nil }

// idleEnforcer returns an enforcer with so many keys that have budgets, all of which are judged.
func idleEnforcer(t testing.TB, keys int) (*Enforcer, *asked) {
	t.Helper()
	sink, store, accounts := &asked{Sink: memstore.NewSink(nil)}, memstore.New(nil), catalog.NewAccounts()
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	copies := catalog.NewFollower(store, accounts)
	e := NewEnforcer(Options{Sink: sink, Accounts: accounts, Copies: copies, Catalog: tables, Alarm: unraised{},
		LogTime: time.Now, Clock: time.Now, Logger: slog.New(slog.DiscardHandler), Interval: time.Second})
	limit := catalog.NanoUSD(1_000_000_000)
	for made := 0; made < keys; made += 5000 {
		_, err := tables.Update(t.Context(), func(tx *catalog.Tx) error {
			for range min(5000, keys-made) {
				if _, err := tx.Keys.Create(t.Context(), catalog.Key{Name: "k", Budgets: []catalog.Budget{
					{Limit: &limit, Window: catalog.WindowDay, Timezone: "Asia/Shanghai"},
					{Limit: &limit, Window: catalog.WindowMonth},
				}}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := copies.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := e.Status(); s.Accounts != keys || s.Waiting != 0 {
		t.Fatalf("%+v of %d keys", s, keys)
	}
	return e, sink
}

// While nothing is spent, a round costs the same whether few keys have budgets or many: it asks once
// what was folded, and sums nothing up. So do reports of keys whose sums are in memory.
func TestIdleBudgetsCostNothing(t *testing.T) {
	cost := func(keys int) float64 {
		e, sink := idleEnforcer(t, keys)
		sink.folds, sink.sums = 0, 0
		const rounds = 20
		allocated := testing.AllocsPerRun(rounds, func() {
			if err := e.round(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		if sink.folds != rounds+1 || sink.sums != 0 {
			t.Errorf("%d keys: %d folds and %d sums in %d rounds", keys, sink.folds, sink.sums, rounds+1)
		}
		if _, _, err := e.Reports(t.Context(), Query{Limit: 1000}); err != nil || sink.sums != 0 {
			t.Errorf("%d keys: a page of budgets is %d sums, %v", keys, sink.sums, err)
		}
		return allocated
	}
	if few, many := cost(10), cost(10_000); many > few+5 {
		t.Errorf("an idle round allocates %.0f times with 10 keys, and %.0f times with 10,000", few, many)
	}
}

func BenchmarkIdleBudgets(b *testing.B) {
	for _, keys := range []int{100, 100_000} {
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			e, _ := idleEnforcer(b, keys)
			for b.Loop() {
				if err := e.round(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A budget without a limit, which only somebody else than a server can have stored, is used up by whatever is spent.
func TestBudgetWithoutLimit(t *testing.T) {
	e, _ := idleEnforcer(t, 1)
	s := Standing{Budget: catalog.Budget{Window: catalog.WindowDay}}
	s.Spent.CostNanoUSD.SetInt64(1)
	news := e.alerts(catalog.HoldTarget{KeyID: 1}, []Standing{s})
	if len(news) != 1 || news[0].Kind != alerts.BudgetExhausted {
		t.Errorf("alerts %+v", news)
	}
}
