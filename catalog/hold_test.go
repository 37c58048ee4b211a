package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

func TestHoldTargets(t *testing.T) {
	for text, want := range map[string]catalog.HoldTarget{
		"key/12": {KeyID: 12}, "project/a/b": {Project: "a/b"}, "provider/3": {ProviderID: 3},
		"provider/3/openai/gpt-4o": {ProviderID: 3, UpstreamModel: "openai/gpt-4o"},
	} {
		if got, ok := catalog.ParseHoldTarget(text); !ok || got != want || got.String() != text {
			t.Errorf("%q is %+v, %t, and written as %q", text, got, ok, got)
		}
	}
	for _, text := range []string{
		"", "key", "key/", "key/0", "key/-1", "key/01", "key/1/x", "keys/1", "project/", "project/A", "project/a/b/c/d",
		"provider/x", "provider/1/", "/", "model/1",
	} {
		if got, ok := catalog.ParseHoldTarget(text); ok {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

// A hold needs what it holds, and goes with it in the same revision.
func TestHoldsGoWithTheirTarget(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	for _, target := range []string{"key/9", "project/none", "provider/9", "provider/9/m"} {
		_, err := tables.Holds.Create(ctx, catalog.Hold{Target: target})
		mustField(t, "a hold of "+target, err, "target")
	}
	key := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	other := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "l"}))
	project := must[catalog.Project](t)(tables.Projects.Create(ctx, catalog.Project{Name: "a"}))
	provider := must[catalog.Provider](t)(tables.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "openai", Models: []string{"m", "ft:*"}}))
	_, err := tables.Holds.Create(ctx, catalog.Hold{Target: fmt.Sprintf("provider/%d/none", provider.ID)})
	mustField(t, "a hold of a model that is not served", err, "target")
	hold := func(target string, id int64, rest string) catalog.Hold {
		return must[catalog.Hold](t)(tables.Holds.Create(ctx, catalog.Hold{Target: fmt.Sprintf("%s%v%s", target, id, rest)}))
	}
	stays := hold("key/", other.ID, "")
	first := hold("key/", key.ID, "")
	if _, err := tables.Holds.Create(ctx, catalog.Hold{Target: first.Target}); !errors.Is(err, catalog.ErrExists) {
		t.Errorf("a second hold for the same reason: %v", err)
	}
	must[catalog.Hold](t)(tables.Holds.Create(ctx, catalog.Hold{Target: first.Target, Reason: catalog.HoldBudget}))
	must[catalog.Hold](t)(tables.Holds.Create(ctx, catalog.Hold{Target: "project/a"}))
	hold("provider/", provider.ID, "")
	hold("provider/", provider.ID, "/m")
	hold("provider/", provider.ID, "/ft:x")

	for what, remove := range map[string]func() (catalog.Revision, error){
		"2 keys":      func() (catalog.Revision, error) { return tables.Keys.Delete(ctx, key.ID, 0) },
		"1 projects":  func() (catalog.Revision, error) { return tables.Projects.Delete(ctx, project.ID, 0) },
		"3 providers": func() (catalog.Revision, error) { return tables.Providers.Delete(ctx, provider.ID, 0) },
	} {
		rev, err := remove()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		err = tables.Store().Read(ctx, func(r catalog.Reader) error {
			changes, err := r.Changes(ctx, catalog.Cursor{Revision: rev - 1}, 0)
			gone := 0
			for _, c := range changes {
				if c.Kind == catalog.KindHold && c.Action == catalog.ActionDelete {
					gone++
				}
			}
			if got := fmt.Sprintf("%d %s", gone, changes[0].Kind); got != what {
				t.Errorf("with a target went %s; want %s", got, what)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	left := must[[]catalog.Hold](t)(tables.Holds.List(ctx, catalog.Query{}))
	if len(left) != 1 || left[0].ID != stays.ID {
		t.Errorf("left are %+v", left)
	}
}

// A hold that comes while its target goes keeps it from nothing.
func TestHoldComesWhileItsTargetGoes(t *testing.T) {
	for range 30 {
		tables, ctx := newTables(t, nil), t.Context()
		key := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
		done := make(chan error)
		go func() {
			_, err := tables.Holds.Create(ctx, catalog.Hold{Target: fmt.Sprint("key/", key.ID)})
			done <- err
		}()
		if _, err := tables.Keys.Delete(ctx, key.ID, 0); err != nil {
			t.Fatalf("the key cannot go: %v", err)
		}
		if err := <-done; err != nil && !errors.Is(err, catalog.ErrReferenced) {
			t.Fatalf("the hold: %v", err)
		}
		if left := must[int64](t)(tables.Holds.Count(ctx, catalog.Query{})); left != 0 {
			t.Fatal("the hold of a key that is gone is left")
		}
	}
}

// What a machine holds belongs to it; people may set its status, and delete it.
func TestMachinesHolds(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	key := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	target := fmt.Sprint("key/", key.ID)
	h := must[catalog.Hold](t)(tables.Holds.Create(ctx, catalog.Hold{Target: target, Reason: catalog.HoldBudget,
		Until: time.Now().Add(time.Hour), Message: "used up"}))
	for _, tt := range []struct{ patch, field string }{
		{`{"until":null}`, "until"}, {`{"message":"no"}`, "message"}, {`{"reason":"admin"}`, "reason"}, {`{"target":"key/99"}`, "target"},
		{`{"labels":{"protected":"true"}}`, "labels.protected"},
	} {
		_, err := tables.Holds.Patch(ctx, h.ID, 0, []byte(tt.patch))
		mustField(t, tt.patch, err, tt.field)
	}
	off := must[catalog.Hold](t)(tables.Holds.Patch(ctx, h.ID, 0, []byte(`{"status":"disabled","labels":{"who":"me"}}`)))
	if off.Active(time.Now()) || off.Until != h.Until {
		t.Errorf("a hold that was disabled: %+v", off)
	}
	must[catalog.Hold](t)(tables.Holds.Edit(ctx, h.ID, func(h *catalog.Hold) error { // as the machine does
		h.Until = h.Until.Add(time.Hour)
		return nil
	}))
	must[catalog.Revision](t)(tables.Holds.Delete(ctx, h.ID, 0))
	_, err := tables.Holds.Create(ctx, catalog.Hold{Target: target, Until: time.Now().Add(-time.Minute)})
	mustField(t, "a hold that has ended", err, "until")
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "openai", Models: []string{"gpt-*", "*"}}))
	for _, pattern := range []string{"gpt-*", "*"} {
		_, err := tables.Holds.Create(ctx, catalog.Hold{Target: fmt.Sprintf("provider/%d/%s", p.ID, pattern)})
		mustField(t, "a hold of a pattern, which holds no model", err, "target")
	}
	mine := must[catalog.Hold](t)(tables.Holds.Create(ctx, catalog.Hold{Target: target}))
	must[catalog.Hold](t)(tables.Holds.Patch(ctx, mine.ID, 0, []byte(`{"until":"2100-01-01T00:00:00Z","message":"m"}`)))
}

