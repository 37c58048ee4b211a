package catalog

import (
	"context"
	"sync/atomic"
	"time"
)

// MaxSkew is how far two clocks may be apart. Beyond it one of them is wrong.
const MaxSkew = 5 * time.Minute

// clockNoise is how far two clocks may be apart and count as the same.
const clockNoise = time.Second

// A storeClock tells the time by the store's clock, which all servers share: the time of this
// process minus the difference of the two clocks at the last reading of the store. So a process
// whose clock is wrong writes no wrong dates that others rely on. It is safe for concurrent use.
type storeClock struct {
	ours  func() time.Time
	known atomic.Bool  // that the store's clock was read
	ahead atomic.Int64 // nanoseconds by which ours is ahead
}

func (c *storeClock) now() time.Time { return c.ours().Add(-time.Duration(c.ahead.Load())) }

// note keeps what the store's clock said at some instant after begun, by our clock, and before now.
func (c *storeClock) note(theirs, begun time.Time) {
	ahead := time.Duration(0)
	if now := c.ours(); theirs.Before(begun.Add(-clockNoise)) {
		ahead = begun.Sub(theirs)
	} else if theirs.After(now.Add(clockNoise)) {
		ahead = now.Sub(theirs)
	}
	c.ahead.Store(int64(ahead))
	c.known.Store(true)
}

// now returns the time by the store's clock, as far as it is known.
func (c *core) now() time.Time { return micros(c.clock.now()) }

// read calls fn with a view of the store, and notes the store's clock.
func (c *core) read(ctx context.Context, fn func(Reader) error) error {
	begun := c.clock.ours()
	return c.store.Read(ctx, func(r Reader) error {
		c.clock.note(r.Now(), begun)
		return fn(r)
	})
}

// storeTime asks the store for its time.
func (c *core) storeTime(ctx context.Context) (time.Time, error) {
	err := c.read(ctx, func(Reader) error { return nil })
	return c.now(), err
}

// Now asks the store for the time by its clock, in UTC and whole microseconds. A caller who commits to
// the store without the tables sets [Commit.Time] to it.
func (t *Tables) Now(ctx context.Context) (time.Time, error) { return t.core.storeTime(ctx) }
