package health

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A verdict that was made by a hold as it was changes nothing of one that somebody has changed since.
func TestVerdictOfAnOlderHold(t *testing.T) {
	p := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
	m := &Monitor{parts: Parts{Catalog: p, LogTime: time.Now, Logger: slog.New(slog.DiscardHandler)}}
	ctx := t.Context()
	provider, err := p.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai", Models: []string{"m"}})
	if err != nil {
		t.Fatal(err)
	}
	v := Verdict{Do: MakeHold, Target: catalog.HoldTarget{ProviderID: provider.ID, UpstreamModel: "m"},
		Strikes: 1,
		Cause:   catalog.CauseFailures, Message: "first", Until: time.Now().Add(time.Minute)}
	var status Status
	if err := m.carryOut(ctx, v, &status); err != nil || status.Made != 1 {
		t.Fatalf("%v, %+v", err, status)
	}
	late := v
	late.Message, late.Until = "late", time.Now().Add(2*time.Minute)
	forget := v
	forget.Do, forget.Was = Forget, 1
	for _, old := range []Verdict{late, forget} {
		if err := m.carryOut(ctx, old, &status); err != nil {
			t.Fatal(err)
		}
	}
	h, err := p.Holds.Find(ctx, catalog.ByNaturalKey, catalog.HoldKey(v.Target.String(), catalog.HoldHealth))
	if err != nil || h.Message != "first" || status.Made != 1 || status.Recovered != 0 {
		t.Errorf("%+v, %v, %+v", h, err, status)
	}
}

// Where more providers wait to be asked than can be in a round, those that waited longest come first.
func TestEachProviderHasItsTurn(t *testing.T) {
	now := time.Now()
	m := &Monitor{probed: map[int64]time.Time{1: now, 2: now.Add(-time.Minute), 4: now.Add(-time.Second)}}
	var verdicts []Verdict
	for id := range int64(5) {
		verdicts = append(verdicts, Verdict{Do: Probe, Target: catalog.HoldTarget{ProviderID: id + 1}})
	}
	m.longestUnaskedFirst(verdicts)
	var order []int64
	for i := range verdicts {
		order = append(order, verdicts[i].Target.ProviderID)
	}
	if !slices.Equal(order, []int64{3, 5, 2, 4, 1}) {
		t.Errorf("asked in the order %v", order)
	}
}
