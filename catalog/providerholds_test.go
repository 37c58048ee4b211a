package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
)

// The copy knows what the catalog holds of providers, whatever is written, by the feed and anew.
func TestProviderHoldsFollow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tables, ctx := newTables(t, nil), context.Background()
		followed := catalog.NewProviderHolds()
		follower := catalog.NewFollower(tables.Store(), followed)
		key := must[catalog.Key](rt)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
		var providers []int64
		for i := range 2 {
			p := must[catalog.Provider](rt)(tables.Providers.Create(ctx,
				catalog.Provider{Name: fmt.Sprint(i), Type: "openai", Models: []string{"m", "n"}}))
			providers = append(providers, p.ID)
		}
		var made []int64
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 1:
				p := rapid.SampledFrom(providers).Draw(rt, "provider")
				h, err := tables.Holds.Create(ctx, catalog.Hold{
					Target: rapid.SampledFrom([]string{fmt.Sprint("provider/", p), fmt.Sprintf("provider/%d/m", p),
						fmt.Sprint("key/", key.ID)}).Draw(rt, "target"),
					Reason: rapid.SampledFrom(catalog.HoldReasons()).Draw(rt, "reason"), Strikes: 1,
				})
				if err == nil {
					made = append(made, h.ID)
				} else if !errors.Is(err, catalog.ErrExists) && !errors.Is(err, catalog.ErrReferenced) {
					rt.Fatal(err)
				}
			case 2:
				if len(made) > 0 {
					_, err := tables.Holds.Edit(ctx, rapid.SampledFrom(made).Draw(rt, "edit"), func(h *catalog.Hold) error {
						h.Until, h.Strikes = time.Now().Add(time.Minute), h.Strikes+1
						return nil
					})
					if err != nil && !errors.Is(err, catalog.ErrNotFound) {
						rt.Fatal(err)
					}
				}
			case 3:
				if len(made) > 0 {
					_, err := tables.Holds.Delete(ctx, rapid.SampledFrom(made).Draw(rt, "delete"), 0)
					if err != nil && !errors.Is(err, catalog.ErrNotFound) {
						rt.Fatal(err)
					}
				}
			default:
				_, err := tables.Providers.Delete(ctx, rapid.SampledFrom(providers).Draw(rt, "gone"), 0)
				if err != nil && !errors.Is(err, catalog.ErrNotFound) {
					rt.Fatal(err)
				}
			}
			if rapid.Bool().Draw(rt, "look") {
				must[catalog.Head](rt)(follower.Refresh(ctx))
			}
		}
		must[catalog.Head](rt)(follower.Refresh(ctx))
		for _, reason := range catalog.HoldReasons() {
			want := map[string]catalog.Hold{}
			for h, err := range tables.Holds.All(ctx, catalog.Query{}) {
				if err != nil {
					rt.Fatal(err)
				}
				if target, _ := catalog.ParseHoldTarget(h.Target); h.Reason == reason && target.ProviderID != 0 {
					want[h.Target] = h
				}
			}
			got := map[string]catalog.Hold{}
			for _, h := range followed.For(reason) {
				got[h.Target] = h
				if of, ok := followed.Of(h.Target, reason); !ok || of.ID != h.ID {
					rt.Errorf("Of(%s, %s) is %+v", h.Target, reason, of)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Errorf("holds for %s (-want +got):\n%s", reason, diff)
			}
		}
	})
}

// A hold for health is remembered for a while after its end; one for another reason is not.
func TestEndedHoldsAreForgotten(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	tables, ctx := newTables(t, &catalog.Options{Clock: func() time.Time { return now }}), t.Context()
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai"}))
	for _, reason := range []string{catalog.HoldAdmin, catalog.HoldHealth} {
		must[catalog.Hold](t)(tables.Holds.Create(ctx, catalog.Hold{Target: fmt.Sprint("provider/", p.ID), Reason: reason,
			Until: now.Add(time.Minute)}))
	}
	for _, step := range []struct {
		after time.Duration
		left  int64
	}{{59 * time.Second, 2}, {time.Second, 1}, {catalog.HealthMemory - time.Second, 1}, {2 * time.Second, 0}} {
		now = now.Add(step.after)
		if err := tables.Maintain(ctx); err != nil {
			t.Fatal(err)
		}
		if n, err := tables.Holds.Count(ctx, catalog.Query{}); err != nil || n != step.left {
			t.Errorf("at %s %d are left, %v; want %d", now, n, err, step.left)
		}
	}
}
