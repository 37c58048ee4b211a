package ezapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/upstreams"
	"github.com/ez-api/ez-api/logbuf"
)

// carryOut makes or ends a hold, in a transaction that reads again what the verdict goes by: whoever
// was faster, a person or another process, is right. It touches no hold for another reason, no status
// of a provider, and no provider that a person has disabled.
func (p *Plane) carryOut(ctx context.Context, v verdict, status *HealthStatus) error {
	ctx, cancel := context.WithTimeout(catalog.WithActor(ctx, "health", v.message), healthTimeout)
	defer cancel()
	var alert *alerts.Alert
	_, err := p.Update(ctx, func(tx *catalog.Tx) (err error) {
		alert, err = v.write(ctx, tx, p.LogTime())
		return err
	})
	switch {
	case errors.Is(err, catalog.ErrNotFound), errors.Is(err, catalog.ErrInvalid):
		return nil // it is gone, or its name is none that can be held
	case err != nil:
		return fmt.Errorf("health of %s: %w", v.target, err)
	}
	p.health.note(v, alert)
	if alert == nil {
		return nil
	}
	switch {
	case v.do == doForget:
		status.Recovered++
	case alert.Kind == alerts.ProviderHeld:
		status.Made++
	}
	p.config.Logger.InfoContext(ctx, "health: "+alert.Message)
	return nil
}

// write writes what a verdict says, unless somebody has changed the hold meanwhile, and returns what an
// operator is to be told.
func (v *verdict) write(ctx context.Context, tx *catalog.Tx, now time.Time) (*alerts.Alert, error) {
	provider, err := tx.Providers.Get(ctx, v.target.ProviderID)
	if err != nil || provider.Status != catalog.Active ||
		v.target.UpstreamModel != "" && !catalog.MatchesList(provider.Models, v.target.UpstreamModel) {
		return nil, err
	}
	old, err := tx.Holds.Find(ctx, catalog.ByNaturalKey, catalog.HoldKey(v.target.String(), catalog.HoldHealth))
	if err != nil && !errors.Is(err, catalog.ErrNotFound) || old.Revision != v.was {
		return nil, err
	}
	lasts := old.ID != 0 && old.Active(now)
	switch {
	case v.do == doForget && old.ID != 0:
		_, err = tx.Holds.Delete(ctx, old.ID, old.Revision)
	case v.do == doForget || !*provider.AutoBan:
		err = nil
	case old.ID != 0:
		_, err = tx.Holds.Edit(ctx, old.ID, func(h *catalog.Hold) error { v.apply(h); return nil })
	default:
		h := catalog.Hold{Target: v.target.String(), Reason: catalog.HoldHealth}
		v.apply(&h)
		_, err = tx.Holds.Create(ctx, h)
	}
	return v.alert(&provider, lasts, now), err
}

// apply makes the hold what the verdict says. What a person had disabled has ended by then.
func (v *verdict) apply(h *catalog.Hold) {
	h.Until, h.Strikes, h.Cause, h.Message, h.Status = v.until, v.strikes, v.cause, v.message, catalog.Active
}

// alert returns what an operator is told; nil when a hold that lasts is only prolonged.
func (v *verdict) alert(provider *catalog.Provider, lasts bool, now time.Time) *alerts.Alert {
	name, until := fmt.Sprintf("provider %q", provider.Name), v.until.UTC().Format(time.RFC3339)
	if v.target.UpstreamModel != "" {
		name = fmt.Sprintf("model %q of %s", v.target.UpstreamModel, name)
	}
	a := alerts.Alert{Kind: alerts.ProviderHeld, Subject: v.target.String(), At: now,
		Identity: v.target.String() + " " + until}
	switch {
	case v.do == doForget:
		a.Kind, a.Message = alerts.ProviderRecovered, name+" works again"
		a.Identity = fmt.Sprintf("%s after %d", v.target, v.was)
	case lasts:
		return nil
	case !*provider.AutoBan:
		a.Kind = alerts.ProviderFailing
		a.Message = fmt.Sprintf("%s fails, and is not held because its auto_ban is false: %s", name, v.message)
	default:
		a.Message = fmt.Sprintf("%s is held until %s: %s", name, until, v.message)
	}
	a.Identity, a.Severity = string(a.Kind)+" "+a.Identity, a.Kind.Severity()
	return &a
}

