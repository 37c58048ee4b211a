package ezapi

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
)

// ErrNoAlerts says that Config.Catalog keeps no alerts: it is no alerts.Outbox.
var ErrNoAlerts = errors.New("the catalog's store keeps no alerts")

const (
	alertInterval  = 5 * time.Second // a cause is seen, and an alert is sent, this soon
	alertRetention = 90 * 24 * time.Hour
)

// alarm is what a plane knows of its alerts.
type alarm struct {
	box    alerts.Outbox // nil: none are kept
	sender alerts.Sender // nil: none are sent

	mu       sync.Mutex
	status   AlertStatus // but for LastError
	looking  string      // what went wrong when alerts were last kept; empty when nothing did
	claiming string      // likewise when those that are due were last read
}

// AlertStatus says how the alerts of this process fare.
type AlertStatus struct {
	Raised    int64  // by this process, and not by another before
	Delivered int64  // by this process
	LastError string // of the last attempt to keep alerts or to read them; empty when it went well
	SendError string // of the last attempt to deliver one; empty when it went well
}

func (a *alarm) update(change func(*AlertStatus)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.status)
}

func (a *alarm) read() AlertStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.status
	s.LastError = cmp.Or(a.looking, a.claiming)
	return s
}

// note keeps in mind what went wrong in one of the loops, in its own place of the two.
func (a *alarm) note(ctx context.Context, place *string, err error) {
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

// RaiseAlerts keeps alerts, to be read and to be delivered by Config.Alerts. Those whose identity is
// known already are not kept again. What is missing of time and severity is filled in, and long texts are cut.
// A catalog that keeps no alerts has them logged.
func (p *Plane) RaiseAlerts(ctx context.Context, list ...alerts.Alert) error {
	list = slices.Clone(list)
	for i := range list {
		a := &list[i]
		a.Severity = cmp.Or(a.Severity, a.Kind.Severity())
		a.Cut()
		if a.At.IsZero() {
			a.At = p.config.Clock()
		}
	}
	if len(list) == 0 {
		return nil
	}
	if p.alarm.box == nil {
		for _, a := range list {
			p.config.Logger.WarnContext(ctx, "alert: "+a.Message, "kind", a.Kind, "subject", a.Subject)
		}
		return nil
	}
	n, err := p.alarm.box.RaiseAlerts(ctx, list)
	p.alarm.update(func(s *AlertStatus) { s.Raised += int64(n) })
	return err
}

// Alerts returns alerts, newest first, with their states. The error is ErrNoAlerts where none are kept.
func (p *Plane) Alerts(ctx context.Context, q alerts.Query) ([]alerts.Alert, error) {
	if p.alarm.box == nil {
		return nil, ErrNoAlerts
	}
	list, err := p.alarm.box.Alerts(ctx, q)
	now := p.config.Clock()
	for i := range list {
		list[i].State = list[i].StateAt(now)
	}
	return list, err
}

// TestAlert raises an alert that says it is a trial, tries once to deliver it, and returns what became of it.
// Others that wait are left to Run. The error is ErrNoAlerts where none are kept.
func (p *Plane) TestAlert(ctx context.Context) (alerts.Alert, error) {
	if p.alarm.box == nil {
		return alerts.Alert{}, ErrNoAlerts
	}
	actor, _ := catalog.ActorFrom(ctx)
	trial := alerts.Alert{
		Kind: alerts.Test, Severity: alerts.Info, Subject: "alerts", At: p.config.Clock().UTC(),
		Message: "This is a trial, made by " + actor + ". Nothing is wrong.", Identity: "test/" + uuid.NewString(),
	}
	trial.Cut()
	if err := p.RaiseAlerts(ctx, trial); err != nil {
		return trial, err
	}
	if err := p.findAlert(ctx, &trial); err != nil {
		return trial, err
	}
	if p.alarm.sender == nil {
		trial.Error = "no webhook is configured"
		return trial, nil
	}
	outcome := alerts.Try(ctx, &trial, p.alarm.sender, p.config.Clock)
	if err := p.alarm.box.SettleAlert(ctx, trial.ID, outcome); err != nil {
		return trial, err
	}
	if outcome.Error == "" {
		p.alarm.update(func(s *AlertStatus) { s.Delivered++ })
	}
	return trial, p.findAlert(ctx, &trial)
}

// findAlert reads a trial that was kept a moment ago.
func (p *Plane) findAlert(ctx context.Context, trial *alerts.Alert) error {
	found, err := p.Alerts(ctx, alerts.Query{Kind: alerts.Test, Limit: 100})
	i := slices.IndexFunc(found, func(a alerts.Alert) bool { return a.Identity == trial.Identity })
	if err != nil || i < 0 {
		return err
	}
	*trial = found[i]
	return nil
}

// deliver sends alerts that are due until ctx ends. It is not part of the loop that looks for causes: a
// receiver that answers slowly must not keep a cause from being seen.
func (p *Plane) deliver(ctx context.Context) error {
	return p.regularly(ctx, alertInterval, "alerts cannot be read, will try again", p.deliverAlerts)
}

// deliverAlerts sends what is due. What cannot be sent is no error, for it is sent later: the status says so.
func (p *Plane) deliverAlerts(ctx context.Context) error {
	a := &p.alarm
	if a.box == nil || a.sender == nil {
		return nil
	}
	n, err := alerts.Deliver(ctx, a.box, a.sender, p.config.Clock)
	unsent := errors.Is(err, alerts.ErrUnsent)
	if unsent {
		p.config.Logger.WarnContext(ctx, "alerts are not delivered, will try again", "error", err)
	}
	a.update(func(s *AlertStatus) {
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

// watchForAlerts looks for what people should be told of, and forgets what is old.
func (p *Plane) watchForAlerts(ctx context.Context) error {
	watch := newCauses(p)
	var pruned time.Time
	return p.regularly(ctx, alertInterval, "alerts fail, will try again", func(ctx context.Context) error {
		errs := []error{p.RaiseAlerts(ctx, watch.look(ctx)...)}
		if errs[0] == nil {
			watch.told()
		}
		if now := p.config.Clock(); p.alarm.box != nil && now.Sub(pruned) >= time.Hour {
			_, err := p.alarm.box.PruneAlerts(ctx, now.Add(-alertRetention))
			if errs = append(errs, err); err == nil {
				pruned = now
			}
		}
		err := errors.Join(errs...)
		p.alarm.note(ctx, &p.alarm.looking, err)
		return err
	})
}
