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

// maxSkew is how far this process's clock may be from a store's. Beyond it one of them is wrong, and nothing that time
// has made old is deleted, because what one server deletes is gone for all.
const maxSkew = 5 * time.Minute

// clockNoise is how far two clocks may be apart and count as the same.
const clockNoise = time.Second

// storeOfLogs is the name of the store whose clock access logs go by.
const storeOfLogs = "logs"

// ErrClock says that this process's clock and a store's differ too much for anything old to be deleted.
var ErrClock = errors.New("this server's clock is wrong, or its store's: nothing old is deleted until they agree")

// A Clock says how far this process's clock is from a store's.
type Clock struct {
	Store string        // "catalog" or "logs"
	Skew  time.Duration // by how much this process is ahead; negative when it is behind
}

// Wrong reports whether the two differ by more than 5 minutes.
func (c Clock) Wrong() bool { return c.Skew.Abs() > maxSkew }

// clocks are what was read of the stores' clocks.
type clocks struct {
	mu   sync.Mutex
	read []Clock
}

// note keeps a reading, and returns an error when the clocks differ too much.
func (c *clocks) note(store string, theirs, ours time.Time) error {
	reading := Clock{store, ours.Sub(theirs)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.read, func(r Clock) bool { return r.Store == store }); i >= 0 {
		c.read[i] = reading
	} else {
		c.read = append(c.read, reading)
	}
	if reading.Wrong() {
		return fmt.Errorf("%w (it is %s ahead of the %s)", ErrClock, reading.Skew.Round(time.Second), store)
	}
	return nil
}

// skew returns by how much this process is ahead of a store, as it was read last.
func (c *clocks) skew(store string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.read {
		if c.read[i].Store == store {
			return c.read[i].Skew
		}
	}
	return 0
}

func (c *clocks) status() []Clock {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.read)
}

// ClockReady returns an error that wraps ErrClock while this process's clock was last seen to be
// far from that of a store.
func (p *Plane) ClockReady() error {
	for _, c := range p.clocks.status() {
		if c.Wrong() {
			return fmt.Errorf("%w (it is %s ahead of the %s)", ErrClock, c.Skew.Round(time.Second), c.Store)
		}
	}
	return nil
}

// maintain does at intervals what time brings to the catalog.
func (p *Plane) maintain(ctx context.Context) error {
	var pruned, sealed time.Time
	return p.regularly(ctx, maintenanceInterval, "maintenance failed, will try again", func(ctx context.Context) error {
		now, err := p.catalogTime(ctx)
		if err != nil {
			return err
		}
		// A task that fails holds up no other.
		errs := []error{p.Maintain(ctx)}
		if now.Sub(sealed) >= sealInterval || p.SealStatus().Older > 0 {
			sealed = now
			_, err := p.Reseal(ctx, resealAtOnce)
			errs = append(errs, err)
		}
		if now.Sub(pruned) >= pruneInterval {
			pruned = now
			errs = append(errs, p.prune(ctx, now))
		}
		return errors.Join(errs...)
	})
}

// catalogTime returns the time by the catalog's clock, or an error when this process's is far from it.
func (p *Plane) catalogTime(ctx context.Context) (now time.Time, err error) {
	err = p.config.Catalog.Read(ctx, func(r catalog.Reader) error {
		now = r.Now()
		return nil
	})
	if err != nil {
		return now, err
	}
	return now, p.clocks.note("catalog", now, p.config.Clock())
}

// prune forgets changes that are older than their retention.
func (p *Plane) prune(ctx context.Context, now time.Time) error {
	pruner, ok := p.config.Catalog.(catalog.Pruner)
	if !ok || p.config.ChangesRetention < 0 {
		return nil
	}
	_, err := pruner.PruneChanges(ctx, now.Add(-p.config.ChangesRetention))
	return err
}

// maintainLogs does at intervals what time brings to the access logs. It has a
// goroutine of its own, because much may be due, and in a database that is
// not the catalog's.
func (p *Plane) maintainLogs(ctx context.Context) error {
	sink, ok := p.config.LogSink.(logbuf.Maintainer)
	if !ok {
		<-ctx.Done()
		return nil
	}
	return p.regularly(ctx, logMaintenanceInterval, "maintenance of the logs failed, will try again",
		func(ctx context.Context) error {
			o, wrong := p.logsDue(ctx)
			if o.Now.IsZero() {
				return wrong
			}
			results := logbuf.Maintain(ctx, sink, o)
			p.maintained.Store(&results)
			return errors.Join(wrong, logbuf.MaintenanceError(results))
		})
}

// logsDue returns what is too old by the sink's clock. While this process's is far from it, nothing
// is, and an error says
// so; the other tasks go by the sink's. Without an answer there is no time at all.
func (p *Plane) logsDue(ctx context.Context) (o logbuf.MaintenanceOptions, err error) {
	o.Now = p.config.Clock()
	if keeper, ok := p.config.LogSink.(logbuf.Timekeeper); ok {
		asked, cancel := context.WithTimeout(ctx, clockTimeout)
		defer cancel()
		now, err := keeper.Clock(asked)
		if err != nil {
			return logbuf.MaintenanceOptions{}, err
		}
		ours := o.Now
		o.Now = now
		if err := p.clocks.note(storeOfLogs, now, ours); err != nil {
			return o, err
		}
	}
	o.Before = p.forgettable(o.Now)
	if p.config.UsageRetention > 0 {
		o.UsageBefore = o.Now.Add(-p.config.UsageRetention)
	}
	return o, nil
}

// clockTimeout is how long a sink may take to tell its time.
const clockTimeout = 10 * time.Second

// forgettable returns the time before which access logs need not be kept; zero
// when all are. It stands still while entries wait to be stored: one of them
// may be as old as the retention allowed when it came, and if it was stored
// already and its answer lost, it is recognised only by what is there.
func (p *Plane) forgettable(now time.Time) time.Time {
	if p.config.LogRetention < 0 {
		return time.Time{}
	}
	if oldest := p.logs.Stats().OldestPending; !oldest.IsZero() && oldest.Before(now) {
		now = oldest
	}
	return now.Add(-p.config.LogRetention)
}
