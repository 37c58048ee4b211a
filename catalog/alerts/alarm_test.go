package alerts_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/storage/memstore"
)

// down refuses everything.
func down(*alerts.Alert) error { return errors.New("the address answered status 500") }

// newAlarm returns an alarm, and what lets its clock go on while it delivers every five seconds.
func newAlarm(t *testing.T, box alerts.Outbox, to *sender) (*alerts.Alarm, func(time.Duration)) {
	t.Helper()
	at := now
	a := alerts.NewAlarm(box, to, slog.New(slog.DiscardHandler), func() time.Time { return at })
	return a, func(d time.Duration) {
		t.Helper()
		for end := at.Add(d); at.Before(end); at = at.Add(5 * time.Second) {
			if err := a.Deliver(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What is raised while nobody can be told arrives later, and is shown meanwhile.
func TestAlertsThatWait(t *testing.T) {
	to := &sender{refuse: down}
	a, pass := newAlarm(t, memstore.New(nil), to)
	for range 2 { // the same
		err := a.Raise(t.Context(), alerts.Alert{
			Kind: alerts.ProviderHeld, Subject: "provider/3", Message: strings.Repeat("long\x00 ", 1000), Identity: "i",
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	pass(time.Minute)
	list, err := a.List(t.Context(), alerts.Query{Limit: 10})
	if err != nil || len(list) != 1 || list[0].State != alerts.Pending || list[0].Tries < 2 ||
		list[0].Error != "the address answered status 500" || list[0].Severity != alerts.Warning {
		t.Fatalf("List: %+v, %v", list, err)
	}
	if s := a.Status(); s.SendError == "" {
		t.Error("the status does not show that alerts fail")
	}
	to.refuse = nil
	pass(5 * time.Minute)
	if !slices.Equal(to.sent, []string{"provider/3"}) {
		t.Errorf("%q arrived", to.sent)
	}
	if s := a.Status(); s.LastError+s.SendError != "" || s.Raised != 1 || s.Delivered != 1 {
		t.Errorf("Status: %+v", s)
	}

	trial, err := a.Trial(t.Context())
	if err != nil || trial.State != alerts.Delivered || trial.Kind != alerts.Test {
		t.Errorf("Trial: %+v, %v", trial, err)
	}
	to.refuse = down
	if trial, err = a.Trial(t.Context()); err != nil || trial.State != alerts.Pending || trial.Error == "" {
		t.Errorf("a trial that does not arrive: %+v, %v", trial, err)
	}
}

func TestAlertsWithoutOutbox(t *testing.T) {
	a, _ := newAlarm(t, nil, &sender{})
	if err := a.Raise(t.Context(), alerts.Alert{Kind: alerts.Test, Message: "x", Identity: "x"}); err != nil {
		t.Error(err)
	}
	_, err := a.List(t.Context(), alerts.Query{Limit: 1})
	if _, trial := a.Trial(t.Context()); !errors.Is(err, alerts.ErrNoOutbox) || !errors.Is(trial, alerts.ErrNoOutbox) {
		t.Errorf("List: %v, Trial: %v; want ErrNoOutbox", err, trial)
	}
}

// A trial does not wait for alerts that cannot be delivered, and sends none of them.
func TestTrialGoesAlone(t *testing.T) {
	to := &sender{}
	a, _ := newAlarm(t, memstore.New(nil), to)
	other := alerts.Alert{Kind: alerts.NodeLost, Subject: "node/a", Message: "x", Identity: "x"}
	if err := a.Raise(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	trial, err := a.Trial(t.Context())
	if err != nil || trial.State != alerts.Delivered || trial.Tries != 1 {
		t.Errorf("Trial: %+v, %v", trial, err)
	}
	if !slices.Equal(to.sent, []string{"alerts"}) {
		t.Errorf("%q was sent", to.sent)
	}
	if s := a.Status(); s.Raised != 2 || s.Delivered != 1 {
		t.Errorf("Status: %+v", s)
	}
}

// oneCause is seen at each look.
type oneCause struct{ told int }

func (*oneCause) Look(context.Context) []alerts.Alert {
	return []alerts.Alert{{Kind: alerts.NodeLost, Subject: "node/a", Message: "x", Identity: "x"}}
}

func (c *oneCause) Told() { c.told++ }

// fullBox keeps no alert while it is full.
type fullBox struct {
	*memstore.Store
	full bool
}

func (b *fullBox) RaiseAlerts(ctx context.Context, list []alerts.Alert) (int, error) {
	if b.full {
		return 0, errors.New("the outbox is full")
	}
	return b.Store.RaiseAlerts(ctx, list)
}

// A cause hears that people are told of it only once the alert is kept.
func TestCausesAreToldOnceKept(t *testing.T) {
	box, cause := &fullBox{memstore.New(nil), true}, &oneCause{}
	a, _ := newAlarm(t, box, &sender{})
	if err := a.Watch(t.Context(), cause); err == nil || cause.told != 0 || a.Status().LastError == "" {
		t.Errorf("an alert that is not kept: %v, told %d times, %+v", err, cause.told, a.Status())
	}
	box.full = false
	if err := a.Watch(t.Context(), cause); err != nil || cause.told != 1 || a.Status() != (alerts.Status{Raised: 1}) {
		t.Errorf("one that is kept: %v, told %d times, %+v", err, cause.told, a.Status())
	}
}
