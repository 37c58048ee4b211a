package ezapi

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/upstreams"
	"github.com/ez-api/ez-api/logbuf"
)

// UpstreamHealth says how a model of a provider does, or, where UpstreamModel is empty, whether all of
// the provider is held.
type UpstreamHealth struct {
	logbuf.Upstream
	Provider string // its name; empty when it is gone

	Attempts int64                         // within the window; see [health.Options]
	Failures int64                         // of them, without those that one balancer's network alone had
	Failed   map[logbuf.FailureClass]int64 // by class, all that were reported

	// Hold is what holds it now, the one that lasts longest; nil when nothing does. Strikes is how many
	// holds for health in a row there were.
	Hold    *catalog.Hold
	Strikes int
}

// A HealthQuery selects what ProviderHealth returns. Zero fields do not restrict.
type HealthQuery struct {
	ProviderID int64           // of this provider
	After      logbuf.Upstream // only what comes after it, in the order of the answer
	Limit      int             // rows; 0: no limit
}

// ProviderHealth returns how the providers do by what all control planes have noted, in order of
// provider and model: everything that had attempts within the window, or is held. More says whether
// the limit has left some out.
func (p *Plane) ProviderHealth(ctx context.Context, q HealthQuery) (rows []UpstreamHealth, more bool, err error) {
	h, now := p.health, p.LogTime()
	tallies, _, err := h.read(ctx, now.Add(-logbuf.HealthSpan-h.options.Slot))
	if err != nil {
		return nil, false, err
	}
	if _, err := h.follow.Refresh(ctx); err != nil {
		return nil, false, err
	}
	known := map[logbuf.Upstream]*UpstreamHealth{}
	of := func(u logbuf.Upstream) *UpstreamHealth {
		if known[u] == nil {
			known[u] = &UpstreamHealth{Upstream: u}
		}
		return known[u]
	}
	for u, slots := range tallies {
		var sum logbuf.Tally
		for _, s := range slots {
			if !s.Slot.Before(now.Add(-h.options.Window)) {
				sum.Add(&s.Tally)
			}
		}
		if sum.Attempts() > 0 || len(sum.Failed) > 0 {
			row := of(u)
			row.Attempts, row.Failures, row.Failed = sum.Attempts(), sum.Failures(), sum.Failed
		}
	}
	for _, reason := range catalog.HoldReasons() {
		for _, hold := range h.holds.For(reason) {
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
	slices.SortFunc(rows, func(a, b UpstreamHealth) int { return compareUpstreams(a.Upstream, b.Upstream) })
	if more = q.Limit > 0 && len(rows) > q.Limit; more {
		rows = rows[:q.Limit]
	}
	return rows, more, p.nameProviders(ctx, rows)
}

func compareUpstreams(a, b logbuf.Upstream) int {
	return cmp.Or(cmp.Compare(a.ProviderID, b.ProviderID), cmp.Compare(a.Model, b.Model))
}

// nameProviders fills in names.
func (p *Plane) nameProviders(ctx context.Context, rows []UpstreamHealth) error {
	var ids []int64
	for i := range rows {
		if len(ids) == 0 || ids[len(ids)-1] != rows[i].ProviderID {
			ids = append(ids, rows[i].ProviderID)
		}
	}
	names := map[int64]string{}
	for some := range slices.Chunk(ids, 500) {
		providers, err := p.Providers.List(ctx, catalog.Query{IDs: some})
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

// HealthWindow returns how far back the attempts of ProviderHealth reach.
func (p *Plane) HealthWindow() time.Duration { return p.health.options.Window }

// TestProvider asks the provider with the id for its models, or for one token of chat, as [upstreams.Ask] does, but not
// more often than [upstreams.Limit] says. The error wraps catalog.ErrNotFound, upstreams.ErrUntestable or
// upstreams.ErrTooSoon; that the provider fails is no error.
func (p *Plane) TestProvider(ctx context.Context, id int64, kind upstreams.Kind, model string) (
	upstreams.Result, error) {
	provider, err := p.Providers.Get(ctx, id)
	if err != nil {
		return upstreams.Result{}, err
	}
	leave, err := p.tests.Enter(id, time.Now())
	if err != nil {
		return upstreams.Result{}, err
	}
	defer leave()
	return upstreams.Ask(ctx, &provider, kind, model, p.privacy())
}

// privacy says whether providers may be at private addresses.
func (p *Plane) privacy() catalog.Privacy {
	if p.config.AllowPrivateUpstreams {
		return catalog.AllowPrivate
	}
	return catalog.PublicOnly
}
