package alerts_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/storage/memstore"
)

// sender takes alerts, and refuses those that it is told to.
type sender struct {
	sent   []string
	refuse func(*alerts.Alert) error
}

func (s *sender) Send(_ context.Context, a *alerts.Alert) error {
	if s.refuse != nil {
		if err := s.refuse(a); err != nil {
			return err
		}
	}
	s.sent = append(s.sent, a.Subject)
	return nil
}

func raise(t *testing.T, box alerts.Outbox, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		a := alerts.Alert{
			Kind: alerts.KeyExpiring, Severity: alerts.Warning, Subject: fmt.Sprint("key/", i), Message: "x", At: now,
			Identity: fmt.Sprint(i),
		}
		if _, err := box.RaiseAlerts(t.Context(), []alerts.Alert{a}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeliver(t *testing.T) {
	box, at := memstore.New(nil), now
	clock := func() time.Time { return at }
	raise(t, box, 0, 50)
	to := &sender{}
	if n, err := alerts.Deliver(t.Context(), box, to, clock); n != 50 || err != nil {
		t.Fatalf("delivered %d, %v", n, err)
	}
	if to.sent[0] != "key/0" || to.sent[49] != "key/49" {
		t.Errorf("not in their order: %q", to.sent)
	}
	if n, err := alerts.Deliver(t.Context(), box, to, clock); n != 0 || err != nil {
		t.Errorf("delivered %d again, %v", n, err)
	}

	// One that is never taken holds up no other, and is given up after a day.
	raise(t, box, 50, 53)
	to.refuse = func(a *alerts.Alert) error {
		if a.Subject == "key/51" {
			return errors.New("not this one")
		}
		return nil
	}
	n, err := alerts.Deliver(t.Context(), box, to, clock)
	if n != 2 || err == nil || slices.Contains(to.sent, "key/51") {
		t.Errorf("delivered %d, %v; want 2 and an error", n, err)
	}
	var pauses []time.Duration
	for end, last := at.Add(2*alerts.Patience), at; at.Before(end); at = at.Add(time.Second) {
		if _, err := alerts.Deliver(t.Context(), box, to, clock); err != nil {
			pauses = append(pauses, at.Sub(last))
			last = at
		}
	}
	want := []time.Duration{10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600}
	for i := range want {
		want[i] *= time.Second
	}
	if len(pauses) < len(want) || !slices.Equal(pauses[:len(want)], want) {
		t.Errorf("tried after %v; want %v", pauses, want)
	}
	if total := len(pauses); total < 28 || total > 34 {
		t.Errorf("tried %d times within a day", total)
	}
	list, err := box.Alerts(t.Context(), alerts.Query{Limit: 2})
	if err != nil || list[1].StateAt(at) != alerts.Expired || list[1].Error != "not this one" ||
		list[0].StateAt(at) != alerts.Delivered {
		t.Errorf("Alerts: %+v, %v", list, err)
	}
}

// What was not sent because the process stops is sent by another.
func TestDeliverIsCanceled(t *testing.T) {
	box, at := memstore.New(nil), now
	clock := func() time.Time { return at }
	raise(t, box, 0, 3)
	ctx, cancel := context.WithCancel(t.Context())
	to := &sender{refuse: func(a *alerts.Alert) error {
		if a.Subject == "key/1" {
			cancel()
			return ctx.Err()
		}
		return nil
	}}
	if n, err := alerts.Deliver(ctx, box, to, clock); n != 1 || !errors.Is(err, context.Canceled) {
		t.Fatalf("delivered %d, %v", n, err)
	}
	at = at.Add(10 * time.Minute)
	next := &sender{}
	if n, err := alerts.Deliver(t.Context(), box, next, clock); n != 2 || err != nil {
		t.Fatalf("the next delivered %d, %v: %q", n, err, next.sent)
	}
}
