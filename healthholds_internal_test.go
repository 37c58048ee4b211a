package ezapi

import (
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/health"
)

// A verdict that was made by a hold as it was changes nothing of one that somebody has changed since.
func TestVerdictOfAnOlderHold(t *testing.T) {
	p, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(t.Context()) }()
	ctx := t.Context()
	provider, err := p.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai", Models: []string{"m"}})
	if err != nil {
		t.Fatal(err)
	}
	v := health.Verdict{Do: health.MakeHold, Target: catalog.HoldTarget{ProviderID: provider.ID, UpstreamModel: "m"},
		Strikes: 1,
		Cause:   catalog.CauseFailures, Message: "first", Until: time.Now().Add(time.Minute)}
	var status HealthStatus
	if err := p.carryOut(ctx, v, &status); err != nil || status.Made != 1 {
		t.Fatalf("%v, %+v", err, status)
	}
	late := v
	late.Message, late.Until = "late", time.Now().Add(2*time.Minute)
	forget := v
	forget.Do, forget.Was = health.Forget, 1
	for _, old := range []health.Verdict{late, forget} {
		if err := p.carryOut(ctx, old, &status); err != nil {
			t.Fatal(err)
		}
	}
	h, err := p.Holds.Find(ctx, catalog.ByNaturalKey, catalog.HoldKey(v.Target.String(), catalog.HoldHealth))
	if err != nil || h.Message != "first" || status.Made != 1 || status.Recovered != 0 {
		t.Errorf("%+v, %v, %+v", h, err, status)
	}
}
