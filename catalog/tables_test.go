package catalog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

func newTables(t testing.TB, opts *catalog.Options) *catalog.Tables {
	t.Helper()
	var engine memstore.Options
	if opts != nil {
		engine.Clock = opts.Clock // a store in memory has the clock of its process
	}
	return catalog.NewTables(memstore.New(&engine), catalog.NewRandomKeyRing(), opts)
}

func must[T any](t rapid.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func changes(t *testing.T, tables *catalog.Tables) (all []catalog.Change) {
	t.Helper()
	err := tables.Store().Read(t.Context(), func(r catalog.Reader) (err error) {
		all, err = r.Changes(t.Context(), catalog.Cursor{}, 1<<20)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDefaults(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: " p ", Type: " Vertex-Express "}))
	if p.Name != "p" || p.Type != "vertex-express" || p.GoogleLocation != "global" || p.Group != "default" ||
		*p.Weight != 1 || p.Status != catalog.Active {
		t.Errorf("provider: %+v", p)
	}
	m := must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "meta/llama-3.1"}))
	if m.Namespace != "default" || m.Kind != "chat" || m.InputPrice != nil {
		t.Errorf("model: %+v", m)
	}
	b := must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "meta/llama-3.1", RouteGroup: "vip"}))
	if b.ProviderGroup != "vip" || b.SelectorType != "exact" || b.SelectorValue != "meta/llama-3.1" || *b.Weight != 1 {
		t.Errorf("binding: %+v", b)
	}
	limit := catalog.NanoUSD(5)
	k := must[catalog.Key](t)(tables.Keys.Create(ctx,
		catalog.Key{Name: "k", Namespaces: []string{"a", "b"}, Budgets: []catalog.Budget{{Limit: &limit, Window: "day"}},
			AllowIPs: []string{"10.1.2.3/8", "::ffff:192.0.2.1", "2001:DB8::1/128"}}))
	if k.DefaultNamespace != "a" || k.Budgets[0].Timezone != "UTC" || k.Budgets[0].Action != "block" ||
		k.Group != "default" {
		t.Errorf("key: %+v", k)
	}
	if diff := cmp.Diff([]string{"10.0.0.0/8", "192.0.2.1", "2001:db8::1"}, k.AllowIPs); diff != "" {
		t.Errorf("allow_ips: %s", diff)
	}
}

func TestCreateGetFind(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	created := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{
		Meta: catalog.Meta{ExternalID: "x-1", Labels: map[string]string{"team": "a"}}, Name: "p", Type: "openai",
		APIKey: catalog.NewSecret("sk-0123456789abcdef"),
		Models: []string{"gpt-4o"}, Options: map[string]any{"n": json.Number("9007199254740993"),
			"deep": map[string]any{"a": []any{"b"}}},
	}))
	if created.ID <= 0 || created.Revision != 1 || created.APIKeyHint != "cdef" || created.CreatedAt.IsZero() ||
		created.CreatedAt.Location() != time.UTC {
		t.Errorf("created: %+v", created)
	}
	for name, got := range map[string]catalog.Provider{
		"Get":                must[catalog.Provider](t)(tables.Providers.Get(ctx, created.ID)),
		"Find by name":       must[catalog.Provider](t)(tables.Providers.Find(ctx, catalog.ByNaturalKey, "p")),
		"Find by externalID": must[catalog.Provider](t)(tables.Providers.Find(ctx, catalog.ByExternalID, "x-1")),
	} {
		if diff := cmp.Diff(created, got, cmp.Comparer(func(a, b catalog.Secret) bool { return a.Equal(b) })); diff != "" {
			t.Errorf("%s (-created +got):\n%s", name, diff)
		}
	}
	if _, err := tables.Providers.Get(ctx, 99); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("Get of nothing: %v", err)
	}
	if _, err := tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai"}); !errors.Is(err,
		catalog.ErrExists) {
		t.Errorf("a second of the name: %v", err)
	}
}

