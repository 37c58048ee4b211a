package ezapi

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
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
