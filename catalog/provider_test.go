package catalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

func TestAPIKeys(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	account := "{\n  \"type\": \"service_account\",\n\t\"private_key\": \"-----BEGIN PRIVATE " +
		"KEY-----\\nMII\\n-----END PRIVATE KEY-----\\n\"\r\n}"
	pem := "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----"
	for i, tc := range []struct{ typ, key, stored, hint string }{
		{"openai", "sk-0123456789abcd\n", "sk-0123456789abcd", "abcd"},
		{"openai", " \t sk-0123456789abcd\r\n", "sk-0123456789abcd", "abcd"},
		{"openai", "short", "short", ""}, {"openai", "01234567890", "01234567890", ""},
		{"openai", "0123456789ab", "0123456789ab", "89ab"}, {"openai", " ", "", ""},
		{"openai", `{"compact":"JSON"}`, `{"compact":"JSON"}`, `ON"}`},
		{"vertex", account, account, ""}, {"vertex", account + "\n", account, ""}, {"codex", account, account, ""},
		{"vertex", pem + "\n", pem, "----"}, {"custom", pem + "\n\n" + pem, pem + "\n\n" + pem, "----"},
	} {
		p, err := tables.Providers.Create(ctx, catalog.Provider{Name: fmt.Sprint("p", i), Type: tc.typ,
			BaseURL: "https://example.com", APIKey: catalog.NewSecret(tc.key)})
		if err != nil || p.APIKey.Reveal() != tc.stored || p.APIKeyHint != tc.hint {
			t.Errorf("%q is stored as %q with the hint %q, %v; want %q and %q", tc.key, p.APIKey.Reveal(),
				p.APIKeyHint, err, tc.stored, tc.hint)
		}
	}
	for _, tc := range [][2]string{
		{"openai", "sk-0123\n456789abcd"}, {"openai", "sk-0123\x00456789"}, {"openai", "sk-\x7f0123456789"},
		{"openai", "sk-\u00850123456789"}, {"openai", "sk-é0123456789"}, {"openai", "sk-0123456789\u202eabcd"},
		{"openai", "0123456789a\u00a0bcd"}, {"openai", "sk-\xff0123456789"}, {"openai", account}, {"openai", pem},
		{"vertex-express", account}, {"anthropic", pem}, {"custom", "sk-é0123456789"},
		{"vertex", "{\n not JSON }"}, {"vertex", "[\n\"0123\"]"}, {"vertex", "{\"a\":\"b\x00\"}"},
		{"vertex", "-----BEGIN X\n\x01"}, {"vertex", "-----BEGIN \r\nX-Injected: 0123"},
		{"vertex", "-----BEGIN X-----\nX-Injected: 0123\n\nMIIEvQIBADANBgkq\n-----END X-----"},
		{"vertex", pem + "\nX-Injected: 0123"}, {"vertex", "X-Injected: 0123\n" + pem},
		{"openai", "enc:v1:k:0123"}, {"vertex", " enc:v1:"},
	} {
		typ, key := tc[0], tc[1]
		_, err := tables.Providers.Create(ctx, catalog.Provider{Name: "bad", Type: typ, BaseURL: "https://example.com",
			APIKey: catalog.NewSecret(key)})
		var field *catalog.FieldError
		if !errors.As(err, &field) || field.Field != "api_key" || strings.Contains(err.Error(), "0123") {
			t.Errorf("%q: %v", key, err)
		}
	}
}

