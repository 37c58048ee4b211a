// Command fleet prints what publishing costs a Redis: 1,000 balancers that wait and are
// told of changes, large changes among a million keys, a minute's scrub, and 10,000 and 100,000
// reports. It takes about seven minutes; flags make it smaller, or spread the balancers over
// regions, each with a Redis and a process of its own.
//
//	go run ./cmd/fleet -redis 127.0.0.1:6379
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/test/fleet"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) == 3 && os.Args[1] == fleet.RegionCommand {
		return fleet.ServeRegion(os.Args[2], os.Stdin, os.Stdout)
	}
	var o fleet.Options
	flag.StringVar(&o.Redis, "redis", os.Getenv("EZ_TEST_REDIS_ADDR"),
		"host:port of a Redis that nobody else uses meanwhile")
	flag.IntVar(&o.Watchers, "watchers", 1_000, "balancers; 0 leaves them out")
	regions := flag.String("regions", "",
		"host:port of each Redis that a mirror fills for balancers to read, comma-separated")
	flag.IntVar(&o.FleetKeys, "fleet-keys", 100, "keys that they follow")
	flag.DurationVar(&o.Idle, "idle", 60*time.Second, "how long they are watched while nothing happens")
	flag.IntVar(&o.Publishes, "publishes", 20, "changes that they are told of")
	flag.DurationVar(&o.Every, "every", 5*time.Second, "from one of those to the next, at least")
	flag.IntVar(&o.Keys, "keys", 1_000_000, "keys among which some change; 0 leaves that out")
	flag.DurationVar(&o.Scrub, "scrub", 60*time.Second, "how long the scrub is watched; 0 leaves it out")
	nodes := flag.String("nodes", "10000,100000", "how many reports there are; empty leaves them out")
	flag.Parse()
	if *regions != "" {
		o.Regions = strings.Split(*regions, ",")
	}
	for text := range strings.SplitSeq(*nodes, ",") {
		if n, err := strconv.Atoi(text); err == nil {
			o.Nodes = append(o.Nodes, n)
		}
	}
	if o.Redis == "" {
		return fmt.Errorf("-redis is not set")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return fleet.Run(ctx, o, os.Stdout)
}
