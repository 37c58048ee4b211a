package manifest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
)

// environment has one variable that is set, and one that is empty.
func environment(name string) (string, bool) {
	switch name {
	case "OPENAI_API_KEY":
		return "sk-from-the-environment\n", true
	case "EMPTY":
		return " ", true
	}
	return "", false
}

func parse(t *testing.T, text string) (*manifest.Set, error) {
	t.Helper()
	return manifest.Parse([]manifest.Source{{Name: "gateway.yaml", Text: []byte(text)}},
		&manifest.Options{Env: environment})
}

// body returns what /apply gets, as a tree.
func body(t *testing.T, s *manifest.Set) map[string]any {
	t.Helper()
	text, err := s.Body()
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

const whole = `
version: 1
owner: platform
x-prices: &cheap {input_price: 0.15, output_price: "0.6"}
defaults:
  providers: {group: pool-a, labels: {team: ml, tier: a}}
providers:
  - name: openai-main
    type: openai
    api_key: !env OPENAI_API_KEY
    models: [gpt-4o, "3.5"]
    labels: {tier: b}
    weight: 0x10
  - name: vendor-b
    type: azure
    base_url: https://vendor-b.example.com/openai
    api_key: {$file: secrets/vendor-b}
    group: pool-b
models:
  - name: gpt-4o
    <<: *cheap
    context_window: 128_000
    max_output_tokens: 1.6e4
bindings: []
keys:
  - external_id: alice
    name: 爱丽丝
    expires_at: 2030-01-31T12:00:00Z
    allow_ips: ~
`

func TestParse(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"secrets/vendor-b": "sk-from-a-file\n", "gateway.yaml": whole} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := manifest.Read([]string{dir}, &manifest.Options{Env: environment})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"providers": []any{
			map[string]any{
				"name": "openai-main", "type": "openai", "api_key": "sk-from-the-environment", "models": []any{"gpt-4o", "3.5"},
				"group": "pool-a", "labels": map[string]any{"team": "ml", "tier": "b"}, "weight": 16.0,
			},
			map[string]any{
				"name": "vendor-b", "type": "azure", "base_url": "https://vendor-b.example.com/openai",
				"api_key": "sk-from-a-file", "group": "pool-b", "labels": map[string]any{"team": "ml", "tier": "a"},
			},
		},
		"models": []any{map[string]any{
			"name": "gpt-4o", "input_price": 0.15, "output_price": "0.6", "context_window": 128000.0,
			"max_output_tokens": 16000.0,
		}},
		"bindings": []any{},
		"keys": []any{map[string]any{
			"external_id": "alice", "name": "爱丽丝", "expires_at": "2030-01-31T12:00:00Z", "allow_ips": nil,
		}},
	}
	if diff := cmp.Diff(want, body(t, set)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if set.Owner != "platform" || set.Len() != 4 {
		t.Errorf("owner %q, %d resources", set.Owner, set.Len())
	}
}

