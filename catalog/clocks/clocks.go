// Package clocks knows how far this process's clock is from those of its stores, and by which time access
// logs are judged. One server whose clock is wrong refuses no good entries, and deletes nothing.
package clocks

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

const (
	// noise is how far two clocks may be apart and count as the same.
	noise = time.Second

	// The names of the stores.
	storeOfCatalog = "catalog"
	storeOfLogs    = "logs"

	timeout = 10 * time.Second // for a sink to tell its time

	firstWait = time.Second // for the sink's first answer
	firstRest = time.Second // before it is asked for that again after a failure
)

// ErrWrong says that this process's clock and a store's differ too much for anything old to be deleted.
var ErrWrong = errors.New("this server's clock is wrong, or its store's: nothing old is deleted until they agree")

// ErrUnread says that times of access logs cannot be judged yet: by this process's clock they are
// wrong, and their store's was never read, so that it may be ours that is.
var ErrUnread = errors.New("the clock of the log store was not read yet")

// A Clock says how far this process's clock is from a store's.
type Clock struct {
	Store string        // "catalog" or "logs"
	Skew  time.Duration // by how much this process is ahead; negative when it is behind
}

// Wrong reports whether the two differ by more than [catalog.MaxSkew]. While they do, nothing that time
// has made old is deleted, because what one server deletes is gone for all.
func (c Clock) Wrong() bool { return c.Skew.Abs() > catalog.MaxSkew }

// A reading is what a store's clock said at an instant. The instant is one of the monotonic
// clock, which goes on evenly when this process's wall clock is set: from the reading follows what the
// store's clock says now, whatever ours does meanwhile. While the machine is suspended that clock stands
// still, so what it was asleep for is counted apart.
type reading struct {
	store  string
	theirs time.Time
	at     time.Time
	asleep time.Duration // until then, since the machine was started
}

// now returns what the store's clock says now.
func (r reading) now(asleep time.Duration) time.Time {
	return r.theirs.Add(time.Since(r.at)).Add(max(0, asleep-r.asleep))
}

// Clocks are what was read of the stores' clocks. They are safe for concurrent use.
type Clocks struct {
	ours   func() time.Time
	logs   logbuf.Timekeeper    // nil: the log sink tells no time
	asleep func() time.Duration // see timeAsleep

	mu   sync.Mutex
	read []reading

	asking sync.Mutex // held by the one who reads the sink's clock for the first time
	failed time.Time  // when that failed last
}

// New returns clocks of which none was read. A sink that is no [logbuf.Timekeeper] goes by ours.
func New(ours func() time.Time, sink logbuf.Sink) *Clocks {
	c := &Clocks{ours: ours, asleep: timeAsleep}
	c.logs, _ = sink.(logbuf.Timekeeper)
	return c
}

// note keeps a reading that was asked for at an instant, and has come now.
func (c *Clocks) note(store string, theirs, begun time.Time) {
	r := reading{store, theirs, begun.Add(time.Since(begun) / 2), c.asleep()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.read, func(r reading) bool { return r.store == store }); i >= 0 {
		c.read[i] = r
	} else {
		c.read = append(c.read, r)
	}
}

// now returns what a store's clock says; ok is false when that was never read.
func (c *Clocks) now(store string) (now time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.read {
		if r.store == store {
			return r.now(c.asleep()), true
		}
	}
	return now, false
}

// Status compares all that were read with this process's clock.
func (c *Clocks) Status() (all []Clock) {
	ours := c.ours()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.read {
		all = append(all, Clock{r.store, ours.Sub(r.now(c.asleep()))})
	}
	return all
}

// Ready returns an error that wraps ErrWrong while this process's clock is far from that of a store.
func (c *Clocks) Ready() error {
	return cmp.Or(c.wrong(storeOfCatalog), c.wrong(storeOfLogs))
}

// wrong returns an error that wraps ErrWrong when our time is far from that of a store.
func (c *Clocks) wrong(store string) error {
	for _, r := range c.Status() {
		if r.Store == store && r.Wrong() {
			return fmt.Errorf("%w (it is %s ahead of the %s)", ErrWrong, r.Skew.Round(time.Second), r.Store)
		}
	}
	return nil
}
