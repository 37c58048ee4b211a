package health

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/logbuf"
)

const (
	healthTimeout = 10 * time.Second // for the log store, and for the catalog at one verdict
	probesAtOnce  = 4
	mostProbes    = 16   // in a round; the others have to wait for the next
	mostUntold    = 1000 // alerts that wait for the outbox
)

// Parts is what a [Monitor] works with. All of it is required.
type Parts struct {
	Keeper    logbuf.HealthKeeper    // by which processes share what they have counted
	Holds     *catalog.ProviderHolds // that there are
	Upstreams *catalog.UpstreamList  // what may be held
	Copies    Copies                 // lead both on
	Catalog   Catalog                // where holds are made
	Providers Directory
	Alarm     Alarm

	LogTime func() time.Time // by which entries are dated, and holds end
	Privacy catalog.Privacy  // whether providers may be at private addresses
	Logger  *slog.Logger
}

// Copies of the catalog can be led on to its head; see [catalog.Follower].
type Copies interface {
	Refresh(ctx context.Context) (catalog.Head, error)
}

// A Catalog is changed in transactions; see [catalog.Tables].
type Catalog interface {
	Update(ctx context.Context, fn func(*catalog.Tx) error) (catalog.Revision, error)
}

// A Directory reads providers, with their secrets; see [catalog.Table].
type Directory interface {
	Get(ctx context.Context, id int64) (catalog.Provider, error)
	List(ctx context.Context, q catalog.Query) ([]catalog.Provider, error)
}

// An Alarm tells people; see [alerts.Alarm].
type Alarm interface {
	Raise(ctx context.Context, list ...alerts.Alert) error
}

// A Monitor counts what log entries say of providers, shares that with the other processes, and judges. It is
// safe for concurrent use.
type Monitor struct {
	options Options
	parts   Parts
	writer  uuid.UUID // of this process
	counter logbuf.HealthCounter
	status  atomic.Pointer[Status]

	mu      sync.Mutex
	probed  map[int64]time.Time     // when each provider was asked last
	shadows map[string]catalog.Hold // that providers without auto_ban would have, by target
	untold  []alerts.Alert          // that the outbox has not got yet
}

// NewMonitor returns a monitor that has counted nothing yet.
func NewMonitor(options Options, parts Parts) *Monitor {
	options = options.WithDefaults()
	m := &Monitor{options: options, parts: parts, counter: logbuf.HealthCounter{Slot: options.Slot},
		writer: uuid.New(), probed: map[int64]time.Time{}, shadows: map[string]catalog.Hold{}}
	m.counter.Lists = func(u logbuf.Upstream) (listed, byName bool) {
		if !parts.Upstreams.Loaded() {
			return true, true // it is judged by the catalog later
		}
		return parts.Upstreams.Lists(u.ProviderID, u.Model)
	}
	m.status.Store(&Status{})
	return m
}

// Count counts the attempts of entries that were taken.
func (m *Monitor) Count(entries ...logbuf.Entry) { m.counter.Count(m.parts.LogTime(), entries...) }

// Status says how judging providers gets on.
func (m *Monitor) Status() Status { return *m.status.Load() }

// Interval returns how often Judge is to be called.
func (m *Monitor) Interval() time.Duration { return m.options.Interval }

// Window returns how far back the attempts reach that Report tells of.
func (m *Monitor) Window() time.Duration { return m.options.Window }

// Status says how judging providers gets on.
type Status struct {
	JudgedAt  time.Time // when all that was due was done last; zero before the first time
	LastError string    // empty when the last try worked
	FailsFrom time.Time // when it began to fail; zero when the last try worked

	Held      int   // holds for health that last
	Made      int64 // holds made or prolonged by this process
	Recovered int64 // holds that this process ended, because the provider works again
	Probes    int64 // of providers that refused their credential
	Dropped   int64 // attempts that were not counted, see logbuf.HealthCounter
	Unread    int64 // notes of other processes that could not be read
}

