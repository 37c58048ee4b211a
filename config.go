package ezapi

import (
	"log/slog"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/health"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// Config says what a [Plane] is made of. The zero Config is a complete control
// plane in memory.
type Config struct {
	// Catalog keeps the truth. Defaults to memory.
	Catalog Catalog
	// Keeper seals provider secrets before the catalog gets them. Required
	// with a Catalog; without one it defaults to a key that ends with the process.
	Keeper catalog.Keeper
	// AllowPrivateUpstreams accepts providers whose base_url is plain http or
	// leads to a private or special address. Defaults to false.
	AllowPrivateUpstreams bool

	// Publisher is what data planes read from. Defaults to memory.
	Publisher SnapshotPublisher
	// SyncKeys seal the secrets in snapshots, and sign the snapshots; data planes need the same
	// keys. Defaults to none: secrets in clear text, and no signature.
	SyncKeys *snapshot.Keys

	// LogBuffer takes access logs at once and stores them later. [Plane.Close] drains and closes
	// it. Defaults to a logbuf.Queue in front of LogSink, with the settings of Logs.
	LogBuffer LogBuffer
	// LogSink stores access logs. If it implements an optional interface of package logbuf, such as
	// logbuf.Archive or logbuf.Maintainer, the plane uses that too, also when LogBuffer is set.
	// Defaults to memory.
	LogSink logbuf.Sink
	// Logs are the settings of the default buffer. Defaults to those of logbuf.Open, with the
	// Logger below and [Plane.LogTime] as the clock. Logs.Completer is ignored: the plane sets its
	// own.
	Logs logbuf.Options

	// Alerts delivers what people should be told of, such as an alerts.Webhook does. Defaults to none: alerts
	// are only kept, in a Catalog that is an alerts.Outbox, to be read.
	Alerts alerts.Sender

	// BudgetInterval is how often what was spent is compared with budgets, where there are some.
	// Defaults to 1 second.
	BudgetInterval time.Duration

	// ChangesRetention is how long the change feed reaches back. Changes of holds and operators
	// that the control plane makes by itself are dropped after 7 days already. Defaults to 90 days;
	// negative keeps all changes, these too.
	ChangesRetention time.Duration
	// UsageRetention is how long usage is kept by the quarter of an hour, at least 32 days, where
	// LogSink is a logbuf.Maintainer. By the day it is kept for ever. What one control plane drops is
	// gone for all. Defaults to 400 days; negative keeps all.
	UsageRetention time.Duration
	// LogRetention is how long access logs are kept, at least 48 hours, where
	// LogSink is a logbuf.Maintainer. What they used is kept for ever. Defaults
	// to 90 days; negative keeps all.
	LogRetention time.Duration

	// Health says when providers that fail are left out for a while. Where LogSink is no
	// logbuf.HealthKeeper, each process judges by the logs that it takes itself.
	Health health.Options

	// Logger gets what an operator should know; never a secret. Defaults to
	// slog.Default().
	Logger *slog.Logger
	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
}

const (
	defaultRetention      = 90 * 24 * time.Hour
	defaultUsageRetention = 400 * 24 * time.Hour

	// leastUsageRetention is enough for a budget's month in every time zone.
	leastUsageRetention = 32 * 24 * time.Hour
)

func (c Config) withDefaults() Config {
	if c.Catalog == nil {
		c.Catalog = memstore.New(&memstore.Options{Clock: c.Clock})
		if c.Keeper == nil {
			c.Keeper = catalog.NewRandomKeyRing()
		}
	}
	if c.Publisher == nil {
		c.Publisher = memstore.NewPublisher()
	}
	if c.LogSink == nil {
		c.LogSink = memstore.NewSink(&memstore.SinkOptions{Clock: c.Clock})
	}
	if c.BudgetInterval <= 0 {
		c.BudgetInterval = time.Second
	}
	if c.ChangesRetention == 0 {
		c.ChangesRetention = defaultRetention
	}
	if c.LogRetention == 0 {
		c.LogRetention = defaultRetention
	}
	if c.UsageRetention == 0 {
		c.UsageRetention = defaultUsageRetention
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Logs.Logger == nil {
		c.Logs.Logger = c.Logger
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}
