package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// changes publishes changes of several sizes among many keys, and watches the scrub of all that.
func (b *bench) changes(ctx context.Context) error {
	tables := newTables()
	if err := createKeys(ctx, tables, b.o.Keys); err != nil {
		return err
	}
	var ids []int64
	for key, err := range tables.Keys.All(ctx, catalog.Query{}) {
		if err != nil {
			return err
		}
		if ids = append(ids, key.ID); len(ids) == 10_000 {
			break
		}
	}
	var control, reader meter
	p, client := b.open(&control)
	b.cleanUp(client)
	relay := b.relay(tables, p)
	memory := memoryOf(ctx, client)
	start := time.Now()
	if _, err := relay.Sync(ctx); err != nil {
		return err
	}
	b.printf(
		"%d keys: the first publish took %s and sent %.1f MB; they take %.0f bytes of Redis' memory each",
		b.o.Keys,
		time.Since(start).Round(time.Millisecond),
		float64(control.read().Sent)/1e6,
		(memoryOf(ctx, client)-memory)/float64(b.o.Keys),
	)
	source, _ := b.open(&reader)
	w := snapshot.NewWatcher(source, &snapshot.WatcherOptions{Keys: b.keys, Name: "balancer", Logger: b.log})
	start = time.Now()
	stop := b.background(w.Run)
	<-w.Ready()
	b.printf(
		"%d keys: a balancer has loaded them within %s and received %.1f MB",
		b.o.Keys,
		time.Since(start).Round(time.Millisecond),
		float64(reader.read().Received)/1e6,
	)

	for _, size := range []int{1, 1_000, 10_000} {
		if size > len(ids) {
			continue
		}
		var took, applied []time.Duration
		before, read, worked := control.read(), reader.read(), busy(ctx, client)
		const rounds = 3
		for round := range rounds {
			_, err := tables.Update(ctx, func(tx *catalog.Tx) error {
				for _, id := range ids[:size] {
					if _, err := tx.Keys.Edit(ctx, id, func(k *catalog.Key) error {
						k.RPMLimit = int64(1000*size +
							round)
						return nil
					}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			start := time.Now()
			head, err := relay.Sync(ctx)
			if err != nil {
				return err
			}
			took = append(took, time.Since(start))
			if _, err := poll(ctx, time.Minute, "the balancer has applied it",
				func() bool { return !head.Position.After(w.View().Position()) }); err != nil {
				return err
			}
			applied = append(applied, time.Since(start))
		}
		sent, received := control.read().minus(before), reader.read().minus(read)
		b.printf(
			"%d of %d keys change: published within %s, applied within %s; %d commands and %.1f kB to Redis, %.1f kB to a "+
				"balancer; Redis works %s",
			size,
			b.o.Keys,
			median(took).Round(time.Microsecond),
			median(applied).Round(time.Microsecond),
			sent.Commands/rounds,
			float64(
				sent.Sent,
			)/rounds/1e3,
			float64(received.Received)/rounds/1e3,
			((busy(ctx, client) - worked) / rounds).Round(time.Microsecond),
		)
	}
	stop()

	if b.o.Scrub > 0 {
		running := b.background(relay.Run)
		if _, err := poll(ctx, 2*time.Minute, "a scrub",
			func() bool { return !relay.Status().ScrubbedAt.IsZero() }); err != nil {
			b.printf("no scrub had ended after 2 minutes: %+v", relay.Status())
		}
		before, worked := control.read(), busy(ctx, client)
		start := time.Now()
		time.Sleep(b.o.Scrub)
		seconds := time.Since(start).Seconds()
		d := control.read().minus(before)
		b.printf("a minute's scrub of %d keys: Redis works %s, sends %.1f MB in %.0f commands",
			b.o.Keys, time.Duration(float64(busy(ctx, client)-worked)*60/seconds).Round(time.Millisecond),
			float64(d.Received)/1e6*60/seconds, float64(d.Commands)*60/seconds)
		running()
	}
	return nil
}

// nodes reports for many balancers, and reads what they have reported.
func (b *bench) nodes(ctx context.Context) error {
	var m meter
	p, client := b.open(&m)
	b.cleanUp(client)
	report := func(from, to int) error {
		const workers = 4
		var all sync.WaitGroup
		errs := make(chan error, workers)
		for worker := range workers {
			all.Go(func() {
				for i := from + worker; i < to; i += workers {
					n := snapshot.Node{
						ID: fmt.Sprintf(
							"balancer-%06d-%08x",
							i,
							i,
						), Version: "v1.2.3", Store: "00000000-0000-4000-8000-000000000001",
						Position: snapshot.Position{Epoch: 1_790_000_000, Revision: 123_456}, Kinds: snapshot.Kinds(),
					}
					b.keys.SignNode(&n)
					if _, err := p.Report(ctx, n); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		all.Wait()
		close(errs)
		return <-errs
	}
	have := 0
	for _, n := range b.o.Nodes {
		start, worked := time.Now(), busy(ctx, client)
		if err := report(have, n); err != nil {
			return err
		}
		reports := time.Duration(max(n-have, 1))
		b.printf(
			"%d nodes: a report takes %s of Redis' time (%d reports in %s)",
			n,
			((busy(ctx, client) - worked) / reports).Round(time.Microsecond),
			n-have,
			time.Since(start).Round(time.Millisecond),
		)
		have = n

		start, worked = time.Now(), busy(ctx, client)
		var list snapshot.NodeList
		longest, err := b.longest(ctx, client, func() (err error) {
			if list, err = p.Nodes(ctx, snapshot.NodeQuery{}); err == nil && len(list.Nodes) < n {
				err = fmt.Errorf("of %d nodes %d are read", n, len(list.Nodes))
			}
			return err
		})
		if err != nil {
			return err
		}
		b.printf("%d nodes: reading all takes %s, %s of Redis' time; its longest command %s", n,
			round(time.Since(start)), round(busy(ctx, client)-worked), longest)

		if err := report(0, min(100, n)); err != nil {
			return err
		}
		const rounds = 50
		start, worked = time.Now(), busy(ctx, client)
		for range rounds {
			if _, err := p.Nodes(ctx, snapshot.NodeQuery{Since: list.Now}); err != nil {
				return err
			}
		}
		b.printf(
			"%d nodes: reading the 100 that have reported since takes %s, %s of Redis' time",
			n,
			(time.Since(start) / rounds).Round(time.Microsecond),
			((busy(ctx, client) - worked) / rounds).Round(time.Microsecond),
		)
	}
	return nil
}
