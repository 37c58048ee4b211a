package ezapi

import (
	"context"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

const (
	maintenanceInterval = 10 * time.Second // ended tokens are gone this soon
	pruneInterval       = 10 * time.Minute

	logMaintenanceInterval = time.Minute
	logMaintenanceTimeout  = 5 * time.Minute // what is done by then stays done
)

// maintain does at intervals what time brings to the catalog.
func (p *Plane) maintain(ctx context.Context) error {
	var pruned time.Time
	return p.regularly(ctx, maintenanceInterval, "maintenance failed, will try again", func(ctx context.Context) error {
		if err := p.Maintain(ctx); err != nil {
			return err
		}
		now := p.config.Clock()
		if now.Sub(pruned) < pruneInterval {
			return nil
		}
		pruned = now
		return p.prune(ctx, now)
	})
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
	return p.regularly(ctx, logMaintenanceInterval, "maintenance of the logs failed, will try again", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, logMaintenanceTimeout)
		defer cancel()
		return sink.Maintain(ctx, p.forgettable())
	})
}

// forgettable returns the time before which access logs need not be kept; zero
// when all are. It stands still while entries wait to be stored: one of them
// may be as old as the retention allowed when it came, and if it was stored
// already and its answer lost, it is recognised only by what is there.
func (p *Plane) forgettable() time.Time {
	if p.config.LogRetention < 0 {
		return time.Time{}
	}
	now := p.config.Clock()
	if oldest := p.logs.Stats().OldestPending; !oldest.IsZero() && oldest.Before(now) {
		now = oldest
	}
	return now.Add(-p.config.LogRetention)
}

// regularly does something now and at intervals until ctx ends. A failure is
// logged under what.
func (p *Plane) regularly(ctx context.Context, interval time.Duration, what string, do func(context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			p.config.Logger.WarnContext(ctx, what, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