// Whatever decides where the secret goes cannot be changed without it.
func TestASecretStaysWhereItWasSentTo(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	const secret = "sk-0123456789abcdef"
	for name, tc := range map[string]struct {
		create catalog.Provider
		moves  []string
		stays  []string
	}{
		"vertex": {
			catalog.Provider{Type: "vertex", GoogleProject: "mine", BaseURL: "https://one.example.com"},
			[]string{
				`{"google_location":"us-central1"}`, `{"google_location":null,"google_project":"other"}`, `{"google_project":null}`,
				`{"base_url":"https://two.example.com"}`, `{"base_url":null}`, `{"type":"openai"}`, `{"base_url":"https://one.example.com/"}`,
			},
			[]string{`{"google_location":"global"}`, `{"options":{"region":"x"}}`, `{"weight":3,"status":"disabled","group":"g","models":["m"]}`, `{"type":" VERTEX "}`},
		},
		"bedrock": {
			catalog.Provider{Type: "bedrock", Options: map[string]any{"region": "eu-central-1", "n": 1}},
			[]string{`{"options":{"region":"us-east-1"}}`, `{"options":null}`, `{"options":{"region":null}}`},
			[]string{`{"options":{"n":2}}`, `{"options":{"region":"eu-central-1"}}`},
		},
	} {
		tc.create.Name, tc.create.APIKey = name, catalog.NewSecret(secret)
		p := must[catalog.Provider](t)(tables.Providers.Create(ctx, tc.create))
		for _, patch := range tc.moves {
			var field *catalog.FieldError
			if _, err := tables.Providers.Patch(ctx, p.ID, 0, []byte(patch)); !errors.As(err, &field) ||
				field.Field != "api_key" {
				t.Errorf("%s %s without the secret: %v", name, patch, err)
			}
			put := tc.create
			put.APIKey = catalog.Secret{}
			with := strings.Replace(patch, "{", `{"api_key":"`+secret+`",`, 1)
			moved, err := tables.Providers.Patch(ctx, p.ID, 0, []byte(with))
			if err != nil || moved.APIKey.Reveal() != secret {
				t.Errorf("%s %s: %v", name, with, err)
			}
			if _, err := tables.Providers.Put(ctx, put); !errors.As(err, &field) || field.Field != "api_key" {
				t.Errorf("%s put back after %s without the secret: %v", name, patch, err)
			}
			must[catalog.Provider](t)(tables.Providers.Put(ctx, tc.create))
			edit := func(to *catalog.Provider) error {
				to.Type, to.BaseURL, to.GoogleProject = moved.Type, moved.BaseURL, moved.GoogleProject
				to.GoogleLocation, to.Options = moved.GoogleLocation, moved.Options
				return nil
			}
			if _, err := tables.Providers.Edit(ctx, p.ID, edit); !errors.As(err, &field) || field.Field != "api_key" {
				t.Errorf("%s edited as in %s without the secret: %v", name, patch, err)
			}
		}
		for _, patch := range tc.stays {
			if got, err := tables.Providers.Patch(ctx, p.ID, 0, []byte(patch)); err != nil || got.APIKey.Reveal() != secret {
				t.Errorf("%s %s: %v", name, patch, err)
			}
			must[catalog.Provider](t)(tables.Providers.Put(ctx, tc.create))
		}
		twin := must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID))
		twin.Name = name + " twin"
		must[catalog.Provider](t)(tables.Providers.Create(ctx, twin))
		twin.Name, twin.Type, twin.BaseURL = name+" copy", "custom", "https://two.example.com"
		if _, err := tables.Providers.Create(ctx, twin); !slices.Equal(fieldsOf(err), []string{"api_key"}) {
			t.Errorf("%s copied to another destination with the secret that was read: %v", name, err)
		}
	}
}

// A sealed text that is moved to another destination in the database does not open.
func TestASecretIsSealedWithItsDestination(t *testing.T) {
	store, ring := memstore.New(nil), catalog.NewRandomKeyRing()
	tables, ctx := catalog.NewTables(store, ring, nil), t.Context()
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai",
		BaseURL: "https://one.example.com", APIKey: catalog.NewSecret("sk-0123456789abcdef")}))
	var e catalog.Entity
	if err := store.Read(ctx, func(r catalog.Reader) (err error) {
		e, err = r.Get(ctx, catalog.KindProvider,
			p.ID)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	e.Spec = json.RawMessage(strings.Replace(string(e.Spec), "one.example.com", "evil.example.com", 1))
	if _, err := store.Commit(ctx,
		catalog.Commit{Writes: []catalog.Write{{Entity: e, If: e.Revision,
			Change: catalog.Change{Action: catalog.ActionUpdate, Kind: e.Kind, ID: e.ID}}}}); err != nil {
		t.Fatal(err)
	}
	moved := must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID))
	if moved.BaseURL != "https://evil.example.com" || !moved.APIKey.IsZero() || !moved.Sealed {
		t.Errorf("the secret went along: %+v", moved)
	}
	d := p.Destination()
	if got, want := d.SealData(7), "provider/7/api_key\x00openai\x00https://one.example.com\x00\x00\x00{}"; got != want {
		t.Errorf("additional data %q, want %q", got, want)
	}
	d = catalog.NewDestination("bedrock", "", "g", "l", map[string]any{"region": "eu<1", "other": 1})
	if got, want := d.SealData(7), "provider/7/api_key\x00bedrock\x00\x00g\x00l\x00"+`{"region":"eu<1"}`; got != want {
		t.Errorf("additional data %q, want %q", got, want)
	}
}

