package ezapi

import (
	"context"
	"errors"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// maintain does at intervals what time brings to the catalog.
func (p *Plane) maintain(ctx context.Context) error {
	var pruned, sealed time.Time
	return p.regularly(ctx, maintenanceInterval, "maintenance failed, will try again", func(ctx context.Context) error {
		// A task that fails holds up no other. Only what forgets needs the catalog's clock.
		now, wrong := p.clocks.ReadCatalog(ctx, p.config.Catalog)
		errs := []error{wrong, p.Maintain(ctx), p.operators.RecordUse(ctx, p.Operators)}
		if now := p.config.Clock(); now.Sub(sealed) >= sealInterval || p.SealStatus().Older > 0 {
			sealed = now
			_, err := p.Reseal(ctx, resealAtOnce)
			errs = append(errs, err)
		}
		if wrong == nil && now.Sub(pruned) >= pruneInterval {
			pruned = now
			errs = append(errs, p.prune(ctx, now))
		}
		return errors.Join(errs...)
	})
}

// prune forgets changes that are older than their retention. Where all are kept, so are those of machines.
func (p *Plane) prune(ctx context.Context, now time.Time) error {
	pruner, ok := p.config.Catalog.(catalog.Pruner)
	if !ok || p.config.ChangesRetention < 0 {
		return nil
	}
	_, err := pruner.PruneChanges(ctx, now.Add(-p.config.ChangesRetention))
	_, errThin := pruner.ThinChanges(ctx, now.Add(-machineRetention))
	return errors.Join(err, errThin)
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
	warned := make(map[string]string) // by task
	return p.regularly(ctx, logMaintenanceInterval, "maintenance of the logs failed, will try again",
		func(ctx context.Context) error {
			o, wrong := p.logsDue(ctx)
			if o.Now.IsZero() {
				return wrong
			}
			results := logbuf.Maintain(ctx, sink, o)
			p.maintained.Store(&results)
			for _, r := range results {
				if w := r.Report.Warning; r.Err == nil && w != warned[r.Name] {
					warned[r.Name] = w
					if w != "" {
						p.config.Logger.WarnContext(ctx, "maintenance of the logs: "+w, "task", r.Name)
					}
				}
			}
			return errors.Join(wrong, logbuf.MaintenanceError(results))
		})
}

// logsDue returns what is too old by the sink's clock. While this process's is far from it, nothing
// is, and an error says so; the other tasks go by the sink's. Without an answer there is no time at
// all.
func (p *Plane) logsDue(ctx context.Context) (o logbuf.MaintenanceOptions, err error) {
	if o.Now, err = p.clocks.ReadLogs(ctx); err != nil {
		return o, err
	}
	o.Before = p.forgettable(o.Now)
	if p.config.UsageRetention > 0 {
		o.UsageBefore = o.Now.Add(-p.config.UsageRetention)
	}
	return o, nil
}

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
