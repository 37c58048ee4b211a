package costs_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/costs"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A ledger is a catalog and a log store, and what prices the one by the other.
type ledger struct {
	*catalog.Tables
	*costs.Repricer
	logs logbuf.Archive
}

func newLedger(store catalog.Store, sink logbuf.Sink, clock func() time.Time) ledger {
	prices, accounts := catalog.NewPriceList(), catalog.NewAccounts()
	follower := catalog.NewFollower(store, prices, accounts)
	l := ledger{Tables: catalog.NewTables(store, catalog.NewRandomKeyRing(), &catalog.Options{Clock: clock})}
	l.Repricer = costs.NewRepricer(l.Tables, sink, costs.NewCompleter(prices, accounts, follower), clock)
	l.logs, _ = sink.(logbuf.Archive)
	return l
}

// newDatedLedger has a clock of its own, and a model whose price changes with time: until minute 10 there is
// none, then 1 USD, from minute 20 on 5 USD a million tokens.
func newDatedLedger(t *testing.T) (l ledger, store *memstore.Store, at func(minute int) time.Time) {
	t.Helper()
	begin := time.Now().UTC().Truncate(logbuf.Quarter).Add(-time.Hour)
	at = func(minute int) time.Time { return begin.Add(time.Duration(minute) * time.Minute) }
	now := begin
	clock := func() time.Time { return now }
	store = memstore.New(&memstore.Options{Clock: clock})
	l = newLedger(store, memstore.NewSink(nil), clock)
	ctx := catalog.WithActor(t.Context(), "alice", "")
	m, err := l.Models.Create(ctx, catalog.Model{Name: "m"})
	for _, c := range []struct {
		minute int
		price  catalog.NanoUSD
	}{{10, 1_000_000_000}, {20, 5_000_000_000}} {
		now = at(c.minute)
		if err == nil {
			_, err = l.Models.Edit(ctx, m.ID, func(m *catalog.Model) error { m.InputPrice = new(c.price); return nil })
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	now = at(60)
	return l, store, at
}

// storeLogs stores entries as they are, whatever they cost now.
func storeLogs(t *testing.T, sink logbuf.Sink, entries ...logbuf.Entry) {
	t.Helper()
	for i := range entries {
		entries[i].ID, entries[i].Namespace = uuid.New(), "default"
	}
	if r, err := sink.Write(t.Context(), logbuf.Batch{Entries: entries}); err != nil || r.Stored != len(entries) {
		t.Fatalf("%+v, %v", r, err)
	}
}

// costsOf returns the cost of each request, and what usage says that all cost.
func costsOf(t *testing.T, logs logbuf.Archive, since time.Time) (costs map[string]string, total, unpriced int64) {
	t.Helper()
	page, err := logs.Logs(t.Context(), logbuf.LogQuery{Since: since, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	costs = make(map[string]string)
	for _, e := range page.Entries {
		costs[e.RequestID] = "unknown"
		if e.CostNanoUSD != nil {
			costs[e.RequestID] = fmt.Sprint(*e.CostNanoUSD, " at ", e.PricedRevision)
		}
	}
	usage, err := logs.Usage(t.Context(), logbuf.UsageQuery{Since: since, Until: since.Add(2 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range usage.Rows {
		total += u.CostNanoUSD
		unpriced += u.Unpriced
	}
	return costs, total, unpriced
}

func TestReprice(t *testing.T) {
	for name, c := range map[string]struct {
		request costs.RepriceRequest
		want    map[string]string
		total   int64
		report  string
	}{
		"unpriced, now": {
			costs.RepriceRequest{Query: logbuf.LogQuery{Unpriced: true}},
			map[string]string{"early": "5 at 3", "then": "5 at 3", "late": "2 at 3", "own": "9 at 0", "other": "unknown"},
			5 + 5 + 2 + 9, "read 3, changed 2, priced 2, unpriced 1, 0 to 10",
		},
		"unpriced, then": {
			costs.RepriceRequest{Query: logbuf.LogQuery{Unpriced: true}, Prices: costs.PricesThen},
			map[string]string{"early": "unknown", "then": "1 at 2", "late": "2 at 3", "own": "9 at 0", "other": "unknown"},
			1 + 2 + 9, "read 3, changed 1, priced 1, unpriced 2, 0 to 1",
		},
		"all but what balancers brought": {
			costs.RepriceRequest{},
			map[string]string{"early": "5 at 3", "then": "5 at 3", "late": "5 at 3", "own": "9 at 0", "other": "unknown"},
			5 + 5 + 5 + 9, "read 4, changed 3, priced 2, unpriced 1, 2 to 15",
		},
		"all": {
			costs.RepriceRequest{Own: true, Prices: costs.PricesThen},
			map[string]string{"early": "unknown", "then": "1 at 2", "late": "5 at 3", "own": "5 at 3", "other": "unknown"},
			1 + 5 + 5, "read 5, changed 3, priced 1, unpriced 2, 11 to 11",
		},
		"a trial": {
			costs.RepriceRequest{DryRun: true},
			map[string]string{"early": "unknown", "then": "unknown", "late": "2 at 3", "own": "9 at 0", "other": "unknown"},
			2 + 9, "read 4, changed 3, priced 2, unpriced 1, 2 to 15",
		},
		"some": {
			costs.RepriceRequest{Query: logbuf.LogQuery{RequestID: "late"}},
			map[string]string{"early": "unknown", "then": "unknown", "late": "5 at 3", "own": "9 at 0", "other": "unknown"},
			5 + 9, "read 1, changed 1, priced 0, unpriced 0, 2 to 5",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, store, at := newDatedLedger(t)
			entry := func(request string, minute int, cost *int64, revision int64, model string) logbuf.Entry {
				return logbuf.Entry{RequestID: request, Time: at(minute), InputTokens: 1000, Model: model,
					CostNanoUSD: cost, PricedRevision: revision}
			}
			milli := int64(1_000_000) // a thousand tokens at a dollar a million
			storeLogs(t, l.logs.(logbuf.Sink),
				entry("early", 5, nil, 0, "m"), entry("then", 15, nil, 0, "m"), entry("late", 25, new(2*milli), 3, "m"),
				entry("own", 30, new(9*milli), 0, "m"), entry("other", 40, nil, 0, "unknown"),
			)
			c.request.Query.Since = at(0)
			ctx := catalog.WithActor(t.Context(), "bob", "")
			var first costs.RepriceReport
			for again := range 2 {
				report, err := l.Reprice(ctx, c.request)
				if err != nil {
					t.Fatal(err)
				}
				if again == 0 {
					first = report
				} else if !c.request.DryRun && (report.Changed != 0 || report.Revision != 0) {
					t.Errorf("a second run changes something: %+v", report)
				}
			}
			text := fmt.Sprintf("read %d, changed %d, priced %d, unpriced %d, %d to %d", first.Read, first.Changed,
				first.Priced, first.Unpriced,
				first.CostBefore.Int64()/milli, first.CostAfter.Int64()/milli)
			if text != c.report {
				t.Errorf("report: %s; want %s", text, c.report)
			}
			costs, total, unpriced := costsOf(t, l.logs, at(0))
			unknown := int64(0)
			for request, want := range c.want {
				var cost, revision int64
				if n, _ := fmt.Sscanf(want, "%d at %d", &cost, &revision); n == 2 {
					want = fmt.Sprint(cost*milli, " at ", revision)
				} else {
					unknown++
				}
				if costs[request] != want {
					t.Errorf("%s costs %s; want %s", request, costs[request], want)
				}
			}
			if total != c.total*milli || unpriced != unknown {
				t.Errorf("usage: %d, %d unpriced; want %d and %d", total, unpriced, c.total*milli, unknown)
			}

			// The feed says who did it, and touches nothing.
			err := store.Read(t.Context(), func(r catalog.Reader) error {
				changes, err := r.Changes(t.Context(), catalog.Cursor{Revision: 3}, 10)
				if c.request.DryRun {
					if len(changes) != 0 || err != nil {
						t.Errorf("a trial leaves %+v, %v", changes, err)
					}
					return nil
				}
				if err != nil || len(changes) != 1 || changes[0].Action != catalog.ActionReprice || changes[0].Kind != "" ||
					changes[0].Actor != "bob" || changes[0].Revision != first.Revision {
					t.Errorf("changes %+v, %v", changes, err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// stubborn is a sink whose Reprice fails now and then, and may be busy.
type stubborn struct {
	*memstore.Sink
	fail    func(b logbuf.RepriceBatch) error
	changed func() // called when a batch has changed something
}

func (s *stubborn) Reprice(ctx context.Context, b logbuf.RepriceBatch) (logbuf.RepriceResult, error) {
	if err := s.fail(b); err != nil {
		return logbuf.RepriceResult{}, err
	}
	r, err := s.Sink.Reprice(ctx, b)
	if r.Changed > 0 && !b.DryRun && s.changed != nil {
		s.changed()
	}
	return r, err
}

// A run outlives failures that pass, one is at work at a time, and one whose budget is used up
// says where to go on.
func TestRepriceGoesOn(t *testing.T) {
	sink := &stubborn{Sink: memstore.NewSink(nil)}
	l := newLedger(memstore.New(nil), sink, time.Now)
	if _, err := l.Models.Create(t.Context(),
		catalog.Model{Name: "m", Prices: catalog.Prices{InputPrice: new(catalog.NanoUSD(1_000_000))}}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now().UTC().Truncate(time.Hour).Add(-time.Hour)
	const count = 2500
	for range count / 500 {
		entries := make([]logbuf.Entry, 500)
		for i := range entries {
			entries[i] = logbuf.Entry{Time: begin, Model: "m", InputTokens: 1}
		}
		storeLogs(t, sink, entries...)
	}
	request := costs.RepriceRequest{Query: logbuf.LogQuery{Since: begin}}

	tries := 0
	sink.fail = func(logbuf.RepriceBatch) error {
		if tries++; tries%2 == 1 {
			return errors.New("the connection is lost")
		}
		return nil
	}
	request.DryRun = true
	if report, err := l.Reprice(t.Context(), request); err != nil || report.Changed != count {
		t.Errorf("report %+v, %v", report, err)
	}
	request.DryRun = false

	sink.fail = func(logbuf.RepriceBatch) error {
		if _, err := l.Reprice(t.Context(), request); !errors.Is(err, logbuf.ErrBusy) {
			t.Errorf("a second run at the same time: %v", err)
		}
		return nil
	}
	// Who is killed from here on leaves a trace: the run has its revision before it changes anything.
	head := func() (revision catalog.Revision) {
		if err := l.Store().Read(t.Context(), func(r catalog.Reader) error {
			revision = r.Head().Revision
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return revision
	}
	before := head()
	sink.changed = func() {
		if at := head(); at != before+1 {
			t.Errorf("costs have changed, and the catalog is at revision %d; want %d", at, before+1)
		}
	}
	request.Budget = 1
	var runs, changed int64
	for {
		report, err := l.Reprice(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		runs, changed = runs+1, changed+report.Changed
		if report.Revision != before+1 {
			t.Errorf("part %d of the run has revision %d; want %d", runs, report.Revision, before+1)
		}
		if request.Query.Cursor = report.Next; report.Next == "" {
			break
		}
	}
	if runs != 3 || changed != count {
		t.Errorf("%d runs changed %d entries; want 3 and %d", runs, changed, count)
	}
	if _, total, unpriced := costsOf(t, l.logs, begin); total != count || unpriced != 0 {
		t.Errorf("usage %d, %d unpriced; want %d", total, unpriced, count)
	}

	if at := head(); at != before+1 {
		t.Errorf("the run has taken %d revisions; want 1", at-before)
	}

	sink.fail = func(logbuf.RepriceBatch) error { return logbuf.ErrBusy }
	request = costs.RepriceRequest{Query: logbuf.LogQuery{Since: begin}}
	if _, err := l.Reprice(t.Context(), request); !errors.Is(err, logbuf.ErrBusy) {
		t.Errorf("while another server prices: %v", err)
	}
}

func TestRepriceRefuses(t *testing.T) {
	l, store, at := newDatedLedger(t)
	if _, err := store.PruneChanges(t.Context(), at(15)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		request costs.RepriceRequest
		want    error
	}{
		"no since": {costs.RepriceRequest{}, logbuf.ErrInvalid},
		"other prices": {costs.RepriceRequest{Query: logbuf.LogQuery{Since: at(0)}, Prices: "tomorrow"},
			logbuf.ErrInvalid},
		"a bad cursor": {costs.RepriceRequest{Query: logbuf.LogQuery{Since: at(0), Cursor: "x"}}, logbuf.ErrInvalid},
		"a bad filter": {costs.RepriceRequest{Query: logbuf.LogQuery{Since: at(0), Until: at(-1)}}, logbuf.ErrInvalid},
		"pruned history": {costs.RepriceRequest{Query: logbuf.LogQuery{Since: at(5)}, Prices: costs.PricesThen},
			catalog.ErrCompacted},
		"history on time": {costs.RepriceRequest{Query: logbuf.LogQuery{Since: at(20)}, Prices: costs.PricesThen}, nil},
	} {
		if _, err := l.Reprice(t.Context(), c.request); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
	plain := newLedger(memstore.New(nil), struct{ logbuf.Sink }{memstore.NewSink(nil)}, time.Now)
	if _, err := plain.Reprice(t.Context(),
		costs.RepriceRequest{Query: logbuf.LogQuery{Since: at(0)}}); !errors.Is(err, logbuf.ErrUnsupported) {
		t.Errorf("a sink that cannot: %v", err)
	}
}

// stuckSink does one step of a run, and then one that never ends by itself.
type stuckSink struct {
	*memstore.Sink
	steps atomic.Int32
}

func (s *stuckSink) Reprice(ctx context.Context, b logbuf.RepriceBatch) (logbuf.RepriceResult, error) {
	if s.steps.Add(1)%2 == 1 {
		return logbuf.RepriceResult{Read: 1, Next: b.Query.Cursor + "next"}, nil
	}
	<-ctx.Done()
	return logbuf.RepriceResult{}, ctx.Err()
}

// A step that does not end is broken off half a minute after the budget, and the report says where to
// go on; a run that has come no further is an error.
func TestRepriceEndsWithItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(memstore.New(nil), &stuckSink{Sink: memstore.NewSink(nil)}, time.Now)
		request := costs.RepriceRequest{Query: logbuf.LogQuery{Since: time.Now().Add(-time.Hour)}, Budget: time.Minute}
		begun := time.Now()
		report, err := l.Reprice(t.Context(), request)
		if took := time.Since(begun); err != nil || report.Next == "" || report.Read != 1 || took != 90*time.Second {
			t.Errorf("after %s: %+v, %v", took, report, err)
		}

		stuck := &stuckSink{Sink: memstore.NewSink(nil)}
		stuck.steps.Store(1)
		l = newLedger(memstore.New(nil), stuck, time.Now)
		if report, err = l.Reprice(t.Context(), request); !errors.Is(err, context.DeadlineExceeded) || report.Next != "" {
			t.Errorf("a run that came no further: %+v, %v", report, err)
		}
	})
}

// A cursor goes on with a run that has its revision in the feed. One that is made up would change costs
// without a trace.
func TestRepriceCursorsAreOfRuns(t *testing.T) {
	l := newLedger(memstore.New(nil), memstore.NewSink(nil), time.Now)
	if _, err := l.Models.Create(t.Context(), catalog.Model{Name: "m"}); err != nil { // revision 1
		t.Fatal(err)
	}
	for _, revision := range []string{"1", "2", "9223372036854775807"} {
		_, err := l.Reprice(t.Context(), costs.RepriceRequest{Query: logbuf.LogQuery{
			Since: time.Now().Add(-time.Hour), Cursor: "0190a0b0-0000-7000-8000-000000000000." + revision + ".",
		}})
		if wrong, ok := errors.AsType[*logbuf.FieldError](err); !ok || wrong.Field != "cursor" {
			t.Errorf("a cursor of revision %s: %v", revision, err)
		}
	}
}
