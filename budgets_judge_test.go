package ezapi_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/costs"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

const dollar = catalog.NanoUSD(1_000_000_000)

func aDay(limit catalog.NanoUSD, percents ...int64) catalog.Budget {
	return catalog.Budget{Limit: &limit, Window: "day", Timezone: "Asia/Shanghai", AlertAt: percents}
}

// spendPlane is a plane with two keys, below a project with a budget of a dollar a day.
type spendPlane struct {
	*ezapi.Plane
	ahead      *atomic.Int64 // of the fake clock, nanoseconds
	t          *testing.T
	store      *memstore.Store
	first, two ezapi.Key
	project    catalog.Project
}

func newSpendPlane(t *testing.T, sink logbuf.Sink, b ...catalog.Budget) spendPlane {
	t.Helper()
	s := spendPlane{t: t, store: memstore.New(nil), ahead: &atomic.Int64{}}
	s.Plane = runPlane(t, ezapi.Config{Catalog: s.store, Keeper: catalog.NewRandomKeyRing(), LogSink: sink,
		Clock: func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) },
		Logs:  logbuf.Options{FlushInterval: 100 * time.Millisecond}})
	ctx := t.Context()
	var err error
	if s.project, err = s.Projects.Create(ctx, catalog.Project{Name: "acme", Budgets: b}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Projects.Create(ctx, catalog.Project{Name: "acme/search"}); err != nil {
		t.Fatal(err)
	}
	if s.first, err = s.Keys.Create(ctx, ezapi.Key{Name: "one", Project: "acme"}); err != nil {
		t.Fatal(err)
	}
	if s.two, err = s.Keys.Create(ctx, ezapi.Key{Name: "two", Project: "acme/search"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // entries are completed by what the catalog was half a second ago, or later
	return s
}

// spend appends an entry, and waits for the next round.
func (s spendPlane) spend(key ezapi.Key, cost catalog.NanoUSD, edits ...func(*ezapi.LogEntry)) {
	s.t.Helper()
	e := ezapi.LogEntry{KeyID: key.ID, Model: "m", Status: 200, CostNanoUSD: new(int64(cost)), Time: s.Now()}
	for _, edit := range edits {
		edit(&e)
	}
	if err := s.AppendLogs(s.t.Context(), e); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond) // of the fake clock
}

// jump sets the clock.
func (s spendPlane) jump(to time.Time) {
	s.ahead.Store(int64(time.Until(to)))
	time.Sleep(2 * time.Second)
}

// hold returns the hold that budgets have made of a target.
func (s spendPlane) hold(target string) (catalog.Hold, bool) {
	s.t.Helper()
	h, err := s.Holds.Find(s.t.Context(), catalog.ByNaturalKey, catalog.HoldKey(target, catalog.HoldBudget))
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		s.t.Fatal(err)
	}
	return h, err == nil
}

func (s spendPlane) wantHeld(what, target string, until time.Time) {
	s.t.Helper()
	h, ok := s.hold(target)
	if !ok || h.Status != catalog.Active || !h.Until.Equal(until) {
		s.t.Fatalf("%s: held %t, %s, until %s; want until %s; %+v", what, ok, h.Status, h.Until, until, s.Stats().Budgets)
	}
}

func (s spendPlane) wantFree(what, target string) {
	s.t.Helper()
	if h, ok := s.hold(target); ok && h.Active(s.Now()) {
		s.t.Fatalf("%s: held until %s", what, h.Until)
	}
}

func (s spendPlane) setBudgets(b ...catalog.Budget) {
	s.t.Helper()
	if _, err := s.Projects.Edit(s.t.Context(), s.project.ID, func(p *catalog.Project) error {
		p.Budgets = b
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(time.Millisecond)
	synctest.Wait()
}

// All that is spent below a project counts; it is held once that is its limit, until the day of its
// zone ends; a raised limit ends the hold at once, a lowered one makes it at once; midnight frees
// without anybody doing anything.
func TestBudgetsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpendPlane(t, memstore.NewSink(nil), aDay(dollar))
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
		s.spend(s.first, dollar/2, func(e *ezapi.LogEntry) { e.Time = midnight.Add(-time.Second) })
		s.wantFree("a late entry is of its own day", "project/acme")
		s.spend(s.first, dollar)
		s.wantHeld("the next day", "project/acme", midnight.Add(24*time.Hour))
		reports, _, err := s.Budgets(t.Context(), ezapi.BudgetQuery{})
		if err != nil || len(reports) != 1 || reports[0].Spent.CostNanoUSD.Int64() != int64(dollar) || !reports[0].Holds ||
			reports[0].Percent != 100 || !reports[0].Ends.Equal(midnight.Add(24*time.Hour)) {
			t.Errorf("%+v, %v", reports, err)
		}
	})
}

