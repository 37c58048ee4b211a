package storagetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/storage/memstore"
)

// fakeOutbox is an outbox in memory whose functions are there to be broken.
type fakeOutbox struct {
	*memstore.Store
	raise  func(context.Context, []alerts.Alert) (int, error)
	list   func(context.Context, alerts.Query) ([]alerts.Alert, error)
	claim  func(ctx context.Context, now, until time.Time, limit int) ([]alerts.Alert, error)
	settle func(context.Context, int64, alerts.Outcome) error
	prune  func(context.Context, time.Time) (int64, error)
}

func newFakeOutbox() *fakeOutbox {
	s := memstore.New(nil)
	return &fakeOutbox{s, s.RaiseAlerts, s.Alerts, s.ClaimAlerts, s.SettleAlert, s.PruneAlerts}
}

func (f *fakeOutbox) RaiseAlerts(ctx context.Context, l []alerts.Alert) (int, error) {
	return f.raise(ctx, l)
}
func (f *fakeOutbox) Alerts(ctx context.Context, q alerts.Query) ([]alerts.Alert, error) {
	return f.list(ctx, q)
}
func (f *fakeOutbox) ClaimAlerts(ctx context.Context, now, until time.Time, limit int) ([]alerts.Alert, error) {
	return f.claim(ctx, now, until, limit)
}
func (f *fakeOutbox) SettleAlert(ctx context.Context, id int64, o alerts.Outcome) error {
	return f.settle(ctx, id, o)
}
func (f *fakeOutbox) PruneAlerts(ctx context.Context, before time.Time) (int64, error) {
	return f.prune(ctx, before)
}

// Every way in which an outbox may be wrong fails a test of the suite.
func TestBrokenOutboxesFail(t *testing.T) {
	for _, c := range []struct {
		wrong string
		fails string // the test of the suite
		spoil func(*fakeOutbox)
	}{
		{"nothing", "", func(*fakeOutbox) {}},
		{"forgets that an alert is lasting", "forgotten alerts", func(f *fakeOutbox) {
			f.raise = func(ctx context.Context, l []alerts.Alert) (int, error) {
				l = slices.Clone(l)
				for i := range l {
					l[i].Lasting = false
				}
				return f.Store.RaiseAlerts(ctx, l)
			}
		}},
		{"keeps what was valid", "all or none", func(f *fakeOutbox) {
			f.raise = func(ctx context.Context, l []alerts.Alert) (n int, err error) {
				for _, a := range l {
					one, oneErr := f.Store.RaiseAlerts(ctx, []alerts.Alert{a})
					n += one
					if oneErr != nil {
						err = oneErr
					}
				}
				return n, err
			}
		}},
		{"keeps an identity twice", "an identity is kept once", func(f *fakeOutbox) {
			f.raise = func(ctx context.Context, l []alerts.Alert) (int, error) {
				l = slices.Clone(l)
				for i := range l {
					l[i].Identity += l[i].Subject
				}
				return f.Store.RaiseAlerts(ctx, l)
			}
		}},
		{"lists the oldest first", "every field", func(f *fakeOutbox) {
			f.list = func(ctx context.Context, q alerts.Query) ([]alerts.Alert, error) {
				l, err := f.Store.Alerts(ctx, q)
				slices.Reverse(l)
				return l, err
			}
		}},
		{"does not know projects", "pages and filters", func(f *fakeOutbox) {
			f.list = func(ctx context.Context, q alerts.Query) ([]alerts.Alert, error) {
				q.Project = ""
				return f.Store.Alerts(ctx, q)
			}
		}},
		{"gives what is claimed to others", "claims at once", func(f *fakeOutbox) {
			f.claim = func(ctx context.Context, now, _ time.Time, limit int) ([]alerts.Alert, error) {
				return f.Store.ClaimAlerts(ctx, now, now, limit)
			}
		}},
		{"claims for ever", "claims", func(f *fakeOutbox) {
			f.claim = func(ctx context.Context, now, _ time.Time, limit int) ([]alerts.Alert, error) {
				return f.Store.ClaimAlerts(ctx, now, now.AddDate(1, 0, 0), limit)
			}
		}},
		{"claims what is too old", "claims", func(f *fakeOutbox) {
			f.claim = func(ctx context.Context, now, until time.Time, limit int) ([]alerts.Alert, error) {
				if now.After(anAlert(0).At.Add(alerts.Patience)) {
					now = anAlert(0).At.Add(alerts.Patience - 1)
				}
				return f.Store.ClaimAlerts(ctx, now, until, limit)
			}
		}},
		{"does not know when to try again", "outcomes", func(f *fakeOutbox) {
			f.settle = func(ctx context.Context, id int64, o alerts.Outcome) error {
				o.Again = time.Time{}
				return f.Store.SettleAlert(ctx, id, o)
			}
		}},
		{"forgets everything", "forgotten alerts", func(f *fakeOutbox) {
			f.prune = func(ctx context.Context, before time.Time) (int64, error) {
				return f.Store.PruneAlerts(ctx, before.AddDate(1, 0, 0))
			}
		}},
		{"pays no heed to contexts", "canceled alerts", func(f *fakeOutbox) {
			f.raise = func(_ context.Context, l []alerts.Alert) (int, error) {
				return f.Store.RaiseAlerts(context.Background(), l)
			}
		}},
	} {
		t.Run(c.wrong, func(t *testing.T) {
			for _, oc := range outboxCases {
				if c.fails != "" && oc.name != c.fails {
					continue
				}
				f := newFakeOutbox()
				c.spoil(f)
				if got := failsAlone(t, func(tb testing.TB) { oc.test(tb, OutboxHarness{f, f}) }); got != (c.fails != "") {
					t.Errorf("test %q: failed %t", oc.name, got)
				}
			}
		})
	}
}
