package catalog_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

func fieldsOf(err error) (fields []string) {
	for _, f := range catalog.FieldsOf(err) {
		fields = append(fields, f.Field)
	}
	return fields
}

// Taking back a revision leaves alone what was changed since, and says where that is not possible.
func TestRevertOne(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	m := must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m", ContextWindow: 1}))
	bad := must[catalog.Model](t)(tables.Models.Patch(ctx, m.ID, 0,
		[]byte(`{"context_window": 2, "kind": "image", "supports_vision": true}`)))
	must[catalog.Model](t)(tables.Models.Patch(ctx, m.ID, 0, []byte(`{"supports_stream": true}`)))

	plan := must[catalog.Plan](t)(tables.RevertOne(ctx, bad.Revision, nil))
	if plan.Summary.Update != 1 || len(plan.Steps[0].Fields) != 3 {
		t.Errorf("%s", &plan)
	}
	got := must[catalog.Model](t)(tables.Models.Get(ctx, m.ID))
	if got.ContextWindow != 1 || got.Kind != "chat" || got.SupportsVision || !got.SupportsStream {
		t.Errorf("after: %+v", got)
	}
	if again := must[catalog.Plan](t)(tables.RevertOne(ctx, bad.Revision, nil)); again.Changes() {
		t.Errorf("again: %s", &again)
	}
	must[catalog.Model](t)(tables.Models.Patch(ctx, m.ID, 0, []byte(`{"context_window": 3}`)))
	for name, tc := range map[string]struct {
		revision catalog.Revision
		want     []string
	}{
		"a field that was changed again":    {bad.Revision, []string{"models/1.context_window"}},
		"what was created and then changed": {m.Revision, []string{"models/1"}},
	} {
		if _, err := tables.RevertOne(ctx, tc.revision, nil); !errors.Is(err, catalog.ErrConflict) ||
			!slices.Equal(fieldsOf(err), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone := must[catalog.Revision](t)(tables.Models.Delete(ctx, m.ID, 0))
	if _, err := tables.RevertOne(ctx, bad.Revision, nil); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("a change of what was deleted since: %v", err)
	}
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	if _, err := tables.RevertOne(ctx, gone, nil); !errors.Is(err, catalog.ErrExists) ||
		!slices.Equal(fieldsOf(err), []string{"models/1.namespace", "models/1.name"}) {
		t.Errorf("a name that is taken by now: %v", err)
	}
}

// A field that was changed again since is a collision, also when it has come back to what the
// revision had made of it; so is what was deleted and made again.
func TestRevertOneSeesWhatCameBetween(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	patch := func(body string) catalog.Revision {
		return must[catalog.Key](t)(tables.Keys.Patch(ctx, k.ID, 0, []byte(body))).Revision
	}
	shut := patch(`{"status": "disabled"}`)
	limited := patch(`{"rpm_limit": 7}`)
	patch(`{"status": "active"}`)
	shutAgain := patch(`{"status": "disabled"}`)
	_, err := tables.RevertOne(ctx, shut, nil)
	if !errors.Is(err, catalog.ErrConflict) || !slices.Equal(fieldsOf(err), []string{"keys/1.status"}) {
		t.Errorf("a status that a later revision has set: %v", err)
	}
	must[catalog.Key](t)(tables.Keys.Rotate(ctx, k.ID, 0, 0))
	must[catalog.Plan](t)(tables.RevertOne(ctx, limited, nil))
	must[catalog.Plan](t)(tables.RevertOne(ctx, shutAgain, nil))
	got := must[catalog.Key](t)(tables.Keys.Get(ctx, k.ID))
	if got.Status != catalog.Active || got.RPMLimit != 0 {
		t.Errorf("after: %+v", got)
	}
	if plan := must[catalog.Plan](t)(tables.RevertOne(ctx, shut, nil)); plan.Changes() {
		t.Errorf("what is as it was before: %s", &plan)
	}

	o := must[catalog.Operator](t)(tables.Operators.Create(ctx, catalog.Operator{Name: "o", Role: "viewer"}))
	plan := must[catalog.Plan](t)(tables.RevertOne(ctx, o.Revision, nil))
	if text, _ := json.Marshal(plan); plan.Changes() || len(plan.Kept) != 1 || plan.Kept[0].ID != o.ID ||
		!strings.Contains(string(text), `"steps":[]`) {
		t.Errorf("what is no part of it: %s", text)
	}

	deleted := must[catalog.Revision](t)(tables.Keys.Delete(ctx, k.ID, 0))
	must[catalog.Plan](t)(tables.RevertOne(ctx, deleted, nil))
	patch(`{"rpm_limit": 9}`)
	for what, revision := range map[string]catalog.Revision{"a change": limited, "the deletion": deleted} {
		_, err := tables.RevertOne(ctx, revision, nil)
		if !errors.Is(err, catalog.ErrConflict) || !slices.Equal(fieldsOf(err), []string{"keys/1"}) {
			t.Errorf("%s of what came back since: %v", what, err)
		}
	}
	must[catalog.Revision](t)(tables.Keys.Delete(ctx, k.ID, 0))
	if _, err := tables.RevertOne(ctx, deleted, nil); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("a deletion before the last one: %v", err)
	}
}

