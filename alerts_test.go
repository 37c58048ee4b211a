package ezapi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// inbox takes alerts as a webhook does.
type inbox struct {
	mu  sync.Mutex
	got []alerts.Alert
}

func (b *inbox) Send(_ context.Context, a *alerts.Alert) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, *a)
	return nil
}

// take returns what came since it was called last, as kind and subject.
func (b *inbox) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	texts := []string{}
	for _, a := range b.got {
		texts = append(texts, string(a.Kind)+" "+a.Subject)
	}
	b.got = nil
	return strings.Join(texts, ", ")
}

// brokenPublisher takes nothing while it is broken.
type brokenPublisher struct {
	ezapi.SnapshotPublisher
	broken atomic.Bool
}

var errBroken = errors.New("no answer")

func (p *brokenPublisher) Head(ctx context.Context) (snapshot.Head, error) {
	if p.broken.Load() {
		return snapshot.Head{}, errBroken
	}
	return p.SnapshotPublisher.Head(ctx)
}

func (p *brokenPublisher) Apply(ctx context.Context, on snapshot.Base, d snapshot.Delta) error {
	if p.broken.Load() {
		return errBroken
	}
	return p.SnapshotPublisher.Apply(ctx, on, d)
}

// running calls test with a plane that runs, and clocks that move as the test waits.
func running(t *testing.T, config ezapi.Config, test func(t *testing.T, p *ezapi.Plane)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, err := ezapi.New(config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		test(t, p)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := p.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
}

func mustGet(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: alerts %q, want %q", what, got, want)
	}
}

func TestAlertCauses(t *testing.T) {
	box, pub := &inbox{}, &brokenPublisher{SnapshotPublisher: memstore.NewPublisher()}
	running(t, ezapi.Config{Alerts: box, Publisher: pub}, func(t *testing.T, p *ezapi.Plane) {
		ctx := t.Context()
		time.Sleep(time.Minute)
		mustGet(t, "nothing is wrong", box.take(), "")

		// A balancer that is not heard of any more, and one that said that it stops.
		for _, n := range []snapshot.Node{{ID: "gone"}, {ID: "left"}, {ID: "left", Leaving: true}} {
			if _, err := p.Publisher().Report(ctx, n); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(snapshot.Liveness - time.Second)
		mustGet(t, "they may still live", box.take(), "")
		time.Sleep(20 * time.Second)
		mustGet(t, "one is lost", box.take(), "node_lost node/gone")

		// Keys: looked at four times a day.
		now := time.Now()
		for name, expires := range map[string]time.Time{
			"soon": now.Add(6 * 24 * time.Hour), "later": now.Add(9 * 24 * time.Hour), "never": {},
		} {
			if _, err := p.Keys.Create(ctx, catalog.Key{Name: name, ExpiresAt: expires}); err != nil {
				t.Fatal(err)
			}
		}
		soon, err := p.Keys.List(ctx, catalog.Query{Names: []string{"soon"}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(7 * time.Hour)
		mustGet(t, "a key expires soon", box.take(), fmt.Sprintf("key_expiring key/%d", soon[0].ID))

		// A price that is missing.
		if err := p.AppendLogs(ctx,
			logbuf.Entry{Time: time.Now(), KeyID: 1, ProviderID: 7, Model: "m", UpstreamModel: "u", Status: 200},
			logbuf.Entry{Time: time.Now(), KeyID: 1, ProviderID: 8, Model: "m", UpstreamModel: "u", Status: 500},
		); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		mustGet(t, "an unknown price", box.take(), "unknown_price provider/7")

		// Publishing fails.
		pub.broken.Store(true)
		time.Sleep(50 * time.Second)
		mustGet(t, "it may be short", box.take(), "")
		time.Sleep(30 * time.Second)
		mustGet(t, "it is not", box.take(), "publishing_failing publishing")
		time.Sleep(2 * time.Hour)
		if got := box.take(); strings.Count(got, "publishing_failing") < 2 || strings.Count(got, "publishing_failing") > 3 {
			t.Errorf("while it goes on for two hours: %q; want one an hour", got)
		}
		pub.broken.Store(false)
		time.Sleep(time.Minute)
		_ = box.take()
		time.Sleep(61 * time.Minute)
		mustGet(t, "it works again", box.take(), "")

		if s := p.Stats().Alerts; s.LastError+s.SendError != "" || s.Raised == 0 || s.Delivered < s.Raised {
			t.Errorf("Stats: %+v", s)
		}
	})
}

// poisonSink refuses every entry.
type poisonSink struct{ *memstore.Sink }

func (s poisonSink) Write(_ context.Context, b logbuf.Batch) (logbuf.Result, error) {
	return logbuf.Result{Dead: len(b.Entries)}, nil
}

func TestAlertsOfDeadLetters(t *testing.T) {
	box := &inbox{}
	running(t, ezapi.Config{Alerts: box, LogSink: poisonSink{memstore.NewSink(nil)}}, func(t *testing.T, p *ezapi.Plane) {
		cost := int64(1)
		for range 3 {
			if err := p.AppendLogs(t.Context(), logbuf.Entry{Time: time.Now(), CostNanoUSD: &cost}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		mustGet(t, "three at once", box.take(), "dead_letters logs")
		time.Sleep(61 * time.Minute)
		mustGet(t, "nothing new", box.take(), "")
	})
}

// slowReceiver takes ten seconds for each alert.
type slowReceiver struct{}

func (slowReceiver) Send(context.Context, *alerts.Alert) error {
	time.Sleep(10 * time.Second)
	return nil
}

// A receiver that answers slowly delays no cause: what is seen while many alerts wait is kept at once.
func TestSlowReceiverDelaysNoCause(t *testing.T) {
	running(t, ezapi.Config{Alerts: slowReceiver{}}, func(t *testing.T, p *ezapi.Plane) {
		for i := range 20 {
			err := p.RaiseAlerts(t.Context(), alerts.Alert{Kind: alerts.ProviderHeld, Subject: "provider/3",
				Message: "held", Identity: fmt.Sprint(i)})
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second) // they are being delivered
		if err := p.AppendLogs(t.Context(), logbuf.Entry{Time: time.Now(), Model: "m", Status: 200}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		found, err := p.Alerts(t.Context(), alerts.Query{Kind: alerts.UnknownPrice, Limit: 10})
		if err != nil || len(found) != 1 {
			t.Errorf("after 20 s: %+v, %v, want the unknown price", found, err)
		}
	})
}
