package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// testOwnersAtOnce: two owners who apply their states again and again never undo each other, and
// of two who planned for the same owner one is told that the plan has changed.
func testOwnersAtOnce(t testing.TB, h StoreHarness) {
	keeper := catalog.NewRandomKeyRing()
	tables := []*catalog.Tables{catalog.NewTables(h.Store, keeper, nil), catalog.NewTables(h.Second, keeper, nil)}
	owners := []string{"one", "two"}
	const rounds = 10
	errs := make([]error, len(owners))
	var wg sync.WaitGroup
	for i, owner := range owners {
		wg.Go(func() {
			for round := 1; round <= rounds && errs[i] == nil; round++ {
				errs[i] = applyModels(t.Context(), tables[i], owner, round, "")
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("Apply for two owners at once: %v", err)
	}
	for _, owner := range owners {
		mustOwn(t, tables[0], owner, rounds)
	}
	if err := applyModels(t.Context(), tables[0], "two", rounds, "one 0"); !errors.Is(err, catalog.ErrOwned) {
		t.Fatalf("Apply to what is another owner's: %v", err)
	}

	for round := rounds + 1; round <= 2*rounds; round++ {
		mustApplyOnce(t, tables, owners[0], round)
	}
	mustOwn(t, tables[0], owners[1], rounds)
}

// modelsOf is the state of an owner in a round: five models, of which one is another in each.
func modelsOf(owner string, round int, more string) (d catalog.Desired) {
	for i := range 4 {
		catalog.Want(&d, catalog.Model{Name: fmt.Sprint(owner, " ", i), ContextWindow: int64(round)})
	}
	catalog.Want(&d, catalog.Model{Name: fmt.Sprint(owner, " of round ", round)})
	if more != "" {
		catalog.Want(&d, catalog.Model{Name: more})
	}
	return d
}

func applyModels(ctx context.Context, tables *catalog.Tables, owner string, round int, more string) error {
	_, err := tables.Apply(ctx, modelsOf(owner, round, more), &catalog.ApplyOptions{
		PlanOptions: catalog.PlanOptions{Owner: owner, Prune: true},
	})
	return err
}

// mustOwn checks that an owner has what the state of a round says, and nothing else.
func mustOwn(t testing.TB, tables *catalog.Tables, owner string, round int) {
	t.Helper()
	models, err := tables.Models.List(t.Context(), catalog.Query{Labels: map[string]string{catalog.LabelOwner: owner}})
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	wanted := catalog.Wanted[catalog.Model](modelsOf(owner, round, ""))
	ok := len(models) == len(wanted)
	for _, w := range wanted {
		ok = ok && slices.ContainsFunc(models, func(m catalog.Model) bool {
			return m.Name == w.Name && m.ContextWindow == w.ContextWindow
		})
	}
	if !ok {
		t.Fatalf("owner %s has %d models that are not those of round %d: %+v", owner, len(models), round, models)
	}
}

// mustApplyOnce plans twice for one owner, and applies both plans at once.
func mustApplyOnce(t testing.TB, tables []*catalog.Tables, owner string, round int) {
	t.Helper()
	opts := catalog.PlanOptions{Owner: owner, Prune: true}
	d := modelsOf(owner, round, "")
	plans, errs := make([]catalog.Plan, len(tables)), make([]error, len(tables))
	for i := range tables {
		var err error
		if plans[i], err = tables[i].Plan(t.Context(), d, &opts); err != nil {
			t.Fatalf("Plan: %v", err)
		}
	}
	if plans[0].Hash != plans[1].Hash {
		t.Fatalf("two handles make different plans:\n%s%s", &plans[0], &plans[1])
	}
	var wg sync.WaitGroup
	for i := range tables {
		wg.Go(func() {
			_, errs[i] = tables[i].Apply(t.Context(), d, &catalog.ApplyOptions{PlanOptions: opts, Expect: plans[i].Hash})
		})
	}
	wg.Wait()
	first, second := errs[0], errs[1]
	if first != nil {
		first, second = second, first
	}
	if first != nil || !errors.Is(second, catalog.ErrPlanChanged) || !errors.Is(second, catalog.ErrConflict) {
		t.Fatalf("the same plan, applied twice at once: %v and %v", errs[0], errs[1])
	}
	mustOwn(t, tables[0], owner, round)
}