// What is wrong is named with file, line, field and remedy, and never with a value.
func TestProblems(t *testing.T) {
	const provider = "version: 1\nproviders:\n- name: p\n  type: openai\n"
	for name, tc := range map[string]struct{ text, want string }{
		"no version":      {"providers: []", "gateway.yaml:1: version is required; write version: 1 at the top"},
		"another version": {"version: 2", "gateway.yaml:1: version must be 1"},
		"empty":           {"", "gateway.yaml: is empty"},
		"a list":          {"- a", "gateway.yaml:1: must be an object"},
		"no YAML":         {"version: 1\na: b: c", "gateway.yaml:2: is not valid YAML: a colon within a value"},
		"two documents":   {"version: 1\n---\nversion: 1", "must be one document"},
		"unknown kind": {"version: 1\nprovider: []",
			"gateway.yaml:2: provider means nothing here; is providers meant?"},
		"kind without list": {"version: 1\nkeys:", "gateway.yaml:2: keys must be a list; write [] for an empty one"},
		"kind twice":        {"version: 1\nkeys: []\nkeys: []", "occurs twice"},
		"unknown field": {provider + "  base_ur: x",
			"gateway.yaml:5: providers[0].base_ur is not a field of a provider; is base_url meant?"},
		"unknown deep field": {provider + "  prices:\n    gpt-4o:\n      inputprice: 1",
			"gateway.yaml:7: providers[0].prices.gpt-4o.inputprice is not a field"},
		"wrong type": {provider + "  weight: many", "gateway.yaml:5: providers[0].weight must be a whole number"},
		"unquoted": {provider + "  models: [gpt-4o, 3.5]",
			"gateway.yaml:5: providers[0].models[1] must be a string; write it in quotes"},
		"wrong value": {provider + "  base_url: ftp://example.com", "gateway.yaml:5: providers[0].base_url must be"},
		"literal secret": {provider + "  api_key: sk-literal",
			"gateway.yaml:5: providers[0].api_key must not stand in the file: write !env NAME"},
		"unset variable": {provider + "  api_key: !env UNSET",
			"gateway.yaml:5: providers[0].api_key needs the variable UNSET, which is not set"},
		"empty variable": {provider + "  api_key: !env EMPTY", "needs the variable EMPTY, which is empty"},
		"no variable":    {provider + "  api_key: !env sk-0123456789", "must name a variable of letters, digits and _"},
		"missing file":   {provider + "  api_key: !file nowhere", "names a file that cannot be opened"},
		"secret elsewhere": {provider + "  labels: {a: !env OPENAI_API_KEY}",
			"gateway.yaml:5: providers[0].labels must not be read with !env or !file"},
		"secret as default": {"version: 1\ndefaults: {providers: {api_key: !env OPENAI_API_KEY}}\nproviders: []",
			"must not be a default"},
		"unknown tag": {provider + "  group: !vault x",
			"gateway.yaml:5: providers[0].group has a tag that means nothing here"},
		"twice": {provider + "- name: p\n  type: openai",
			"gateway.yaml:5: providers[1] is there already, at gateway.yaml:3"},
		"key without id": {"version: 1\nkeys:\n- name: k", "gateway.yaml:3: keys[0].external_id is required"},
		"unknown anchor": {"version: 1\nkeys: *a", "names an anchor (*name) that does not stand before it"},
		"bad default": {"version: 1\ndefaults: {keys: {grup: a}}\nkeys: []",
			"gateway.yaml:2: defaults.keys.grup is not a field of a key; is group meant?"},
		"bad kind default": {"version: 1\ndefaults: {key: {}}\nkeys: []",
			"gateway.yaml:2: defaults.key is no kind; is keys meant?"},
		"infinite":           {provider + "  weight: .inf", "must be a number in decimal digits"},
		"merge of no object": {provider + "  <<: [1]", "must merge (<<) only objects"},
		"not UTF-8":          {"version: 1\nowner: \xff", "must be UTF-8"},
		"nested": {provider + "  options: " + strings.Repeat("[", 60) + strings.Repeat("]", 60),
			"must be nested at most 40 deep"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, tc.text)
			if !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
			if err != nil && (strings.Contains(err.Error(), "sk-") || strings.Contains(err.Error(), "many")) {
				t.Errorf("a value is in the error: %v", err)
			}
		})
	}
}

// Errors of the server are shown where the file has what they are about.
func TestLocate(t *testing.T) {
	set, err := parse(t, "version: 1\nproviders: []\nbindings:\n- model: a\n- model: b\n  weight: 3\n  "+
		"selector_value:\n    x\n")
	if err != nil {
		t.Fatal(err)
	}
	err = set.Locate(catalog.FieldErrors{
		{Field: "bindings[1].selector_value", Message: "is wrong"}, {Field: "bindings[0]", Message: "is odd"},
		{Field: "bindings[1].labels.x", Message: "is absent"},
	})
	want := "gateway.yaml:7: bindings[1].selector_value is wrong\ngateway.yaml:4: bindings[0] is odd\n" +
		"gateway.yaml:5: bindings[1].labels.x is absent"
	if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	other := errors.New("other")
	if got := set.Locate(other); got != other {
		t.Errorf("another error became %v", got)
	}
}

