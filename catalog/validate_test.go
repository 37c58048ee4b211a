package catalog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// decodeAndCreate takes a body the way the API does.
func decodeAndCreate(t *testing.T, tables *catalog.Tables, kind catalog.Kind, body string) error {
	t.Helper()
	switch kind {
	case catalog.KindProject:
		return create(t, tables.Projects, body)
	case catalog.KindProvider:
		return create(t, tables.Providers, body)
	case catalog.KindModel:
		return create(t, tables.Models, body)
	case catalog.KindBinding:
		return create(t, tables.Bindings, body)
	case catalog.KindKey:
		return create(t, tables.Keys.Table, body)
	case catalog.KindOperator:
		return create(t, tables.Operators.Table, body)
	case catalog.KindHold:
		return create(t, tables.Holds, body)
	}
	t.Fatalf("no table of %s is known here", kind)
	return nil
}

func create[T catalog.Noun](t *testing.T, table catalog.Table[T], body string) error {
	t.Helper()
	v, err := catalog.Decode[T]([]byte(body))
	if err == nil {
		_, err = table.Create(t.Context(), v)
	}
	return err
}

func TestValidationNamesTheField(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct {
		kind  catalog.Kind
		body  string
		field string
	}{
		{catalog.KindProvider, `{"type":"openai"}`, "name"},
		{catalog.KindProvider, `{"name":"` + long + `","type":"openai"}`, "name"},
		{catalog.KindProvider, `{"name":"p"}`, "type"},
		{catalog.KindProvider, `{"name":"p","type":"nonsense"}`, "type"},
		{catalog.KindProvider, `{"name":"p","type":7}`, "type"},
		{catalog.KindProvider, `{"name":"p","type":"compatible"}`, "base_url"},
		{catalog.KindProvider, `{"name":"p","type":"azure"}`, "base_url"},
		{catalog.KindProvider, `{"name":"p","type":"custom"}`, "base_url"},
		{catalog.KindProvider, `{"name":"p","type":"openai","api_key":7}`, "api_key"},
		{catalog.KindProvider, `{"name":"p","type":"openai","api_key":"` + strings.Repeat("k", 16<<10+1) + `"}`, "api_key"},
		{catalog.KindProvider, `{"name":"p","type":"openai","group":"two words"}`, "group"},
		{catalog.KindProvider, `{"name":"p","type":"openai","models":"m"}`, "models"},
		{catalog.KindProvider, `{"name":"p","type":"openai","models":["a","a"]}`, "models[1]"},
		{catalog.KindProvider, `{"name":"p","type":"openai","models":["a",""]}`, "models[1]"},
		{catalog.KindProvider, `{"name":"p","type":"openai","weight":null,"priority":1.5}`, "priority"},
		{catalog.KindProvider, `{"name":"p","type":"openai","weight":-1}`, "weight"},
		{catalog.KindProvider, `{"name":"p","type":"openai","weight":1000001}`, "weight"},
		{catalog.KindProvider, `{"name":"p","type":"openai","weight":1.5}`, "weight"},
		{catalog.KindProvider, `{"name":"p","type":"openai","priority":1000001}`, "priority"},
		{catalog.KindProvider, `{"name":"p","type":"openai","status":"on"}`, "status"},
		{catalog.KindProvider, `{"name":"p","type":"openai","options":[]}`, "options"},
		{catalog.KindProvider, `{"name":"p","type":"openai","options":{"a":"\u0000"}}`, "options.a"},
		{catalog.KindProvider, `{"name":"p","type":"openai","options":{"a":1e999}}`, "options.a"},
		{catalog.KindProvider, `{"name":"p","type":"openai","labels":{"a=b":"c"}}`, "labels"},
		{catalog.KindProvider, `{"name":"p","type":"openai","labels":{"a":"b\nc"}}`, "labels.a"},
		{catalog.KindProvider, `{"name":"p","type":"openai","external_id":"` + long + `"}`, "external_id"},
		{catalog.KindProvider, `{"name":"p","type":"openai","modles":["a"]}`, "modles"},
		{catalog.KindProvider, `{"name":"p","name":"q","type":"openai"}`, "name"},
		{catalog.KindModel, `{}`, "name"},
		{catalog.KindModel, `{"name":"a\tb"}`, "name"},
		{catalog.KindModel, `{"name":"m","namespace":"a.b"}`, "namespace"},
		{catalog.KindModel, `{"name":"m","namespace":"A"}`, "namespace"},
		{catalog.KindModel, `{"name":"m","kind":"video"}`, "kind"},
		{catalog.KindModel, `{"name":"m","context_window":-1}`, "context_window"},
		{catalog.KindModel, `{"name":"m","input_price":"1.0000000001"}`, "input_price"},
		{catalog.KindModel, `{"name":"m","input_price":true}`, "input_price"},
		{catalog.KindModel, `{"name":"m","output_price":-1}`, "output_price"},
		{catalog.KindModel, `{"name":"m","supports_vision":"yes"}`, "supports_vision"},
		{catalog.KindBinding, `{}`, "model"},
		{catalog.KindBinding, `{"model":"m","selector_type":"glob"}`, "selector_type"},
		{catalog.KindBinding, `{"model":"m","selector_type":"regex","selector_value":"("}`, "selector_value"},
		{catalog.KindBinding, `{"model":"m","route_group":"a b"}`, "route_group"},
		{catalog.KindBinding, `{"model":"m","weight":-1}`, "weight"},
		{catalog.KindKey, `{}`, "name"},
		{catalog.KindKey, `{"name":"k","namespaces":["a."]}`, "namespaces[0]"},
		{catalog.KindKey, `{"name":"k","namespaces":["a"],"default_namespace":"b"}`, "default_namespace"},
		{catalog.KindKey, `{"name":"k","allow_ips":["300.1.1.1"]}`, "allow_ips[0]"},
		{catalog.KindKey, `{"name":"k","allow_ips":["10.0.0.0/8","10.1.2.3/8"]}`, "allow_ips[1]"},
		{catalog.KindKey, `{"name":"k","expires_at":"tomorrow"}`, "expires_at"},
		{catalog.KindKey, `{"name":"k","rpm_limit":0}`, "rpm_limit"},
		{catalog.KindKey, `{"name":"k","tpm_limit":-5}`, "tpm_limit"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":"x","window":"day"}]}`, "budgets[0].limit"},
		{catalog.KindKey, `{"name":"k","budgets":[{"window":"day"}]}`, "budgets[0].limit"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":-1,"window":"day"}]}`, "budgets[0].limit"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1}]}`, "budgets[0].window"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"year"}]}`, "budgets[0].window"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"day","timezone":"Mars/Olympus"}]}`, "budgets[0].timezone"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"day","timezone":"Local"}]}`, "budgets[0].timezone"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"day","action":"explode"}]}`, "budgets[0].action"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"day","alert_at":[80,0]}]}`, "budgets[0].alert_at[0]"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"day","alert_at":[80,1001]}]}`, "budgets[0].alert_at[1]"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"day","alert_at":[80,80]}]}`, "budgets[0].alert_at[1]"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"day","alert_at":[1,2,3,4,5,6,7,8,9,10,11]}]}`, "budgets[0].alert_at"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"day"},{"limit":2,"window":"day","timezone":"UTC"}]}`, "budgets[1]"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"day","extra":1}]}`, "budgets[0].extra"},
		{catalog.KindKey, `{"name":"k","budgets":[{"limit":1,"window":"hour"},{"limit":1,"window":"day"},{"limit":1,"window":"week"},{"limit":1,"window":"month"},{"limit":1,"window":"total"}]}`, "budgets"},
		{catalog.KindKey, `{"name":"k","project":"Acme"}`, "project"},
		{catalog.KindKey, `{"name":"k","project":"acme/"}`, "project"},
		{catalog.KindProject, `{}`, "name"},
		{catalog.KindProject, `{"name":"/a"}`, "name"},
		{catalog.KindProject, `{"name":"a//b"}`, "name"},
		{catalog.KindProject, `{"name":"a/b/c/d"}`, "name"},
		{catalog.KindProject, `{"name":"a.b"}`, "name"},
		{catalog.KindProject, `{"name":"a","groups":["*"]}`, "groups[0]"},
		{catalog.KindProject, `{"name":"a","namespaces":["A"]}`, "namespaces[0]"},
		{catalog.KindProject, `{"name":"a","models":["a*b"]}`, "models[0]"},
		{catalog.KindProject, `{"name":"a","max_keys":0}`, "max_keys"},
		{catalog.KindProject, `{"name":"a","budgets":[{"limit":1}]}`, "budgets[0].window"},
		{catalog.KindOperator, `{"name":"o"}`, "role"},
		{catalog.KindOperator, `{"role":"admin"}`, "name"},
		{catalog.KindOperator, `{"name":"o","role":"root"}`, "role"},
		{catalog.KindOperator, `{"name":"o","role":"admin","project":"A"}`, "project"},
		{catalog.KindOperator, `{"name":"o","role":"balancer","project":"a"}`, "project"},
		{catalog.KindOperator, `{"name":"o","role":"admin","token":"short"}`, "token"},
		{catalog.KindOperator, `{"name":"o","role":"admin","expires_at":"1969-12-31T23:59:59Z"}`, "expires_at"},
		{catalog.KindHold, `{}`, "target"},
		{catalog.KindHold, `{"target":"key/0"}`, "target"},
		{catalog.KindHold, `{"target":"key/x"}`, "target"},
		{catalog.KindHold, `{"target":"model/1"}`, "target"},
		{catalog.KindHold, `{"target":"provider/1/"}`, "target"},
		{catalog.KindHold, `{"target":"project/A"}`, "target"},
		{catalog.KindHold, `{"target":"key/999","until":"2001-01-01T00:00:00Z"}`, "until"},
		{catalog.KindHold, `{"target":"key/999","reason":"whim"}`, "reason"},
		{catalog.KindHold, `{"target":"key/999","reason":"budget"}`, "reason"},
		{catalog.KindHold, `{"target":"key/999","reason":"health"}`, "reason"},
		{catalog.KindKey, `{"name":"k","token":"short"}`, "token"},
		{catalog.KindKey, `{"name":"k","token":"with a space in it"}`, "token"},
		{catalog.KindKey, `{"name":"k","token":"0123456789abcdef","token_hashes":["` + catalog.HashToken("x") + `"]}`, "token_hashes"},
		{catalog.KindKey, `{"name":"k","token_hashes":["ABC"]}`, "token_hashes[0]"},
		{catalog.KindKey, `{"name":"k","token_hashes":"x"}`, "token_hashes"},
	}
	tables := newTables(t, nil)
	for _, tt := range tests {
		err := decodeAndCreate(t, tables, tt.kind, tt.body)
		var field *catalog.FieldError
		if !errors.Is(err, catalog.ErrInvalid) || !errors.As(err, &field) || field.Field != tt.field {
			t.Errorf("%s %.80s: %v; want an error about %s", tt.kind.Noun(), tt.body, err, tt.field)
		}
	}
}

func TestAllErrorsAreReportedAtOnce(t *testing.T) {
	err := decodeAndCreate(t, newTables(t, nil), catalog.KindProvider, `{"type":"nope","weight":5000000,"status":"on"}`)
	var fields catalog.FieldErrors
	if !errors.As(err, &fields) || len(fields) != 4 {
		t.Errorf("%v; want errors about status, name, type and weight", err)
	}
}

func TestErrorsNeverEchoValues(t *testing.T) {
	const secret = "SECRET-VALUE"
	tables := newTables(t, nil)
	for _, body := range []string{
		`{"name":"p","type":"` + secret + `"}`, `{"name":"p","type":"custom","base_url":"` + secret + `"}`, `{"` + secret + `":1}`,
		`{"name":"p","type":"openai","weight":"` + secret + `"}`, `{"api_key":"` + secret, secret, `{"name":"p","type":"openai","api_key":["` + secret + `"]}`,
		`{"name":"p","type":"openai","base_url":"https://user:` + secret + `@example.com"}`,
		`{"name":"p","type":"openai","base_url":"https://example.com/%zz` + secret + `"}`,
		`{"` + secret + `":1,"` + secret + `":2}`, `{"name":"p","type":"openai","labels":{"sk-live-` + secret + `":"\u0000"}}`,
		`{"name":"p","type":"openai","prices":{"` + secret + `":{"input_price":-1}}}`,
		`{"name":"p","type":"openai","options":{"` + secret + `":"\u0000"}}`,
	} {
		if err := decodeAndCreate(t, tables, catalog.KindProvider, body); err == nil ||
			strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", body, err)
		}
	}
	for _, body := range []string{`{"name":"k","token":"` + secret + ` x"}`, `{"name":"k","token_hashes":["` + secret + `"]}`, `{"name":"k","allow_ips":["` + secret + `"]}`} {
		if err := decodeAndCreate(t, tables, catalog.KindKey, body); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestMalformedBodies(t *testing.T) {
	for _, body := range []string{``, `x`, `[]`, `null`, `"a"`, `{`, `{"a":}`, `{"a":1}x`, `{"a":1}{}`, "{\"a\":\"\xff\"}", `{"a" 1}`} {
		if _, err := catalog.Decode[catalog.Model]([]byte(body)); !errors.Is(err, catalog.ErrMalformed) {
			t.Errorf("%q: %v, want ErrMalformed", body, err)
		}
	}
}

func TestUpstreamURLs(t *testing.T) {
	tests := []struct {
		url             string
		public, private bool // accepted without and with private upstreams
	}{
		{"https://api.openai.com/v1", true, true},
		{"https://api.openai.com:8443", true, true},
		{"https://8.8.8.8/", true, true},
		{"https://[2606:4700::1]/", true, true},
		{"http://api.openai.com/v1", false, true},
		{"https://localhost/v1", false, true},
		{"https://localhost./v1", false, true},
		{"https://a.localhost", false, true},
		{"https://metadata.google.internal", false, true},
		{"https://postgres", false, true},
		{"https://127.0.0.1", false, true},
		{"https://127.1", false, false},
		{"https://2130706433", false, false},
		{"https://0x7f.0.0.0x1", false, false},
		{"https://0177.0.0.1", false, false},
		{"https://10.1.2.3", false, true},
		{"https://172.16.0.1", false, true},
		{"https://192.168.1.1", false, true},
		{"https://169.254.169.254/latest", false, true},
		{"https://100.64.0.1", false, true},
		{"https://0.0.0.0", false, true},
		{"https://255.255.255.255", false, true},
		{"https://224.0.0.1", false, true},
		{"https://[::1]", false, true},
		{"https://[::]", false, true},
		{"https://[::ffff:127.0.0.1]", false, true},
		{"https://[::ffff:10.0.0.1]", false, true},
		{"https://[::127.0.0.1]", false, true},
		{"https://[64:ff9b::7f00:1]", false, true},
		{"https://[2002:7f00:1::]", false, true},
		{"https://[fe80::1]", false, true},
		{"https://[fe80::1%25eth0]", false, false},
		{"https://[fd00::1]", false, true},
		{"https://[2001:db8::1]", false, true},
		{"https://user@example.com", false, false},
		{"https://user:pw@example.com", false, false},
		{"https://example.com/?key=1", false, false},
		{"https://example.com/#f", false, false},
		{"https://example.com:0", false, false},
		{"https://example.com:99999", false, false},
		{"https://", false, false},
		{"https:example.com", false, false},
		{"ftp://example.com", false, false},
		{"file:///etc/passwd", false, false},
		{"example.com", false, false},
		{"https://exa mple.com", false, false},
	}
	public, private := newTables(t, nil), newTables(t, &catalog.Options{AllowPrivateUpstreams: true})
	for _, tt := range tests {
		p := catalog.Provider{Name: tt.url, Type: "custom", BaseURL: tt.url}
		if _, err := public.Providers.Create(t.Context(), p); (err == nil) != tt.public {
			t.Errorf("%s: %v; accepted should be %t", tt.url, err, tt.public)
		}
		if _, err := private.Providers.Create(t.Context(), p); (err == nil) != tt.private {
			t.Errorf("%s where private ones are allowed: %v; accepted should be %t", tt.url, err, tt.private)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"name":"p"}`, `{"labels":{"a":"b"}}`, `{"options":{"a":[1,{"b":null}]}}`, `{"token_hashes":["x"]}`, `{"input_price":"1e-3"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		check := func(err error) {
			if err != nil && !errors.Is(err, catalog.ErrInvalid) && !errors.Is(err, catalog.ErrMalformed) {
				t.Errorf("%q: %v is neither invalid nor malformed", body, err)
			}
		}
		_, err := catalog.Decode[catalog.Provider](body)
		check(err)
		_, err = catalog.Decode[catalog.Model](body)
		check(err)
		_, err = catalog.Decode[catalog.Key](body)
		check(err)
	})
}
