package ezapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

const (
	// clockNoise is how far two clocks may be apart and count as the same.
	clockNoise = time.Second

	// storeOfLogs is the name of the store whose clock access logs go by.
	storeOfLogs = "logs"

	// clockTimeout is how long a sink may take to tell its time, and clockInterval how often it is asked.
	clockTimeout  = 10 * time.Second
	clockInterval = 10 * time.Second
)

// ErrClock says that this process's clock and a store's differ too much for anything old to be deleted.
var ErrClock = errors.New("this server's clock is wrong, or its store's: nothing old is deleted until they agree")

// ErrClockUnread says that times of access logs cannot be judged yet: by this process's clock they are
// wrong, and their store's was never read, so that it may be ours that is.
var ErrClockUnread = errors.New("the clock of the log store was not read yet")

// A Clock says how far this process's clock is from a store's.
type Clock struct {
	Store string        // "catalog" or "logs"
	Skew  time.Duration // by how much this process is ahead; negative when it is behind
}

// Wrong reports whether the two differ by more than [catalog.MaxSkew]. While they do, nothing that time
// has made old is deleted, because what one server deletes is gone for all.
func (c Clock) Wrong() bool { return c.Skew.Abs() > catalog.MaxSkew }

// A clockReading is what a store's clock said at an instant. The instant is one of the monotonic
// clock, which goes on evenly when this process's wall clock is set: from the reading follows what the
// store's clock says now, whatever ours does meanwhile. While the machine is suspended that clock stands
// still, so what it was asleep for is counted apart.
type clockReading struct {
	store  string
	theirs time.Time
	at     time.Time
	asleep time.Duration // until then, since the machine was started
}

// now returns what the store's clock says now.
func (r clockReading) now(asleep time.Duration) time.Time {
	return r.theirs.Add(time.Since(r.at)).Add(max(0, asleep-r.asleep))
}

// clocks are what was read of the stores' clocks. They are safe for concurrent use.
type clocks struct {
	asleep func() time.Duration // see timeAsleep, which is what nil means

	mu   sync.Mutex
	read []clockReading

	asking sync.Mutex // held by the one who reads a clock for the first time
	failed time.Time  // when that failed last
}

func (c *clocks) timeAsleep() time.Duration {
	if c.asleep == nil {
		return timeAsleep()
	}
	return c.asleep()
}

// note keeps a reading that was asked for at an instant, and has come now.
func (c *clocks) note(store string, theirs, begun time.Time) {
	r := clockReading{store, theirs, begun.Add(time.Since(begun) / 2), c.timeAsleep()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.read, func(r clockReading) bool { return r.store == store }); i >= 0 {
		c.read[i] = r
	} else {
		c.read = append(c.read, r)
	}
}

// now returns what a store's clock says; ok is false when that was never read.
func (c *clocks) now(store string) (now time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.read {
		if r.store == store {
			return r.now(c.timeAsleep()), true
		}
	}
	return now, false
}

// status compares all that were read with our time.
func (c *clocks) status(ours time.Time) (all []Clock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.read {
		all = append(all, Clock{r.store, ours.Sub(r.now(c.timeAsleep()))})
	}
	return all
}

// wrong returns an error that wraps ErrClock when our time is far from that of a store, or of any
// where the name is empty.
func (c *clocks) wrong(store string, ours time.Time) error {
	for _, r := range c.status(ours) {
		if (store == "" || r.Store == store) && r.Wrong() {
			return fmt.Errorf("%w (it is %s ahead of the %s)", ErrClock, r.Skew.Round(time.Second), r.Store)
		}
	}
	return nil
}

// ClockReady returns an error that wraps ErrClock while this process's clock is far from that of a store.
func (p *Plane) ClockReady() error { return p.clocks.wrong("", p.config.Clock()) }

// LogTime returns the time by which access logs are judged and dated: that of their store, where
// its clock was read and is not this process's, so that one server whose clock is wrong refuses
// no good entries. Config.Clock otherwise.
func (p *Plane) LogTime() time.Time {
	ours := p.config.Clock()
	if theirs, ok := p.clocks.now(storeOfLogs); ok && ours.Sub(theirs).Abs() >= clockNoise {
		return theirs
	}
	return ours
}

// checkTimes judges the times of entries, once more where the clock had to be read first.
func (p *Plane) checkTimes(ctx context.Context, entries []LogEntry) error {
	err := logbuf.CheckTimes(entries, p.LogTime(), p.config.LogRetention)
	if err == nil {
		return nil
	}
	read, unread := p.LogClockReady(ctx)
	if unread != nil {
		return unread
	}
	if read {
		err = logbuf.CheckTimes(entries, p.LogTime(), p.config.LogRetention)
	}
	return err
}

const (
	firstClockWait = time.Second // for the sink's answer
	firstClockRest = time.Second // before it is asked again after a failure
)

// LogClockReady makes sure that the store's clock, by which access logs are judged, was read once, and
// asks the sink if it was not. read reports that it was, so that what was judged before has to be
// judged again. The error wraps [ErrClockUnread]. A sink that tells no time has nothing to be read.
func (p *Plane) LogClockReady(ctx context.Context) (read bool, err error) {
	keeper, ok := p.config.LogSink.(logbuf.Timekeeper)
	if !ok {
		return false, nil
	}
	if _, known := p.clocks.now(storeOfLogs); known {
		return false, nil
	}
	p.clocks.asking.Lock()
	defer p.clocks.asking.Unlock()
	if _, known := p.clocks.now(storeOfLogs); known {
		return true, nil
	}
	if time.Since(p.clocks.failed) < firstClockRest {
		return false, ErrClockUnread
	}
	ctx, cancel := context.WithTimeout(ctx, firstClockWait)
	defer cancel()
	if _, err := p.readLogClock(ctx, keeper); err != nil {
		p.clocks.failed = time.Now()
		return false, fmt.Errorf("%w: %w", ErrClockUnread, err)
	}
	return true, nil
}

// readLogClock asks the sink for its time.
func (p *Plane) readLogClock(ctx context.Context, keeper logbuf.Timekeeper) (now time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	begun := time.Now()
	if now, err = keeper.Clock(ctx); err == nil {
		p.clocks.note(storeOfLogs, now, begun)
	}
	return now, err
}

// watchLogClock reads the sink's clock at intervals, beside maintenance, a round of which may take
// long. That the sink does not answer is what its other users say.
func (p *Plane) watchLogClock(ctx context.Context) error {
	keeper, ok := p.config.LogSink.(logbuf.Timekeeper)
	if !ok {
		<-ctx.Done()
		return nil
	}
	return p.regularly(ctx, clockInterval, "", func(ctx context.Context) error {
		_, _ = p.readLogClock(ctx, keeper)
		return nil
	})
}