// Judge shares with the other processes what this one has counted of providers, and makes and
// ends holds by what all have counted. One verdict that cannot be carried out holds up no other.
func (m *Monitor) Judge(ctx context.Context) error {
	status := m.Status()
	err := m.judgeOnce(ctx, &status)
	now := m.parts.LogTime()
	status.Dropped, status.LastError = m.counter.Dropped(), ""
	status.Held = 0
	for _, hold := range m.parts.Holds.For(catalog.HoldHealth) {
		if hold.Active(now) {
			status.Held++
		}
	}
	switch {
	case err == nil:
		status.JudgedAt, status.FailsFrom = now, time.Time{}
	case ctx.Err() != nil:
		return err
	default:
		status.LastError = err.Error()
		if status.FailsFrom.IsZero() {
			status.FailsFrom = now
		}
	}
	m.status.Store(&status)
	return err
}

func (m *Monitor) judgeOnce(ctx context.Context, status *Status) error {
	now := m.parts.LogTime()
	tallies, unread, err := m.share(ctx, now)
	status.Unread += int64(unread)
	if err != nil || m.options.Disabled {
		return err
	}
	within, cancel := context.WithTimeout(ctx, healthTimeout)
	_, err = m.parts.Copies.Refresh(within)
	cancel()
	if err != nil {
		return err
	}
	verdicts := Judge(&m.options, now, tallies, m.present(now), m.parts.Upstreams)
	var errs []error
	var probes []Verdict
	m.longestUnaskedFirst(verdicts)
	for _, v := range verdicts {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case v.Do != Probe:
			errs = append(errs, m.carryOut(ctx, v, status))
		case len(probes) < mostProbes && m.mayProbe(&v, now):
			probes = append(probes, v)
		}
	}
	status.Probes += int64(len(probes))
	for _, v := range m.probeAll(ctx, probes, now) {
		errs = append(errs, m.carryOut(ctx, v, status))
	}
	return errors.Join(append(errs, m.tell(ctx))...)
}

// tell raises the alerts that wait; those that could not be kept wait for the next round.
func (m *Monitor) tell(ctx context.Context) error {
	m.mu.Lock()
	waiting := m.untold
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if err := m.parts.Alarm.Raise(ctx, waiting...); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.untold = m.untold[len(waiting):]
	return nil
}

// present returns the holds for health, and those that providers would have which are only reported.
func (m *Monitor) present(now time.Time) map[string]catalog.Hold {
	m.mu.Lock()
	defer m.mu.Unlock()
	holds := map[string]catalog.Hold{}
	for target, hold := range m.shadows {
		if now.Sub(hold.Until) > catalog.HealthMemory {
			delete(m.shadows, target)
			continue
		}
		holds[target] = hold
	}
	for _, hold := range m.parts.Holds.For(catalog.HoldHealth) {
		holds[hold.Target] = hold
	}
	return holds
}

// share writes what was counted since the last time, and reads what all have written.
func (m *Monitor) share(ctx context.Context, now time.Time) (map[logbuf.Upstream][]logbuf.SlotTally, int, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	notes, err := m.counter.Notes(m.writer, now)
	if err != nil {
		return nil, 0, err
	}
	since := now.Add(-logbuf.HealthSpan - m.options.Slot)
	if err := m.parts.Keeper.KeepHealth(ctx, since, notes...); err != nil {
		m.counter.Again(notes)
		return nil, 0, err
	}
	return m.read(ctx, since)
}

func (m *Monitor) read(ctx context.Context, since time.Time) (map[logbuf.Upstream][]logbuf.SlotTally, int, error) {
	notes, err := m.parts.Keeper.HealthNotes(ctx, since)
	if err != nil {
		return nil, 0, err
	}
	tallies, bad := logbuf.ReadHealthNotes(notes)
	return tallies, bad, nil
}
