package catalog_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// known is everything that accounts say.
type known struct {
	Projects map[int64]string
	Budgets  map[catalog.HoldTarget][]catalog.Budget
	Holds    map[catalog.HoldTarget]catalog.BudgetHold
}

func knownBy(a *catalog.Accounts, keys []int64) known {
	k := known{map[int64]string{}, map[catalog.HoldTarget][]catalog.Budget{},
		map[catalog.HoldTarget]catalog.BudgetHold{}}
	for _, id := range keys {
		k.Projects[id] = a.Project(id)
	}
	for _, t := range a.Budgeted() {
		if b := a.Budgets(t); b != nil {
			k.Budgets[t] = b
		}
		if h, ok := a.Hold(t); ok {
			k.Holds[t] = h
		}
	}
	return k
}

// Accounts that followed the feed entry by entry know what those know that read the whole, and
// have noted everything that changed.
func TestAccountsFollowTheFeed(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ctx := t.Context()
		tables := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
		led := catalog.NewAccounts()
		follower := catalog.NewFollower(tables.Store(), led)
		refresh := func(f *catalog.Follower) {
			if _, err := f.Refresh(ctx); err != nil {
				r.Fatal(err)
			}
		}
		for _, path := range []string{"a", "a/b", "c"} {
			if _, err := tables.Projects.Create(ctx, catalog.Project{Name: path}); err != nil {
				r.Fatal(err)
			}
		}
		refresh(follower)
		led.TakeChanged()
		var keys []int64
		noted := map[catalog.HoldTarget]bool{}
		before := knownBy(led, nil)
		project := rapid.SampledFrom([]string{"", "a", "a/b", "c"})
		budgets := rapid.Custom(func(r *rapid.T) (b []catalog.Budget) {
			for _, window := range []string{"day", "total"} {
				if rapid.Bool().Draw(r, window) {
					limit := catalog.NanoUSD(rapid.Int64Range(0, 3).Draw(r, "limit"))
					b = append(b, catalog.Budget{Limit: &limit, Window: window})
				}
			}
			return b
		})
		key := func(r *rapid.T) int64 {
			if len(keys) == 0 {
				r.Skip("no key")
			}
			return rapid.SampledFrom(keys).Draw(r, "key")
		}
		// Whatever the catalog refuses changes nothing, and that is fine.
		r.Repeat(map[string]func(*rapid.T){
			"create a key": func(r *rapid.T) {
				k, err := tables.Keys.Create(ctx, catalog.Key{Name: "k", Project: project.Draw(r, "project"),
					Budgets: budgets.Draw(r, "budgets")})
				if err == nil { // else its project is gone
					keys = append(keys, k.ID)
				}
			},
			"change a key": func(r *rapid.T) {
				_, _ = tables.Keys.Edit(ctx, key(r), func(k *catalog.Key) error {
					k.Project, k.Budgets = project.Draw(r, "project"), budgets.Draw(r, "budgets")
					return nil
				})
			},
			"delete a key": func(r *rapid.T) { _, _ = tables.Keys.Delete(ctx, key(r), 0) },
			"put a project": func(r *rapid.T) {
				_, _ = tables.Projects.Put(ctx, catalog.Project{Name: rapid.SampledFrom([]string{"a", "a/b", "c"}).Draw(r, "path"),
					Budgets: budgets.Draw(r, "budgets")})
			},
			"delete a project": func(r *rapid.T) {
				if p, err := tables.Projects.Find(ctx, catalog.ByNaturalKey, "c"); err == nil {
					_, _ = tables.Projects.Delete(ctx, p.ID, 0)
				}
			},
			"replace a project": func(r *rapid.T) { // by one of the same path, in the same revision
				_, _ = tables.Update(ctx, func(tx *catalog.Tx) error {
					old, err := tx.Projects.Find(ctx, catalog.ByNaturalKey, "c")
					if err == nil {
						_, err = tx.Projects.Create(ctx, catalog.Project{Name: "c", Budgets: budgets.Draw(r, "budgets")})
					}
					if err == nil {
						_, err = tx.Projects.Delete(ctx, old.ID, 0)
					}
					return err
				})
			},
			"put a hold": func(r *rapid.T) {
				target := rapid.SampledFrom([]string{"project/a", "project/c", fmt.Sprint("key/", key(r))}).Draw(r, "target")
				_, _ = tables.Holds.Put(ctx, catalog.Hold{Target: target,
					Reason: rapid.SampledFrom(catalog.HoldReasons()).Draw(r, "reason"),
					Until:  time.Date(rapid.IntRange(2900, 2902).Draw(r, "year"), 1, 1, 0, 0, 0, 0, time.UTC)})
			},
			"": func(r *rapid.T) {
				if rapid.Bool().Draw(r, "later") {
					return
				}
				refresh(follower)
				for _, target := range led.TakeChanged() {
					noted[target] = true
				}
				fresh := catalog.NewAccounts()
				refresh(catalog.NewFollower(tables.Store(), fresh))
				now := knownBy(led, keys)
				if diff := cmp.Diff(knownBy(fresh, keys), now, cmpopts.EquateEmpty()); diff != "" {
					r.Fatalf("followed (+) and read anew (-):\n%s", diff)
				}
				for _, target := range append(fresh.Budgeted(), append(targets(before), targets(now)...)...) {
					same := cmp.Equal(before.Budgets[target], now.Budgets[target]) &&
						cmp.Equal(before.Holds[target], now.Holds[target])
					if !same && !noted[target] {
						r.Fatalf("a change of %s was not noted", target)
					}
				}
				before, noted = now, map[catalog.HoldTarget]bool{}
			},
		})
		if loads := follower.Status().Loads; loads != 1 {
			r.Fatalf("the whole was read %d times", loads)
		}
	})
}

func targets(k known) (all []catalog.HoldTarget) {
	for t := range maps.Keys(k.Budgets) {
		all = append(all, t)
	}
	for t := range maps.Keys(k.Holds) {
		all = append(all, t)
	}
	return all
}

// What has changed is signaled, once for all that waits to be taken.
func TestAccountsSignal(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	a := catalog.NewAccounts()
	follower := catalog.NewFollower(tables.Store(), a)
	signaled := func(want bool) {
		t.Helper()
		if _, err := follower.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		select {
		case <-a.Changed():
			if !want {
				t.Error("signaled without a reason")
			}
		default:
			if want {
				t.Error("not signaled")
			}
		}
	}
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "plain"}))
	signaled(false)
	limit := catalog.NanoUSD(1)
	edit := func(b ...catalog.Budget) {
		must[catalog.Key](t)(tables.Keys.Edit(ctx, k.ID, func(k *catalog.Key) error { k.Budgets = b; return nil }))
	}
	edit(catalog.Budget{Limit: &limit, Window: "day"})
	signaled(true)
	edit()
	signaled(true)
	a.TakeChanged()
	edit()
	signaled(false)
}
