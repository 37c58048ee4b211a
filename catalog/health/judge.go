// Package health has the rules by which providers that fail are left out for a while: from what was
// counted of their attempts, and from the holds that there are, follow [Verdict]s. [Judge] asks nobody, and
// keeps nothing; a [Monitor] counts, asks, and carries the verdicts out.
package health

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// Judge says what follows from tallies and from the holds for health that there are, by their target;
// those that have ended, too. It depends on nothing else, so that every process that sees the same
// comes to the same verdicts. Verdicts come in the order of providers and models.
//
// Providers and models that the catalog does not have, or that are disabled, are not judged, so
// that names that a reporter has made up take no room from real ones. A model that its provider
// lists only by a pattern, and that has not worked lately, may be made up by a user: it is held
// only while more than half of [Options.Holds] is free, and it is no reason to hold its provider.
//
// It never shortens a hold. While a hold lasts, also one that a person has disabled, its target is
// not judged anew; only a later reset of the provider's rate limit, or a probe that fails, prolongs
// an active hold. Attempts from before the end of a hold do not count after it. A hold without a
// cause says since when its target works again: failures from before that do not count.
func Judge(o *Options, now time.Time, tallies map[logbuf.Upstream][]logbuf.SlotTally,
	holds map[string]catalog.Hold, providers Providers) (verdicts []Verdict) {
	byProvider := map[int64][]logbuf.Upstream{}
	for u := range tallies {
		if providers.Serves(u.ProviderID, u.Model) {
			byProvider[u.ProviderID] = append(byProvider[u.ProviderID], u)
		}
	}
	for _, h := range holds {
		t, _ := catalog.ParseHoldTarget(h.Target)
		u := logbuf.Upstream{ProviderID: t.ProviderID, Model: t.UpstreamModel}
		if _, ok := tallies[u]; !ok && providers.Serves(u.ProviderID, u.Model) {
			byProvider[t.ProviderID] = append(byProvider[t.ProviderID], u)
		}
	}
	room := map[bool]*int{true: new(o.Holds), false: new(o.Holds)} // by whether the providers may be held
	for _, h := range holds {
		t, _ := catalog.ParseHoldTarget(h.Target)
		if h.Cause != "" && providers.Serves(t.ProviderID, t.UpstreamModel) {
			*room[providers.AutoBan(t.ProviderID)]--
		}
	}
	for _, id := range slices.Sorted(maps.Keys(byProvider)) {
		upstreams := byProvider[id]
		slices.SortFunc(upstreams, func(a, b logbuf.Upstream) int { return strings.Compare(a.Model, b.Model) })
		j := judging{o: o, now: now, tallies: tallies, holds: holds, provider: id, room: room[providers.AutoBan(id)],
			providers: providers}
		verdicts = append(verdicts, j.judge(upstreams)...)
	}
	return judgedBy(holds, verdicts)
}

// Providers is what the catalog holds; see [catalog.UpstreamList].
type Providers interface {
	// Serves reports whether a provider that is not disabled has an upstream model; of an empty one,
	// whether there is such a provider.
	Serves(providerID int64, model string) bool
	// ListsByName reports whether a provider lists an upstream model by its name, not by a pattern alone.
	ListsByName(providerID int64, model string) bool
	// AutoBan reports whether a provider may be held. Those that may not are judged, too, for what is
	// reported of them, but take no room from the others.
	AutoBan(providerID int64) bool
}

var _ Providers = (*catalog.UpstreamList)(nil)

// judgedBy notes in verdicts which holds they go by.
func judgedBy(holds map[string]catalog.Hold, verdicts []Verdict) []Verdict {
	for i := range verdicts {
		v := &verdicts[i]
		v.Was, v.Refused = holds[v.Target.String()].Revision, judgedBy(holds, v.Refused)
	}
	return verdicts
}

// judging is how one provider is judged.
type judging struct {
	o        *Options
	now      time.Time
	tallies  map[logbuf.Upstream][]logbuf.SlotTally
	holds    map[string]catalog.Hold
	provider int64
	room     *int // for holds of models

	providers Providers
}

