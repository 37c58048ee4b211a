package alerts

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
)

// ErrNoOutbox says that alerts are not kept: there is no [Outbox].
var ErrNoOutbox = errors.New("the catalog's store keeps no alerts")

// retention is how long alerts are kept.
const retention = 90 * 24 * time.Hour

// Causes are what people are told of. They are looked for again and again; the identities of alerts make two
// looks at the same thing one alert.
type Causes interface {
	// Look returns an alert for each cause that there is.
	Look(ctx context.Context) []Alert

	// Told is called once what Look returned last is kept.
	Told()
}

// An Alarm keeps alerts in an outbox, and delivers them from there. It is safe for concurrent use, but each
// of Watch and Deliver by one goroutine at a time.
type Alarm struct {
	box    Outbox // nil: none are kept
	sender Sender // nil: none are sent
	log    *slog.Logger
	clock  func() time.Time

	pruned time.Time // belongs to Watch

	mu       sync.Mutex
	status   Status // but for LastError
	watching string // what went wrong when alerts were last kept; empty when nothing did
	claiming string // likewise when those that are due were last read
}

// NewAlarm returns an alarm. Without a box alerts are only logged, without a sender they are only kept.
func NewAlarm(box Outbox, sender Sender, log *slog.Logger, clock func() time.Time) *Alarm {
	return &Alarm{box: box, sender: sender, log: log, clock: clock}
}

// Status says how the alerts of this process fare.
type Status struct {
	Raised    int64  // by this process, and not by another before
	Delivered int64  // by this process
	LastError string // of the last attempt to keep alerts or to read them; empty when it went well
	SendError string // of the last attempt to deliver one; empty when it went well
}

// Status returns how the alerts of this process fare.
func (a *Alarm) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.status
	s.LastError = cmp.Or(a.watching, a.claiming)
	return s
}

func (a *Alarm) update(change func(*Status)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.status)
}

// note keeps in mind what went wrong in one of the loops, in its own place of the two.
func (a *Alarm) note(ctx context.Context, place *string, err error) {
	if ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	*place = ""
	if err != nil {
		*place = err.Error()
	}
}

// Raise keeps alerts, to be read and to be delivered. Those whose identity is known already are not kept
// again. What is missing of time and severity is filled in, and long texts are cut. Without an outbox they
// are logged.
func (a *Alarm) Raise(ctx context.Context, list ...Alert) error {
	list = slices.Clone(list)
	for i := range list {
		alert := &list[i]
		alert.Severity = cmp.Or(alert.Severity, alert.Kind.Severity())
		alert.Cut()
		if alert.At.IsZero() {
			alert.At = a.clock()
		}
	}
	if len(list) == 0 {
		return nil
	}
	if a.box == nil {
		for _, alert := range list {
			a.log.WarnContext(ctx, "alert: "+alert.Message, "kind", alert.Kind, "subject", alert.Subject)
		}
		return nil
	}
	n, err := a.box.RaiseAlerts(ctx, list)
	a.update(func(s *Status) { s.Raised += int64(n) })
	return err
}

// List returns alerts, newest first, with their states. The error is ErrNoOutbox where none are kept.
func (a *Alarm) List(ctx context.Context, q Query) ([]Alert, error) {
	if a.box == nil {
		return nil, ErrNoOutbox
	}
	list, err := a.box.Alerts(ctx, q)
	now := a.clock()
	for i := range list {
		list[i].State = list[i].StateAt(now)
	}
	return list, err
}

// Trial raises an alert that says it is a trial, tries once to deliver it, and returns what became of it.
// Others that wait are left to Deliver. The error is ErrNoOutbox where none are kept.
func (a *Alarm) Trial(ctx context.Context) (Alert, error) {
	if a.box == nil {
		return Alert{}, ErrNoOutbox
	}
	actor, _ := catalog.ActorFrom(ctx)
	trial := Alert{
		Kind: Test, Severity: Info, Subject: "alerts", At: a.clock().UTC(),
		Message: "This is a trial, made by " + actor + ". Nothing is wrong.", Identity: "test/" + uuid.NewString(),
	}
	trial.Cut()
	if err := a.Raise(ctx, trial); err != nil {
		return trial, err
	}
	if err := a.find(ctx, &trial); err != nil {
		return trial, err
	}
	if a.sender == nil {
		trial.Error = "no webhook is configured"
		return trial, nil
	}
	outcome := Try(ctx, &trial, a.sender, a.clock)
	if err := a.box.SettleAlert(ctx, trial.ID, outcome); err != nil {
		return trial, err
	}
	if outcome.Error == "" {
		a.update(func(s *Status) { s.Delivered++ })
	}
	return trial, a.find(ctx, &trial)
}

// find reads a trial that was kept a moment ago.
func (a *Alarm) find(ctx context.Context, trial *Alert) error {
	found, err := a.List(ctx, Query{Kind: Test, Limit: 100})
	i := slices.IndexFunc(found, func(a Alert) bool { return a.Identity == trial.Identity })
	if err != nil || i < 0 {
		return err
	}
	*trial = found[i]
	return nil
}

// Deliver sends what is due. What cannot be sent is no error, for it is sent later: the status says so. It is
// not part of Watch: a receiver that answers slowly must not keep a cause from being seen.
func (a *Alarm) Deliver(ctx context.Context) error {
	if a.box == nil || a.sender == nil {
		return nil
	}
	n, err := Deliver(ctx, a.box, a.sender, a.clock)
	unsent := errors.Is(err, ErrUnsent)
	if unsent {
		a.log.WarnContext(ctx, "alerts are not delivered, will try again", "error", err)
	}
	a.update(func(s *Status) {
		if s.Delivered += int64(n); n > 0 || unsent {
			s.SendError = ""
		}
		if unsent {
			s.SendError = err.Error()
			err = nil
		}
	})
	a.note(ctx, &a.claiming, err)
	return err
}

// Watch raises alerts of the causes that there are, and forgets alerts that are old.
func (a *Alarm) Watch(ctx context.Context, causes Causes) error {
	errs := []error{a.Raise(ctx, causes.Look(ctx)...)}
	if errs[0] == nil {
		causes.Told()
	}
	if now := a.clock(); a.box != nil && now.Sub(a.pruned) >= time.Hour {
		_, err := a.box.PruneAlerts(ctx, now.Add(-retention))
		if errs = append(errs, err); err == nil {
			a.pruned = now
		}
	}
	err := errors.Join(errs...)
	a.note(ctx, &a.watching, err)
	return err
}
