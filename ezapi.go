package ezapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/alerts/causes"
	"github.com/ez-api/ez-api/catalog/budgets"
	"github.com/ez-api/ez-api/catalog/clocks"
	"github.com/ez-api/ez-api/catalog/costs"
	"github.com/ez-api/ez-api/catalog/health"
	"github.com/ez-api/ez-api/catalog/operators"
	"github.com/ez-api/ez-api/catalog/upstreams"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// The three seams, which somebody else may implement.
type (
	// Catalog is where providers, keys, models and bindings are kept.
	Catalog = catalog.Store
	// SnapshotPublisher is where snapshots are written for data planes to read.
	SnapshotPublisher = snapshot.Publisher
	// LogBuffer takes access logs at once and stores them later.
	LogBuffer = logbuf.Buffer
)

// The nouns.
type (
	// Provider is an upstream AI vendor and its credential.
	Provider = catalog.Provider
	// Model is a supported model under its public name.
	Model = catalog.Model
	// Binding says which providers serve a model to which keys.
	Binding = catalog.Binding
	// Key is a client's permission to use the gateway.
	Key = catalog.Key
	// LogEntry is one request that a data plane served, or refused.
	LogEntry = logbuf.Entry
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

// Plane is a control plane: the catalog's tables, the relay that publishes
// them, and the log buffer, assembled. It is safe for concurrent use.
type Plane struct {
	*catalog.Tables

	config Config
	relay  *snapshot.Relay
	copies *catalog.Follower // leads on what is kept of the catalog in memory
	clocks *clocks.Clocks
	alarm  *alerts.Alarm

	operators *operators.Register
	tester    *upstreams.Tester
	health    *health.Monitor
	budgets   *budgets.Enforcer

	logs    logbuf.Buffer
	archive logbuf.Archive
	entries *costs.Completer
	pricing *costs.Repricer

	maintained atomic.Pointer[[]logbuf.TaskResult]

	closing sync.Once
	closed  error
}

// New assembles a Plane. It opens nothing and reaches for no server; engines
// come open, and are closed by whoever opened them.
func New(config Config) (*Plane, error) {
	if config.Catalog != nil && config.Keeper == nil {
		return nil, fmt.Errorf("ezapi: Config.Keeper is required with Config.Catalog, or provider secrets could "+
			"never be read again: %w", catalog.ErrInvalid)
	}
	if r := config.LogRetention; r > 0 && r < 48*time.Hour {
		return nil, fmt.Errorf("ezapi: Config.LogRetention must be at least 48h, or negative to keep all: %w",
			catalog.ErrInvalid)
	}
	if r := config.UsageRetention; r > 0 && r < leastUsageRetention {
		return nil, fmt.Errorf("ezapi: Config.UsageRetention must be at least 32 days, or negative to keep all: %w",
			catalog.ErrInvalid)
	}
	config = config.withDefaults()
	p := &Plane{
		Tables: catalog.NewTables(config.Catalog, config.Keeper, &catalog.Options{
			AllowPrivateUpstreams: config.AllowPrivateUpstreams, Clock: config.Clock, Logger: config.Logger,
		}),
		config: config,
		clocks: clocks.New(config.Clock, config.LogSink),
	}
	p.relay = snapshot.NewRelay(p.Tables, config.Publisher, &snapshot.RelayOptions{
		Keys: config.SyncKeys, Logger: config.Logger, Clock: config.Clock,
	})
	prices, accounts := catalog.NewPriceList(), catalog.NewAccounts()
	holds, known := catalog.NewProviderHolds(), catalog.NewUpstreamList()
	p.copies = catalog.NewFollower(config.Catalog, prices, accounts, holds, known)
	box, _ := config.Catalog.(alerts.Outbox)
	p.alarm = alerts.NewAlarm(box, config.Alerts, config.Logger, config.Clock)
	p.operators = operators.New(config.Catalog, config.Clock)

	privacy := catalog.PublicOnly
	if config.AllowPrivateUpstreams {
		privacy = catalog.AllowPrivate
	}
	p.tester = upstreams.NewTester(p.Providers, privacy)
	keeper, ok := config.LogSink.(logbuf.HealthKeeper)
	if !ok {
		keeper = memstore.NewSink(nil) // then every process judges by what it takes itself
	}
	p.health = health.NewMonitor(config.Health, health.Parts{
		Keeper: keeper, Holds: holds, Upstreams: known, Copies: p.copies, Catalog: p.Tables,
		Providers: p.Providers, Alarm: p.alarm, LogTime: p.LogTime, Privacy: privacy, Logger: config.Logger,
	})
	p.budgets = budgets.NewEnforcer(budgets.Options{
		Sink: config.LogSink, Accounts: accounts, Copies: p.copies, Catalog: p.Tables, Alarm: p.alarm,
		LogTime: p.LogTime, Clock: config.Clock, Logger: config.Logger, Interval: config.BudgetInterval,
	})

	p.archive, _ = config.LogSink.(logbuf.Archive)
	p.entries = costs.NewCompleter(prices, accounts, p.copies)
	p.pricing = costs.NewRepricer(p.Tables, config.LogSink, p.entries, p.LogTime)
	if p.logs = config.LogBuffer; p.logs != nil {
		return p, nil
	}
	config.Logs.Completer = p.entries
	if config.Logs.Clock == nil {
		config.Logs.Clock = p.LogTime
	}
	logs, err := logbuf.Open(config.LogSink, &config.Logs)
	if err != nil {
		return nil, fmt.Errorf("ezapi: %w", err)
	}
	p.logs = logs
	return p, nil
}

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

// Sync publishes now what the catalog holds, and returns the published head.
func (p *Plane) Sync(ctx context.Context) (snapshot.Head, error) { return p.relay.Sync(ctx) }

// Logger returns what gets the lines that an operator should know.
func (p *Plane) Logger() *slog.Logger { return p.config.Logger }

// Relay returns what publishes the catalog.
func (p *Plane) Relay() *snapshot.Relay { return p.relay }

// Publisher returns where snapshots are published.
func (p *Plane) Publisher() SnapshotPublisher { return p.config.Publisher }

// SyncKeys returns the keys that seal and sign snapshots; nil is none.
func (p *Plane) SyncKeys() *snapshot.Keys { return p.config.SyncKeys }

// Logs returns the buffer of access logs. Use AppendLogs, which completes entries.
func (p *Plane) Logs() LogBuffer { return p.logs }

// Now returns the time by Config.Clock.
func (p *Plane) Now() time.Time { return p.config.Clock() }

// LogTime returns the time by which access logs are judged and dated; see [clocks.Clocks.LogTime].
func (p *Plane) LogTime() time.Time { return p.clocks.LogTime() }

// LogClockReady makes sure that the clock of the log store was read, by which LogTime goes; see
// [clocks.Clocks.LogsReady].
func (p *Plane) LogClockReady(ctx context.Context) (read bool, err error) {
	return p.clocks.LogsReady(ctx)
}

// ClockReady returns an error that wraps [clocks.ErrWrong] while our clock is far from that of a store.
func (p *Plane) ClockReady() error { return p.clocks.Ready() }

// LogsReady returns nil, or the error that AppendLogs would return now, as far as the buffer
// can tell beforehand: see logbuf.Admitter. It costs next to nothing.
func (p *Plane) LogsReady() error {
	if a, ok := p.logs.(logbuf.Admitter); ok {
		return a.Ready()
	}
	return nil
}

// Archive returns what answers questions about stored logs; nil when
// Config.LogSink does not.
func (p *Plane) Archive() logbuf.Archive { return p.archive }

// LogRetention returns how long access logs are kept; negative is for ever.
func (p *Plane) LogRetention() time.Duration { return p.config.LogRetention }

// AppendLogs appends all or none of the entries to the log buffer. See logbuf.Buffer for
// what a nil error promises. The entries stay as they are.
//
// An entry without a cost gets one from the present prices, which are not older than the revision
// that the entry names in Revision. An entry without a project gets the project of its key. Where
// this is not known here yet, the default buffer completes the entry when it leaves the buffer; in
// another LogBuffer the entry stays incomplete. Costs and projects that entries bring are kept; an
// entry with a cost of its own gets the PricedRevision 0.
//
// The time of an entry may be at most an hour ahead of LogTime, and at most 7 days behind it, or
// the retention less a day where that is shorter. For an entry that is not acceptable the error is
// a logbuf.FieldError, such as of [3].ts, and no entry is taken. As long as the clock of the log
// store could not be read once, and a time is missing or wrong by this process's clock, the error
// wraps [clocks.ErrUnread]: the times cannot be judged yet.
//
// Entries are completed by the catalog as it was at most half a second ago: a call reads the
// catalog first when its copies in memory are older, and each call does while Run does not run.
// When the catalog does not answer, a call waits at most a second for it, and calls within the next
// 10 s do not wait; their entries are completed when they leave the buffer.
func (p *Plane) AppendLogs(ctx context.Context, entries ...LogEntry) error {
	err := p.appendLogs(ctx, entries)
	if err == nil {
		p.health.Count(entries...)
	}
	return err
}

func (p *Plane) appendLogs(ctx context.Context, entries []LogEntry) error {
	if err := p.clocks.CheckTimes(ctx, entries, p.config.LogRetention); err != nil {
		return err
	}
	p.entries.Prepare(ctx)
	if p.config.LogBuffer == nil {
		return p.logs.Append(ctx, entries...)
	}
	entries = slices.Clone(entries)
	for i := range entries {
		e := &entries[i]
		e.Namespace = cmp.Or(e.Namespace, "default")
		e.PricedRevision = 0
		_ = p.entries.Complete(e) // there is no later
	}
	return p.logs.Append(ctx, entries...)
}

// RaiseAlerts keeps alerts, to be read and to be delivered by Config.Alerts; see [alerts.Alarm.Raise].
func (p *Plane) RaiseAlerts(ctx context.Context, list ...alerts.Alert) error {
	return p.alarm.Raise(ctx, list...)
}

// Alerts returns alerts, newest first; see [alerts.Alarm.List].
func (p *Plane) Alerts(ctx context.Context, q alerts.Query) ([]alerts.Alert, error) {
	return p.alarm.List(ctx, q)
}

// TestAlert tries whether alerts arrive; see [alerts.Alarm.Trial].
func (p *Plane) TestAlert(ctx context.Context) (alerts.Alert, error) { return p.alarm.Trial(ctx) }

// CatchUp returns once everything that this process keeps of the catalog in memory, such as prices,
// operators and the projects of keys, is at a revision or at a later one. Logs that are appended
// from then on are completed by it. CatchUp reads the catalog where the copies in memory are older,
// and returns the error of ctx when ctx ends.
func (p *Plane) CatchUp(ctx context.Context, revision catalog.Revision) error {
	if err := p.operators.CatchUp(ctx, revision); err != nil {
		return err
	}
	return p.copies.CatchUp(ctx, revision)
}

// Settle returns once every control plane of the catalog, in any process, completes appended logs
// by a revision or by a later one, and knows its operators. No control plane uses a copy of the catalog that it has not
// checked for half a second, so Settle takes at least 0.75 s. It returns the error of ctx when ctx
// ends.
func (p *Plane) Settle(ctx context.Context, revision catalog.Revision) error {
	return p.entries.Settle(ctx, revision)
}

// Operator returns the operator that a token belongs to, if it may be used now; see
// [operators.Register.Authenticate].
func (p *Plane) Operator(ctx context.Context, token string) (catalog.Operator, bool) {
	return p.operators.Authenticate(ctx, token)
}

// Budgets says how budgets stand; see [budgets.Enforcer.Reports].
func (p *Plane) Budgets(ctx context.Context, q budgets.Query) (
	reports []budgets.Report, next catalog.HoldTarget, err error,
) {
	return p.budgets.Reports(ctx, q)
}

// BudgetsReady returns why budgets cannot be judged, so that nothing new is held; nil when they can
// be judged, or when there are none.
func (p *Plane) BudgetsReady() error { return p.budgets.Ready() }

// JudgeHealth makes and ends holds of providers by what all processes have counted of them; see
// [health.Monitor.Judge]. Run does it every few seconds; a test need not wait for that.
func (p *Plane) JudgeHealth(ctx context.Context) error { return p.health.Judge(ctx) }

// ProviderHealth returns how providers do; see [health.Monitor.Report].
func (p *Plane) ProviderHealth(ctx context.Context, q health.Query) (rows []health.Row, more bool, err error) {
	return p.health.Report(ctx, q)
}

// HealthWindow returns how far back the attempts of ProviderHealth reach.
func (p *Plane) HealthWindow() time.Duration { return p.health.Window() }

// TestProvider asks the provider with the id on demand; see [upstreams.Tester.Test].
func (p *Plane) TestProvider(ctx context.Context, id int64, kind upstreams.Kind, model string) (
	upstreams.Result, error) {
	return p.tester.Test(ctx, id, kind, model)
}

// Reprice computes the costs of stored entries anew; see [costs.Repricer.Reprice]. A run that is not told where to end
// ends at LogTime. Where the store's clock was never read and cannot be, the error wraps [clocks.ErrUnread].
func (p *Plane) Reprice(ctx context.Context, r costs.RepriceRequest) (costs.RepriceReport, error) {
	if _, err := p.clocks.LogsReady(ctx); err != nil && r.Query.Until.IsZero() {
		return costs.RepriceReport{}, err
	}
	return p.pricing.Reprice(ctx, r)
}

// Stats are the readings of everything that a Plane runs.
type Stats struct {
	Logs  logbuf.Stats
	Relay snapshot.RelayStatus
	// Copies says how well the copies of the catalog in memory follow it.
	Copies catalog.FollowerStatus
	// Operators says how well the list of operators in memory follows the catalog.
	Operators catalog.FollowerStatus
	// Seals says with which keys provider secrets are sealed.
	Seals catalog.SealStatus
	// Commits says how the catalog's store gets on with what is written.
	Commits catalog.CommitStatus
	// Budgets says how budgets are judged.
	Budgets budgets.Status
	// Clocks says how far this process's clock is from those of its stores, as it was last read.
	Clocks []clocks.Clock
	// Alerts says how many alerts were raised and delivered, and what failed last.
	Alerts alerts.Status
	// Health says how judging providers gets on.
	Health health.Status
	// Maintenance is what became of each task of the log sink when it was last
	// tried; empty before the first run.
	Maintenance []logbuf.TaskResult
}

// Stats returns the current readings.
func (p *Plane) Stats() Stats {
	s := Stats{Logs: p.logs.Stats(), Relay: p.relay.Status(), Seals: p.SealStatus()}
	s.Copies, s.Operators = p.copies.Status(), p.operators.Status()
	s.Commits, s.Budgets = p.CommitStatus(), p.budgets.Status()
	s.Clocks, s.Alerts, s.Health = p.clocks.Status(), p.alarm.Status(), p.health.Status()
	if results := p.maintained.Load(); results != nil {
		s.Maintenance = *results
	}
	return s
}

// Close stops taking logs and stores those that are pending, until ctx ends; the error says how
// many could not be stored. It closes the LogBuffer, also one that Config gave, and nothing else of
// Config. End Run before Close, or at the same time. A second Close returns what the first did.
func (p *Plane) Close(ctx context.Context) error {
	p.closing.Do(func() { p.closed = p.logs.Close(ctx) })
	return p.closed
}

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
