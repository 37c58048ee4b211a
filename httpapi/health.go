package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/health"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// Check asks whether something works. An error is logged and never shown,
// because everybody may ask; note is shown, whether it works or not, and may be empty. A check
// that has no answer within two seconds, or panics, counts as failed. It is not called again
// before it has returned.
type Check func(ctx context.Context) (note string, err error)

// The names of the checks of the plane's own engines.
const (
	checkCatalog   = "catalog"
	checkWrites    = "catalog_writes"
	checkPublisher = "publisher"
	checkLogs      = "logs"
	checkLogStore  = "log_store"
	checkClock     = "clock"
	checkSeals     = "seals"
	checkBudgets   = "budgets"
	checkProviders = "providers"
)

var errNotPublishing = errors.New("publishing fails, and is tried again")

// dependencies knows what to ask, and what failed when it was asked last.
type dependencies struct {
	log     *slog.Logger
	checks  map[string]*probe
	reached func() bool // whether the catalog answered once since the start
}

func newDependencies(plane *ezapi.Plane, more map[string]Check, log *slog.Logger) dependencies {
	var answered atomic.Bool
	reached := func() bool { return answered.Load() || plane.Relay().Status().Revision > 0 }
	checks := map[string]Check{
		checkCatalog: func(ctx context.Context) (string, error) {
			err := plane.Store().Read(ctx, func(catalog.Reader) error { return nil })
			if err == nil {
				answered.Store(true)
			} else if !reached() {
				return "not reached since the start", err
			}
			return "", err
		},
		checkWrites: func(context.Context) (string, error) { return commitNote(plane.CommitStatus()) },
		checkPublisher: func(ctx context.Context) (string, error) {
			_, err := plane.Publisher().Head(ctx)
			if errors.Is(err, snapshot.ErrNone) {
				return "nothing was published yet", nil
			}
			if err == nil && plane.Relay().Status().LastError != "" {
				err = errNotPublishing
			}
			return "", err
		},
		checkLogs: func(context.Context) (string, error) {
			err, stats := plane.LogsReady(), plane.Stats()
			if err == nil && stats.Logs.Full {
				err = logbuf.ErrFull
			}
			if errors.Is(err, logbuf.ErrFull) {
				return "full: refuses entries until there is room", err
			}
			return logsNote(stats), err
		},
		checkClock: func(context.Context) (string, error) {
			if err := plane.ClockReady(); err != nil {
				return "this server's clock is far from a store's: nothing old is deleted until they agree", err
			}
			return "", nil
		},
	}
	checks[checkBudgets] = func(context.Context) (string, error) {
		if err := plane.BudgetsReady(); err != nil {
			return "budgets cannot be judged: nothing new is held until they can", err
		}
		return "", nil
	}
	checks[checkSeals] = func(context.Context) (string, error) { return sealNote(plane.SealStatus()) }
	checks[checkProviders] = func(context.Context) (string,
		error) {
		return judgeNote(plane.Stats().Health, plane.LogTime())
	}
	maps.Copy(checks, more)
	checks[checkLogStore] = func(ctx context.Context) (note string, err error) {
		if ask := more[checkLogStore]; ask != nil {
			if note, err = ask(ctx); err != nil {
				return note, err
			}
		}
		return storeNote(plane.Stats().Logs, plane.LogTime(), note)
	}
	h := dependencies{log: log, checks: map[string]*probe{}, reached: reached}
	for name, check := range checks {
		h.checks[name] = &probe{name: name, check: check, log: log}
	}
	return h
}

// logsNote says what an operator should look into. It names no files: anybody may ask.
func logsNote(s ezapi.Stats) string {
	var notes []string
	if s.Logs.Alarm != "" {
		notes = append(notes, "something has happened to the log spool since the start: see the log")
	}
	for _, t := range s.Maintenance {
		if t.Err != nil && !errors.Is(t.Err, logbuf.ErrBusy) {
			notes = append(notes, "maintenance fails: "+t.Name)
		}
		if t.Report.Aside > 0 {
			notes = append(notes, fmt.Sprintf("%s has set %d rows aside, which the database refuses", t.Name, t.Report.Aside))
		}
		if t.Report.Warning != "" {
			notes = append(notes, t.Report.Warning)
		}
	}
	return strings.Join(notes, "; ")
}

// confirmedLately is how long the database may work at a write before it counts.
const confirmedLately = 15 * time.Second

