package ezapi

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// HealthOptions are the thresholds by which providers are judged. Zero fields mean the defaults.
type HealthOptions struct {
	// Disabled turns judging off. Attempts are counted and shown all the same. Defaults to false.
	Disabled bool

	// Window is how far back attempts count, at most 2 minutes. Defaults to 60 s.
	Window time.Duration
	// Attempts is how many attempts there must be at least. Defaults to 10.
	Attempts int64
	// Percent is how many of them must have failed. Defaults to 50.
	Percent int64

	// FirstHold is how long the first hold lasts. Each that follows without enough successes in
	// between lasts twice as long, up to LongestHold. Default to 30 s and 30 min.
	FirstHold, LongestHold time.Duration
	// Successes is how many successes after a hold forget what was before. Defaults to 3.
	Successes int64
	// LongestRate bounds a hold that lasts until the provider's own reset. Defaults to 1 h.
	LongestRate time.Duration

	// Probe is how many failures of the classes auth and billing make the control plane ask the
	// provider itself. Defaults to 2.
	Probe int64
	// ProbeEvery is how long it waits at least before it asks again. Defaults to 30 s.
	ProbeEvery time.Duration

	// Models is how many models of a provider are held when all of it is. Defaults to 3.
	Models int
	// Holds is how many holds for health there are at most; beyond it whole providers are held
	// instead of single models. Defaults to 1000.
	Holds int

	// Interval is how often what was counted is shared, and judged. Defaults to 5 s.
	Interval time.Duration
}

func (o HealthOptions) withDefaults() HealthOptions {
	o.Window = min(cmp.Or(max(o.Window, 0), time.Minute), logbuf.HealthSpan)
	o.Attempts = cmp.Or(max(o.Attempts, 0), 10)
	o.Percent = cmp.Or(max(o.Percent, 0), 50)
	o.FirstHold = cmp.Or(max(o.FirstHold, 0), 30*time.Second)
	o.LongestHold = max(cmp.Or(max(o.LongestHold, 0), 30*time.Minute), o.FirstHold)
	o.Successes = cmp.Or(max(o.Successes, 0), 3)
	o.LongestRate = cmp.Or(max(o.LongestRate, 0), time.Hour)
	o.Probe = cmp.Or(max(o.Probe, 0), 2)
	o.ProbeEvery = cmp.Or(max(o.ProbeEvery, 0), 30*time.Second)
	o.Models = cmp.Or(max(o.Models, 0), 3)
	o.Holds = cmp.Or(max(o.Holds, 0), 1000)
	o.Interval = cmp.Or(max(o.Interval, 0), 5*time.Second)
	return o
}

// holdFor returns how long a hold lasts: the first, or the one after so many others.
func (o *HealthOptions) holdFor(strikes int) time.Duration {
	d := o.FirstHold
	for ; strikes > 1 && d < o.LongestHold; strikes-- {
		d *= 2
	}
	return min(d, o.LongestHold)
}

// A verdict is what follows from how a provider, or a model of it, does.
type verdict struct {
	do      action
	target  catalog.HoldTarget
	until   time.Time // of a hold; of a probe, when the hold ends that lasts because the one before failed
	strikes int
	cause   string // one of catalog.Cause…
	message string
	was     catalog.Revision // of the hold that this was judged by; 0 for none
	probe   string           // the upstream model to ask for where a probe needs one; empty: any
}

// action is what a verdict asks for.
type action int

const (
	doHold   action = iota // make a hold, or prolong the one that is there
	doForget               // delete the hold: it works again
	doProbe                // ask the provider
)

// judgeProviders says what follows from tallies and from the holds for health that there are, by their target;
// those that have ended, too. It depends on nothing else, so that every process that sees the same
// comes to the same verdicts. Verdicts come in the order of providers and models.
//
// It never shortens a hold. While one lasts, nothing new is judged of its target, but for a reset that
// is later; that a person has disabled one changes nothing in that. What was counted before a hold
// ended does not count after it.
func judgeProviders(o *HealthOptions, now time.Time, tallies map[logbuf.Upstream][]logbuf.SlotTally,
	holds map[string]catalog.Hold) (verdicts []verdict) {
	byProvider := map[int64][]logbuf.Upstream{}
	for u := range tallies {
		byProvider[u.ProviderID] = append(byProvider[u.ProviderID], u)
	}
	for _, h := range holds {
		t, _ := catalog.ParseHoldTarget(h.Target)
		u := logbuf.Upstream{ProviderID: t.ProviderID, Model: t.UpstreamModel}
		if _, ok := tallies[u]; !ok && t.ProviderID != 0 {
			byProvider[t.ProviderID] = append(byProvider[t.ProviderID], u)
		}
	}
	room := o.Holds - len(holds)
	for _, id := range slices.Sorted(maps.Keys(byProvider)) {
		upstreams := byProvider[id]
		slices.SortFunc(upstreams, func(a, b logbuf.Upstream) int { return strings.Compare(a.Model, b.Model) })
		j := judging{o: o, now: now, tallies: tallies, holds: holds, provider: id, room: &room}
		verdicts = append(verdicts, j.judge(upstreams)...)
	}
	for i := range verdicts {
		verdicts[i].was = holds[verdicts[i].target.String()].Revision
	}
	return verdicts
}

