package budgets_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/budgets"
	"github.com/ez-api/ez-api/catalog/costs"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

const dollar = catalog.NanoUSD(1_000_000_000)

func aDay(limit catalog.NanoUSD, percents ...int64) catalog.Budget {
	return catalog.Budget{Limit: &limit, Window: "day", Timezone: "Asia/Shanghai", AlertAt: percents}
}

// A spender is a control plane as budgets see it, with two keys below a project that has budgets.
type spender struct {
	*catalog.Tables
	*budgets.Enforcer
	reprice    *costs.Repricer
	ahead      *atomic.Int64 // of the fake clock, nanoseconds
	t          *testing.T
	store      *memstore.Store
	sink       logbuf.Sink
	first, two catalog.Key
	project    catalog.Project
}

func newSpender(t *testing.T, sink logbuf.Sink, b ...catalog.Budget) *spender {
	t.Helper()
	s := &spender{t: t, store: memstore.New(nil), sink: sink, ahead: &atomic.Int64{}}
	s.Tables = catalog.NewTables(s.store, catalog.NewRandomKeyRing(), &catalog.Options{Clock: s.now})
	s.Enforcer = s.enforce(s.store)
	ctx := t.Context()
	var err error
	if s.project, err = s.Projects.Create(ctx, catalog.Project{Name: "acme", Budgets: b}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Projects.Create(ctx, catalog.Project{Name: "acme/search"}); err != nil {
		t.Fatal(err)
	}
	if s.first, err = s.Keys.Create(ctx, catalog.Key{Name: "one", Project: "acme"}); err != nil {
		t.Fatal(err)
	}
	if s.two, err = s.Keys.Create(ctx, catalog.Key{Name: "two", Project: "acme/search"}); err != nil {
		t.Fatal(err)
	}
	return s
}

// enforce runs an enforcer, and what leads its copies on, until the test ends.
func (s *spender) enforce(box alerts.Outbox) *budgets.Enforcer {
	log, prices, accounts := slog.New(slog.DiscardHandler), catalog.NewPriceList(), catalog.NewAccounts()
	copies := catalog.NewFollower(s.store, prices, accounts)
	s.reprice = costs.NewRepricer(s.Tables, s.sink, costs.NewCompleter(prices, accounts, copies), s.now)
	e := budgets.NewEnforcer(budgets.Options{
		Sink: s.sink, Accounts: accounts, Copies: copies, Catalog: s.Tables,
		Alarm: alerts.NewAlarm(box, nil, log, s.now), LogTime: s.now, Clock: s.now, Logger: log, Interval: time.Second,
	})
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, run := range []func() error{
		func() error { return e.Run(ctx) }, func() error { return copies.Run(ctx, log) },
	} {
		all.Go(func() {
			if err := run(); err != nil {
				s.t.Error(err)
			}
		})
	}
	s.t.Cleanup(func() {
		stop()
		all.Wait()
	})
	return e
}

func (s *spender) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// spend stores an entry, and waits for the next round.
func (s *spender) spend(key catalog.Key, cost catalog.NanoUSD, edits ...func(*logbuf.Entry)) {
	s.t.Helper()
	e := logbuf.Entry{ID: uuid.New(), KeyID: key.ID, Project: key.Project, Namespace: "default", Model: "m", Status: 200,
		CostNanoUSD: new(int64(cost)), Time: s.now()}
	for _, edit := range edits {
		edit(&e)
	}
	if r, err := s.sink.Write(s.t.Context(), logbuf.Batch{Entries: []logbuf.Entry{e}}); err != nil || r.Stored != 1 {
		s.t.Fatalf("%+v, %v", r, err)
	}
	time.Sleep(2500 * time.Millisecond) // of the fake clock
}

// jump sets the clock.
func (s *spender) jump(to time.Time) {
	s.ahead.Store(int64(time.Until(to)))
	time.Sleep(2 * time.Second)
}

// hold returns the hold that budgets have made of a target.
func (s *spender) hold(target string) (catalog.Hold, bool) {
	s.t.Helper()
	h, err := s.Holds.Find(s.t.Context(), catalog.ByNaturalKey, catalog.HoldKey(target, catalog.HoldBudget))
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		s.t.Fatal(err)
	}
	return h, err == nil
}

func (s *spender) wantHeld(what, target string, until time.Time) {
	s.t.Helper()
	h, ok := s.hold(target)
	if !ok || h.Status != catalog.Active || !h.Until.Equal(until) {
		s.t.Fatalf("%s: held %t, %s, until %s; want until %s; %+v", what, ok, h.Status, h.Until, until, s.Status())
	}
}

func (s *spender) wantFree(what, target string) {
	s.t.Helper()
	if h, ok := s.hold(target); ok && h.Active(s.now()) {
		s.t.Fatalf("%s: held until %s", what, h.Until)
	}
}

