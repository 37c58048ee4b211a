package ezapi

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/health"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

const (
	healthTimeout = 10 * time.Second // for the log store, and for the catalog at one verdict
	probesAtOnce  = 4
	mostProbes    = 16   // in a round; the others have to wait for the next
	mostUntold    = 1000 // alerts that wait for the outbox
)

// healthJudge counts what log entries say of providers, shares that with the other processes, and judges.
type healthJudge struct {
	options health.Options
	writer  uuid.UUID // of this process
	counter logbuf.HealthCounter
	keeper  logbuf.HealthKeeper
	holds   *catalog.ProviderHolds
	known   *catalog.UpstreamList
	follow  *catalog.Follower
	status  atomic.Pointer[HealthStatus]

	mu      sync.Mutex
	probed  map[int64]time.Time     // when each provider was asked last
	shadows map[string]catalog.Hold // that providers without auto_ban would have, by target
	untold  []alerts.Alert          // that the outbox has not got yet
}

func newHealth(config *Config, holds *catalog.ProviderHolds, known *catalog.UpstreamList,
	follow *catalog.Follower) *healthJudge {
	options := config.Health.WithDefaults()
	h := &healthJudge{options: options, counter: logbuf.HealthCounter{Slot: options.Slot},
		writer: uuid.New(), holds: holds, known: known, follow: follow,
		probed: map[int64]time.Time{}, shadows: map[string]catalog.Hold{}}
	if keeper, ok := config.LogSink.(logbuf.HealthKeeper); ok {
		h.keeper = keeper
	} else {
		h.keeper = memstore.NewSink(nil) // then every process judges by what it takes itself
	}
	h.counter.Lists = func(u logbuf.Upstream) (listed, byName bool) {
		if !known.Loaded() {
			return true, true // it is judged by the catalog later
		}
		return known.Lists(u.ProviderID, u.Model)
	}
	h.status.Store(&HealthStatus{})
	return h
}

// HealthStatus says how judging providers gets on.
type HealthStatus struct {
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

// judgeHealth shares and judges at intervals, until ctx ends.
func (p *Plane) judgeHealth(ctx context.Context) error {
	return p.regularly(ctx, p.health.options.Interval, "providers are not judged, will try again: holds stay as they are",
		p.JudgeHealth)
}

// JudgeHealth shares with the other processes what this one has counted of providers, and makes and
// ends holds by what all have counted. Run does it every few seconds; a test need not wait for that.
// One verdict that cannot be carried out holds up no other.
func (p *Plane) JudgeHealth(ctx context.Context) error {
	h := p.health
	status := *h.status.Load()
	err := p.judgeOnce(ctx, &status)
	now := p.LogTime()
	status.Dropped, status.LastError = h.counter.Dropped(), ""
	status.Held = 0
	for _, hold := range h.holds.For(catalog.HoldHealth) {
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
	h.status.Store(&status)
	return err
}

func (p *Plane) judgeOnce(ctx context.Context, status *HealthStatus) error {
	h, now := p.health, p.LogTime()
	tallies, unread, err := h.share(ctx, now)
	status.Unread += int64(unread)
	if err != nil || h.options.Disabled {
		return err
	}
	within, cancel := context.WithTimeout(ctx, healthTimeout)
	_, err = h.follow.Refresh(within)
	cancel()
	if err != nil {
		return err
	}
	verdicts := health.Judge(&h.options, now, tallies, h.present(now), h.known)
	var errs []error
	var probes []health.Verdict
	h.longestUnaskedFirst(verdicts)
	for _, v := range verdicts {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case v.Do != health.Probe:
			errs = append(errs, p.carryOut(ctx, v, status))
		case len(probes) < mostProbes && h.mayProbe(&v, now):
			probes = append(probes, v)
		}
	}
	status.Probes += int64(len(probes))
	for _, v := range p.probeAll(ctx, probes, now) {
		errs = append(errs, p.carryOut(ctx, v, status))
	}
	return errors.Join(append(errs, p.tell(ctx))...)
}

// tell raises the alerts that wait; those that could not be kept wait for the next round.
func (p *Plane) tell(ctx context.Context) error {
	h := p.health
	h.mu.Lock()
	waiting := h.untold
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if err := p.RaiseAlerts(ctx, waiting...); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.untold = h.untold[len(waiting):]
	return nil
}

// present returns the holds for health, and those that providers would have which are only reported.
func (h *healthJudge) present(now time.Time) map[string]catalog.Hold {
	h.mu.Lock()
	defer h.mu.Unlock()
	holds := map[string]catalog.Hold{}
	for target, hold := range h.shadows {
		if now.Sub(hold.Until) > catalog.HealthMemory {
			delete(h.shadows, target)
			continue
		}
		holds[target] = hold
	}
	for _, hold := range h.holds.For(catalog.HoldHealth) {
		holds[hold.Target] = hold
	}
	return holds
}

// share writes what was counted since the last time, and reads what all have written.
func (h *healthJudge) share(ctx context.Context, now time.Time) (map[logbuf.Upstream][]logbuf.SlotTally, int, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	notes, err := h.counter.Notes(h.writer, now)
	if err != nil {
		return nil, 0, err
	}
	since := now.Add(-logbuf.HealthSpan - h.options.Slot)
	if err := h.keeper.KeepHealth(ctx, since, notes...); err != nil {
		h.counter.Again(notes)
		return nil, 0, err
	}
	return h.read(ctx, since)
}

func (h *healthJudge) read(ctx context.Context, since time.Time) (map[logbuf.Upstream][]logbuf.SlotTally, int, error) {
	notes, err := h.keeper.HealthNotes(ctx, since)
	if err != nil {
		return nil, 0, err
	}
	tallies, bad := logbuf.ReadHealthNotes(notes)
	return tallies, bad, nil
}
