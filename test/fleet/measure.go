package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// idle watches the fleet while nothing happens.
func (f *fleet) idle(ctx context.Context) error {
	if f.o.Idle == 0 {
		return nil
	}
	time.Sleep(min(f.o.Idle, 15*time.Second)) // for what the start has left to do
	before, err := f.read(ctx)
	if err != nil {
		return err
	}
	time.Sleep(f.o.Idle)
	after, err := f.read(ctx)
	if err != nil {
		return err
	}
	d, n := after.minus(before), float64(f.o.Watchers)
	f.idles = d
	f.printf("idle, for %.0f s: %.3f commands/s a balancer; each sends %.0f B/s and receives %.0f B/s; %s",
		d.seconds, d.commands/n/d.seconds, d.sent/n/d.seconds, d.received/n/d.seconds,
		f.worked(d, 1/d.seconds*100, "%.1f %% of a core"))
	return nil
}

// worked tells for how long the Redis worked, which the format shows in a unit.
func (f *fleet) worked(u usage, unit float64, format string) string {
	origin, regions := fmt.Sprintf(format, u.origin*unit), float64(len(f.o.Regions))
	if regions == 0 {
		return "Redis works " + origin
	}
	return fmt.Sprintf("the origin's Redis works %s, that of each region "+format+"; a mirror and the origin "+
		"exchange %.1f kB/s", origin, u.regions/regions*unit, u.far/regions/u.seconds/1e3)
}

// publish changes one key after the other, and measures from the commit until each balancer has it.
func (f *fleet) publish(ctx context.Context) error {
	var views, alls []time.Duration
	before, err := f.read(ctx)
	if err != nil || f.o.Publishes == 0 {
		return err
	}
	for range f.o.Publishes {
		start := time.Now()
		head, err := f.change(ctx)
		if err != nil {
			return err
		}
		times, err := ask[[]time.Time](ctx, f.regions, "Applied", head.Position)
		if err != nil {
			return err
		}
		var took []time.Duration
		for _, at := range slices.Concat(times...) {
			took = append(took, at.Sub(start))
		}
		views, alls = append(views, took...), append(alls, slices.Max(took))
		time.Sleep(time.Until(start.Add(f.o.Every)))
	}
	after, err := f.read(ctx)
	if err != nil {
		return err
	}
	publishes, n := float64(f.o.Publishes), float64(f.o.Watchers)
	d := after.minus(before)
	f.printf("a change of one key, %d times in %.0f s: from the commit to a balancer's View p50 %s, p99 %s, "+
		"at most %s; to all of them %s (median); %.0f have loaded the whole",
		f.o.Publishes, d.seconds, round(quantile(views, 0.5)), round(quantile(views, 0.99)), round(slices.Max(views)),
		round(median(alls)), d.loads)
	f.printf("each balancer sends %.1f commands and %.0f B for it and receives %.0f B, and works %.0f µs; %s",
		d.commands/n/publishes, d.sent/n/publishes, d.received/n/publishes, d.cpu/n/publishes*1e6,
		f.worked(d, 1e3/publishes, "%.1f ms"))
	if f.idles.seconds > 0 {
		share := d.seconds / f.idles.seconds / publishes
		f.printf("idle, for as long: each balancer works %.0f µs; %s", f.idles.cpu/n*share*1e6,
			f.worked(f.idles, share*1e3, "%.1f ms"))
	}
	return nil
}

// change publishes one key more.
func (f *fleet) change(ctx context.Context) (snapshot.Head, error) {
	if _, err := f.tables.Keys.Create(ctx, catalog.Key{Name: "one more"}); err != nil {
		return snapshot.Head{}, err
	}
	return f.relay.Sync(ctx)
}

// wait measures what ?wait=applied waits for: that the reports of all balancers that are live have arrived
// at the origin.
func (f *fleet) wait(ctx context.Context) error {
	var took []time.Duration
	known := f.o.Watchers
	for range min(f.o.Publishes, 5) {
		start := time.Now()
		head, err := f.change(ctx)
		if err != nil {
			return err
		}
		limited, stop := context.WithTimeout(ctx, time.Minute)
		standing, err := f.relay.Fleet().Applied(limited, head, catalog.KindKey)
		stop()
		if err != nil {
			return err
		}
		known = min(known, standing.Applied)
		took = append(took, time.Since(start))
		time.Sleep(time.Until(start.Add(f.o.Every)))
	}
	if len(took) > 0 {
		f.printf("?wait=applied waits %s (median; at most %s), and then at least %d balancers are known to have it",
			round(median(took)), round(slices.Max(took)), known)
	}
	return nil
}

// readNodes reads all reports while they go on coming.
func (f *fleet) readNodes(ctx context.Context) error {
	var took, longest []time.Duration
	for range 20 {
		start := time.Now()
		slow, err := f.longest(ctx, f.redis, func() error {
			_, err := f.origin.Nodes(ctx, snapshot.NodeQuery{})
			return err
		})
		if err != nil {
			return err
		}
		took, longest = append(took, time.Since(start)), append(longest, slow)
	}
	f.printf("reading all reports takes %s, and Redis' longest command meanwhile %s (medians; at most %s and %s)",
		round(median(took)), round(median(longest)), round(slices.Max(took)), round(slices.Max(longest)))
	return nil
}

// longest returns the longest command of Redis on the bench's keys while something is done.
func (b *bench) longest(
	ctx context.Context,
	client redis.UniversalClient,
	do func() error,
) (time.Duration, error) {
	for setting, value := range map[string]string{"slowlog-log-slower-than": "100", "slowlog-max-len": "10000"} {
		old, err := client.ConfigGet(ctx, setting).Result()
		if err != nil {
			return 0, err
		}
		defer client.ConfigSet(ctx, setting, old[setting])
		if err := client.ConfigSet(ctx, setting, value).Err(); err != nil {
			return 0, err
		}
	}
	if err := client.Do(ctx, "slowlog", "reset").Err(); err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	var longest time.Duration
	slow, err := client.SlowLogGet(ctx, 10_000).Result()
	for _, s := range slow {
		if slices.ContainsFunc(s.Args, func(a string) bool { return strings.HasPrefix(a, "{"+b.prefix+"}") }) {
			longest = max(longest, s.Duration)
		}
	}
	return longest, err
}

// round leaves three digits or four.
func round(d time.Duration) time.Duration {
	unit := time.Microsecond
	for d >= 10_000*unit {
		unit *= 10
	}
	return d.Round(unit)
}
