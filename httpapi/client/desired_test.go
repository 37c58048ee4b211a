package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// A state is planned, applied, exported and reverted as on a plane.
func TestDesiredState(t *testing.T) {
	s := newService(t)
	c, ctx := s.client(t, admin), t.Context()
	state := []byte(`{"models": [{"name": "gpt"}], "keys": [{"external_id": "k", "name": "k"}]}`)
	owner := catalog.PlanOptions{Owner: "me", Prune: true}
	would := must[catalog.Plan](t)(c.Apply(ctx, state, &catalog.ApplyOptions{PlanOptions: owner, DryRun: true}))
	if would.Applied || would.Summary.Create != 2 || len(would.Steps) != 2 || would.Hash == "" {
		t.Errorf("would do %+v", would)
	}
	var progress client.Progress
	did := must[catalog.Plan](t)(c.Apply(ctx, state, &catalog.ApplyOptions{PlanOptions: owner, Expect: would.Hash},
		client.Wait(client.Published, 5*time.Second, &progress)))
	if !did.Applied || did.Hash != would.Hash || progress.Stage != client.Published || len(did.Tokens) != 1 {
		t.Errorf("did %+v, %+v", did, progress)
	}
	if key := must[catalog.Key](t)(c.Keys.Lookup(ctx, did.Tokens[0].Token)); key.ID != did.Tokens[0].ID {
		t.Errorf("the token is that of %+v", key)
	}
	now, err := c.Apply(ctx, state, &catalog.ApplyOptions{PlanOptions: owner, Expect: would.Hash})
	if !errors.Is(err, catalog.ErrPlanChanged) || !errors.Is(err, catalog.ErrConflict) || now.Summary.Unchanged != 2 {
		t.Errorf("an old plan: %v, %+v", err, now)
	}
	var out strings.Builder
	if err := c.Export(ctx, &out); err != nil {
		t.Fatal(err)
	}
	if same := must[catalog.Plan](t)(c.Apply(ctx, []byte(out.String()), nil)); same.Changes() ||
		same.Summary.Unchanged != 2 {
		t.Errorf("exported and applied: %s", &same)
	}
	back := must[catalog.Plan](t)(c.RevertOne(ctx, did.Revision, nil))
	if back.Summary.Delete != 2 {
		t.Errorf("taken back: %s", &back)
	}
	again := must[catalog.Plan](t)(c.Revert(ctx, did.Revision, nil))
	if again.Summary.Create != 2 || len(again.Tokens) != 1 {
		t.Errorf("reverted: %s", &again)
	}
	_, err = c.Apply(ctx, []byte(`{"models": [{"name": "a"}, {}]}`), nil)
	if fields, ok := errors.AsType[catalog.FieldErrors](err); !ok || fields[0].Field != "models[1].name" {
		t.Errorf("what is wrong: %v", err)
	}
	if err := s.client(t, viewer).Export(ctx, &out); !errors.Is(err, client.ErrForbidden) {
		t.Errorf("a viewer's export: %v", err)
	}
}