func TestSecretsAreSealedInTheStore(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	const secret = "sk-upstream-credential"
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "openai", APIKey: catalog.NewSecret(secret)}))
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	must[catalog.Provider](t)(tables.Providers.Edit(ctx, p.ID,
		func(p *catalog.Provider) error { p.Weight = new(2); return nil }))
	err := tables.Store().Read(ctx, func(r catalog.Reader) error {
		provider, err := r.Get(ctx, catalog.KindProvider, p.ID)
		key, err2 := r.Get(ctx, catalog.KindKey, k.ID)
		feed, err3 := r.Changes(ctx, catalog.Cursor{}, 100)
		text := fmt.Sprintf("%+v %s %+v %s", provider, provider.Spec, key, key.Spec)
		for _, c := range feed {
			text += fmt.Sprintf("%s %s %+v", c.Before, c.After, c)
		}
		if strings.Contains(text, secret) || strings.Contains(text, k.Token.Reveal()) {
			t.Error("a secret is in the store in clear text")
		}
		if !strings.Contains(string(provider.Spec), "enc:v1:") {
			t.Error("the secret is not in the store at all")
		}
		return errors.Join(err, err2, err3)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPublicJSONHoldsNoSecrets(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "openai", APIKey: catalog.NewSecret("sk-0123456789abcdef")}))
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	text, err := json.Marshal(map[string]any{"p": p, "pp": &p, "k": k})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"sk-01234", `"api_key"`, k.Token.Reveal(), k.Tokens[0].Hash} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%q is in %s", secret, text)
		}
	}
	if !strings.Contains(string(text), `"api_key_hint":"cdef"`) || !strings.Contains(string(text), `"token_hint":"`+k.Token.Hint()+`"`) {
		t.Errorf("the hints are not in %s", text)
	}
}

func TestPatch(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{
		Meta: catalog.Meta{Labels: map[string]string{"a": "1",
			"b": "2"}}, Name: "p", Type: "compatible", BaseURL: "https://one.example.com",
		APIKey: catalog.NewSecret("sk-0123456789abcdef"), Weight: new(5), Models: []string{"x",
			"y"}, Options: map[string]any{"k": map[string]any{"a": true, "b": "c"}},
	}))
	patch := func(body string) (catalog.Provider, error) { return tables.Providers.Patch(ctx, p.ID, 0, []byte(body)) }

	got := must[catalog.Provider](t)(patch(`{"weight":null,"models":["z"],"labels":{"a":null,"c":"3"},"options":{"k":{"a":null}}}`))
	if *got.Weight != 1 || !cmp.Equal(got.Models, []string{"z"}) ||
		!cmp.Equal(got.Labels, map[string]string{"b": "2", "c": "3"}) ||
		!cmp.Equal(got.Options, map[string]any{"k": map[string]any{"b": "c"}}) {
		t.Errorf("merged: %+v", got)
	}
	if got.APIKey.Reveal() != "sk-0123456789abcdef" || got.APIKeyHint != "cdef" || got.BaseURL != p.BaseURL {
		t.Errorf("what the patch does not name has changed: %+v", got)
	}

	if same := must[catalog.Provider](t)(patch(`{"weight":1,"api_key":"sk-0123456789abcdef"}`)); same.Revision != got.Revision || !same.UpdatedAt.Equal(got.UpdatedAt) {
		t.Errorf("a patch that changes nothing made revision %d of %d", same.Revision, got.Revision)
	}

	for _, body := range []string{`{"base_url":"https://two.example.com"}`, `{"type":"custom"}`} {
		var field *catalog.FieldError
		if _, err := patch(body); !errors.As(err, &field) || field.Field != "api_key" {
			t.Errorf("%s without the api_key: %v", body, err)
		}
	}
	got = must[catalog.Provider](t)(patch(`{"base_url":"https://two.example.com","api_key":"sk-new-0123456789"}`))
	if got.BaseURL != "https://two.example.com" || got.APIKey.Reveal() != "sk-new-0123456789" {
		t.Errorf("with the api_key: %+v", got)
	}
	if got = must[catalog.Provider](t)(patch(`{"api_key":null}`)); !got.APIKey.IsZero() || got.APIKeyHint != "" {
		t.Errorf("null did not clear the api_key: %+v", got)
	}
	must[catalog.Provider](t)(patch(`{"base_url":"https://three.example.com"}`)) // nothing stored to protect

	if _, err := tables.Providers.Patch(ctx, p.ID, got.Revision, []byte(`{"weight":9}`)); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("at an old revision: %v, want ErrConflict", err)
	}
	// What was read can be sent back.
	text, err := json.Marshal(must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID)))
	if err != nil {
		t.Fatal(err)
	}
	before := must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID))
	if again := must[catalog.Provider](t)(patch(string(text))); again.Revision != before.Revision {
		t.Error("sending back what was read has changed something")
	}
}