// A provider that has lost its api_key stays out of service, however often it is reverted.
func TestRevertPutsNoProviderWithoutItsSecretIntoService(t *testing.T) {
	for name, secret := range map[string]string{"with a hint": "sk-0123456789-abc", "without a hint": "sk-short"} {
		t.Run(name, func(t *testing.T) {
			tables, ctx := newTables(t, nil), t.Context()
			p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai",
				APIKey: catalog.NewSecret(secret)}))
			must[catalog.Revision](t)(tables.Providers.Delete(ctx, p.ID, 0))
			must[catalog.Plan](t)(tables.Revert(ctx, p.Revision, nil))
			plan := must[catalog.Plan](t)(tables.Revert(ctx, p.Revision, nil))
			if plan.Changes() || len(plan.Steps[0].Notes) != 1 {
				t.Errorf("again: %s%+v", &plan, plan.Steps)
			}
			must[catalog.Provider](t)(tables.Providers.Patch(ctx, p.ID, 0, []byte(`{"api_key": "sk-another-one"}`)))
			must[catalog.Plan](t)(tables.Revert(ctx, p.Revision, nil))
			if got := must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID)); got.Status != catalog.Active {
				t.Errorf("with an api_key: %+v", got)
			}
		})
	}
	tables, ctx := newTables(t, nil), t.Context()
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai",
		APIKey: catalog.NewSecret("sk-0123456789-abc")}))
	off := must[catalog.Provider](t)(tables.Providers.Patch(ctx, p.ID, 0,
		[]byte(`{"status": "disabled", "weight": 3, "api_key": null}`)))
	plan := must[catalog.Plan](t)(tables.RevertOne(ctx, off.Revision, nil))
	if got := must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID)); got.Status != catalog.Disabled ||
		*got.Weight != 1 || len(plan.Steps[0].Notes) != 1 {
		t.Errorf("%s%+v", &plan, got)
	}
	local := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "local", Type: "openai"}))
	off = must[catalog.Provider](t)(tables.Providers.Patch(ctx, local.ID, 0, []byte(`{"status": "disabled"}`)))
	must[catalog.Plan](t)(tables.RevertOne(ctx, off.Revision, nil))
	if got := must[catalog.Provider](t)(tables.Providers.Get(ctx, local.ID)); got.Status != catalog.Active {
		t.Errorf("one that never had an api_key: %+v", got)
	}
}

// What was deleted comes back under its old id: a provider without its secret, a key with a new
// token. Secrets and tokens of what still exists stay.
func TestRevert(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	create := func(name string) (catalog.Provider, catalog.Key) {
		p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: name, Type: "openai",
			APIKey: catalog.NewSecret("sk-0123456789-" + name), Weight: new(7)}))
		return p, must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: name}))
	}
	stays, keyStays := create("stays")
	goes, keyGoes := create("goes")
	to := keyGoes.Revision
	must[catalog.Provider](t)(tables.Providers.Patch(ctx, stays.ID, 0, []byte(`{"weight": 1, "api_key": "sk-another-one-9"}`)))
	rotated := must[catalog.Key](t)(tables.Keys.Rotate(ctx, keyStays.ID, time.Hour, 0))
	must[catalog.Key](t)(tables.Keys.Patch(ctx, keyStays.ID, 0, []byte(`{"name": "renamed"}`)))
	must[catalog.Revision](t)(tables.Providers.Delete(ctx, goes.ID, 0))
	must[catalog.Revision](t)(tables.Keys.Delete(ctx, keyGoes.ID, 0))
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "new"}))
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "safe",
		Meta: catalog.Meta{Labels: map[string]string{"protected": "true"}}}))

	plan := must[catalog.Plan](t)(tables.Revert(ctx, to, nil))
	if plan.Summary != (catalog.Summary{Create: 2, Update: 2, Delete: 1, Kept: 1}) || len(plan.Tokens) != 1 {
		t.Errorf("%s%+v", &plan, plan.Tokens)
	}
	p := must[catalog.Provider](t)(tables.Providers.Get(ctx, stays.ID))
	if *p.Weight != 7 || p.APIKey.Reveal() != "sk-another-one-9" || p.Status != catalog.Active {
		t.Errorf("the provider that stayed: %+v", p)
	}
	k := must[catalog.Key](t)(tables.Keys.Get(ctx, keyStays.ID))
	if k.Name != "stays" || !k.RotatedAt.Equal(rotated.RotatedAt) || k.TokenHint != rotated.TokenHint ||
		len(k.Tokens) != 2 {
		t.Errorf("the key that stayed: %+v", k)
	}
	p = must[catalog.Provider](t)(tables.Providers.Get(ctx, goes.ID))
	if *p.Weight != 7 || !p.APIKey.IsZero() || p.APIKeyHint != "" || p.Status != catalog.Disabled ||
		!p.CreatedAt.Equal(goes.CreatedAt) {
		t.Errorf("the provider that came back: %+v", p)
	}
	k = must[catalog.Key](t)(tables.Keys.Authenticate(ctx, plan.Tokens[0].Token))
	if k.ID != keyGoes.ID || plan.Tokens[0].Item != "keys/4" {
		t.Errorf("the key that came back: %+v", k)
	}
	if _, err := tables.Keys.Authenticate(ctx, keyGoes.Token); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("its old token: %v", err)
	}
}

