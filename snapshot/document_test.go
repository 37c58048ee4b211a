package snapshot_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

const someHash = "5f8d0e1d2c3b4a59687766554433221100ffeeddccbbaa998877665544332211"

func usd(n catalog.NanoUSD) *catalog.NanoUSD { return &n }

// The bytes of each document, as the contract has them: absent fields are
// omitted, prices are strings, times are RFC 3339.
func TestEncode(t *testing.T) {
	text := func(d snapshot.Document, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return string(d.Kind) + " " + d.Key + " " + string(d.Doc)
	}
	for _, tc := range []struct{ name, got, want string }{
		{
			"the least of a provider",
			text(snapshot.Encode("7", snapshot.ProviderDoc{ID: 7, Name: "p", Type: "openai", Group: "default",
				Weight: 1, Status: "active"})),
			`providers 7 {"id":7,"name":"p","type":"openai","group":"default","weight":1,"priority":0,"status":"active","auto_ban":false}`,
		},
		{
			"all of a provider",
			text(snapshot.Encode("7", snapshot.ProviderDoc{
				ID: 7, Name: "a<b", Type: "vertex", BaseURL: "https://x/?a&b", SealedAPIKey: "enc:v1:k:AA==",
				GoogleProject: "g", GoogleLocation: "global",
				Group: "g1", Models: []string{"m/1", "m2"}, Weight: 3, Priority: -1, Status: "disabled", AutoBan: true,
				Options: map[string]any{"b": true, "a": 1}, Labels: map[string]string{"z": "1", "y": "2"},
			})),
			`providers 7 {"id":7,"name":"a<b","type":"vertex","base_url":"https://x/?a&b","api_key":"enc:v1:k:AA==","google_project":"g","google_location":"global",` +
				`"group":"g1","models":["m/1","m2"],"weight":3,"priority":-1,"status":"disabled","auto_ban":true,"options":{"a":1,"b":true},"labels":{"y":"2","z":"1"}}`,
		},
		{
			"a model, a price unknown, one free",
			text(snapshot.Encode("ns.m.1", snapshot.ModelDoc{
				Namespace: "ns", Name: "m.1", Kind: "chat", ContextWindow: 128000, SupportsVision: true, Status: "active",
				PricesDoc: snapshot.PricesDoc{
					InputPrice: usd(2_500_000_000), OutputPrice: usd(0), RequestPrice: usd(1),
					PriceTiers: []snapshot.PriceTierDoc{{AboveInputTokens: 200_000, OutputPrice: usd(15_000_000_000)}},
				},
			})),
			`models ns.m.1 {"namespace":"ns","name":"m.1","kind":"chat","context_window":128000,"supports_vision":true,"supports_functions":false,` +
				`"supports_tool_choice":false,"supports_fim":false,"supports_stream":false,"input_price":"2.5","output_price":"0","request_price":"0.000000001",` +
				`"price_tiers":[{"above_input_tokens":200000,"output_price":"15"}],"status":"active"}`,
		},
		{
			"a binding",
			text(snapshot.Encode("ns.m", snapshot.BindingDoc{Namespace: "ns", PublicModel: "m", Status: "active",
				Candidates: []snapshot.Candidate{{
					RouteGroup: "r", ProviderGroup: "p", Weight: 1, Priority: 2, SelectorType: "exact", SelectorValue: "m",
					Status: "active", Error: snapshot.ConfigError,
					Upstreams: map[string]string{"9": "m", "10": "m"}, Errors: map[string]string{"11": "why"},
				}}})),
			`bindings ns.m {"namespace":"ns","public_model":"m","status":"active","candidates":[{"route_group":"r","provider_group":"p","weight":1,"priority":2,` +
				`"selector_type":"exact","selector_value":"m","status":"active","error":"config_error","upstreams":{"10":"m","9":"m"},"errors":{"11":"why"}}]}`,
		},
		{
			"a key",
			text(snapshot.Encode(someHash, snapshot.KeyDoc{
				ID: 3, Name: "k", Status: "active", Group: "g", Namespaces: []string{"a", "b"}, DefaultNamespace: "b",
				Models: []string{"m"}, Scopes: []string{"s"},
				AllowIPs: []string{"10.0.0.0/8"}, ExpiresAt: time.Date(2030, 1, 2, 3, 4, 5, 600_000, time.UTC),
				RPMLimit: 1, TPMLimit: 2, MaxParallel: 3,
				Budgets: []snapshot.BudgetDoc{{Limit: usd(1_000_000_000), Window: "day", Timezone: "UTC", Action: "block"}},
				Labels:  map[string]string{"l": "v"},
			})),
			`keys ` + someHash + ` {"id":3,"name":"k","status":"active","group":"g","namespaces":["a","b"],"default_namespace":"b","models":["m"],"scopes":["s"],` +
				`"allow_ips":["10.0.0.0/8"],"expires_at":"2030-01-02T03:04:05.0006Z","rpm_limit":1,"tpm_limit":2,"max_parallel":3,"budgets":[{"limit":"1","window":"day","timezone":"UTC","action":"block"}],"labels":{"l":"v"}}`,
		},
		{
			"a project",
			text(snapshot.Encode("a/b", snapshot.ProjectDoc{
				Name: "a/b", Status: "active", Models: []string{"m"}, Groups: []string{"g"}, Namespaces: []string{"n"},
				RPMLimit: 1, TPMLimit: 2, MaxParallel: 3, Labels: map[string]string{"l": "v"},
			})),
			`projects a/b {"name":"a/b","status":"active","models":["m"],"groups":["g"],"namespaces":["n"],"rpm_limit":1,"tpm_limit":2,"max_parallel":3,"labels":{"l":"v"}}`,
		},
		{
			"a hold",
			text(snapshot.Encode("key/3", snapshot.HoldDoc{
				Target: "key/3", Until: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Reason: "budget", Message: "m",
			})),
			`holds key/3 {"target":"key/3","until":"2030-01-02T03:04:05Z","reason":"budget","message":"m"}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	const (
		provider = `{"id":7,"name":"p","type":"openai","group":"g","weight":1,"status":"active"}`
		key      = `{"id":3,"status":"active","group":"g","namespaces":["a"],"default_namespace":"a"}`
		binding  = `{"namespace":"ns","public_model":"a.b","candidates":[{"weight":1,"upstreams":{"7":"m"}}]}`
	)
	with := func(doc, fields string) string { return doc[:len(doc)-1] + "," + fields + "}" }
	decode := map[catalog.Kind]func(snapshot.Document) error{
		catalog.KindProject: func(d snapshot.Document) error {
			_,
				err := snapshot.Decode[snapshot.ProjectDoc](d)
			return err
		},
		catalog.KindHold: func(d snapshot.Document) error { _, err := snapshot.Decode[snapshot.HoldDoc](d); return err },
		catalog.KindProvider: func(d snapshot.Document) error {
			_,
				err := snapshot.Decode[snapshot.ProviderDoc](d)
			return err
		},
		catalog.KindModel: func(d snapshot.Document) error { _, err := snapshot.Decode[snapshot.ModelDoc](d); return err },
		catalog.KindBinding: func(d snapshot.Document) error {
			_,
				err := snapshot.Decode[snapshot.BindingDoc](d)
			return err
		},
		catalog.KindKey: func(d snapshot.Document) error { _, err := snapshot.Decode[snapshot.KeyDoc](d); return err },
	}
	for _, tc := range []struct {
		name string
		kind catalog.Kind
		key  string
		doc  string
		ok   bool
	}{
		{"provider", catalog.KindProvider, "7", provider, true},
		{"fields of a later version", catalog.KindProvider, "7", with(provider, `"later":{"x":[1]}`), true},
		{"status of a later version", catalog.KindModel, "ns.m", `{"namespace":"ns","name":"m","status":"paused"}`, true},
		{"binding", catalog.KindBinding, "ns.a.b", binding, true},
		{"key", catalog.KindKey, someHash, key, true},

		{"no JSON", catalog.KindKey, someHash, `{`, false},
		{"more than one value", catalog.KindKey, someHash, key + key, false},
		{"a list", catalog.KindModel, "ns.m", `[]`, false},
		{"a field twice", catalog.KindKey, someHash, with(key, `"id":4`), false},
		{"a number that is a string", catalog.KindKey, someHash, `{"id":"3"}`, false},
		{"invalid UTF-8", catalog.KindKey, someHash, with(key, "\"name\":\"\xff\""), false},
		{"provider under another id", catalog.KindProvider, "8", provider, false},
		{"provider without an id", catalog.KindProvider, "0", `{"id":0,"weight":1}`, false},
		{"provider with a weight below 0", catalog.KindProvider, "7", `{"id":7,"weight":-1}`, false},
		{"model under another name", catalog.KindModel, "ns.n", `{"namespace":"ns","name":"m"}`, false},
		{"namespace with a dot", catalog.KindModel, "n.s.m", `{"namespace":"n.s","name":"m"}`, false},
		{"binding under another name", catalog.KindBinding, "ns.b", binding, false},
		{"upstream under no id", catalog.KindBinding, "ns.m", `{"namespace":"ns","public_model":"m","candidates":[{"weight":1,"upstreams":{"07":"m"}}]}`, false},
		{"candidate with a weight below 0", catalog.KindBinding, "ns.m", `{"namespace":"ns","public_model":"m","candidates":[{"weight":-1}]}`, false},
		{"key of no project path", catalog.KindKey, someHash, with(key, `"project":"A b"`), false},
		{"project", catalog.KindProject, "a/b", `{"name":"a/b","status":"active"}`, true},
		{"project under another path", catalog.KindProject, "a", `{"name":"a/b"}`, false},
		{"project under no path", catalog.KindProject, "A", `{"name":"A"}`, false},
		{"hold", catalog.KindHold, "provider/3/a/b", `{"target":"provider/3/a/b","reason":"health"}`, true},
		{"hold of another target", catalog.KindHold, "key/1", `{"target":"key/2"}`, false},
		{"hold of nothing", catalog.KindHold, "x/1", `{"target":"x/1"}`, false},
		{"hold until no time", catalog.KindHold, "key/1", `{"target":"key/1","until":"soon"}`, false},
		{"key under no hash", catalog.KindKey, "abc", key, false},
		{"key under an upper-case hash", catalog.KindKey, strings.ToUpper(someHash), key, false},
		{"key without namespaces", catalog.KindKey, someHash, `{"id":3,"default_namespace":"a"}`, false},
		{"an address list that cannot be read is not an open one", catalog.KindKey, someHash, with(key, `"allow_ips":["10.0.0.0/99"]`), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := decode[tc.kind](snapshot.Document{Kind: tc.kind, Key: tc.key, Doc: []byte(tc.doc)})
			if (err == nil) != tc.ok || err != nil && !errors.Is(err, snapshot.ErrCorrupt) {
				t.Errorf("error %v", err)
			}
		})
	}
	if err := decode[catalog.KindModel](snapshot.Document{Kind: catalog.KindKey, Key: someHash,
		Doc: []byte(key)}); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Errorf("a document of another kind: %v", err)
	}
}

// Whatever a document holds, reading it fails or gives what can be written
// and read again.
func FuzzDecode(f *testing.F) {
	f.Add("7", []byte(`{"id":7,"name":"p","weight":1,"options":{"a":[1,{"b":null}]}}`))
	f.Add("ns.m", []byte(`{"namespace":"ns","name":"m","public_model":"m","input_price":"0.5","candidates":[{"weight":1,"upstreams":{"1":"x"}}]}`))
	f.Add(someHash, []byte(`{"id":1,"namespaces":["a"],"default_namespace":"a","allow_ips":["::1"],"expires_at":"2030-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, key string, doc []byte) {
		again(t, key, doc, catalog.KindProvider, snapshot.Decode[snapshot.ProviderDoc], snapshot.Encode[snapshot.ProviderDoc])
		again(t, key, doc, catalog.KindModel, snapshot.Decode[snapshot.ModelDoc], snapshot.Encode[snapshot.ModelDoc])
		again(t, key, doc, catalog.KindBinding, snapshot.Decode[snapshot.BindingDoc], snapshot.Encode[snapshot.BindingDoc])
		again(t, key, doc, catalog.KindKey, snapshot.Decode[snapshot.KeyDoc], snapshot.Encode[snapshot.KeyDoc])
	})
}

func again[T snapshot.Doc](t *testing.T, key string, doc []byte, kind catalog.Kind,
	decode func(snapshot.Document) (*T, error), encode func(string, T) (snapshot.Document, error)) {
	v, err := decode(snapshot.Document{Kind: kind, Key: key, Doc: doc})
	if err != nil {
		if !errors.Is(err, snapshot.ErrCorrupt) {
			t.Fatalf("error %v", err)
		}
		return
	}
	d, err := encode(key, *v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(d); err != nil {
		t.Fatalf("%s was read and written as %s: %v", doc, d.Doc, err)
	}
}

func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{"1-2", "0-0", "-1-2", "1--2", "9223372036854775808-1", "1", "+1-2", "01-2", "1-00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := snapshot.ParsePosition(s)
		if err != nil {
			if !errors.Is(err, catalog.ErrInvalid) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if p.String() != s { // one position has one form
			t.Fatalf("%q is read, and written as %q", s, p)
		}
	})
}