// A merge patch changes the fields that it names and no others, also those whose
// default came from another field.
func TestPatchChangesOnlyWhatItNames(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	for _, name := range []string{"a", "b"} {
		must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: name}))
	}
	b := must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "a"}))
	b = must[catalog.Binding](t)(tables.Bindings.Patch(ctx, b.ID, 0, []byte(`{"model":"b","route_group":"vip"}`)))
	if b.Model != "b" || b.SelectorValue != "a" || b.RouteGroup != "vip" || b.ProviderGroup != "default" {
		t.Errorf("binding: %+v", b)
	}
	b = must[catalog.Binding](t)(tables.Bindings.Patch(ctx, b.ID, 0, []byte(`{"provider_group":null,"selector_value":null}`)))
	if b.SelectorValue != "b" || b.ProviderGroup != "vip" {
		t.Errorf("null is the default: %+v", b)
	}
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	got := must[catalog.Key](t)(tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"namespaces":["x","default"]}`)))
	if got.DefaultNamespace != "default" || got.TokenHint != k.TokenHint || len(got.Tokens) != 1 {
		t.Errorf("key: %+v", got)
	}
	var field *catalog.FieldError
	_, err := tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"namespaces":["x"]}`))
	if !errors.As(err, &field) || field.Field != "default_namespace" {
		t.Errorf("a patch that takes the default namespace away: %v", err)
	}
	if _, err := tables.Keys.Patch(ctx, k.ID, 0, []byte(`{"token":"0123456789abcdef"}`)); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("a patch of the token: %v", err)
	}
}

func TestReferences(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	_, err := tables.Bindings.Create(ctx, catalog.Binding{Model: "absent"})
	if !errors.Is(err, catalog.ErrReferenced) || !catalog.IsDangling(err) {
		t.Errorf("a binding without its model: %v", err)
	}
	m := must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "m"}))
	if _, err := tables.Models.Delete(ctx, m.ID, 0); !errors.Is(err, catalog.ErrReferenced) || catalog.IsDangling(err) {
		t.Errorf("delete of a bound model: %v", err)
	}
	if _, err := tables.Models.Patch(ctx, m.ID, 0, []byte(`{"name":"n"}`)); !errors.Is(err, catalog.ErrReferenced) {
		t.Errorf("rename of a bound model: %v", err)
	}
	must[catalog.Model](t)(tables.Models.Patch(ctx, m.ID, 0, []byte(`{"context_window":8000}`)))
}