func (j *judging) judge(upstreams []logbuf.Upstream) (verdicts []Verdict) {
	whole := catalog.HoldTarget{ProviderID: j.provider}
	hold, held := j.hold(whole)
	if held && (hold.Cause == catalog.CauseAuth || hold.Cause == catalog.CauseBilling) && hold.Status == catalog.Active {
		verdicts = append(verdicts, Verdict{Do: Probe, Target: whole, Until: hold.Until, Strikes: hold.Strikes + 1,
			Cause: hold.Cause, Ask: j.mostRefused(upstreams)})
	}
	if held {
		return verdicts
	}
	var sum, genuine logbuf.Tally // of all models, and of those that nobody made up, since the hold of the provider
	var models []catalog.Hold
	var instead []Verdict // holds of models for which there is no room
	var refused []Verdict // holds of models for failures that a probe may explain
	for _, u := range upstreams {
		t := j.tally(u, hold)
		sum.Add(&t)
		madeUp := j.mayBeMadeUp(u)
		if !madeUp {
			genuine.Add(&t)
		}
		target := catalog.HoldTarget{ProviderID: j.provider, UpstreamModel: u.Model}
		if u.Model == "" {
			continue // all of the provider, or a model that was not named: it cannot be held
		}
		v, ok := j.judgeModel(target, &t)
		switch {
		case ok && v.Cause == catalog.CauseFailures && !j.fails(withoutRefusals(t)):
			refused = append(refused, v)
		case ok && v.Do == MakeHold && j.holds[target.String()].Cause == "" && madeUp && *j.room <= j.o.Holds/2:
			// it is not held: there must be room for others
		case ok && v.Do == MakeHold && *j.room <= 0 && j.holds[target.String()].Cause == "":
			instead = append(instead, v)
		case ok:
			verdicts = append(verdicts, v)
			if v.Do == MakeHold && j.holds[target.String()].Cause == "" {
				*j.room--
			}
		}
		// Those of this round count in the next.
		if h, lasts := j.hold(target); lasts && h.Status == catalog.Active && !madeUp {
			models = append(models, h)
		}
	}
	ofWhole := j.judgeWhole(whole, hold, &sum, &genuine, models, instead, upstreams)
	if len(ofWhole) == 1 && ofWhole[0].Do == Probe {
		ofWhole[0].Refused = refused
	} else {
		verdicts = append(verdicts, refused...)
	}
	return append(verdicts, ofWhole...)
}

// judgeWhole judges a provider that is not held.
func (j *judging) judgeWhole(whole catalog.HoldTarget, past catalog.Hold, sum, genuine *logbuf.Tally,
	models []catalog.Hold, instead []Verdict, upstreams []logbuf.Upstream) []Verdict {
	v := Verdict{Do: MakeHold, Target: whole, Strikes: past.Strikes + 1, Cause: catalog.CauseModels}
	switch {
	case len(models) >= j.o.Models && j.mostlyFails(genuine):
		v.Message = fmt.Sprintf("%d of its models are held", len(models))
	case len(instead) > 0:
		v.Message, v.Cause = fmt.Sprintf("there are %d holds for health already; %s", j.o.Holds, instead[0].Message),
			instead[0].Cause
		for _, i := range instead {
			models = append(models, catalog.Hold{Until: i.Until})
		}
	case sum.Failed[logbuf.FailedAuth]+sum.Failed[logbuf.FailedBilling] >= j.o.Probe:
		v.Do, v.Cause, v.Ask = Probe, catalog.CauseAuth, j.mostRefused(upstreams)
		if sum.Failed[logbuf.FailedBilling] > sum.Failed[logbuf.FailedAuth] {
			v.Cause = catalog.CauseBilling
		}
		return []Verdict{v}
	case past.Cause != "" && j.works(genuine):
		return []Verdict{forget(past, Verdict{Target: whole})}
	default:
		return nil
	}
	v.Until = j.now.Add(j.o.holdFor(v.Strikes))
	for _, m := range models {
		if m.Until.After(v.Until) {
			v.Until = m.Until
		}
	}
	return []Verdict{v}
}

// judgeModel judges a model by its attempts since the hold that is over; ok is false when nothing
// follows.
func (j *judging) judgeModel(target catalog.HoldTarget, t *logbuf.Tally) (v Verdict, ok bool) {
	past, held := j.hold(target)
	v = Verdict{Do: MakeHold, Target: target}
	reset := j.reset(t)
	switch {
	case held && past.Status == catalog.Active && reset.After(past.Until):
		v.Until, v.Strikes, v.Cause = reset, past.Strikes, catalog.CauseRate
	case held:
		return v, false
	case j.fails(t):
		v.Strikes, v.Cause = past.Strikes+1, catalog.CauseFailures
		v.Until = j.now.Add(j.o.holdFor(v.Strikes))
	case !reset.IsZero():
		v.Until, v.Strikes, v.Cause = reset, past.Strikes, catalog.CauseRate
	case past.Cause != "" && j.works(t):
		return forget(past, v), true
	default:
		return v, false
	}
	v.Message = describe(v.Cause, t)
	return v, true
}