// note remembers what an operator is to be told, and what would be held, so that it is reported as often
// as a hold would be made.
func (h *health) note(v verdict, a *alerts.Alert) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a != nil && len(h.untold) < mostUntold {
		h.untold = append(h.untold, *a)
	}
	switch target := v.target.String(); {
	case v.do == doForget:
		delete(h.shadows, target)
	case a != nil && a.Kind == alerts.ProviderFailing:
		h.shadows[target] = catalog.Hold{Meta: catalog.Meta{ID: -1, Status: catalog.Active}, Target: target,
			Reason: catalog.HoldHealth, Until: v.until, Strikes: v.strikes, Cause: v.cause}
	}
}

// mayProbe reports whether a provider may be asked now, and notes that it is: not more often than
// every ProbeEvery, but shortly before a hold ends that the probe decides about.
func (h *health) mayProbe(v *verdict, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	every := h.options.ProbeEvery
	if v.ends(&h.options, now) {
		every = h.options.Interval / 2
	}
	if last, ok := h.probed[v.target.ProviderID]; ok && now.Sub(last) < every && !last.After(now) {
		return false
	}
	for id, last := range h.probed { // there are few: those that refused their credential
		if now.Sub(last) > time.Hour {
			delete(h.probed, id)
		}
	}
	h.probed[v.target.ProviderID] = now
	return true
}

// ends reports whether the hold that a probe is about ends before the next rounds.
func (v *verdict) ends(o *HealthOptions, now time.Time) bool {
	return !v.until.IsZero() && v.until.Sub(now) <= 2*o.Interval
}

// probeAll asks providers, a few at a time, and returns what follows.
func (p *Plane) probeAll(ctx context.Context, probes []verdict, now time.Time) (verdicts []verdict) {
	var all sync.WaitGroup
	var mu sync.Mutex
	places := make(chan struct{}, probesAtOnce)
	for _, v := range probes {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			result, err := p.probe(ctx, &v)
			if err != nil {
				p.config.Logger.WarnContext(ctx, "a provider could not be asked", "target", v.target.String(), "error", err)
				return
			}
			if follows, ok := v.after(&p.health.options, result, now); ok {
				mu.Lock()
				defer mu.Unlock()
				verdicts = append(verdicts, follows)
			}
		})
	}
	all.Wait()
	return verdicts
}

// probe asks a provider whether it accepts its credential, or is paid. Models can be listed without
// being paid, so that is asked with a token of chat; as is a provider that has no list.
func (p *Plane) probe(ctx context.Context, v *verdict) (upstreams.Result, error) {
	provider, err := p.Providers.Get(ctx, v.target.ProviderID)
	if err != nil {
		return upstreams.Result{}, err
	}
	if v.cause == catalog.CauseAuth {
		result, err := upstreams.Ask(ctx, &provider, upstreams.Models, "", p.privacy())
		if err != nil || result.Class != logbuf.FailedClient {
			return result, err
		}
	}
	return upstreams.Ask(ctx, &provider, upstreams.Chat, v.probe, p.privacy())
}

// after says what follows from a probe. What may be this server's own trouble, or the question's, holds
// nothing; while a hold lasts it is prolonged shortly before its end.
func (v verdict) after(o *HealthOptions, r upstreams.Result, now time.Time) (verdict, bool) {
	held := !v.until.IsZero()
	if r.OK {
		v.do = doForget
		return v, v.was != 0
	}
	switch r.Class {
	case logbuf.FailedAuth, logbuf.FailedBilling, logbuf.FailedServer, logbuf.FailedOverload, logbuf.FailedTimeout:
	default:
		return v, false
	}
	if held && !v.ends(o, now) {
		return v, false
	}
	v.do, v.until = doHold, now.Add(o.holdFor(v.strikes))
	v.message = fmt.Sprintf("asked for itself, it fails: %s", r.Class)
	return v, true
}