func TestOutside(t *testing.T) {
	set, err := parse(t, "version: 1\nmodels:\n- {name: a}\nbindings:\n- {model: a}\n- {model: a, namespace: x}\n"+
		"projects:\n- {name: p}\n- {name: p/q}\n- {name: r/s}\nkeys:\n- {external_id: k, name: k, project: p/q}\n"+
		"- {external_id: l, name: l, project: z}\n")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range set.Outside() {
		got = append(got, n.Error())
	}
	want := []string{
		"gateway.yaml:10: projects[2].name needs a project that is in none of the files, and has to exist already",
		"gateway.yaml:6: bindings[1].model needs a model that is in none of the files, and has to exist already",
		"gateway.yaml:13: keys[1].project needs a project that is in none of the files, and has to exist already",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outside (-want +got):\n%s", diff)
	}
	_, err = manifest.Parse([]manifest.Source{{Name: "f",
		Text: []byte("version: 1\nproviders:\n- {name: p, type: openai, api_key: !env NO}")}},
		&manifest.Options{WithoutSecrets: true})
	if err != nil {
		t.Errorf("without secrets: %v", err)
	}
}

// Aliases that stand for other aliases end at a bound, soon.
func TestAliasBomb(t *testing.T) {
	for levels, want := range map[int]string{10: "aliases may stand for", 30: "must be nested at most"} {
		var b strings.Builder
		b.WriteString("version: 1\nx-0: &a0 [x]\n")
		for i := range levels {
			ten := strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", ")
			fmt.Fprintf(&b, "x-%d: &a%d [%s]\n", i+1, i+1, ten)
		}
		fmt.Fprintf(&b, "providers:\n- name: p\n  type: openai\n  options: {a: *a%d}\n", levels)
		if _, err := parse(t, b.String()+"- name: q\n"); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("a bomb of %d levels: %v", levels, err)
		}
	}
	_, err := parse(t, "version: 1\nkeys: &k [*k]\n")
	if err == nil {
		t.Error("an anchor that contains itself is read")
	}
	if _, err = parse(t, "version: 1\nowner: ["+strings.Repeat("1,", 4_200_000)+"1]"); err == nil ||
		!strings.Contains(err.Error(), "too many values") {
		t.Errorf("too many values: %v", err)
	}
}

// What was written is read as it was, in both forms.
func TestWrite(t *testing.T) {
	set := &manifest.Set{Owner: "platform", Items: map[catalog.Kind][]manifest.Item{
		catalog.KindProvider: {{Fields: map[string]any{
			"type": "openai", "name": "yes", "api_key": manifest.Env("OPENAI_API_KEY"), "weight": 0, "labels": map[string]any{
				"a": "1", "b": "null", "c": "2030-01-01", "d": "x: y", "e": "# no comment", "f": "爱", "g": "0x10", "h": "~",
			}, "models": []string{"true", "1.5", "*", "a/b"}, "options": map[string]any{"n": json.Number("1.50"), "o": nil},
		}}},
		catalog.KindModel: {},
	}}
	for _, asJSON := range []bool{false, true} {
		var b bytes.Buffer
		if err := manifest.Write(&b, set, []string{"first", "second"}, asJSON); err != nil {
			t.Fatal(err)
		}
		again, err := parse(t, b.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, &b)
		}
		want := map[string]any{"models": []any{}, "providers": []any{map[string]any{
			"type": "openai", "name": "yes", "api_key": "sk-from-the-environment", "weight": 0.0, "labels": map[string]any{
				"a": "1", "b": "null", "c": "2030-01-01", "d": "x: y", "e": "# no comment", "f": "爱", "g": "0x10", "h": "~",
			}, "models": []any{"true", "1.5", "*", "a/b"}, "options": map[string]any{"n": 1.5, "o": nil},
		}}}
		if diff := cmp.Diff(want, body(t, again)); diff != "" {
			t.Errorf("read again (-want +got):\n%s\n%s", diff, &b)
		}
	}
}

func TestParseFields(t *testing.T) {
	opts := &manifest.Options{Env: environment}
	got, err := manifest.ParseFields(catalog.KindProvider,
		[]string{"name=123", "api_key=!env OPENAI_API_KEY", "models=[a, b]",
			"weight=2", "base_url=null", "labels={a: b}"}, opts)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"name": "123", "api_key": catalog.NewSecret("sk-from-the-environment"),
		"models": []any{"a", "b"},
		"weight": json.Number("2"), "base_url": nil, "labels": map[string]any{"a": "b"}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b catalog.Secret) bool { return a.Equal(b) })); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	for _, arg := range []string{"x", "=x", "nam=x", "models=[", "api_key=sk-literal"} {
		if _, err := manifest.ParseFields(catalog.KindProvider, []string{arg}, opts); err == nil {
			t.Errorf("%s is read", arg)
		}
	}
}