// A person holds again what was held before, at once and not when maintenance has removed the hold that
// has ended. One that has not ended is not replaced.
func TestEndedHoldIsTakenOver(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tables := newTables(t, &catalog.Options{Clock: func() time.Time { return now }})
	ctx := t.Context()
	key := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	h := catalog.Hold{Target: fmt.Sprint("key/", key.ID), Until: now.Add(time.Minute)}
	first := must[catalog.Hold](t)(tables.Holds.Create(ctx, h))
	again := catalog.Hold{Target: h.Target, Message: "KILL"}
	if _, err := tables.Holds.Create(ctx, again); !errors.Is(err, catalog.ErrExists) {
		t.Errorf("a second hold: %v", err)
	}
	now = now.Add(time.Minute)
	second := must[catalog.Hold](t)(tables.Holds.Create(ctx, again))
	if second.ID == first.ID || !second.Active(now) {
		t.Errorf("the new hold is %+v", second)
	}
	if _, err := tables.Holds.Get(ctx, first.ID); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("the one that has ended: %v", err)
	}
	if _, err := tables.Holds.Create(ctx, again); !errors.Is(err, catalog.ErrExists) {
		t.Errorf("a third hold: %v", err)
	}
}

// Holds that have ended go, a thousand in a commit, and one that was changed meanwhile stays.
func TestEndedHoldsGo(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tables := newTables(t, &catalog.Options{Clock: func() time.Time { return now }})
	ctx := t.Context()
	const n = 2100
	_, err := tables.Update(ctx, func(tx *catalog.Tx) error {
		for i := range n {
			key, err := tx.Keys.Create(ctx, catalog.Key{Name: "k"})
			if err != nil {
				return err
			}
			until := now.Add(time.Hour)
			if i == 0 {
				until = time.Time{}
			} else if i == 1 {
				until = now.Add(2 * time.Hour)
			}
			if _, err := tx.Holds.Create(ctx, catalog.Hold{Target: fmt.Sprint("key/", key.ID), Until: until}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before := head(t, tables)
	now = now.Add(time.Hour)
	if err := tables.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	left := must[[]catalog.Hold](t)(tables.Holds.List(ctx, catalog.Query{}))
	if len(left) != 2 || !slices.ContainsFunc(left, func(h catalog.Hold) bool { return h.Until.IsZero() }) {
		t.Errorf("%d holds are left", len(left))
	}
	if commits := head(t, tables) - before; commits != 3 {
		t.Errorf("it took %d commits", commits)
	}
	if err := tables.Maintain(ctx); err != nil || head(t, tables) != before+3 {
		t.Errorf("maintenance with nothing to do: %v", err)
	}
}

func head(t *testing.T, tables *catalog.Tables) (rev catalog.Revision) {
	t.Helper()
	err := tables.Store().Read(t.Context(), func(r catalog.Reader) error { rev = r.Head().Revision; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return rev
}
