package snapshot

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Breaker remembers which upstreams have just failed in this process, so that the next requests
// try others first. By default it remembers a failure for 1 to 30 seconds. The control plane judges
// by the reports of all balancers, and its holds last longer. A Breaker is safe for concurrent use.
type Breaker struct {
	shortest, longest time.Duration
	clock             func() time.Time

	known atomic.Int64 // len(open), read without the lock
	mu    sync.Mutex
	open  map[upstream]broken
}

type broken struct {
	until time.Time
	wait  time.Duration // how long it is open, this time
}

// BreakerOptions are the settings of [NewBreaker]; nil and zero fields mean the defaults.
type BreakerOptions struct {
	// Shortest is how long an upstream comes last after its first failure. Each further failure
	// after that time doubles it, up to Longest; a success forgets it. Default to 1 s and 30 s.
	Shortest, Longest time.Duration

	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
}

// maxBroken is how many upstreams a breaker knows. Others count as if they had not failed.
const maxBroken = 10_000

// NewBreaker returns a breaker that knows of no failure.
func NewBreaker(opts *BreakerOptions) *Breaker {
	if opts == nil {
		opts = &BreakerOptions{}
	}
	b := &Breaker{shortest: opts.Shortest, longest: opts.Longest, clock: opts.Clock, open: map[upstream]broken{}}
	if b.shortest <= 0 {
		b.shortest = time.Second
	}
	if b.longest <= 0 {
		b.longest = 30 * time.Second
	}
	b.longest = max(b.longest, b.shortest)
	if b.clock == nil {
		b.clock = time.Now
	}
	return b
}

// Failed notes that an attempt at a target has failed through a fault of the provider, not of the
// client. retryAfter is how long the provider asked to wait, 0 when it did not ask; no more of it
// counts than [BreakerOptions].Longest.
func (b *Breaker) Failed(t Target, retryAfter time.Duration) {
	key, now := upstream{t.Provider.ID, t.UpstreamModel}, b.clock()
	b.mu.Lock()
	defer b.mu.Unlock()
	before, known := b.open[key]
	wait := b.shortest
	switch {
	case known && now.Before(before.until):
		wait = before.wait // others that were on their way fail, too: that is the same failure
	case known:
		wait = min(2*before.wait, b.longest)
	case len(b.open) >= maxBroken && !b.forget(now):
		return
	}
	until := now.Add(max(wait, min(retryAfter, b.longest)))
	if until.After(before.until) {
		b.open[key] = broken{until, wait}
		b.known.Store(int64(len(b.open)))
	}
}

// forget makes room; ok is false when there is none. It needs the lock.
func (b *Breaker) forget(now time.Time) (ok bool) {
	for key, of := range b.open {
		if now.Sub(of.until) > b.longest {
			delete(b.open, key)
		}
	}
	return len(b.open) < maxBroken
}

// Succeeded notes that an attempt at a target has worked, which forgets its failures.
func (b *Breaker) Succeeded(t Target) {
	if b.known.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, upstream{t.Provider.ID, t.UpstreamModel})
	b.known.Store(int64(len(b.open)))
}

// Order moves the targets that have just failed behind the others, which keep their order. Of those
// that have failed, the one whose time is over first comes first. It leaves no target out: when all
// have failed, all are still tried.
func (b *Breaker) Order(targets []Target) {
	if b.known.Load() == 0 || len(targets) < 2 {
		return
	}
	now := b.clock()
	until := make([]time.Time, len(targets))
	b.mu.Lock()
	for i, t := range targets {
		if of, ok := b.open[upstream{t.Provider.ID, t.UpstreamModel}]; ok && now.Before(of.until) {
			until[i] = of.until
		}
	}
	b.mu.Unlock()
	order := make([]int, len(targets))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return until[a].Compare(until[b]) })
	before := slices.Clone(targets)
	for i, at := range order {
		targets[i] = before[at]
	}
}
