// Command mirror carries what is published in one Redis to the Redis of another
// region, so that the balancers there need no connection to the origin: the region costs it one
// stream, whatever the number of its balancers. It is made to be copied.
//
//	EZ_REDIS_ADDR=origin:6379 EZ_REGION_REDIS_ADDR=127.0.0.1:6379 go run ./examples/mirror
//
// Balancers of the region read EZ_REGION_REDIS_ADDR and report there; the mirror
// passes their reports on, so ?wait=applied at the origin means them too.
// It needs no sync keys: secrets and signatures are carried as they are. With
// EZ_SYNC_KEYS it verifies what it carries. Several mirrors of a region do no harm: one
// writes, and the others find it written.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// settings come from the environment.
type settings struct {
	originURL    string // EZ_SNAPSHOT_URL: a control plane to follow over HTTP, in place of the origin's Redis
	token        string // EZ_BALANCER_TOKEN, for that
	originAddr   string // EZ_REDIS_ADDR
	originCA     string // EZ_REDIS_CA
	originPrefix string // EZ_REDIS_PREFIX
	regionAddr   string // EZ_REGION_REDIS_ADDR
	regionCA     string // EZ_REGION_REDIS_CA
	regionPrefix string // EZ_REGION_REDIS_PREFIX
	syncKeys     string // EZ_SYNC_KEYS; none verifies counts alone
}

func environment() settings {
	return settings{
		originURL:    os.Getenv("EZ_SNAPSHOT_URL"),
		token:        os.Getenv("EZ_BALANCER_TOKEN"),
		originAddr:   os.Getenv("EZ_REDIS_ADDR"),
		originCA:     os.Getenv("EZ_REDIS_CA"),
		originPrefix: cmp.Or(os.Getenv("EZ_REDIS_PREFIX"), "ezapi"),
		regionAddr:   os.Getenv("EZ_REGION_REDIS_ADDR"),
		regionCA:     os.Getenv("EZ_REGION_REDIS_CA"),
		regionPrefix: cmp.Or(os.Getenv("EZ_REGION_REDIS_PREFIX"), "ezapi"),
		syncKeys:     cmp.Or(os.Getenv("EZ_SYNC_KEYS"), "none"),
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, environment(), slog.Default()); err != nil {
		fmt.Fprintln(os.Stderr, "mirror:", err)
		os.Exit(1)
	}
}

// run carries until ctx ends.
func run(ctx context.Context, s settings, logger *slog.Logger) error {
	var keys *snapshot.Keys
	if s.syncKeys != "none" {
		var err error
		if keys, err = snapshot.ParseKeys(s.syncKeys); err != nil {
			return fmt.Errorf("EZ_SYNC_KEYS: %w", err)
		}
	}
	var origin snapshot.Source
	if s.originURL != "" {
		source := snapshot.NewHTTPSource(s.originURL, s.token, nil)
		defer source.Close()
		origin = source
	} else {
		publisher, closeClient, err := open("EZ_REDIS", s.originAddr, s.originCA, s.originPrefix, logger)
		if err != nil {
			return err
		}
		defer closeClient()
		origin = publisher
	}
	region, closeClient, err := open("EZ_REGION_REDIS", s.regionAddr, s.regionCA, s.regionPrefix, logger)
	if err != nil {
		return err
	}
	defer closeClient()

	mirror := snapshot.NewMirror(origin, region, &snapshot.MirrorOptions{Keys: keys, Logger: logger})
	go tell(ctx, mirror, logger)
	return mirror.Run(ctx)
}

// open connects to a Redis; names are those of the variables, for messages.
func open(names, addr, ca, prefix string, logger *slog.Logger) (*redisstore.Publisher, func(), error) {
	if addr == "" {
		return nil, nil, fmt.Errorf("%s_ADDR must be set: host:port, or a URL", names)
	}
	if err := redisstore.CheckPrefix(prefix); err != nil {
		return nil, nil, fmt.Errorf("%s_PREFIX: %w", names, err)
	}
	client, err := redisstore.Open(addr, &redisstore.OpenOptions{CAFile: ca, Name: "mirror", Logger: logger})
	if err != nil {
		return nil, nil, fmt.Errorf("%s_ADDR or %s_CA: %w", names, names, err)
	}
	publisher := redisstore.New(client, &redisstore.Options{Prefix: prefix, Logger: logger})
	return publisher, func() { _ = client.Close() }, nil
}

// tell logs how the mirror is doing, every minute.
func tell(ctx context.Context, m *snapshot.Mirror, logger *slog.Logger) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s := m.Status()
			logger.Info("mirror", "position", s.Position.String(), "beat", s.BeatAt, "wholes", s.Wholes, "deltas", s.Deltas,
				"repaired", s.Repaired, "nodes", s.Nodes, "reports", s.Reports, "error", s.Error, "report_error", s.ReportError)
		}
	}
}