// A provider whose secret cannot be opened holds up nothing but itself.
func TestSealedProviders(t *testing.T) {
	store, ctx := memstore.New(nil), t.Context()
	ring := catalog.NewRandomKeyRing()
	before := catalog.NewTables(store, ring, nil)
	const secret = "sk-0123456789abcdef"
	old := must[catalog.Provider](t)(before.Providers.Create(ctx, catalog.Provider{Name: "old", Type: "openai",
		BaseURL: "https://one.example.com", APIKey: catalog.NewSecret(secret), Models: []string{"m"}}))
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil) // the keys were lost
	must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "new", Type: "openai",
		APIKey: catalog.NewSecret("sk-another-credential")}))

	all := must[[]catalog.Provider](t)(tables.Providers.List(ctx, catalog.Query{}))
	if len(all) != 2 || !all[0].Sealed || !all[0].APIKey.IsZero() || all[0].APIKeyHint != "cdef" || all[1].Sealed {
		t.Fatalf("listed: %+v", all)
	}
	text, _ := json.Marshal(all[0])
	if !strings.Contains(string(text), `"sealed":true`) || strings.Contains(string(text), "enc:v1") {
		t.Errorf("shown as %s", text)
	}
	patch := func(body string) (catalog.Provider, error) {
		return tables.Providers.Patch(ctx, old.ID, 0, []byte(body))
	}
	if got, err := patch(`{"status":"disabled","weight":0,"models":["m","n"]}`); err != nil || got.Status != catalog.Disabled || !got.Sealed || got.APIKeyHint != "cdef" {
		t.Errorf("a new status: %+v, %v", got, err)
	}
	var field *catalog.FieldError
	if _, err := patch(`{"base_url":"https://two.example.com"}`); !errors.As(err, &field) || field.Field != "api_key" {
		t.Errorf("another address without the secret: %v", err)
	}
	if _, err := tables.Providers.Edit(ctx, old.ID,
		func(p *catalog.Provider) error { p.BaseURL = "https://two.example.com"; return nil }); !errors.As(err,
		&field) || field.Field != "api_key" {
		t.Errorf("another address by an edit: %v", err)
	}
	// What was sealed is still there for who has the key.
	if got := must[catalog.Provider](t)(before.Providers.Get(ctx, old.ID)); got.APIKey.Reveal() != secret || got.Sealed {
		t.Errorf("with the old key: %+v", got)
	}
	if got, err := patch(`{"api_key":"sk-brand-new-credential","base_url":"https://two.example.com"}`); err != nil || got.Sealed || got.APIKeyHint != "tial" {
		t.Errorf("a new secret: %+v, %v", got, err)
	}
	got := must[catalog.Provider](t)(tables.Providers.Get(ctx, old.ID))
	if got.APIKey.Reveal() != "sk-brand-new-credential" {
		t.Errorf("the new secret is read as %+v", got)
	}

	other := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	if got, err := other.Providers.Patch(ctx, old.ID, 0, []byte(`{"api_key":null}`)); err != nil || got.Sealed || got.APIKeyHint != "" {
		t.Errorf("without a secret: %+v, %v", got, err)
	}
	if _, err := other.Providers.Delete(ctx, all[1].ID, 0); err != nil {
		t.Errorf("what cannot be opened must still be deletable: %v", err)
	}
}

// However a key is printed, it is not there.
func TestNamedKeysPrintNothing(t *testing.T) {
	k := catalog.NamedKey{ID: "a", Key: [32]byte{0xAB, 0xCD, 0xEF}}
	type holder struct {
		K  catalog.NamedKey
		P  *catalog.NamedKey
		L  []catalog.NamedKey
		M  map[string]catalog.NamedKey
		In any
	}
	h := holder{k, &k, []catalog.NamedKey{k}, map[string]catalog.NamedKey{"x": k}, k}
	var log strings.Builder
	timeless := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey { // its digits may be those of the key
			return slog.Attr{}
		}
		return a
	}}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, timeless), slog.NewJSONHandler(&log, timeless)} {
		logger := slog.New(handler)
		logger.Info("m", "k", k, "p", &k, "l", h.L, "h", h, "hp", &h, "m", h.M)
	}
	text := log.String()
	for _, v := range []any{k, &k, h, &h, h.L, h.M, k.Key} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%08b"} {
			if _, raw := v.([32]byte); !raw {
				text += fmt.Sprintf(verb, v)
			}
		}
	}
	js, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	text += string(js)
	for _, part := range []string{"171", "0xab", "ABCDEF", "abcdef", "q83v", "10101011"} {
		if strings.Contains(text, part) {
			t.Errorf("%s is in %s", part, text)
		}
	}
	if !strings.Contains(string(js), `"a:[secret]"`) {
		t.Errorf("JSON: %s", js)
	}
}