func (s *spender) setBudgets(b ...catalog.Budget) {
	s.t.Helper()
	if _, err := s.Projects.Edit(s.t.Context(), s.project.ID, func(p *catalog.Project) error {
		p.Budgets = b
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(time.Second)
	synctest.Wait()
}

// All that is spent below a project counts; it is held once that is its limit, until the day of its
// zone ends; a raised limit ends the hold at once, a lowered one makes it at once; midnight frees
// without anybody doing anything.
func TestBudgetsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpender(t, memstore.NewSink(nil), aDay(dollar))
		midnight := time.Date(2000, 1, 1, 16, 0, 0, 0, time.UTC) // in Shanghai; the fake clock begins with 2000
		s.spend(s.first, dollar/2)
		s.spend(s.two, dollar/2-1)
		s.wantFree("a nano-dollar is left", "project/acme")
		s.spend(s.first, 1)
		s.wantHeld("used up", "project/acme", midnight)
		s.wantFree("a key below", fmt.Sprint("key/", s.first.ID))
		s.setBudgets(aDay(dollar + 1))
		s.wantFree("raised", "project/acme")
		s.setBudgets(aDay(dollar))
		s.wantHeld("lowered", "project/acme", midnight)
		s.setBudgets(aDay(dollar), catalog.Budget{Limit: new(dollar), Window: "total"})
		s.wantHeld("another window", "project/acme", time.Time{})
		s.setBudgets(aDay(dollar), catalog.Budget{Limit: new(2 * dollar), Window: "total"})
		s.wantHeld("that window is raised", "project/acme", midnight)
		alert := aDay(dollar)
		alert.Action = catalog.BudgetAlert
		s.setBudgets(alert)
		s.wantFree("it only alerts", "project/acme")
		s.setBudgets()
		s.setBudgets(aDay(dollar))
		s.wantHeld("a budget that came back", "project/acme", midnight)
		s.jump(midnight.Add(time.Minute))
		s.wantFree("the day is over", "project/acme")
		s.spend(s.first, dollar/2, func(e *logbuf.Entry) { e.Time = midnight.Add(-time.Second) })
		s.wantFree("a late entry is of its own day", "project/acme")
		s.spend(s.first, dollar)
		s.wantHeld("the next day", "project/acme", midnight.Add(24*time.Hour))
		reports, _, err := s.Reports(t.Context(), budgets.Query{})
		if err != nil || len(reports) != 1 || reports[0].Spent.CostNanoUSD.Int64() != int64(dollar) || !reports[0].Holds ||
			reports[0].Percent != 100 || !reports[0].Ends.Equal(midnight.Add(24*time.Hour)) {
			t.Errorf("%+v, %v", reports, err)
		}
	})
}

// A limit of 0 holds from the beginning, and over midnight.
func TestBudgetsOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpender(t, memstore.NewSink(nil), aDay(0))
		time.Sleep(time.Second) // the copies, and a round
		synctest.Wait()
		s.wantHeld("at once", "project/acme", time.Time{})
		s.setBudgets(aDay(1))
		s.wantFree("raised", "project/acme")
		s.setBudgets(aDay(2))
		// What machines do may be forgotten early.
		if n, err := s.store.ThinChanges(t.Context(), time.Now().AddDate(1, 0, 0)); err != nil || n == 0 {
			t.Errorf("%d changes are a machine's, %v", n, err)
		}
	})
}

// What a person does to a hold stays: one that is disabled holds nothing until it ends or its cause is
// gone. One that is deleted comes back while its cause lasts.
func TestBudgetsLeavePeopleAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpender(t, memstore.NewSink(nil), aDay(dollar))
		s.spend(s.first, dollar)
		h, _ := s.hold("project/acme")
		if _, err := s.Holds.Delete(t.Context(), h.ID, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		h, ok := s.hold("project/acme")
		if !ok {
			t.Fatal("a hold that was deleted does not come back")
		}
		if _, err := s.Holds.Patch(t.Context(), h.ID, 0, []byte(`{"status":"disabled"}`)); err != nil {
			t.Fatal(err)
		}
		mine, err := s.Holds.Create(t.Context(), catalog.Hold{Target: "project/acme"})
		if err != nil {
			t.Fatal(err)
		}
		s.spend(s.two, dollar)
		if h, ok := s.hold("project/acme"); !ok || h.Status != catalog.Disabled {
			t.Errorf("a hold that a person has disabled: %t, %s", ok, h.Status)
		}
		s.setBudgets(aDay(9 * dollar))
		if h, ok := s.hold("project/acme"); ok {
			t.Errorf("a hold whose cause is gone stays: %+v", h)
		}
		if got, err := s.Holds.Get(t.Context(), mine.ID); err != nil || got.Revision != mine.Revision {
			t.Errorf("the hold of a person: %+v, %v", got, err)
		}
		s.setBudgets(aDay(dollar))
		s.wantHeld("used up again after it was disabled", "project/acme", h.Until)
		s.jump(h.Until.Add(time.Minute))
		s.spend(s.first, dollar)
		s.wantHeld("the day after it was disabled", "project/acme", h.Until.Add(24*time.Hour))
	})
}

