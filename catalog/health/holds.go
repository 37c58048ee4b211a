package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/upstreams"
	"github.com/ez-api/ez-api/logbuf"
)

// carryOut makes or ends a hold, as far as nobody was faster; see [Verdict.Write].
func (m *Monitor) carryOut(ctx context.Context, v Verdict, status *Status) error {
	ctx, cancel := context.WithTimeout(catalog.WithMachine(ctx, "health", v.Message), healthTimeout)
	defer cancel()
	var alert *alerts.Alert
	_, err := m.parts.Catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		alert, err = v.Write(ctx, tx, m.parts.LogTime())
		return err
	})
	switch {
	case errors.Is(err, catalog.ErrNotFound), errors.Is(err, catalog.ErrInvalid):
		return nil // it is gone, or its name is none that can be held
	case errors.Is(err, catalog.ErrUnconfirmed): // it may be done: then nobody else tells of it
		m.note(v, alert)
		fallthrough
	case err != nil:
		return fmt.Errorf("health of %s: %w", v.Target, err)
	}
	m.note(v, alert)
	if alert == nil {
		return nil
	}
	switch alert.Kind {
	case alerts.ProviderRecovered:
		status.Recovered++
	case alerts.ProviderHeld:
		status.Made++
	default:
	}
	m.parts.Logger.InfoContext(ctx, "health: "+alert.Message)
	return nil
}

// note remembers what an operator is to be told, and what would be held, so that it is reported as often
// as a hold would be made.
func (m *Monitor) note(v Verdict, a *alerts.Alert) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a != nil && len(m.untold) < mostUntold {
		m.untold = append(m.untold, *a)
	}
	switch target := v.Target.String(); {
	case v.Do == Forget:
		if shadow, ok := m.shadows[target]; ok {
			shadow.Strikes, shadow.Cause = 0, ""
			m.shadows[target] = shadow
		}
	case a != nil && a.Kind == alerts.ProviderFailing:
		m.shadows[target] = catalog.Hold{Meta: catalog.Meta{ID: -1, Status: catalog.Active}, Target: target,
			Reason: catalog.HoldHealth, Until: v.Until, Strikes: v.Strikes, Cause: v.Cause}
	}
}

// longestUnaskedFirst orders verdicts by when their providers were asked last, so that each has its turn
// where there are more than can be asked in a round.
func (m *Monitor) longestUnaskedFirst(verdicts []Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	slices.SortStableFunc(verdicts, func(a, b Verdict) int {
		return m.probed[a.Target.ProviderID].Compare(m.probed[b.Target.ProviderID])
	})
}

// mayProbe reports whether a provider may be asked now, and notes that it is: not more often than
// every ProbeEvery, but shortly before a hold ends that the probe decides about.
func (m *Monitor) mayProbe(v *Verdict, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	every := m.options.ProbeEvery
	if v.Ends(&m.options, now) {
		every = m.options.Interval / 2
	}
	if last, ok := m.probed[v.Target.ProviderID]; ok && now.Sub(last) < every && !last.After(now) {
		return false
	}
	for id, last := range m.probed { // there are few: those that refused their credential
		if now.Sub(last) > time.Hour {
			delete(m.probed, id)
		}
	}
	m.probed[v.Target.ProviderID] = now
	return true
}

// probeAll asks providers, a few at a time, and returns what follows.
func (m *Monitor) probeAll(ctx context.Context, probes []Verdict, now time.Time) (verdicts []Verdict) {
	var all sync.WaitGroup
	var mu sync.Mutex
	places := make(chan struct{}, probesAtOnce)
	for _, v := range probes {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			result, err := m.probe(ctx, &v)
			if err != nil {
				m.parts.Logger.WarnContext(ctx, "a provider could not be asked", "target", v.Target.String(), "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			verdicts = append(verdicts, v.After(&m.options, result, now)...)
		})
	}
	all.Wait()
	return verdicts
}

// probe asks a provider whether it accepts its credential, or is paid. Models can be listed without
// being paid, so that is asked with a token of chat; as is a provider whose list says neither that the
// credential is good nor that it is refused: many have no list, and answer with any status.
func (m *Monitor) probe(ctx context.Context, v *Verdict) (upstreams.Result, error) {
	provider, err := m.parts.Providers.Get(ctx, v.Target.ProviderID)
	if err != nil {
		return upstreams.Result{}, err
	}
	if v.Cause == catalog.CauseAuth {
		result, err := upstreams.Ask(ctx, &provider, upstreams.Models, "", m.parts.Privacy)
		if err != nil || result.OK || slices.Contains([]logbuf.FailureClass{logbuf.FailedAuth, logbuf.FailedBilling,
			logbuf.FailedNetwork}, result.Class) {
			return result, err
		}
	}
	return upstreams.Ask(ctx, &provider, upstreams.Chat, v.Ask, m.parts.Privacy)
}