// Taking back a revision takes a stored secret to no address that it was not sent for.
func TestRevertOneKeepsASecretWhereItIs(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai",
		BaseURL: "https://collector.example.com/v1", APIKey: catalog.NewSecret("sk-of-the-collector")}))
	moved := must[catalog.Provider](t)(tables.Providers.Patch(ctx, p.ID, 0,
		[]byte(`{"base_url": "https://real.example.com/v1", "api_key": "sk-of-the-company-42"}`)))
	for _, opts := range []*catalog.RevertOptions{nil, {DryRun: true}} {
		_, err := tables.RevertOne(ctx, moved.Revision, opts)
		if !errors.Is(err, catalog.ErrInvalid) || !slices.Equal(fieldsOf(err), []string{"providers/1.api_key"}) {
			t.Errorf("an address that the secret was not sent for: %v", err)
		}
	}
	if got := must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID)); got.BaseURL != moved.BaseURL {
		t.Errorf("the provider is at %s", got.BaseURL)
	}
	must[catalog.Provider](t)(tables.Providers.Patch(ctx, p.ID, 0, []byte(`{"api_key": null}`)))
	must[catalog.Plan](t)(tables.RevertOne(ctx, moved.Revision, nil))
	if got := must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID)); got.BaseURL != p.BaseURL ||
		!got.APIKey.IsZero() {
		t.Errorf("without a secret: %+v", got)
	}
}

// A revert is refused when the history is not there, is not yet there, or is not valid any more.
func TestRevertRefuses(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	clock := func() time.Time { return now }
	store := memstore.New(&memstore.Options{Clock: clock})
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), &catalog.Options{Clock: clock})
	ctx := t.Context()
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "custom",
		BaseURL: "https://one.example.com", APIKey: catalog.NewSecret("sk-0123456789abcdef")}))
	must[catalog.Provider](t)(tables.Providers.Patch(ctx, p.ID, 0,
		[]byte(`{"base_url": "https://two.example.com", "api_key": "sk-of-another-host"}`)))
	_, err := tables.Revert(ctx, p.Revision, nil)
	if !errors.Is(err, catalog.ErrInvalid) || !slices.Equal(fieldsOf(err), []string{"providers/1.api_key"}) {
		t.Errorf("another destination: %v", err)
	}
	for _, revision := range []catalog.Revision{-1, 3} {
		if _, err := tables.Revert(ctx, revision, nil); !slices.Equal(fieldsOf(err), []string{"to"}) {
			t.Errorf("to %d: %v", revision, err)
		}
		if _, err := tables.RevertOne(ctx, revision, nil); !slices.Equal(fieldsOf(err), []string{"revision"}) {
			t.Errorf("revision %d: %v", revision, err)
		}
		if _, err := tables.At(ctx, revision); !slices.Equal(fieldsOf(err), []string{"revision"}) {
			t.Errorf("at %d: %v", revision, err)
		}
	}
	private := catalog.NewTables(store, catalog.NewRandomKeyRing(), &catalog.Options{AllowPrivateUpstreams: true})
	local := must[catalog.Provider](t)(private.Providers.Create(ctx, catalog.Provider{Name: "local", Type: "custom",
		BaseURL: "http://10.0.0.1"}))
	gone := must[catalog.Revision](t)(private.Providers.Delete(ctx, local.ID, 0))
	if _, err := tables.RevertOne(ctx, gone, nil); !errors.Is(err, catalog.ErrInvalid) ||
		!slices.Equal(fieldsOf(err), []string{"providers/2.base_url"}) {
		t.Errorf("what is not acceptable any more: %v", err)
	}
	now = now.Add(time.Hour)
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	must[int64](t)(store.PruneChanges(ctx, now))
	if _, err := tables.Revert(ctx, 1, nil); !errors.Is(err, catalog.ErrCompacted) {
		t.Errorf("what was pruned: %v", err)
	}
	if _, err := tables.At(ctx, 1); !errors.Is(err, catalog.ErrCompacted) {
		t.Errorf("at what was pruned: %v", err)
	}
	if _, err := tables.RevertOne(ctx, 2, nil); !errors.Is(err, catalog.ErrCompacted) {
		t.Errorf("take back what was pruned: %v", err)
	}
}
