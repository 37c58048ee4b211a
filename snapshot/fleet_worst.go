package snapshot

import (
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// late is what a live data plane has yet to reach. While commits go on, one that keeps up is behind
// the newest head whenever anybody looks: what counts is how long it takes to reach a head that was
// there when it was first looked at.
type late struct {
	goal  Position
	since time.Time // on the engine's clock; zero: it is not behind
}

// follow notes since when a live data plane is behind the latest head that is known. The caller holds
// mu.
func (f *Fleet) follow(n *fleetNode) {
	at := f.latest
	switch {
	case at.Position == (Position{}), f.judge(n, at, nil) != NodeLagging, n.Position.After(at.Position):
		n.late = late{} // one that is ahead has what another server has published just now
	case n.late.since.IsZero(), n.Store == at.Store && at.Position.After(n.Position) && !n.late.goal.After(n.Position):
		n.late = late{at.Position, f.now}
	}
}

// Worst is how the live data planes do whose reports are verified.
type Worst struct {
	// Lag is how many revisions the one that is furthest behind is behind the head.
	Lag catalog.Revision

	// Behind is the longest time during which one of them has failed to reach a head that was
	// published when that time began, or has refused what is published. It is only as precise as
	// the interval at which reports are read.
	Behind time.Duration

	// Failing is how many report a problem.
	Failing int
}

// Worst returns how the live data planes stand to a head.
func (f *Fleet) Worst(at Head) (w Worst) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := range f.each() {
		if !f.counts(n) {
			continue
		}
		w.Lag = max(w.Lag, at.Position.Revision-n.Position.Revision)
		if !n.late.since.IsZero() {
			w.Behind = max(w.Behind, f.now.Sub(n.late.since))
		}
		if n.Error != "" {
			w.Failing++
		}
	}
	return w
}
