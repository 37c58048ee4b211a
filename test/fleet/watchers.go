package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// fleet watches many balancers while nothing happens, and while changes do.
func (b *bench) fleet(ctx context.Context) error {
	tables := newTables()
	if err := createKeys(ctx, tables, b.o.FleetKeys); err != nil {
		return err
	}
	var control meter
	p, client := b.open(&control)
	b.cleanUp(client)
	relay := b.relay(tables, p)
	if _, err := relay.Sync(ctx); err != nil {
		return err
	}
	b.background(relay.Run)
	f := &fleet{bench: b, tables: tables, relay: relay, origin: p, redis: client}
	if err := f.load(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{f.idle, f.publish, f.wait, f.readNodes} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fleet is what publishes, and the regions that follow.
type fleet struct {
	*bench
	tables  *catalog.Tables
	relay   *snapshot.Relay
	origin  snapshot.Publisher
	redis   redis.UniversalClient
	regions []*rpc.Client
	idles   usage // while nothing happened
}

// load starts the regions.
func (f *fleet) load(ctx context.Context) error {
	addresses := f.o.Regions
	if len(addresses) == 0 {
		addresses = []string{f.o.Redis}
	}
	for i, address := range addresses {
		if address != f.o.Redis {
			_, there := f.openAt(address, &meter{})
			f.cleanUp(there)
		}
		region, err := f.startRegion(RegionOptions{
			Name: fmt.Sprint("region-", i), Origin: f.o.Redis, Redis: address, Prefix: f.prefix,
			Watchers: f.o.Watchers*(i+1)/len(addresses) - f.o.Watchers*i/len(addresses),
		})
		if err != nil {
			return fmt.Errorf("start a region: %w", err)
		}
		f.regions = append(f.regions, region)
	}
	before, err := f.read(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	if _, err := ask[struct{}](ctx, f.regions, "Start", struct{}{}); err != nil {
		return err
	}
	took := time.Since(start)
	known, err := poll(ctx, 2*time.Minute, "the origin knows of all balancers", func() bool {
		list, err := f.origin.Nodes(ctx, snapshot.NodeQuery{Limit: 1})
		return err == nil && list.Total >= f.o.Watchers
	})
	if err != nil {
		return err
	}
	after, err := f.read(ctx)
	if err != nil {
		return err
	}
	f.printf("%d balancers of %d keys at %d Redis have loaded within %s, and the origin knows of them %s later; "+
		"%.0f kB of memory each", f.o.Watchers, f.o.FleetKeys, len(addresses), round(took), round(known),
		after.minus(before).resident/float64(f.o.Watchers)/1e3)
	return nil
}

// startRegion starts a process of this program, which ends when its standard input does.
func (b *bench) startRegion(o RegionOptions) (*rpc.Client, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	description, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, RegionCommand, string(description))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	region := jsonrpc.NewClient(struct {
		io.Reader
		io.WriteCloser
	}{out, in})
	b.close = append(b.close, func() {
		_ = region.Close()
		_ = cmd.Wait()
	})
	return region, nil
}

// ask calls a method of all regions at the same time.
func ask[T any](ctx context.Context, regions []*rpc.Client, method string, argument any) ([]T, error) {
	answers := make([]T, len(regions))
	var group errgroup.Group
	for i, region := range regions {
		group.Go(func() error {
			call := region.Go("Region."+method, argument, &answers[i], make(chan *rpc.Call, 1))
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-call.Done:
				return call.Error
			}
		})
	}
	return answers, group.Wait()
}

// usage is what all regions and the origin's Redis have used, up to now or since another time.
type usage struct {
	at                       time.Time
	seconds                  float64
	commands, sent, received float64 // of all balancers
	far                      float64 // bytes between the mirrors and the origin, both ways
	loads                    float64
	cpu                      float64 // seconds, of all regions' balancers and mirrors
	resident                 float64 // bytes, of all regions
	origin, regions          float64 // seconds for which the Redis worked, the regions' together
}

func (f *fleet) read(ctx context.Context) (u usage, err error) {
	readings, err := ask[Reading](ctx, f.regions, "Read", struct{}{})
	for _, r := range readings {
		u.commands += float64(r.Traffic.Commands)
		u.sent += float64(r.Traffic.Sent)
		u.received += float64(r.Traffic.Received)
		u.far += float64(r.Far.Sent + r.Far.Received)
		u.loads += float64(r.Loads)
		u.cpu += r.CPU.Seconds()
		u.resident += float64(r.Resident)
		u.regions += r.Worked.Seconds()
	}
	u.at, u.origin = time.Now(), busy(ctx, f.redis).Seconds()
	return u, err
}

func (u usage) minus(v usage) usage {
	return usage{
		seconds:  u.at.Sub(v.at).Seconds(),
		commands: u.commands - v.commands, sent: u.sent - v.sent, received: u.received - v.received,
		far: u.far - v.far, loads: u.loads - v.loads, cpu: u.cpu - v.cpu, resident: u.resident - v.resident,
		origin: u.origin - v.origin, regions: u.regions - v.regions,
	}
}
