package causes_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/alerts/causes"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// A world is what is looked at.
type world struct {
	now    time.Time
	relay  snapshot.RelayStatus
	logs   logbuf.Stats
	models []catalog.PriceKey
	keys   []catalog.Key
	away   bool // the catalog
}

func (w *world) Status() snapshot.RelayStatus { return w.relay }
func (w *world) Fleet() *snapshot.Fleet       { return &snapshot.Fleet{} }

type buffer struct{ *world }

func (b buffer) Stats() logbuf.Stats { return b.logs }

type prices struct{ *world }

func (p prices) List() []catalog.PriceKey { return p.models }
func (p prices) Forget(told []catalog.PriceKey) {
	p.models = slices.DeleteFunc(p.models, func(k catalog.PriceKey) bool { return slices.Contains(told, k) })
}

type keys struct{ *world }

func (k keys) List(_ context.Context, q catalog.Query) (page []catalog.Key, err error) {
	if k.away {
		return nil, errors.New("the catalog is away")
	}
	for _, key := range k.keys {
		if key.ID > q.After && len(page) < q.Limit {
			page = append(page, key)
		}
	}
	return page, nil
}

func (w *world) watch() *causes.Causes {
	return causes.New(causes.Watched{Relay: w, Logs: buffer{w}, Unpriced: prices{w}, Keys: keys{w},
		Clock: func() time.Time { return w.now }})
}

func kinds(found []alerts.Alert) (kinds []alerts.Kind) {
	for _, a := range found {
		kinds = append(kinds, a.Kind)
	}
	return kinds
}

// What cannot be kept is found again; what was told is not, until there is more of it.
func TestCausesAreFoundUntilTold(t *testing.T) {
	w := &world{now: time.Unix(1_800_000_000, 0), models: []catalog.PriceKey{{ProviderID: 1, UpstreamModel: "u"}}}
	w.logs.Dead, w.logs.Damaged = 2, 1
	w.keys = []catalog.Key{{Meta: catalog.Meta{ID: 7}, ExpiresAt: w.now.Add(time.Hour)}}
	c := w.watch()
	want := []alerts.Kind{alerts.DeadLetters, alerts.DeadLetters, alerts.UnknownPrice, alerts.KeyExpiring}
	for range 2 {
		if got := kinds(c.Look(t.Context())); !slices.Equal(got, want) {
			t.Errorf("found %v, want %v", got, want)
		}
	}
	c.Told()
	if got := kinds(c.Look(t.Context())); len(got) != 0 {
		t.Errorf("found %v, of which people were told", got)
	}
	w.logs.Dead++
	if got := kinds(c.Look(t.Context())); !slices.Equal(got, want[:1]) {
		t.Errorf("found %v after another dead letter", got)
	}
}

// While the catalog does not answer, keys are looked at again and again, and the other causes are found.
func TestCausesWithoutCatalog(t *testing.T) {
	w := &world{now: time.Unix(1_800_000_000, 0), away: true}
	w.logs.Dead = 1
	w.keys = []catalog.Key{{Meta: catalog.Meta{ID: 7}, ExpiresAt: w.now.Add(time.Hour)}}
	c := w.watch()
	if got := kinds(c.Look(t.Context())); !slices.Equal(got, []alerts.Kind{alerts.DeadLetters}) {
		t.Errorf("found %v", got)
	}
	c.Told()
	w.away = false
	if got := kinds(c.Look(t.Context())); !slices.Equal(got, []alerts.Kind{alerts.KeyExpiring}) {
		t.Errorf("found %v once the catalog answers", got)
	}
}