func TestPut(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	p := catalog.Provider{Name: "p", Type: "compatible", BaseURL: "https://one.example.com",
		APIKey: catalog.NewSecret("sk-0123456789abcdef")}
	first := must[catalog.Provider](t)(tables.Providers.Put(ctx, p))
	p.APIKey = catalog.Secret{}
	if again := must[catalog.Provider](t)(tables.Providers.Put(ctx, p)); again.Revision != first.Revision ||
		again.ID != first.ID || again.APIKey.IsZero() {
		t.Errorf("an equal Put: %+v", again)
	}
	p.Weight = new(3)
	if got := must[catalog.Provider](t)(tables.Providers.Put(ctx, p)); got.ID != first.ID || *got.Weight != 3 ||
		got.APIKey.IsZero() {
		t.Errorf("Put: %+v", got)
	}
	p.BaseURL = "https://two.example.com"
	if _, err := tables.Providers.Put(ctx, p); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("a Put that takes the secret to another host: %v", err)
	}
	if _, err := tables.Keys.Put(ctx, catalog.Key{Name: "k"}); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("a key without external id: %v", err)
	}
	k := catalog.Key{Meta: catalog.Meta{ExternalID: "k1"}, Name: "k"}
	made := must[catalog.Key](t)(tables.Keys.Put(ctx, k))
	if made.Token.IsZero() {
		t.Error("a new key brings no token")
	}
	k.Name = "renamed"
	kept := must[catalog.Key](t)(tables.Keys.Put(ctx, k))
	if kept.ID != made.ID || kept.Name != "renamed" || !kept.Token.IsZero() || !cmp.Equal(kept.Tokens, made.Tokens) {
		t.Errorf("Put of a key: %+v", kept)
	}
}

func TestKeyTokens(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	tables, ctx := newTables(t, &catalog.Options{Clock: func() time.Time { return now }}), t.Context()
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	valid := func(token catalog.Secret) bool {
		got, err := tables.Keys.Authenticate(ctx, token)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil && got.ID == k.ID
	}
	if !catalog.IsToken(k.Token.Reveal()) || !valid(k.Token) || !k.RotatedAt.IsZero() {
		t.Errorf("created: %+v", k)
	}
	if read := must[catalog.Key](t)(tables.Keys.Get(ctx, k.ID)); !read.Token.IsZero() {
		t.Error("the token can be read again")
	}

	one := must[catalog.Key](t)(tables.Keys.Rotate(ctx, k.ID, time.Hour, 0))
	if !valid(k.Token) || !valid(one.Token) || !one.RotatedAt.Equal(now) || one.TokenHint != one.Token.Hint() {
		t.Error("within the grace both tokens must do")
	}
	two := must[catalog.Key](t)(tables.Keys.Rotate(ctx, k.ID, time.Hour, 0))
	if valid(k.Token) || !valid(one.Token) || !valid(two.Token) {
		t.Error("a second rotation ends the older token")
	}
	now = now.Add(time.Hour)
	if valid(one.Token) || !valid(two.Token) {
		t.Error("the grace is over")
	}
	if err := tables.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	if after := must[catalog.Key](t)(tables.Keys.Get(ctx, k.ID)); len(after.Tokens) != 1 {
		t.Errorf("maintenance left %d tokens", len(after.Tokens))
	}
	three := must[catalog.Key](t)(tables.Keys.Rotate(ctx, k.ID, 0, 0))
	if valid(two.Token) || !valid(three.Token) {
		t.Error("without grace the old token ends at once")
	}
	for _, grace := range []time.Duration{-1, catalog.MaxGrace + 1} {
		if _, err := tables.Keys.Rotate(ctx, k.ID, grace, 0); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("grace %v: %v", grace, err)
		}
	}
	if _, err := tables.Keys.Rotate(ctx, k.ID, 0, 1); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("at an old revision: %v", err)
	}
}

