package health

import (
	"cmp"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// Options are the thresholds by which providers are judged. Zero fields mean the defaults.
type Options struct {
	// Disabled turns judging off. Attempts are counted and shown all the same. Defaults to false.
	Disabled bool

	// Window is how far back attempts count, at most 2 minutes. Defaults to 60 s.
	Window time.Duration
	// Slot is the length of the time slots that attempts are counted in. Attempts in the slot in
	// which a hold ended count as after the hold. It is at least 1 s. Defaults to 10 s.
	Slot time.Duration
	// Attempts is how many attempts there must be at least. Defaults to 10.
	Attempts int64
	// Percent is how many of them must have failed. Defaults to 50.
	Percent int64

	// FirstHold is how long the first hold lasts. Each that follows without enough successes in
	// between lasts twice as long, up to LongestHold. It is at least a Slot, so that a hold is
	// not followed by one for the same failures. Default to 30 s and 30 min.
	FirstHold, LongestHold time.Duration
	// Successes is how many successes after a hold reset the number of strikes. Defaults to 3.
	Successes int64
	// LongestRate bounds a hold that lasts until the provider's own reset. Defaults to 1 h.
	LongestRate time.Duration

	// Probe is how many failures of the classes auth and billing make the control plane ask the
	// provider itself. Defaults to 2.
	Probe int64
	// ProbeEvery is how long it waits at least before it asks again. Defaults to 30 s.
	ProbeEvery time.Duration

	// Models is how many models of a provider have to be held before the whole provider is held,
	// if most of its attempts fail, too. Defaults to 3.
	Models int
	// Holds is how many holds for health there are at most; beyond it whole providers are held
	// instead of single models. Defaults to 1000.
	Holds int

	// Interval is how often what was counted is shared, and judged. Defaults to 5 s.
	Interval time.Duration
}

// WithDefaults returns the options with defaults in place of zero fields, and within their bounds.
func (o Options) WithDefaults() Options {
	o.Window = min(cmp.Or(max(o.Window, 0), time.Minute), logbuf.HealthSpan)
	o.Attempts = cmp.Or(max(o.Attempts, 0), 10)
	o.Percent = cmp.Or(max(o.Percent, 0), 50)
	o.Slot = min(max(cmp.Or(max(o.Slot, 0), logbuf.HealthSlot), time.Second), o.Window)
	o.FirstHold = max(cmp.Or(max(o.FirstHold, 0), 30*time.Second), o.Slot)
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
func (o *Options) holdFor(strikes int) time.Duration {
	d := o.FirstHold
	for ; strikes > 1 && d < o.LongestHold; strikes-- {
		d *= 2
	}
	return min(d, o.LongestHold)
}