// A limit of 0 holds from the beginning, and over midnight.
func TestBudgetsOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpendPlane(t, memstore.NewSink(nil), aDay(0))
		time.Sleep(time.Millisecond)
		synctest.Wait()
		s.wantHeld("at once", "project/acme", time.Time{})
		s.setBudgets(aDay(1))
		s.wantFree("raised", "project/acme")
		s.setBudgets(aDay(2))
		wantThinned(t, s.store, "budgets")
	})
}

// What a person does to a hold stays: one that is disabled holds nothing until it ends or its cause is
// gone. One that is deleted comes back while its cause lasts.
func TestBudgetsLeavePeopleAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpendPlane(t, memstore.NewSink(nil), aDay(dollar))
		s.spend(s.first, dollar)
		h, _ := s.hold("project/acme")
		if _, err := s.Holds.Delete(t.Context(), h.ID, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
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
		s := newSpendPlane(t, memstore.NewSink(nil), aDay(dollar))
		price := 1000 * dollar
		m, err := s.Models.Create(t.Context(), ezapi.Model{Name: "m", Prices: catalog.Prices{InputPrice: &price}})
		if err != nil {
			t.Fatal(err)
		}
		s.spend(s.first, 0, func(e *ezapi.LogEntry) { e.CostNanoUSD, e.InputTokens = nil, 1000 })
		if _, ok := s.hold("project/acme"); !ok {
			t.Fatal("not held")
		}
		if _, err := s.Models.Edit(t.Context(), m.ID, func(m *ezapi.Model) error {
			m.InputPrice = new(price / 2)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Reprice(t.Context(), costs.RepriceRequest{
			Query: logbuf.LogQuery{Since: s.Now().Add(-time.Hour)},
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
		sink := memstore.NewSink(nil)
		s := newSpendPlane(t, sink, aDay(dollar, 50, 80))
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
		runPlane(t, ezapi.Config{Catalog: s.store, Keeper: catalog.NewRandomKeyRing(), LogSink: sink})
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
		s := newSpendPlane(t, sink, aDay(dollar))
		time.Sleep(time.Second)
		if err := s.BudgetsReady(); err != nil || s.Stats().Budgets.Accounts != 1 {
			t.Errorf("at first: %v", err)
		}
		sink.away.Store(true)
		s.spend(s.first, dollar)
		s.wantFree("the log store is away", "project/acme")
		if st := s.Stats().Budgets; s.BudgetsReady() == nil || st.LastError == "" || st.FailsFrom.IsZero() {
			t.Errorf("while it is away: %+v", st)
		}
		sink.away.Store(false)
		time.Sleep(2 * time.Second)
		if _, ok := s.hold("project/acme"); !ok || s.BudgetsReady() != nil || s.Stats().Budgets.Summed != 1 {
			t.Errorf("after it came back: %t, %+v", ok, s.Stats().Budgets)
		}
	})
}

// After a gap nobody knows who has spent something: all are summed up and judged anew, also those
// who spend nothing more.
func TestBudgetsAfterAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &awaySink{Sink: memstore.NewSink(nil)}
		s := newSpendPlane(t, sink, aDay(dollar))
		s.spend(s.first, dollar/2)
		sink.away.Store(true)
		s.spend(s.first, dollar/2)
		s.wantFree("the log store is away", "project/acme")
		sink.gap.Store(true)
		sink.away.Store(false)
		time.Sleep(2 * time.Second)
		s.wantHeld("after the gap", "project/acme", time.Date(2000, 1, 1, 16, 0, 0, 0, time.UTC))
		if n := s.Stats().Budgets.Summed; n != 2 {
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
		store := &countingStore{Store: memstore.New(nil)}
		plane := runPlane(t, ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing()})
		key, err := plane.Keys.Create(t.Context(), ezapi.Key{Name: "k", Budgets: []catalog.Budget{aDay(dollar)}})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := plane.AppendLogs(t.Context(), ezapi.LogEntry{KeyID: key.ID, CostNanoUSD: new(int64(dollar))}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		if n := store.raised.Load(); n != 1 {
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
		s := newSpendPlane(t, plainSink{memstore.NewSink(nil)}, aDay(dollar),
			catalog.Budget{Limit: new(9 * dollar), Window: "total"})
		if _, err := s.Keys.Edit(t.Context(), s.two.ID, func(k *ezapi.Key) error {
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
		s := newSpendPlane(t, sink, aDay(dollar))
		time.Sleep(2 * time.Second)
		s.wantHeld("at the start", "project/acme", time.Date(2000, 1, 1, 16, 0, 0, 0, time.UTC))
	})
}