func TestImportedTokens(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	body := `{"name":"k","token":"sk-from-elsewhere-1"}`
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, must[catalog.Key](t)(catalog.Decode[catalog.Key]([]byte(body)))))
	if got := must[catalog.Key](t)(tables.Keys.Find(ctx, catalog.ByHash,
		catalog.HashToken("sk-from-elsewhere-1"))); got.ID != k.ID {
		t.Error("an imported token does not lead to its key")
	}
	// A key that is there keeps its tokens, and no others are taken for it.
	put := func(members string) error {
		v, err := catalog.Decode[catalog.Key]([]byte(`{"name":"k","external_id":"e",` + members + `}`))
		if err == nil {
			_, err = tables.Keys.Put(ctx, v)
		}
		return err
	}
	if err := put(`"token":"sk-from-elsewhere-2"`); err != nil {
		t.Errorf("a new key: %v", err)
	}
	for members, field := range map[string]string{
		`"token":"sk-from-elsewhere-2"`: "", `"token":null`: "", `"labels":{"a":"b"}`: "",
		`"token_hashes":["` + catalog.HashToken("sk-from-elsewhere-2") + `"]`: "",
		`"token":"sk-from-elsewhere-3"`:                                       "token", `"token":"short"`: "token",
		`"token_hashes":["` + catalog.HashToken("sk-from-elsewhere-3") + `"]`: "token_hashes[0]",
	} {
		fields := catalog.FieldsOf(put(members))
		if field == "" && len(fields) > 0 || field != "" && (len(fields) != 1 || fields[0].Field != field ||
			!strings.Contains(fields[0].Message, "rotate it")) {
			t.Errorf("a PUT with %s: %v; want an error about %q", members, fields, field)
		}
	}
	kept := must[catalog.Key](t)(tables.Keys.Find(ctx, catalog.ByExternalID, "e"))
	must[catalog.Key](t)(tables.Keys.Rotate(ctx, kept.ID, time.Hour, 0))
	if err := put(`"token":"sk-from-elsewhere-2"`); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("a token in its grace: %v", err)
	}
	if err := put(`"labels":{}`); err != nil {
		t.Errorf("a PUT without a token: %v", err)
	}
	must[catalog.Key](t)(tables.Keys.Patch(ctx, kept.ID, 0, []byte(`{"name":"renamed"}`)))

	body = `{"name":"k","token_hashes":["` + catalog.HashToken("one") + `","` + catalog.HashToken("two") + `"]}`
	k = must[catalog.Key](t)(tables.Keys.Create(ctx, must[catalog.Key](t)(catalog.Decode[catalog.Key]([]byte(body)))))
	if len(k.Tokens) != 2 || k.TokenHint != "" || !k.Token.IsZero() {
		t.Errorf("imported hashes: %+v", k)
	}
	if err := create(t, tables.Keys.Table, `{"name":"k","token":"sk-from-elsewhere-1"}`); !errors.Is(err, catalog.ErrExists) {
		t.Errorf("a token that is taken: %v", err)
	}
}

func TestUpdateIsOneRevision(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "zero"}))
	revision, err := tables.Update(catalog.WithActor(ctx, "ann", "why not"), func(tx *catalog.Tx) error {
		m, err := tx.Models.Create(ctx, catalog.Model{Name: "m"})
		if err != nil {
			return err
		}
		if _, err := tx.Bindings.Create(ctx, catalog.Binding{Model: "m"}); err != nil {
			return err
		}
		if got, err := tx.Models.Get(ctx, m.ID); err != nil || got.Name != "m" {
			t.Errorf("what was written is not read: %+v, %v", got, err)
		}
		if got, err := tx.Models.Find(ctx, catalog.ByNaturalKey, "default.m"); err != nil || got.ID != m.ID {
			t.Errorf("what was written is not found: %+v, %v", got, err)
		}
		if _, err = tx.Models.Edit(ctx, m.ID, func(m *catalog.Model) error { m.ContextWindow = 8; return nil }); err != nil {
			return err
		}
		gone, err := tx.Models.Create(ctx, catalog.Model{Name: "gone"})
		if err != nil {
			return err
		}
		if _, err := tx.Models.Delete(ctx, gone.ID, 0); err != nil {
			return err
		}
		list, err := tx.Models.List(ctx, catalog.Query{})
		if len(list) != 2 || list[0].Name != "zero" || list[1].ContextWindow != 8 {
			t.Errorf("List in the transaction: %+v", list)
		}
		if first, _ := tx.Models.List(ctx, catalog.Query{Limit: 1}); len(first) != 1 || first[0].Name != "zero" {
			t.Errorf("limited List in the transaction: %+v", first)
		}
		return err
	})
	if err != nil || revision != 2 {
		t.Fatalf("revision %d, %v", revision, err)
	}
	feed := changes(t, tables)
	if len(feed) != 3 || feed[1].Action != catalog.ActionCreate || feed[1].Actor != "ann" ||
		feed[1].Reason != "why not" || feed[2].Kind != catalog.KindBinding {
		t.Errorf("feed: %+v", feed)
	}
	if !strings.Contains(string(feed[1].After), `"context_window":8`) {
		t.Errorf("two writes of one entity are not one change: %s", feed[1].After)
	}
	if feed[1].ID <= 0 || feed[1].ID == feed[2].ID {
		t.Errorf("ids %d and %d", feed[1].ID, feed[2].ID)
	}

	broken := errors.New("no")
	if _, err := tables.Update(ctx, func(tx *catalog.Tx) error {
		must[catalog.Model](t)(tx.Models.Create(ctx, catalog.Model{Name: "never"}))
		return broken
	}); !errors.Is(err, broken) {
		t.Errorf("the function's error: %v", err)
	}
	if got := changes(t, tables); len(got) != 3 {
		t.Error("a failed transaction left a trace")
	}
	if revision, err := tables.Update(ctx, func(*catalog.Tx) error { return nil }); err != nil || revision != 2 {
		t.Errorf("without writes: %d, %v", revision, err)
	}
}

