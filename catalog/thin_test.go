package catalog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// heldCopy is a copy of the targets that are held.
type heldCopy map[int64]string

func (heldCopy) Kinds() []catalog.Kind { return []catalog.Kind{catalog.KindHold} }

func (c heldCopy) Load(ctx context.Context, r catalog.Reader) error {
	clear(c)
	all, err := r.List(ctx, catalog.KindHold, catalog.Query{})
	for _, e := range all {
		c[e.ID] = e.Name
	}
	return err
}

func (c heldCopy) Apply(
	_ context.Context, _ catalog.Reader, changes []catalog.Change, _ catalog.Revision,
) error {
	for _, change := range changes {
		if change.Kind != catalog.KindHold {
			continue
		}
		var h catalog.Hold
		if delete(c, change.ID); change.After != nil {
			if err := json.Unmarshal(change.After, &h); err != nil {
				return err
			}
			c[change.ID] = h.Target
		}
	}
	return nil
}

func (heldCopy) Arrive(catalog.Head) {}

// However the feed is thinned, the catalog as it was at every revision and former prices stay what
// they were, what people did stays, and copies have what there is.
func TestThinnedFeed(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newThinWorld(r)
		steps := slices.Sorted(maps.Keys(thinSteps))
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			w.now = w.now.Add(time.Duration(rapid.IntRange(1, 3).Draw(r, "minutes")) * time.Minute)
			err := thinSteps[rapid.SampledFrom(steps).Draw(r, "step")](w)
			if err != nil && !errors.Is(err, catalog.ErrExists) && !errors.Is(err, catalog.ErrNotFound) {
				r.Fatal(err)
			}
			w.check()
			w.note()
		}
	})
}

// thinSteps are what may happen to a thinWorld.
var thinSteps = map[string]func(w *thinWorld) error{
	"a price": func(w *thinWorld) error {
		_, err := w.tables.Models.Edit(w.people, w.model, func(m *catalog.Model) error {
			m.InputPrice = usd(*m.InputPrice + 1)
			return nil
		})
		return err
	},
	"a key": func(w *thinWorld) error {
		_, err := w.tables.Keys.Edit(w.people, w.key, func(k *catalog.Key) error {
			k.Name += "x"
			return nil
		})
		return err
	},
	"a machine's key": func(w *thinWorld) error {
		_, err := w.tables.Keys.Edit(w.machine, w.key, func(k *catalog.Key) error {
			k.Name += "y"
			return nil
		})
		return err
	},
	"a rotation": func(w *thinWorld) error {
		_, err := w.tables.Keys.Rotate(w.people, w.key, time.Minute, 0)
		return err
	},
	"a hold": func(w *thinWorld) error {
		_, err := w.tables.Holds.Create(w.people, catalog.Hold{Target: w.target(), Until: w.now.Add(5 * time.Minute)})
		return err
	},
	"a machine's hold": func(w *thinWorld) error { return w.budget() },
	"more machine's holds": func(w *thinWorld) error {
		return errors.Join(w.end(w.machine), w.budget(), w.end(w.machine))
	},
	"an end":      func(w *thinWorld) error { return w.end(w.people) },
	"maintenance": func(w *thinWorld) error { return w.tables.Maintain(w.people) },
	"thin some":   func(w *thinWorld) error { return w.thin(10 * time.Minute) },
	"thin most":   func(w *thinWorld) error { return w.thin(time.Minute) },
	"thin all":    func(w *thinWorld) error { return w.thin(-time.Minute) },
}

// thinWorld is a catalog that people and a machine change.
type thinWorld struct {
	t        *rapid.T
	now      time.Time
	store    *memstore.Store
	tables   *catalog.Tables
	held     heldCopy
	follower *catalog.Follower

	people, machine context.Context
	model, key      int64

	was    map[catalog.Revision]string // the catalog
	did    []string                    // what people did
	prices map[time.Time]catalog.NanoUSD
}

func newThinWorld(t *rapid.T) *thinWorld {
	w := &thinWorld{
		t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), held: heldCopy{}, was: map[catalog.Revision]string{},
		people:  catalog.WithActor(context.Background(), "alice", ""),
		machine: catalog.WithMachine(context.Background(), "budgets", ""), prices: map[time.Time]catalog.NanoUSD{},
	}
	clock := func() time.Time { return w.now }
	w.store = memstore.New(&memstore.Options{Clock: clock})
	w.tables = catalog.NewTables(w.store, catalog.NewRandomKeyRing(), &catalog.Options{Clock: clock})
	w.follower = catalog.NewFollower(w.store, w.held)
	w.model = must[catalog.Model](t)(w.tables.Models.Create(w.people,
		catalog.Model{Name: "m", Prices: catalog.Prices{InputPrice: usd(1)}})).ID
	w.key = must[catalog.Key](t)(w.tables.Keys.Create(w.people, catalog.Key{Name: "k"})).ID
	w.note()
	return w
}

func (w *thinWorld) target() string { return fmt.Sprint("key/", w.key) }