// Prices that are computed anew count in the day of their entries, and free what they make cheaper.
func TestBudgetsFollowRepricing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpender(t, memstore.NewSink(nil), aDay(dollar))
		price := 1000 * dollar
		m, err := s.Models.Create(t.Context(), catalog.Model{Name: "m", Prices: catalog.Prices{InputPrice: &price}})
		if err != nil {
			t.Fatal(err)
		}
		s.spend(s.first, dollar, func(e *logbuf.Entry) { e.InputTokens, e.PricedRevision = 1000, int64(m.Revision) })
		if _, ok := s.hold("project/acme"); !ok {
			t.Fatal("not held")
		}
		if _, err := s.Models.Edit(t.Context(), m.ID, func(m *catalog.Model) error {
			m.InputPrice = new(price / 2)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.reprice.Reprice(t.Context(), costs.RepriceRequest{
			Query: logbuf.LogQuery{Since: s.now().Add(-time.Hour)},
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		s.wantFree("half the price", "project/acme")
	})
}

// Alerts are raised once in a window for each threshold and limit, whoever sees them how often.
func TestBudgetsAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpender(t, memstore.NewSink(nil), aDay(dollar, 50, 80))
		kinds := func() (all string) {
			t.Helper()
			list, err := s.store.Alerts(t.Context(), alerts.Query{Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			alerts.OldestFirst(list)
			for _, a := range list {
				all += fmt.Sprintf("%s %s %s; ", a.Kind, a.Subject, a.Message)
			}
			return all
		}
		want := ""
		for _, step := range []struct {
			cost catalog.NanoUSD
			more string
		}{
			{dollar/2 - 1, ""},
			{1, "budget_threshold project/acme 50% of the budget of 1 USD a day (Asia/Shanghai) of project/acme " +
				"is spent: 0.5 USD.; "},
			{1, ""},
			{dollar / 2, "budget_threshold project/acme 80% of the budget of 1 USD a day (Asia/Shanghai) of project/acme is " +
				"spent: 1.000000001 USD.; budget_exhausted project/acme All of the budget of 1 USD a day (Asia/Shanghai) of " +
				"project/acme is spent: 1.000000001 USD.; "},
			{dollar, ""},
		} {
			s.spend(s.first, step.cost)
			if want += step.more; kinds() != want {
				t.Fatalf("%s\nwant %s", kinds(), want)
			}
		}
		s.enforce(s.store)
		time.Sleep(3 * time.Second)
		if kinds() != want {
			t.Errorf("another control plane alerts again: %s", kinds())
		}
	})
}

// awaySink is a sink whose sums cannot be read for a while.
type awaySink struct {
	*memstore.Sink
	away atomic.Bool
	gap  atomic.Bool // once
}

func (s *awaySink) Folds(ctx context.Context, after logbuf.FoldMark) (logbuf.FoldPage, error) {
	if s.away.Load() {
		return logbuf.FoldPage{}, errors.New("the log store is away")
	}
	if s.gap.CompareAndSwap(true, false) {
		return logbuf.FoldPage{}, logbuf.ErrGap
	}
	return s.Sink.Folds(ctx, after)
}

// While the log store is away, nothing new is held, and the status says so; then it is made up for.
func TestBudgetsWithoutLogStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &awaySink{Sink: memstore.NewSink(nil)}
		s := newSpender(t, sink, aDay(dollar))
		time.Sleep(time.Second)
		if err := s.Ready(); err != nil || s.Status().Accounts != 1 {
			t.Errorf("at first: %v", err)
		}
		sink.away.Store(true)
		s.spend(s.first, dollar)
		s.wantFree("the log store is away", "project/acme")
		if st := s.Status(); s.Ready() == nil || st.LastError == "" || st.FailsFrom.IsZero() {
			t.Errorf("while it is away: %+v", st)
		}
		sink.away.Store(false)
		time.Sleep(2 * time.Second)
		if _, ok := s.hold("project/acme"); !ok || s.Ready() != nil || s.Status().Summed != 1 {
			t.Errorf("after it came back: %t, %+v", ok, s.Status())
		}
	})
}