// A resource as the API shows it becomes what a person would have written.
func TestTidy(t *testing.T) {
	shown := map[string]any{
		"id": json.Number("3"), "name": "p", "type": "openai", "group": "default", "models": []any{},
		"weight":   json.Number("1"),
		"priority": json.Number("0"), "auto_ban": true, "api_key_hint": "abcd", "status": "active",
		"revision": json.Number("9"),
		"options":  map[string]any{"a": nil, "b": []any{}}, "labels": map[string]any{},
		"prices": map[string]any{"m": map[string]any{"input_price": "0", "output_price": nil, "price_tiers": []any{
			map[string]any{"above_input_tokens": json.Number("5"), "input_price": "1", "output_price": nil},
		}}},
	}
	want := map[string]any{
		"name": "p", "type": "openai", "options": map[string]any{"a": nil, "b": []any{}},
		"prices": map[string]any{"m": map[string]any{"input_price": "0", "price_tiers": []any{
			map[string]any{"above_input_tokens": json.Number("5"), "input_price": "1"},
		}}},
	}
	if diff := cmp.Diff(want, manifest.Tidy(catalog.KindProvider, shown)); diff != "" {
		t.Errorf("provider (-want +got):\n%s", diff)
	}
	key := manifest.Tidy(catalog.KindKey, map[string]any{
		"id": json.Number("3"), "name": "k", "namespaces": []any{"default"}, "default_namespace": "default",
		"budgets": []any{map[string]any{
			"limit": "5", "window": "day", "timezone": "UTC", "action": "block", "alert_at": []any{},
		}},
	})
	if diff := cmp.Diff(map[string]any{
		"id": json.Number("3"), "name": "k", "budgets": []any{map[string]any{"limit": "5", "window": "day"}},
	}, key); diff != "" {
		t.Errorf("key (-want +got):\n%s", diff)
	}
}

// A model may be called as the key that names a secret in JSON.
func TestNamesLikeThoseOfSecrets(t *testing.T) {
	for _, name := range []string{"$env", "$file"} {
		set := &manifest.Set{Items: map[catalog.Kind][]manifest.Item{catalog.KindProvider: {{Fields: map[string]any{
			"name": "p", "type": "openai", "prices": map[string]any{name: map[string]any{"input_price": "1"}},
		}}}}}
		for _, asJSON := range []bool{false, true} {
			var b strings.Builder
			if err := manifest.Write(&b, set, nil, asJSON); err != nil {
				t.Fatal(err)
			}
			if _, err := parse(t, b.String()); err != nil {
				t.Errorf("%v\n%s", err, &b)
			}
		}
	}
}

// A file may hold every noun that a desired state may have.
func TestKinds(t *testing.T) {
	if diff := cmp.Diff(catalog.DesiredKinds(), manifest.Kinds()); diff != "" {
		t.Errorf("kinds (-of a desired state +of a file):\n%s", diff)
	}
}

// The schema is for the files that are read: what is in one is in the other.
func TestSchema(t *testing.T) {
	text, err := manifest.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]any
		Defs       map[string]struct {
			Properties map[string]map[string]any
			Required   []string
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	for _, kind := range manifest.Kinds() {
		if schema.Properties[string(kind)] == nil || schema.Properties["defaults"] == nil {
			t.Errorf("the schema lacks %s", kind)
		}
		def := schema.Defs[kind.Noun()]
		if def.Properties["external_id"] == nil || def.Properties["created_at"] != nil || len(def.Required) == 0 {
			t.Errorf("the schema of %s: %v", kind, def)
		}
		for name, p := range def.Properties {
			if p["description"] == nil {
				t.Errorf("%s.%s has no description", kind, name)
			}
		}
	}
	if got := schema.Defs["provider"].Properties["weight"]; got["default"] != 1.0 || got["maximum"] != 1e6 {
		t.Errorf("weight: %v", got)
	}
}

// Files hold what a desired state may hold.
func TestEveryDesiredKindHasAPlace(t *testing.T) {
	if diff := cmp.Diff(catalog.DesiredKinds(), manifest.Kinds()); diff != "" {
		t.Errorf("kinds of a desired state (-) and of files (+):\n%s", diff)
	}
}
