package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/upstreams"
	"github.com/ez-api/ez-api/logbuf"
)

// A Verdict is what follows from how a provider, or a model of it, does.
type Verdict struct {
	Do      Action
	Target  catalog.HoldTarget
	Until   time.Time // of a hold; of a probe, when the hold ends that lasts because the one before failed
	Strikes int
	Cause   string // one of catalog.Cause…
	Message string
	Was     catalog.Revision // of the hold that this was judged by; 0 for none

	Ask     string    // the upstream model that a probe should ask for where it needs one; empty: any
	Refused []Verdict // holds of models that follow where a probe tells nothing of the credential
}

// Action is what a verdict asks for.
type Action int

// The actions.
const (
	MakeHold Action = iota // make a hold, or prolong the one that is there
	Forget                 // let the hold be over, and without a cause: it works again
	Probe                  // ask the provider, and go on with After
)

// Ends reports whether the hold that a probe is about ends before the next rounds.
func (v *Verdict) Ends(o *Options, now time.Time) bool {
	return !v.Until.IsZero() && v.Until.Sub(now) <= 2*o.Interval
}

// After says what follows from a probe. If the provider accepts its credential, attempts were
// refused because of what clients asked for, so nothing is held, and a hold that lasts ends. A
// failure that may come from this server or from the probe itself holds no provider. A hold that
// lasts is prolonged only shortly before its end.
func (v Verdict) After(o *Options, r upstreams.Result, now time.Time) []Verdict {
	held := !v.Until.IsZero()
	switch {
	case r.OK && v.Was != 0 && held:
		v.Do, v.Until, v.Strikes, v.Cause, v.Message = Forget, now, 0, "", "asked for itself, it works"
		return []Verdict{v}
	case r.OK:
		return nil
	case !slices.Contains([]logbuf.FailureClass{logbuf.FailedAuth, logbuf.FailedBilling, logbuf.FailedServer,
		logbuf.FailedOverload, logbuf.FailedTimeout}, r.Class):
		return v.Refused
	case held && !v.Ends(o, now):
		return nil
	}
	v.Do, v.Until = MakeHold, now.Add(o.holdFor(v.Strikes))
	v.Message = fmt.Sprintf("asked for itself, it fails: %s", r.Class)
	return []Verdict{v}
}

// Write writes what a verdict says, unless somebody has changed the hold meanwhile, and returns what an
// operator is to be told; nil is nothing. It reads again what the verdict goes by: whoever was faster, a
// person or another process, is right. It touches no hold for another reason, no status of a provider,
// and no provider that a person has disabled.
func (v *Verdict) Write(ctx context.Context, tx *catalog.Tx, now time.Time) (*alerts.Alert, error) {
	provider, err := tx.Providers.Get(ctx, v.Target.ProviderID)
	if err != nil || provider.Status != catalog.Active ||
		v.Target.UpstreamModel != "" && !catalog.MatchesList(provider.Models, v.Target.UpstreamModel) {
		return nil, err
	}
	old, err := tx.Holds.Find(ctx, catalog.ByNaturalKey, catalog.HoldKey(v.Target.String(), catalog.HoldHealth))
	if err != nil && !errors.Is(err, catalog.ErrNotFound) || old.Revision != v.Was {
		return nil, err
	}
	switch {
	case v.Do == Forget && old.ID == 0, v.Do == MakeHold && !*provider.AutoBan:
		err = nil
	case old.ID != 0:
		_, err = tx.Holds.Edit(ctx, old.ID, func(h *catalog.Hold) error { v.apply(h); return nil })
	default:
		h := catalog.Hold{Target: v.Target.String(), Reason: catalog.HoldHealth}
		v.apply(&h)
		_, err = tx.Holds.Create(ctx, h)
	}
	return v.alert(&provider, &old, now), err
}

// apply makes the hold what the verdict says. What a person had disabled has ended by then.
func (v *Verdict) apply(h *catalog.Hold) {
	h.Until, h.Strikes, h.Cause, h.Message, h.Status = v.Until, v.Strikes, v.Cause, v.Message, catalog.Active
}

// alert returns what an operator is told; nil when a hold that lasts is only prolonged. What nothing in
// the catalog tells apart is said once an hour, by whichever process.
func (v *Verdict) alert(provider *catalog.Provider, old *catalog.Hold, now time.Time) *alerts.Alert {
	name, until := fmt.Sprintf("provider %q", provider.Name), v.Until.UTC().Format(time.RFC3339)
	if v.Target.UpstreamModel != "" {
		name = fmt.Sprintf("model %q of %s", v.Target.UpstreamModel, name)
	}
	a := alerts.Alert{Kind: alerts.ProviderHeld, Subject: v.Target.String(), At: now,
		Identity: v.Target.String() + " " + until}
	switch {
	case v.Do == MakeHold && old.ID != 0 && old.Active(now):
		return nil
	case v.Do != MakeHold:
		a.Kind, a.Message = alerts.ProviderRecovered, name+" works again"
		if a.Identity = fmt.Sprintf("%s after %d", v.Target, v.Was); v.Was == 0 {
			a.Identity = alerts.Hourly(v.Target.String(), now)
		}
	case !*provider.AutoBan:
		a.Kind, a.Identity = alerts.ProviderFailing, alerts.Hourly(v.Target.String(), now)
		a.Message = fmt.Sprintf("%s fails, and is not held because its auto_ban is false: %s", name, v.Message)
	default:
		a.Message = fmt.Sprintf("%s is held until %s: %s", name, until, v.Message)
	}
	a.Identity, a.Severity = string(a.Kind)+" "+a.Identity, a.Kind.Severity()
	return &a
}
