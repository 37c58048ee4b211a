package ezapi

import (
	"context"
	"errors"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts/causes"
	"github.com/ez-api/ez-api/logbuf"
)

const (
	maintenanceInterval = 10 * time.Second // ended tokens are gone this soon
	pruneInterval       = 10 * time.Minute
	sealInterval        = 10 * time.Minute // another server may still seal with an older key
	resealAtOnce        = 500              // secrets in a round

	// machineRetention is how long changes of holds and operators are kept that the control plane
	// makes by itself: they are many, and nobody returns to them.
	machineRetention = 7 * 24 * time.Hour

	logMaintenanceInterval = time.Minute

	alertInterval = 5 * time.Second // a cause is seen, and an alert is sent, this soon

	clockInterval = 10 * time.Second
)

// Run publishes changes, follows prices, judges providers and does maintenance until ctx ends; then
// it returns nil. It logs failures of its engines and goes on. Only when the catalog's store was
// closed, it stops and returns an error that wraps catalog.ErrClosed. Call Run only once at a time.
// The log buffer works from New to Close, whether Run does or not.
func (p *Plane) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make(chan error, 10)
	watched := causes.New(causes.Watched{
		Relay: p.relay, Logs: p.logs, Unpriced: p.entries.Unpriced(), Keys: p.Keys, Clock: p.config.Clock,
	})
	watch := func(ctx context.Context) error { return p.alarm.Watch(ctx, watched) }
	go func() { errs <- p.relay.Run(ctx) }()
	go func() { errs <- p.copies.Run(ctx, p.config.Logger) }()
	go func() { errs <- p.operators.Follow(ctx) }()
	go func() { errs <- p.maintain(ctx) }()
	go func() { errs <- p.maintainLogs(ctx) }()
	go func() { errs <- p.regularly(ctx, clockInterval, "", p.readLogClock) }()
	go func() { errs <- p.budgets.Run(ctx) }()
	go func() { errs <- p.regularly(ctx, alertInterval, "alerts fail, will try again", watch) }()
	go func() {
		errs <- p.regularly(ctx, alertInterval, "alerts cannot be read, will try again", p.alarm.Deliver)
	}()
	go func() {
		errs <- p.regularly(ctx, p.health.Interval(),
			"providers are not judged, will try again: holds stay as they are", p.health.Judge)
	}()
	var failed error
	for range cap(errs) {
		if err := <-errs; err != nil && ctx.Err() == nil {
			failed = err
			stop() // one that cannot go on ends all, rather than leave half a plane
		}
	}
	return failed
}

// regularly does something now and at intervals until ctx ends. A failure is
// logged under what.
func (p *Plane) regularly(ctx context.Context, interval time.Duration, what string,
	do func(context.Context) error) error {
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

// readLogClock reads the sink's clock, beside maintenance, a round of which may take long. That the sink
// does not answer is what its other users say.
func (p *Plane) readLogClock(ctx context.Context) error {
	_, _ = p.clocks.ReadLogs(ctx)
	return nil
}

// maintain does at intervals what time brings to the catalog.
func (p *Plane) maintain(ctx context.Context) error {
	var pruned, sealed time.Time
	return p.regularly(ctx, maintenanceInterval, "maintenance failed, will try again", func(ctx context.Context) error {
		// A task that fails holds up no other. Only what forgets needs the catalog's clock.
		now, wrong := p.clocks.ReadCatalog(ctx, p.config.Catalog)
		errs := []error{wrong, p.Maintain(ctx), p.operators.RecordUse(ctx, p.Operators)}
		if now := p.config.Clock(); now.Sub(sealed) >= sealInterval || p.SealStatus().Older > 0 {
			_, err := p.Reseal(ctx, resealAtOnce)
			if errs = append(errs, err); err == nil {
				sealed = now
			}
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
// all. Where the sink has no clock of its own, this process's must not be far from the catalog's.
func (p *Plane) logsDue(ctx context.Context) (o logbuf.MaintenanceOptions, err error) {
	if o.Now, err = p.clocks.ReadLogs(ctx); err != nil {
		return o, err
	}
	if _, tells := p.config.LogSink.(logbuf.Timekeeper); !tells {
		if _, err = p.clocks.ReadCatalog(ctx, p.config.Catalog); err != nil {
			return o, err
		}
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
