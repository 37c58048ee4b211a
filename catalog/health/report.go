package health

import (
	"cmp"
	"context"
	"slices"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// A Row says how a model of a provider does, or, where UpstreamModel is empty, whether all of
// the provider is held.
type Row struct {
	logbuf.Upstream
	Provider string // its name; empty when it is gone

	Attempts int64                         // within the window; see [Options]
	Failures int64                         // of them, without those that one balancer's network alone had
	Failed   map[logbuf.FailureClass]int64 // by class, all that were reported

	// Hold is what holds it now, the one that lasts longest; nil when nothing does. Strikes is how many
	// holds for health in a row there were.
	Hold    *catalog.Hold
	Strikes int
}

// A Query selects what Report returns. Zero fields do not restrict.
type Query struct {
	ProviderID int64           // of this provider
	After      logbuf.Upstream // only what comes after it, in the order of the answer
	Limit      int             // rows; 0: no limit
}

// Report returns how the providers do by what all control planes have noted, in order of
// provider and model: everything that had attempts within the window, or is held. More says whether
// the limit has left some out.
func (m *Monitor) Report(ctx context.Context, q Query) (rows []Row, more bool, err error) {
	now := m.parts.LogTime()
	tallies, _, err := m.read(ctx, now.Add(-logbuf.HealthSpan-m.options.Slot))
	if err != nil {
		return nil, false, err
	}
	if _, err := m.parts.Copies.Refresh(ctx); err != nil {
		return nil, false, err
	}
	known := map[logbuf.Upstream]*Row{}
	of := func(u logbuf.Upstream) *Row {
		if known[u] == nil {
			known[u] = &Row{Upstream: u}
		}
		return known[u]
	}
	for u, slots := range tallies {
		var sum logbuf.Tally
		for _, s := range slots {
			if !s.Slot.Before(now.Add(-m.options.Window)) {
				sum.Add(&s.Tally)
			}
		}
		if sum.Attempts() > 0 || len(sum.Failed) > 0 {
			row := of(u)
			row.Attempts, row.Failures, row.Failed = sum.Attempts(), sum.Failures(), sum.Failed
		}
	}
	for _, reason := range catalog.HoldReasons() {
		for _, hold := range m.parts.Holds.For(reason) {
			t, _ := catalog.ParseHoldTarget(hold.Target)
			u := logbuf.Upstream{ProviderID: t.ProviderID, Model: t.UpstreamModel}
			if hold.Active(now) {
				row := of(u)
				if row.Hold == nil || hold.Until.IsZero() || !row.Hold.Until.IsZero() && hold.Until.After(row.Hold.Until) {
					row.Hold = &hold
				}
			}
			if row := known[u]; row != nil && reason == catalog.HoldHealth {
				row.Strikes = hold.Strikes
			}
		}
	}
	for _, row := range known {
		if (q.ProviderID == 0 || row.ProviderID == q.ProviderID) && compareUpstreams(row.Upstream, q.After) > 0 {
			rows = append(rows, *row)
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return compareUpstreams(a.Upstream, b.Upstream) })
	if more = q.Limit > 0 && len(rows) > q.Limit; more {
		rows = rows[:q.Limit]
	}
	return rows, more, m.nameProviders(ctx, rows)
}

func compareUpstreams(a, b logbuf.Upstream) int {
	return cmp.Or(cmp.Compare(a.ProviderID, b.ProviderID), cmp.Compare(a.Model, b.Model))
}

// nameProviders fills in names.
func (m *Monitor) nameProviders(ctx context.Context, rows []Row) error {
	var ids []int64
	for i := range rows {
		if len(ids) == 0 || ids[len(ids)-1] != rows[i].ProviderID {
			ids = append(ids, rows[i].ProviderID)
		}
	}
	names := map[int64]string{}
	for some := range slices.Chunk(ids, 500) {
		providers, err := m.parts.Providers.List(ctx, catalog.Query{IDs: some})
		if err != nil {
			return err
		}
		for i := range providers {
			names[providers[i].ID] = providers[i].Name
		}
	}
	for i := range rows {
		rows[i].Provider = names[rows[i].ProviderID]
	}
	return nil
}