// commitNote fails while the database does not confirm what is written, though it can be read.
func commitNote(s catalog.CommitStatus) (note string, err error) {
	switch {
	case s.Oldest > confirmedLately:
		return "the database does not confirm what is written: is a synchronous standby gone?",
			fmt.Errorf("a write has waited for %s", s.Oldest.Round(time.Second))
	case s.LastError != "":
		return "the database can be read, and the last write failed", errors.New(s.LastError)
	}
	return "", nil
}

// storedLately is how long entries may wait for a log store that fails before it counts: what passes is no fault.
const storedLately = 5 * time.Second

// storeNote fails while accepted entries cannot be stored. They are taken all the same.
func storeNote(s logbuf.Stats, now time.Time, note string) (string, error) {
	waits := !s.OldestPending.IsZero() && now.Sub(s.OldestPending) > storedLately
	switch {
	case s.LastError == "" || !waits && !s.Paused:
		return note, nil
	case s.Paused:
		return "logs are not stored until somebody mends the log store: see the log", errors.New(s.LastError)
	}
	return "logs cannot be stored, and wait until they can: see the log", errors.New(s.LastError)
}

// sealNote says how far the secrets are sealed with the active key, and fails while some cannot be
// opened: no balancer can serve by those.
func sealNote(s catalog.SealStatus) (note string, err error) {
	var notes []string
	if s.Older > 0 {
		notes = append(notes, fmt.Sprintf("%d provider secrets are still to be sealed with the active key", s.Older))
	}
	if s.Unopenable > 0 {
		text := fmt.Sprintf("%d provider secrets cannot be opened with the keys of this server", s.Unopenable)
		notes, err = append(notes, text), errors.New(text)
	}
	if s.LastError != "" {
		err = errors.Join(err, errors.New(s.LastError))
	}
	return strings.Join(notes, "; "), err
}

// judgeNote fails while nothing new is judged of providers.
func judgeNote(s health.Status, now time.Time) (note string, err error) {
	if s.LastError != "" {
		err = errors.New(s.LastError)
	} else if age := now.Sub(s.JudgedAt); !s.JudgedAt.IsZero() && age > judgedLately {
		err = fmt.Errorf("the last judgement of providers is %s old", age.Round(time.Second))
	}
	if err != nil {
		note = "no provider is judged anew: holds for health stay as they are, until they end"
	}
	return note, err
}

// judgedLately is how old the last judgement of providers may be. A round with many providers to ask
// may take half of that.
const judgedLately = time.Minute

// condition is what a check came to.
type condition struct {
	Status string `json:"status" enum:"ok,failed" doc:"Whether the check passed."`
	Note   string `json:"note,omitempty" doc:"What else is to be known."`
}

// ask runs all checks at once.
func (h *dependencies) ask(ctx context.Context) map[string]condition {
	var mu sync.Mutex
	var all sync.WaitGroup
	found := make(map[string]condition, len(h.checks))
	for name, p := range h.checks {
		all.Go(func() {
			c := p.ask(ctx)
			mu.Lock()
			defer mu.Unlock()
			found[name] = c
		})
	}
	all.Wait()
	return found
}

type alive struct {
	Body struct {
		Status string `json:"status" enum:"ok" doc:"It is always ok."`
	}
}

func (h *Handler) alive(context.Context, *struct{}) (*alive, error) {
	out := &alive{}
	out.Body.Status = "ok"
	return out, nil
}

type readiness struct {
	Status int
	Body   readinessBody
}

type readinessBody struct {
	Status string               `json:"status" enum:"ok,degraded,unavailable" doc:"What works: ok when everything does, degraded when a check failed, unavailable when neither reads nor logs work, or when the catalog was never reached since the start."`
	Checks map[string]condition `json:"checks" doc:"What was checked, by its name."`
}

// ready is 503 only when there is nothing left that the server can do, and until it has reached
// its catalog once: whatever is wrong with a new server's settings shall keep it out of rotation.
func (h *Handler) ready(ctx context.Context, _ *struct{}) (*readiness, error) {
	out := &readiness{Status: http.StatusOK, Body: readinessBody{Status: "ok", Checks: h.dependencies.ask(ctx)}}
	for _, c := range out.Body.Checks {
		if c.Status != "ok" {
			out.Body.Status = "degraded"
		}
	}
	nothing := out.Body.Checks[checkCatalog].Status != "ok" && out.Body.Checks[checkLogs].Status != "ok"
	if nothing || !h.dependencies.reached() {
		out.Status, out.Body.Status = http.StatusServiceUnavailable, "unavailable"
	}
	return out, nil
}
