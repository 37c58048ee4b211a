package snapshot

import (
	"math/rand/v2"
	"time"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second

	// awayBackoff is the longest pause while a source cannot be reached, so that a failover is over soon
	// after it ended; many data planes make longer ones, see Watcher.longestPause.
	awayBackoff = time.Second

	// Loads of many data planes that something makes necessary at once are spread: over
	// loadSpread for each node that is live, within bounds.
	loadSpread    = 10 * time.Millisecond
	minLoadSpread = 250 * time.Millisecond
	maxLoadSpread = 10 * time.Second
)

// between returns a random time.
func between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + rand.N(most-least)
}

// loadDelay returns how long to wait before a load. Who serves nothing yet
// waits shortly, because it keeps clients waiting.
func (w *Watcher) loadDelay() time.Duration {
	if w.blank() {
		return between(0, 2*minBackoff)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return between(0, min(max(time.Duration(w.live)*loadSpread, minLoadSpread), maxLoadSpread))
}

// pause is how long to wait after failures that follow one another.
type pause struct {
	failures int
	last     time.Time
	loadTook time.Duration // of the last load
}

// longestPause returns how long to wait at most before a source that cannot be reached is tried
// again: all data planes together try 2,000 times a second at most.
func (w *Watcher) longestPause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(max(time.Duration(w.live)*reportShare, awayBackoff), maxBackoff)
}

// after returns the pause after a failure just now, with jitter, most at the longest. Loads that
// take long and are not good are not repeated more often than half of the time.
func (p *pause) after(now time.Time, most time.Duration) time.Duration {
	if now.Sub(p.last) > 2*maxBackoff+p.loadTook {
		p.failures = 0
	}
	d := min(minBackoff<<min(p.failures, 10), most)
	p.failures++
	p.last = now
	return max(between(d/2, d), p.loadTook)
}