// judging is how one provider is judged.
type judging struct {
	o        *HealthOptions
	now      time.Time
	tallies  map[logbuf.Upstream][]logbuf.SlotTally
	holds    map[string]catalog.Hold
	provider int64
	room     *int // for holds of models
}

func (j *judging) judge(upstreams []logbuf.Upstream) (verdicts []verdict) {
	whole := catalog.HoldTarget{ProviderID: j.provider}
	hold, held := j.hold(whole)
	if held && (hold.Cause == catalog.CauseAuth || hold.Cause == catalog.CauseBilling) && hold.Status == catalog.Active {
		verdicts = append(verdicts, verdict{do: doProbe, target: whole, until: hold.Until, strikes: hold.Strikes + 1,
			cause: hold.Cause, probe: j.mostRefused(upstreams)})
	}
	if held {
		return verdicts
	}
	var sum logbuf.Tally // of all models, since the hold of the provider
	var models []catalog.Hold
	var instead []verdict // holds of models for which there is no room
	for _, u := range upstreams {
		t := j.tally(u, hold)
		sum.Add(&t)
		target := catalog.HoldTarget{ProviderID: j.provider, UpstreamModel: u.Model}
		if u.Model == "" {
			continue // all of the provider, or a model that was not named: it cannot be held
		}
		v, ok := j.judgeModel(target, &t)
		switch {
		case ok && v.do == doHold && *j.room <= 0 && j.holds[target.String()].ID == 0:
			instead = append(instead, v)
		case ok:
			verdicts = append(verdicts, v)
			if v.do == doHold && j.holds[target.String()].ID == 0 {
				*j.room--
			}
		}
		if h, lasts := j.hold(target); lasts && h.Status == catalog.Active { // those of this round count in the next
			models = append(models, h)
		}
	}
	return append(verdicts, j.judgeWhole(whole, hold, &sum, models, instead, upstreams)...)
}

// judgeWhole judges a provider that is not held.
func (j *judging) judgeWhole(whole catalog.HoldTarget, past catalog.Hold, sum *logbuf.Tally, models []catalog.Hold,
	instead []verdict, upstreams []logbuf.Upstream) []verdict {
	v := verdict{do: doHold, target: whole, strikes: past.Strikes + 1, cause: catalog.CauseModels}
	switch {
	case len(models) >= j.o.Models:
		v.message = fmt.Sprintf("%d of its models are held", len(models))
	case len(instead) > 0:
		v.message, v.cause = fmt.Sprintf("there are %d holds for health already; %s", j.o.Holds, instead[0].message),
			instead[0].cause
		for _, i := range instead {
			models = append(models, catalog.Hold{Until: i.until})
		}
	case sum.Failed[logbuf.FailedAuth]+sum.Failed[logbuf.FailedBilling] >= j.o.Probe:
		v.do, v.cause, v.probe = doProbe, catalog.CauseAuth, j.mostRefused(upstreams)
		if sum.Failed[logbuf.FailedBilling] > sum.Failed[logbuf.FailedAuth] {
			v.cause = catalog.CauseBilling
		}
		return []verdict{v}
	case past.ID != 0 && j.works(sum):
		return []verdict{{do: doForget, target: whole}}
	default:
		return nil
	}
	v.until = j.now.Add(j.o.holdFor(v.strikes))
	for _, m := range models {
		if m.Until.After(v.until) {
			v.until = m.Until
		}
	}
	return []verdict{v}
}

// judgeModel judges a model by its attempts since the hold that is over; ok is false when nothing
// follows.
func (j *judging) judgeModel(target catalog.HoldTarget, t *logbuf.Tally) (v verdict, ok bool) {
	past, held := j.hold(target)
	v = verdict{do: doHold, target: target}
	reset := j.reset(t)
	switch {
	case held && past.Status == catalog.Active && reset.After(past.Until):
		v.until, v.strikes, v.cause = reset, past.Strikes, catalog.CauseRate
	case held:
		return v, false
	case j.fails(t):
		v.strikes, v.cause = past.Strikes+1, catalog.CauseFailures
		v.until = j.now.Add(j.o.holdFor(v.strikes))
	case !reset.IsZero():
		v.until, v.strikes, v.cause = reset, past.Strikes, catalog.CauseRate
	case past.ID != 0 && j.works(t):
		v.do = doForget
	default:
		return v, false
	}
	v.message = describe(v.cause, t)
	return v, true
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
		if end := h.Until.Truncate(logbuf.HealthSlot); !h.Until.After(j.now) && end.After(since) {
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

func (j *judging) fails(t *logbuf.Tally) bool {
	n := t.Attempts()
	return n >= j.o.Attempts && t.Failures()*100 >= n*j.o.Percent
}

// works reports whether there were enough successes, and not mostly failures.
func (j *judging) works(t *logbuf.Tally) bool {
	return t.Succeeded >= j.o.Successes && t.Failures()*100 < t.Attempts()*j.o.Percent
}

// reset returns until when the provider asked to wait; zero when fewer than two balancers say so, or
// when it is over.
func (j *judging) reset(t *logbuf.Tally) time.Time {
	if !t.Widely(logbuf.FailedRate) || !t.Reset.After(j.now) {
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