// forget returns a verdict that a hold that is over has no cause any more.
func forget(past catalog.Hold, v Verdict) Verdict {
	v.Do, v.Until, v.Message = Forget, past.Until, "it works again"
	return v
}

// describe says why in words.
func describe(cause string, t *logbuf.Tally) string {
	if cause == catalog.CauseRate {
		return "the provider limits the rate, as several balancers say"
	}
	var classes []string
	for _, class := range logbuf.FailureClasses() {
		if n := t.Failed[class]; n > 0 && (class != logbuf.FailedNetwork || t.Widely(class)) {
			classes = append(classes, fmt.Sprintf("%s %d", class, n))
		}
	}
	return fmt.Sprintf("%d of %d attempts failed: %s", t.Failures(), t.Attempts(), strings.Join(classes, ", "))
}

// hold returns the hold for health of a target, and whether it lasts. One that was never made is zero.
func (j *judging) hold(t catalog.HoldTarget) (h catalog.Hold, lasts bool) {
	h = j.holds[t.String()]
	return h, h.ID != 0 && (h.Until.IsZero() || j.now.Before(h.Until))
}

// tally adds up the slots of the window that no hold of the model or of its provider has ended in or
// after.
func (j *judging) tally(u logbuf.Upstream, ofProvider catalog.Hold) (sum logbuf.Tally) {
	since := j.now.Add(-j.o.Window)
	ofModel, _ := j.hold(catalog.HoldTarget{ProviderID: u.ProviderID, UpstreamModel: u.Model})
	for _, h := range []catalog.Hold{ofProvider, ofModel} {
		end := h.Until.Truncate(j.o.Slot)
		if h.Cause == "" {
			end = end.Add(j.o.Slot) // what failed before is known to be over
		}
		if !h.Until.After(j.now) && end.After(since) {
			since = end
		}
	}
	for _, s := range j.tallies[u] {
		if !s.Slot.Before(since) {
			sum.Add(&s.Tally)
		}
	}
	return sum
}

// withoutRefusals returns a tally without the failures that are the credential's.
func withoutRefusals(t logbuf.Tally) *logbuf.Tally {
	t.Failed = maps.Clone(t.Failed)
	delete(t.Failed, logbuf.FailedAuth)
	delete(t.Failed, logbuf.FailedBilling)
	return &t
}

// mayBeMadeUp reports whether a model may be one that a user has made up: its provider lists it by a
// pattern alone, and in the time that is remembered it never worked.
func (j *judging) mayBeMadeUp(u logbuf.Upstream) bool {
	return !j.providers.ListsByName(u.ProviderID, u.Model) &&
		!slices.ContainsFunc(j.tallies[u], func(s logbuf.SlotTally) bool { return s.Succeeded > 0 })
}

func (j *judging) fails(t *logbuf.Tally) bool {
	return t.Attempts() >= j.o.Attempts && j.mostlyFails(t)
}

// mostlyFails reports whether as many attempts failed as are too many, however few there were.
func (j *judging) mostlyFails(t *logbuf.Tally) bool {
	return t.Failures()*100 >= t.Attempts()*j.o.Percent
}

// works reports whether there were enough successes, and not mostly failures.
func (j *judging) works(t *logbuf.Tally) bool {
	return t.Succeeded >= j.o.Successes && !j.mostlyFails(t)
}

// reset returns until when the provider asked to wait; zero when fewer than two balancers say so, when
// it is over, or when attempts mostly work all the same.
func (j *judging) reset(t *logbuf.Tally) time.Time {
	if !t.Widely(logbuf.FailedRate) || !t.Reset.After(j.now) || !j.mostlyFails(t) {
		return time.Time{}
	}
	if latest := j.now.Add(j.o.LongestRate); t.Reset.After(latest) {
		return latest
	}
	return t.Reset
}

// mostRefused returns the model at which the provider refused its credential most; empty when it did
// at none lately.
func (j *judging) mostRefused(upstreams []logbuf.Upstream) (most string) {
	var n int64
	for _, u := range upstreams {
		var t logbuf.Tally
		for _, s := range j.tallies[u] {
			t.Add(&s.Tally)
		}
		if of := t.Failed[logbuf.FailedAuth] + t.Failed[logbuf.FailedBilling]; of > n {
			n, most = of, u.Model
		}
	}
	return most
}
