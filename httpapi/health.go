package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// Check asks whether something works. An error is logged and never shown,
// because everybody may ask; note is shown, whether it works or not, and may be empty.
type Check func(ctx context.Context) (note string, err error)

// checkTimeout is how long a check may take.
const checkTimeout = 2 * time.Second

// The names of the checks of the plane's own engines.
const (
	checkCatalog   = "catalog"
	checkPublisher = "publisher"
	checkLogs      = "logs"
	checkClock     = "clock"
	checkSeals     = "seals"
)

var errNotPublishing = errors.New("publishing fails, and is tried again")

// health knows what to ask, and what failed when it was asked last.
type health struct {
	log     *slog.Logger
	checks  map[string]Check
	reached func() bool // whether the catalog answered once since the start

	mu     *sync.Mutex
	failed map[string]bool
}

func newHealth(plane *ezapi.Plane, more map[string]Check, log *slog.Logger) health {
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
			err := plane.LogsReady()
			if errors.Is(err, logbuf.ErrFull) {
				return "full: refuses entries until there is room", nil
			}
			return "", err
		},
		checkClock: func(context.Context) (string, error) {
			if err := plane.ClockReady(); err != nil {
				return "this server's clock is far from a store's: nothing old is deleted until they agree", err
			}
			return "", nil
		},
	}
	checks[checkSeals] = func(context.Context) (string, error) { return sealNote(plane.SealStatus()) }
	for name, check := range more {
		checks[name] = check
	}
	return health{log: log, checks: checks, reached: reached, mu: new(sync.Mutex), failed: map[string]bool{}}
}

// sealNote says how far the secrets are sealed with the active key.
func sealNote(s catalog.SealStatus) (note string, err error) {
	var notes []string
	if s.Older > 0 {
		notes = append(notes, fmt.Sprintf("%d provider secrets are still to be sealed with the active key", s.Older))
	}
	if s.Unopenable > 0 {
		notes = append(notes, fmt.Sprintf("%d provider secrets cannot be opened with the keys of this server", s.Unopenable))
	}
	if s.LastError != "" {
		err = errors.New(s.LastError)
	}
	return strings.Join(notes, "; "), err
}

// condition is what a check came to.
type condition struct {
	Status string `json:"status" enum:"ok,failed" doc:"Whether the check passed."`
	Note   string `json:"note,omitempty" doc:"What else is to be known."`
}

// ask runs all checks at once.
func (h *health) ask(ctx context.Context) map[string]condition {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	found := make(map[string]condition, len(h.checks))
	for name, check := range h.checks {
		all.Go(func() {
			note, err := check(ctx)
			c := condition{Status: "ok", Note: note}
			if err != nil {
				c.Status = "failed"
			}
			h.noted(ctx, name, err)
			mu.Lock()
			defer mu.Unlock()
			found[name] = c
		})
	}
	all.Wait()
	return found
}

// noted logs when something stops or starts to work.
func (h *health) noted(ctx context.Context, name string, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	h.mu.Lock()
	before := h.failed[name]
	h.failed[name] = err != nil
	h.mu.Unlock()
	switch {
	case err != nil && !before:
		h.log.WarnContext(ctx, "a readiness check fails", "check", name, "error", err)
	case err == nil && before:
		h.log.InfoContext(ctx, "a readiness check passes again", "check", name)
	}
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
	out := &readiness{Status: http.StatusOK, Body: readinessBody{Status: "ok", Checks: h.health.ask(ctx)}}
	for _, c := range out.Body.Checks {
		if c.Status != "ok" {
			out.Body.Status = "degraded"
		}
	}
	nothing := out.Body.Checks[checkCatalog].Status != "ok" && out.Body.Checks[checkLogs].Status != "ok"
	if nothing || !h.health.reached() {
		out.Status, out.Body.Status = http.StatusServiceUnavailable, "unavailable"
	}
	return out, nil
}