// After a gap nobody knows who has spent something: all are summed up and judged anew, also those
// who spend nothing more.
func TestBudgetsAfterAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &awaySink{Sink: memstore.NewSink(nil)}
		s := newSpender(t, sink, aDay(dollar))
		s.spend(s.first, dollar/2)
		sink.away.Store(true)
		s.spend(s.first, dollar/2)
		s.wantFree("the log store is away", "project/acme")
		sink.gap.Store(true)
		sink.away.Store(false)
		time.Sleep(2 * time.Second)
		s.wantHeld("after the gap", "project/acme", time.Date(2000, 1, 1, 16, 0, 0, 0, time.UTC))
		if n := s.Status().Summed; n != 2 {
			t.Errorf("all was summed up %d times, want 2", n)
		}
	})
}

// countingStore counts how often alerts are raised.
type countingStore struct {
	*memstore.Store
	raised atomic.Int64
}

func (s *countingStore) RaiseAlerts(ctx context.Context, list []alerts.Alert) (int, error) {
	s.raised.Add(1)
	return s.Store.RaiseAlerts(ctx, list)
}

// What was raised is remembered: a key that goes on spending costs the outbox nothing.
func TestBudgetsAlertOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpender(t, memstore.NewSink(nil))
		box := &countingStore{Store: s.store}
		s.enforce(box)
		s.setBudgets(aDay(dollar))
		for range 5 {
			s.spend(s.first, dollar)
		}
		if n := box.raised.Load(); n != 1 {
			t.Errorf("raised %d times", n)
		}
	})
}

// plainSink answers questions, and does not tell what is spent.
type plainSink struct{ sink *memstore.Sink }

func (s plainSink) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	return s.sink.Write(ctx, b)
}

func (s plainSink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	return s.sink.Logs(ctx, q)
}

func (s plainSink) Usage(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
	return s.sink.Usage(ctx, q)
}

func (s plainSink) KeyUsage(ctx context.Context, since map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
	return s.sink.KeyUsage(ctx, since)
}

// A sink that only answers questions about usage is asked who was active: the hold comes later.
func TestBudgetsOfAPlainSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpender(t, plainSink{memstore.NewSink(nil)}, aDay(dollar),
			catalog.Budget{Limit: new(9 * dollar), Window: "total"})
		if _, err := s.Keys.Edit(t.Context(), s.two.ID, func(k *catalog.Key) error {
			k.Budgets = []catalog.Budget{aDay(dollar / 2)}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s.spend(s.two, dollar)
		time.Sleep(35 * time.Second)
		midnight := time.Date(2000, 1, 1, 16, 0, 0, 0, time.UTC)
		s.wantHeld("used up", "project/acme", midnight)
		s.wantHeld("used up", fmt.Sprint("key/", s.two.ID), midnight)
		s.setBudgets(aDay(2 * dollar))
		s.wantFree("raised", "project/acme")
	})
}

// A crash between the log store's commit and the catalog's heals with the next start: what should be
// held follows from what was spent.
func TestBudgetsAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := memstore.NewSink(nil)
		if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: []logbuf.Entry{
			{Time: time.Now(), KeyID: 1, Project: "acme/search", CostNanoUSD: new(int64(dollar))},
		}}); err != nil {
			t.Fatal(err)
		}
		s := newSpender(t, sink, aDay(dollar))
		time.Sleep(2 * time.Second)
		s.wantHeld("at the start", "project/acme", time.Date(2000, 1, 1, 16, 0, 0, 0, time.UTC))
	})
}

// A hold that cannot be ended, because it has a label that a person may have set from Go, holds up no other.
func TestProtectedHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpender(t, memstore.NewSink(nil), aDay(dollar))
		midnight := time.Date(2000, 1, 1, 16, 0, 0, 0, time.UTC)
		s.spend(s.two, dollar)
		s.wantHeld("used up", "project/acme", midnight)
		h, _ := s.hold("project/acme")
		if _, err := s.Holds.Edit(t.Context(), h.ID, func(h *catalog.Hold) error {
			h.Labels = map[string]string{catalog.LabelProtected: "true"}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Update(t.Context(), func(tx *catalog.Tx) error { // in one round
			_, err := tx.Keys.Edit(t.Context(), s.two.ID, func(k *catalog.Key) error {
				k.Budgets = []catalog.Budget{aDay(dollar)}
				return nil
			})
			if err == nil {
				_, err = tx.Projects.Edit(t.Context(), s.project.ID, func(p *catalog.Project) error {
					p.Budgets = []catalog.Budget{aDay(2 * dollar)}
					return nil
				})
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		s.wantHeld("beside the one that cannot be ended", fmt.Sprint("key/", s.two.ID), midnight)
		s.wantHeld("that one", "project/acme", midnight)
		if s.Ready() == nil {
			t.Error("nobody is told of it")
		}
	})
}