func TestUpdatesAreSerial(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	m := must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	const workers, rounds = 16, 10
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for range rounds {
				var err error
				if i%2 == 0 {
					_, err = tables.Models.Edit(ctx, m.ID, func(m *catalog.Model) error { m.ContextWindow++; return nil })
				} else {
					_, err = tables.Update(ctx, func(tx *catalog.Tx) error {
						got, err := tx.Models.Get(ctx, m.ID)
						if err != nil {
							return err
						}
						_, err = tx.Models.Edit(ctx, m.ID,
							func(m *catalog.Model) error { m.ContextWindow = got.ContextWindow + 1; return nil })
						return err
					})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := must[catalog.Model](t)(tables.Models.Get(ctx, m.ID)); got.ContextWindow != workers*rounds {
		t.Errorf("%d of %d increments are there", got.ContextWindow, workers*rounds)
	}
}

func TestChangeFeedSaysWhatIsTouched(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx,
		catalog.Provider{Name: "a", Type: "openai", Group: "g1", Models: []string{"x"}}))
	must[catalog.Provider](t)(tables.Providers.Edit(ctx, p.ID, func(p *catalog.Provider) error {
		p.Name, p.Group, p.Models = "b", "g2", []string{"y"}
		return nil
	}))
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	must[catalog.Key](t)(tables.Keys.Rotate(ctx, k.ID, 0, 0))
	if _, err := tables.Keys.Delete(ctx, k.ID, 0); err != nil {
		t.Fatal(err)
	}
	feed := changes(t, tables)
	if diff := cmp.Diff(catalog.Touches{NaturalKeys: []string{"a", "b"}, Groups: []string{"g1", "g2"},
		Models: []string{"x", "y"}}, feed[1].Touches); diff != "" {
		t.Errorf("provider: %s", diff)
	}
	if n := len(feed[3].Touches.Hashes); n != 2 {
		t.Errorf("a rotation touches %d hashes, want the old and the new", n)
	}
	if d := feed[4]; d.Action != catalog.ActionDelete || len(d.Touches.Hashes) != 1 || d.After != nil || d.Before == nil {
		t.Errorf("delete: %+v", d)
	}
}