// budget has a machine hold the key.
func (w *thinWorld) budget() error {
	_, err := w.tables.Holds.Create(w.machine, catalog.Hold{Target: w.target(), Reason: catalog.HoldBudget})
	return err
}

// end deletes the hold of the machine.
func (w *thinWorld) end(ctx context.Context) error {
	e, err := w.find(catalog.HoldKey(w.target(), catalog.HoldBudget))
	if err == nil {
		_, err = w.tables.Holds.Delete(ctx, e.ID, 0)
	}
	return err
}

func (w *thinWorld) find(key string) (e catalog.Entity, err error) {
	err = w.store.Read(w.people, func(r catalog.Reader) error {
		e, err = r.Find(w.people, catalog.KindHold, catalog.ByNaturalKey, key)
		return err
	})
	return e, err
}

// thin forgets what machines did longer ago than so long.
func (w *thinWorld) thin(age time.Duration) error {
	_, err := w.store.ThinChanges(w.people, w.now.Add(-age))
	return err
}

// note remembers what there is now.
func (w *thinWorld) note() {
	w.was[w.head().Revision] = w.at(w.head().Revision)
	w.did = w.byPeople()
	w.prices[w.now] = *must[catalog.Model](w.t)(w.tables.Models.Get(w.people, w.model)).InputPrice
}

func (w *thinWorld) head() (head catalog.Head) {
	_ = w.store.Read(w.people, func(r catalog.Reader) error { // in memory
		head = r.Head()
		return nil
	})
	return head
}

// at returns the catalog as it was at a revision.
func (w *thinWorld) at(rev catalog.Revision) string {
	d := must[catalog.Desired](w.t)(w.tables.At(w.people, rev))
	all := []any{catalog.Wanted[catalog.Model](d), catalog.Wanted[catalog.Key](d)}
	return string(must[[]byte](w.t)(json.Marshal(all)))
}

// byPeople lists what the feed tells of people.
func (w *thinWorld) byPeople() (all []string) {
	err := w.store.Read(w.people, func(r catalog.Reader) error {
		changes, err := r.Changes(w.people, catalog.Cursor{}, 0)
		for _, c := range changes {
			if c.Actor == "alice" {
				all = append(all, fmt.Sprint(c.Cursor(), c.Action, c.Kind, c.ID))
			}
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *thinWorld) check() {
	for rev, was := range w.was {
		if now := w.at(rev); now != was {
			w.t.Fatalf("the catalog at revision %d was\n%s\nand is now\n%s", rev, was, now)
		}
	}
	if now := w.byPeople(); len(now) < len(w.did) || !slices.Equal(w.did, now[:len(w.did)]) {
		w.t.Fatalf("people did %q, and now %q", w.did, now)
	}
	history := must[*catalog.PriceHistory](w.t)(catalog.ReadPriceHistory(w.people, w.store))
	for at, price := range w.prices {
		q, ok := history.Quote(catalog.PriceKey{Namespace: "default", Model: "m"}, at)
		if !ok || q.Prices == nil || *q.Prices.InputPrice != price {
			w.t.Fatalf("the price at %s was %d; now %+v", at, price, q)
		}
	}
	if !rapid.Bool().Draw(w.t, "the copy looks") {
		return
	}
	want := heldCopy{}
	must[catalog.Head](w.t)(w.follower.Refresh(w.people))
	must[catalog.Head](w.t)(catalog.NewFollower(w.store, want).Refresh(w.people))
	if !maps.Equal(want, w.held) {
		w.t.Fatalf("the copy has %v; want %v", w.held, want)
	}
}

// What machines did to what people describe is not thinned out, and a revision that was thinned out
// cannot be taken back.
func TestThinnedRevisions(t *testing.T) {
	ctx := catalog.WithMachine(t.Context(), "maintenance", "")
	store := memstore.New(nil)
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	key := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	hold := must[catalog.Hold](t)(tables.Holds.Create(ctx,
		catalog.Hold{Target: fmt.Sprint("key/", key.ID), Reason: catalog.HoldBudget}))
	must[catalog.Revision](t)(tables.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.Holds.Delete(ctx, hold.ID, 0); err != nil {
			return err
		}
		_, err := tx.Models.Create(ctx, catalog.Model{Name: "m"})
		return err
	}))
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "n"}))
	if plan, err := tables.RevertOne(ctx, hold.Revision, nil); err != nil || plan.Changes() {
		t.Errorf("take back a hold: %v, %v", &plan, err)
	}
	if gone, err := store.ThinChanges(ctx, time.Now().Add(time.Hour)); gone != 1 || err != nil {
		t.Errorf("ThinChanges: %d, %v; want the hold", gone, err)
	}
	if _, err := tables.RevertOne(ctx, hold.Revision, nil); !errors.Is(err, catalog.ErrCompacted) {
		t.Errorf("take back what was thinned out: %v", err)
	}
	if plan, err := tables.RevertOne(ctx, hold.Revision+1, nil); err != nil || plan.Summary.Delete != 1 {
		t.Errorf("take back what came after: %v, %v", &plan, err)
	}
}