func TestAllReadsEveryPage(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	const n = 1203
	_, err := tables.Update(ctx, func(tx *catalog.Tx) error {
		for i := range n {
			if _, err := tx.Models.Create(ctx, catalog.Model{Name: fmt.Sprint("m", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, err := range tables.Models.All(ctx, catalog.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen++
	}
	if seen != n {
		t.Errorf("%d of %d", seen, n)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range tables.Models.All(cancelled, catalog.Query{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after the end of the context: %v", err)
		}
	}
}

// Upsert says whether it created, heeds a revision, and leaves alone what is known by another external id.
func TestUpsert(t *testing.T) {
	ctx, tables := t.Context(), newTables(t, nil)
	upsert := func(m catalog.Model, match catalog.Revision) (catalog.Model, bool) {
		t.Helper()
		m, created, err := tables.Models.Upsert(ctx, m, match)
		if err != nil {
			t.Fatal(err)
		}
		return m, created
	}
	first, created := upsert(catalog.Model{Name: "m"}, 0)
	if !created || first.ID == 0 {
		t.Errorf("the first: %+v, created %v", first, created)
	}
	if again, created := upsert(catalog.Model{Name: "m"}, first.Revision); created || again.Revision != first.Revision {
		t.Errorf("the same again: %+v, created %v", again, created)
	}
	second, created := upsert(catalog.Model{Name: "m", Kind: "image", Meta: catalog.Meta{ExternalID: "x"}}, first.Revision)
	if created || second.ID != first.ID || second.Kind != "image" || second.ExternalID != "x" {
		t.Errorf("another: %+v, created %v", second, created)
	}
	if renamed, created := upsert(catalog.Model{Name: "n", Meta: catalog.Meta{ExternalID: "x"}}, 0); created ||
		renamed.ID != first.ID || renamed.Kind != "chat" {
		t.Errorf("renamed by its external id: %+v, created %v", renamed, created)
	}
	for name, tc := range map[string]struct {
		model catalog.Model
		match catalog.Revision
		err   error
	}{
		"one of another revision": {catalog.Model{Name: "n", Meta: catalog.Meta{ExternalID: "x"}}, first.Revision,
			catalog.ErrConflict},
		"one that is not there":       {catalog.Model{Name: "other"}, first.Revision, catalog.ErrConflict},
		"one that has an external id": {catalog.Model{Name: "n"}, 0, catalog.ErrExists},
		"one that has another of its own": {catalog.Model{Name: "n", Meta: catalog.Meta{ExternalID: "y"}}, 0,
			catalog.ErrExists},
	} {
		if _, created, err := tables.Models.Upsert(ctx, tc.model, tc.match); created || !errors.Is(err, tc.err) {
			t.Errorf("%s: created %v, %v; want %v", name, created, err, tc.err)
		}
	}
}

// late is a store where another comes first, once.
type late struct {
	catalog.Store
	first *sync.Once
	other func()
}

func (s late) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	s.first.Do(s.other)
	return s.Store.Commit(ctx, c)
}

// Of those who put the same at once, one creates it, and nobody is refused.
func TestParallelPuts(t *testing.T) {
	tables := newTables(t, nil)
	k := catalog.Key{Name: "k", Meta: catalog.Meta{ExternalID: "e"}}
	store := late{tables.Store(), new(sync.Once), func() {
		must[catalog.Model](t)(tables.Models.Put(t.Context(), catalog.Model{Name: "m"}))
		must[catalog.Key](t)(tables.Keys.Put(t.Context(), k))
	}}
	slow := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	m, created, err := slow.Models.Upsert(t.Context(), catalog.Model{Name: "m", ContextWindow: 7}, 0)
	if err != nil || created || m.ContextWindow != 7 {
		t.Errorf("the second of a model: created %v, %v, %v", created, m, err)
	}
	k.Name, k.ExternalID = "another", "f"
	store.other = func() { must[catalog.Key](t)(tables.Keys.Put(t.Context(), k)) }
	store.first = new(sync.Once)
	slow = catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	if _, created, err := slow.Keys.Upsert(t.Context(), k, 0); err != nil || created {
		t.Errorf("the second of a key: created %v, %v", created, err)
	}
	// What is taken for good is refused.
	token := catalog.NewSecret("sk-0123456789abcdef")
	must[catalog.Key](t)(tables.Keys.Put(t.Context(), catalog.Key{Name: "k",
		Credential: catalog.Credential{Token: token}, Meta: catalog.Meta{ExternalID: "a"}}))
	_, created, err = tables.Keys.Upsert(t.Context(), catalog.Key{Name: "k", Credential: catalog.Credential{Token: token},
		Meta: catalog.Meta{ExternalID: "b"}}, 0)
	if created || !errors.Is(err, catalog.ErrExists) {
		t.Errorf("a token that is taken: created %v, %v", created, err)
	}
}
