package imports_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/imports"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
)

// What the New API exporter writes, with every trap that its files have.
const exporter = `{"version": "1.0.0", "source": {"type": "newapi"}, "warnings": [
  "Channel 'a' (ID=1) has priority=10 which is not supported in EZ-API", "Something else"],
"data": {
"providers": [
 {"original_id": 1, "name": "渠道 1", "type": "openai", "base_url": "https://gw.example.cn/", "api_key": "sk-one",
  "models": ["gpt-4.1", "gpt-4o"], "primary_group": "default", "all_groups": ["default", "v i p"], "weight": 10,
  "priority": 10, "status": "active", "auto_ban": true,
  "_original": {"type": 1, "weight": 0, "priority": -1, "model_mapping": "{\"gpt-4.1\": \"gpt-4.1-2025-04-14\"}", "tag": "prod",
   "header_override": "{\"Authorization\": \"sk-hidden\"}"}},
 {"original_id": 2, "name": "two-1", "original_name": "two", "type": "openai", "api_key": "sk-two-1", "models": ["gpt-4.1"],
  "primary_group": "default", "all_groups": ["default"], "weight": 5, "status": "active", "auto_ban": false,
  "multi_key_index": 1, "_original": {"type": 1, "weight": 5, "channel_info": {"multi_key_status_list": {"1": 2}}}},
 {"original_id": 2, "name": "two-2", "original_name": "two", "type": "openai", "api_key": "sk-two-2", "models": ["gpt-4.1"],
  "primary_group": "default", "all_groups": ["default"], "weight": 5, "status": "active", "auto_ban": false,
  "multi_key_index": 2, "_original": {"type": 1, "weight": 5, "channel_info": {"multi_key_status_list": {"1": 2}}}},
 {"original_id": 3, "name": "lines", "type": "deepseek", "api_key": "sk-a\r\n sk-b \n", "models": ["deepseek-chat"],
  "primary_group": "", "all_groups": [], "weight": 1, "status": "disabled"},
 {"original_id": 4, "name": "strange", "type": "custom", "api_key": "sk-x", "models": ["x1"], "all_groups": ["default"],
  "weight": 1, "status": "active", "_original": {"type": 999}},
 {"original_id": 5, "name": "azure", "type": "azure", "base_url": "https://acme.openai.azure.com", "api_key": "k",
  "models": ["gpt-4o"], "all_groups": ["default"], "weight": 1, "status": "active", "_original": {"type": 3, "other": "2024-10-21"}},
 {"original_id": 6, "name": "aws", "type": "aws", "api_key": "AKIA|SECRET|us-east-1", "models": ["claude"],
  "all_groups": ["default"], "weight": 1, "status": "active"},
 {"original_id": 7, "name": "vertex", "type": "vertex", "api_key": "{\"project_id\": \"acme-ml\",\n \"private_key\": \"x\"}",
  "models": ["claude"], "all_groups": ["default"], "weight": 1, "status": "active",
  "_original": {"type": 41, "other": "{\"default\": \"us-central1\"}"}}
],
"masters": [
 {"name": "用户1", "group": "v i p", "max_child_keys": 1, "global_qps": 3, "status": "active", "_source_user_id": 1},
 {"name": "USER.two", "group": "default", "max_child_keys": 10, "status": "suspended", "_source_user_id": 2}],
"keys": [
 {"master_ref": "用户1", "original_token": "0123456789abcdef", "group": "default", "status": "active", "scopes": ["chat:*"],
  "namespaces": ["default"], "model_limits_enabled": true, "model_limits": ["gpt-4.1", "claude-*"],
  "allow_ips": ["1.2.3.4\n2001:db8::/32, nonsense"], "quota_limit": 250000, "_original_id": 1, "_token_plaintext_available": true},
 {"master_ref": "用户1", "original_token": "sk-fedcba9876543210", "status": "active", "namespaces": [""],
  "model_limits": ["gpt-4.1"], "expires_at": "2027-12-28T13:20:00Z", "unlimited_quota": true, "_original_id": 2},
 {"master_ref": "USER.two", "original_token": "aaaaaaaaaaaaaaaa", "group": "auto", "status": "exhausted", "namespaces": ["auto"],
  "allow_ips": ["not-an-ip"], "quota_limit": -20, "_original_id": 3},
 {"master_ref": "nobody", "original_token": "hash", "status": "active", "_original_id": 4, "_token_plaintext_available": false}],
"bindings": [
 {"namespace": "default", "route_group": "default", "model": "gpt-4.1", "status": "active"},
 {"namespace": "default", "route_group": "default", "model": "gpt-4.1", "status": "disabled"},
 {"namespace": "default", "route_group": "default", "model": "gpt-4o", "status": "disabled"},
 {"namespace": "v i p", "route_group": "v i p", "model": "gpt-4.1", "status": "active"}]
}}`

// items returns what a result has of a kind, by a field.
func items(r *imports.Result, kind catalog.Kind, by string) map[string]map[string]any {
	all := map[string]map[string]any{}
	for _, item := range r.Set.Items[kind] {
		all[item.Text(by)] = item.Fields
	}
	return all
}

// readBack writes the file of an import, and reads it again as a user would.
func readBack(t *testing.T, r *imports.Result) *manifest.Set {
	t.Helper()
	var b bytes.Buffer
	if err := manifest.Write(&b, r.Set, r.Notes, false); err != nil {
		t.Fatal(err)
	}
	set, err := manifest.Parse([]manifest.Source{{Name: "imported.yaml", Text: b.Bytes()}}, &manifest.Options{
		Literals: true, Env: func(string) (string, bool) { return "set", true },
	})
	if err != nil {
		t.Fatalf("the file cannot be read: %v\n%s", err, &b)
	}
	for _, item := range set.Items[catalog.KindProvider] { // by the rule of production
		p := catalog.Provider{Name: "p", Type: item.Text("type"), BaseURL: item.Text("base_url")}
		if err := catalog.Check(&p, nil); err != nil && !strings.HasPrefix(p.BaseURL, "http://10.") {
			t.Errorf("provider %s: %v", item.Text("name"), err)
		}
	}
	if notes := set.Outside(); len(notes) > 0 {
		t.Errorf("the file refers to what it has not: %v", notes)
	}
	return set
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	secrets := cmp.Comparer(func(a, b catalog.Secret) bool { return a.Equal(b) })
	references := cmp.Comparer(func(a, b manifest.Reference) bool { return a == b })
	if diff := cmp.Diff(want, got, secrets, references); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

type object = map[string]any

// A key that could be used from no address there, because its list has none that is one, must not
// be one here that may be used from everywhere.
func TestKeysOfNoAddressAreDisabled(t *testing.T) {
	r, err := imports.NewAPI([]byte(`{"version": "1.0.0", "data": {"providers": [], "masters": [], "bindings": [], "keys": [
		{"original_token": "0123456789abcdef", "status": "active", "allow_ips": ["localhost, 10.0.0"], "_original_id": 1,
			"unlimited_quota": true},
		{"original_token": "fedcba9876543210", "status": "active", "allow_ips": [" "], "_original_id": 2,
			"unlimited_quota": true}]}}`), imports.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys := items(r, catalog.KindKey, "external_id")
	nowhere, everywhere := keys["new-api:token:1"], keys["new-api:token:2"]
	if nowhere["status"] != "disabled" || nowhere["allow_ips"] != nil || everywhere["status"] != nil {
		t.Errorf("imported %v and %v", nowhere, everywhere)
	}
	text := strings.Join(r.Notes, "\n")
	for _, want := range []string{"token 1: allows an address that is none", "token 1: allows no address that is one"} {
		if !strings.Contains(text, want) {
			t.Errorf("the notes do not say %q:\n%s", want, text)
		}
	}
}

func TestNewAPI(t *testing.T) {
	r, err := imports.NewAPI([]byte(exporter), imports.Options{Owner: "platform"})
	if err != nil {
		t.Fatal(err)
	}
	secret := catalog.NewSecret
	expect(t, "providers", items(r, catalog.KindProvider, "external_id"), map[string]map[string]any{
		"new-api:channel:1:default": {
			"external_id": "new-api:channel:1:default", "name": "渠道 1", "type": "openai", "base_url": "https://gw.example.cn/v1",
			"api_key": secret("sk-one"), "group": "default", "models": []any{"gpt-4.1-2025-04-14", "gpt-4o"},
			"priority": int64(-1),
			"labels":   object{"tag": "prod"},
		},
		"new-api:channel:1:v-i-p": {
			"external_id": "new-api:channel:1:v-i-p", "name": "渠道 1 @v-i-p", "type": "openai",
			"base_url": "https://gw.example.cn/v1", "api_key": secret("sk-one"), "group": "v-i-p",
			"models": []any{"gpt-4.1-2025-04-14", "gpt-4o"}, "priority": int64(-1), "labels": object{"tag": "prod"},
		},
		"new-api:channel:2:1:default": {
			"external_id": "new-api:channel:2:1:default", "name": "two #1", "type": "openai", "api_key": secret("sk-two-1"),
			"group": "default", "models": []any{"gpt-4.1"}, "weight": int64(5), "auto_ban": false,
		},
		"new-api:channel:2:2:default": {
			"external_id": "new-api:channel:2:2:default", "name": "two #2", "type": "openai", "api_key": secret("sk-two-2"),
			"group": "default", "models": []any{"gpt-4.1"}, "weight": int64(5), "auto_ban": false, "status": "disabled",
		},
		"new-api:channel:3:1:default": {
			"external_id": "new-api:channel:3:1:default", "name": "lines #1", "type": "compatible",
			"base_url": "https://api.deepseek.com/v1", "api_key": secret("sk-a"), "group": "default",
			"models": []any{"deepseek-chat"}, "status": "disabled",
		},
		"new-api:channel:3:2:default": {
			"external_id": "new-api:channel:3:2:default", "name": "lines #2", "type": "compatible",
			"base_url": "https://api.deepseek.com/v1", "api_key": secret("sk-b"), "group": "default",
			"models": []any{"deepseek-chat"}, "status": "disabled",
		},
		"new-api:channel:4:default": {
			"external_id": "new-api:channel:4:default", "name": "strange", "type": "custom",
			"base_url": "https://base-url.example.com",
			"api_key":  secret("sk-x"), "group": "default", "models": []any{"x1"}, "status": "disabled",
		},
		"new-api:channel:5:default": {
			"external_id": "new-api:channel:5:default", "name": "azure", "type": "azure",
			"base_url": "https://acme.openai.azure.com", "api_key": secret("k"), "group": "default", "models": []any{"gpt-4o"},
			"options": object{"api_version": "2024-10-21"},
		},
		"new-api:channel:6:default": {
			"external_id": "new-api:channel:6:default", "name": "aws", "type": "bedrock", "api_key": secret("AKIA|SECRET"),
			"group": "default", "models": []any{"claude"}, "options": object{"region": "us-east-1"},
		},
		"new-api:channel:7:default": {
			"external_id": "new-api:channel:7:default", "name": "vertex", "type": "vertex",
			"api_key": secret("{\"project_id\": \"acme-ml\",\n \"private_key\": \"x\"}"), "group": "default",
			"models": []any{"claude"}, "google_project": "acme-ml", "google_location": "us-central1",
		},
	})
	bindings := map[string]map[string]any{}
	for _, b := range r.Set.Items[catalog.KindBinding] {
		bindings[b.Text("namespace")+"."+b.Text("model")+" "+b.Text("route_group")] = b.Fields
	}
	expect(t, "a binding whose providers have two names for the model", bindings["default.gpt-4.1 default"], object{
		"namespace": "default", "model": "gpt-4.1", "route_group": "default", "selector_type": "regex",
		"selector_value": `gpt-4\.1|gpt-4\.1-2025-04-14`,
	})
	expect(t, "a binding by another name", bindings["v-i-p.gpt-4.1 v-i-p"], object{
		"namespace": "v-i-p", "model": "gpt-4.1", "route_group": "v-i-p", "selector_value": "gpt-4.1-2025-04-14",
	})
	expect(t, "a binding that is disabled there", bindings["default.gpt-4o default"], object{
		"namespace": "default", "model": "gpt-4o", "route_group": "default", "status": "disabled",
	})
	both := func(token string) []any {
		return []any{catalog.HashToken(token), catalog.HashToken("sk-" + token)}
	}
	keys := items(r, catalog.KindKey, "external_id")
	expect(t, "keys", keys, map[string]map[string]any{
		"new-api:token:1": {
			"external_id": "new-api:token:1", "name": "token 1", "token_hashes": both("0123456789abcdef"), "project": "user-1",
			"models": []any{"gpt-4.1", "claude-*"}, "allow_ips": []any{"1.2.3.4", "2001:db8::/32"}, "scopes": []any{"chat:*"},
			"budgets": []any{object{"limit": "0.5", "window": "total"}},
		},
		"new-api:token:2": {
			"external_id": "new-api:token:2", "name": "token 2", "token_hashes": both("fedcba9876543210"), "project": "user-1",
			"group": "v-i-p", "namespaces": []any{"v-i-p"}, "expires_at": "2027-12-28T13:20:00Z",
		},
		"new-api:token:3": {
			"external_id": "new-api:token:3", "name": "token 3", "token_hashes": both("aaaaaaaaaaaaaaaa"), "project": "user-two",
			"status": "disabled", "budgets": []any{object{"limit": "0", "window": "total"}},
		},
	})
	notes := strings.Join(r.Notes, "\n")
	for _, want := range []string{
		"channel 1: has header_override, which has no place here", "channel 1: has weight 0",
		"channel 4: has a type that is not known here",
		"channel 4: has no address", "token 1, 3: allows an address that is none", "token 3: allows no address that is one",
		"token 3: has group auto", "token 3: is exhausted there", "token 4: has no token in this source",
		"user 1: has more keys than max_child_keys allows", "group v i p: is called v-i-p now",
		"the exporter warns: Something else",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note says: %s\n%s", want, notes)
		}
	}
	for _, s := range []string{"sk-", "priority=10", "SECRET"} {
		if strings.Contains(notes, s) {
			t.Errorf("the notes have %s:\n%s", s, notes)
		}
	}
	readBack(t, r)
}

// database makes a New API database with the given channels and tokens.
func database(t *testing.T, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "new api?.db")
	db, err := sql.Open("sqlite", "file:"+strings.ReplaceAll(strings.ReplaceAll(path, "?", "%3f"), " ", "%20"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range append([]string{
		`create table channels(id integer primary key, type integer, key text, open_ai_organization text, status integer, name text,
			weight integer, base_url text, other text, models text, "group" text, model_mapping text, priority bigint,
			auto_ban integer, tag text, channel_info json, remark text)`,
		`create table abilities("group" text, model text, channel_id integer, enabled numeric)`,
		`create table users(id integer primary key, username text, status integer, "group" text, quota integer, deleted_at datetime)`,
		`create table tokens(id integer primary key, user_id integer, key char(48), status integer, name text, expired_time bigint,
			remain_quota integer, unlimited_quota numeric, model_limits_enabled numeric, model_limits text, allow_ips text,
			"group" text, deleted_at datetime)`,
	}, statements...) {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%v in %s", err, s)
		}
	}
	return path
}

func TestDatabase(t *testing.T) {
	path := database(t,
		`insert into channels values(1, 43, ' sk-a
			sk-b ', null, 1, '渠道', 0, '', '', 'deepseek-chat,deepseek-reasoner,', 'vip, default', null, 3, 0, 'prod',
			'{"multi_key_status_list": {"0": 3}}', '备注')`,
		`insert into abilities values('vip', 'deepseek-chat', 1, 1), ('default', 'deepseek-chat', 1, 1)`,
		`insert into users values(1, 'root', 1, 'vip', 1000000, null), (2, 'gone', 1, 'vip', 5, '2026-01-01')`,
		`insert into tokens values(1, 1, '0123456789abcdef', 1, '默认令牌', -1, 500000, 0, 0, 'ignored', '10.0.0.0/8', '', null),
			(2, 1, 'bbbbbbbbbbbbbbbb', 3, 't', 1830000000, 5, 1, 1, 'a,b', '', 'default', null),
			(3, 1, 'cccccccccccccccc', 1, 't', -1, 5, 1, 1, '', '', '', '2026-01-01'),
			(4, 9, 'dddddddddddddddd', 1, 't', -1, 5, 1, 1, '', '', '', null)`)
	r, err := imports.Database(t.Context(), path, imports.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range r.Set.Items[catalog.KindProvider] {
		if p.Fields["type"] != "compatible" || p.Fields["priority"] != int64(3) || p.Fields["auto_ban"] != false {
			t.Errorf("provider %v", p.Fields)
		}
		status := p.Text("status")
		names = append(names, p.Text("name")+"/"+p.Text("group")+"/"+status)
	}
	expect(t, "providers", names, []string{"渠道 #1/vip/disabled", "渠道 #2/vip/", "渠道 #1 @default/default/disabled",
		"渠道 #2 @default/default/"})
	keys := items(r, catalog.KindKey, "external_id")
	expect(t, "a key of its user's group", keys["new-api:token:1"], object{
		"external_id": "new-api:token:1", "name": "默认令牌", "project": "root", "group": "vip", "allow_ips": []any{"10.0.0.0/8"},
		"token_hashes": []any{catalog.HashToken("0123456789abcdef"), catalog.HashToken("sk-0123456789abcdef")},
		"budgets":      []any{object{"limit": "1", "window": "total"}},
	})
	if k := keys["new-api:token:2"]; k["expires_at"] != "2027-12-28T13:20:00Z" || k["status"] != "disabled" ||
		k["budgets"] != nil {
		t.Errorf("key %v", k)
	}
	if keys["new-api:token:3"] != nil || keys["new-api:token:4"]["project"] != nil {
		t.Errorf("keys %v", keys)
	}
	if n := len(r.Set.Items[catalog.KindModel]); n != 2 {
		t.Errorf("%d models", n)
	}
	readBack(t, r)
	if _, err := imports.Database(t.Context(), filepath.Join(t.TempDir(), "none"), imports.Options{}); err == nil {
		t.Error("a database that is not there is read")
	}
	if _, err := imports.Database(t.Context(), path, imports.Options{OneAPI: true}); err == nil ||
		!strings.Contains(err.Error(), "import new-api") {
		t.Errorf("a database of New API is read as one of one-api: %v", err)
	}
	one, err := imports.Database(t.Context(), database(t, `alter table channels drop column tag`,
		`alter table channels drop column channel_info`,
		`insert into channels(id, type, key, name, models, "group", weight, priority) values(1, 43, 'sk-a', 'c', 'm', 'vip', 9000000, -9000000)`),
		imports.Options{OneAPI: true})
	if err != nil {
		t.Fatal(err)
	}
	if p := one.Set.Items[catalog.KindProvider][0].Fields; p["weight"] != int64(1_000_000) ||
		p["priority"] != int64(-1_000_000) || strings.Count(strings.Join(one.Notes, "\n"),
		"beyond what one can be here") != 2 {
		t.Errorf("weights beyond the bounds: %v\n%v", p, one.Notes)
	}
	if p := one.Set.Items[catalog.KindProvider][0]; p.Fields["type"] != "custom" ||
		!strings.HasPrefix(p.Text("external_id"), "one-api:") {
		t.Errorf("type 43 of one-api: %v", p.Fields)
	}
}

const liteLLM = `
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, weight: 3}
    model_info: {mode: chat, max_input_tokens: 128000, supports_vision: true, id: abc}
  - model_name: gpt-4o
    litellm_params: {model: azure/gpt-4o-eu, api_base: https://eu.openai.azure.com/, api_key: literal, api_version: "2024-10-21", rpm: 60}
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY}
  - model_name: embed
    litellm_params: {model: text-embedding-3-small, api_key: os.environ/OPENAI_API_KEY, input_cost_per_token: 2.0e-8, timeout: 5}
    model_info: {mode: embedding}
  - model_name: anthropic/*
    litellm_params: {model: anthropic/*, api_key: os.environ/ANTHROPIC_API_KEY}
  - model_name: local
    litellm_params: {model: hosted_vllm/qwen, api_base: http://10.0.0.1:8000/v1}
  - model_name: odd-*
    litellm_params: {model: openai/*}
router_settings:
  model_group_alias: {gpt-4: gpt-4o}
  fallbacks: [{gpt-4o: [local]}]
general_settings: {master_key: sk-1234}
`

func TestLiteLLM(t *testing.T) {
	r, err := imports.LiteLLM([]byte(liteLLM), "platform")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "providers", items(r, catalog.KindProvider, "name"), map[string]map[string]any{
		"openai": {"external_id": "litellm:openai", "name": "openai", "group": "openai", "type": "openai",
			"api_key": manifest.Env("OPENAI_API_KEY"), "models": []any{"gpt-4o", "text-embedding-3-small"},
			"prices": object{"text-embedding-3-small": object{"input_price": "0.02"}}},
		"azure": {"external_id": "litellm:azure", "name": "azure", "group": "azure", "type": "azure",
			"base_url": "https://eu.openai.azure.com", "api_key": catalog.NewSecret("literal"), "models": []any{"gpt-4o-eu"},
			"options": object{"api_version": "2024-10-21"}},
		"openai-2": {"external_id": "litellm:openai-2", "name": "openai-2", "group": "openai-2", "type": "openai",
			"api_key": manifest.Env("OPENAI_API_KEY"), "models": []any{"gpt-4o-mini"}},
		"anthropic": {"external_id": "litellm:anthropic", "name": "anthropic", "group": "anthropic", "type": "anthropic",
			"api_key": manifest.Env("ANTHROPIC_API_KEY"), "models": []any{"*"}},
		"xinference": {"external_id": "litellm:xinference", "name": "xinference", "group": "xinference", "type": "compatible",
			"base_url": "http://10.0.0.1:8000/v1", "models": []any{"qwen"}},
	})
	expect(t, "models", items(r, catalog.KindModel, "name"), map[string]map[string]any{
		"gpt-4o": {"name": "gpt-4o", "context_window": int64(128000), "supports_vision": true},
		"embed":  {"name": "embed", "kind": "embedding"}, "anthropic/*": {"name": "anthropic/*"}, "local": {"name": "local"},
		"gpt-4": {"name": "gpt-4", "context_window": int64(128000), "supports_vision": true},
	})
	expect(t, "bindings", bindingsOf(r), []string{
		"anthropic/* anthropic *", "embed openai text-embedding-3-small", "gpt-4 azure gpt-4o-eu 0",
		"gpt-4 openai gpt-4o 3", "gpt-4 openai-2 gpt-4o-mini 0", "gpt-4o azure gpt-4o-eu 0",
		"gpt-4o openai gpt-4o 3", "gpt-4o openai-2 gpt-4o-mini 0", "local xinference qwen",
	})
	notes := strings.Join(r.Notes, "\n")
	for _, want := range []string{
		"router_settings.fallbacks is not imported: here a binding of lower priority",
		"general_settings.master_key is not imported",
		"model_list[3]: has timeout in litellm_params", "model_list[0]: has id in model_info",
		"model_list[6]: has no model_name",
		"model gpt-4o: has deployments without weight", "model gpt-4o: has rpm, which has no place here",
		"model_list[5]: has an address that a server takes only with EZ_ALLOW_PRIVATE_UPSTREAMS=true",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note says: %s\n%s", want, notes)
		}
	}
	if strings.Contains(notes, "sk-1234") {
		t.Error("a secret is in the notes")
	}
	readBack(t, r)
	for _, text := range []string{"", "a: [", "model_list: 5", "model_list: []"} {
		if _, err := imports.LiteLLM([]byte(text), ""); err == nil {
			t.Errorf("%q is a config.yaml", text)
		}
	}
}

// bindingsOf writes the bindings, sorted: the model, the group, what is selected, and the weight.
func bindingsOf(r *imports.Result) (lines []string) {
	for _, b := range r.Set.Items[catalog.KindBinding] {
		line := b.Text("model") + " " + b.Text("provider_group") + " " + b.Text("selector_value")
		if w, ok := b.Fields["weight"]; ok {
			line += fmt.Sprint(" ", w)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// LiteLLM draws among the deployments of a name by one measure.
func TestLiteLLMWeights(t *testing.T) {
	for params, want := range map[string][]string{
		"weight: 0;weight: 2":           {"m openai a 0", "m openai b 2"},
		"weight: 0;weight: 0":           {"m openai a 0", "m openai b 0"},
		"rpm: 600;weight: 2":            {"m openai a 0", "m openai b 2"},
		"rpm: 600;rpm: 200":             {"m openai a 600", "m openai b 200"},
		"tpm: 4000000;tpm: 1000000":     {"m openai a 1000000", "m openai b 250000"},
		"weight: 0.7;weight: 0.3":       {"m openai a 700", "m openai b 300"},
		"weight: 5;weight: -1":          {"m openai a 5", "m openai b 0"},
		`weight: "3";timeout: 1`:        {"m openai a 3", "m openai b 0"},
		"timeout: 1;timeout: 1":         {"m openai a", "m openai b"},
		"weight: 2000000;weight: 1.0e0": {"m openai a 1000000", "m openai b"},
	} {
		config := "model_list:\n"
		for i, p := range strings.Split(params, ";") {
			config += fmt.Sprintf("  - {model_name: m, litellm_params: {model: openai/%c, %s}}\n", 'a'+i, p)
		}
		r, err := imports.LiteLLM([]byte(config), "")
		if err != nil {
			t.Fatal(err)
		}
		got := bindingsOf(r)
		for i := range got { // each upstream model has a group of its own
			got[i] = strings.Replace(got[i], "openai-2", "openai", 1)
		}
		expect(t, params, got, want)
	}
}

// One element that is wrong is named, and holds up no other.
func TestLiteLLMNamesWhatIsWrong(t *testing.T) {
	r, err := imports.LiteLLM([]byte(`model_list:
  - 5
  - {model_name: none}
  - {model_name: text, litellm_params: sk-hidden}
  - {model_name: gpt-4o, litellm_params: {model: openai/gpt-4o, api_key: "os.environ/BAD NAME"}}
  - {model_name: there, litellm_params: {model: azure/there, api_base: os.environ/BASE, api_key: sk-1}}
  - {model_name: bad, litellm_params: {model: azure/bad, api_base: "https://user:pw@x.example.com", api_key: sk-2}}
`), "")
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(r.Notes, "\n")
	for _, want := range []string{
		"model_list[0]: in line 2 is no object", "model_list[1]: has no model_name", "model_list[2]: in line 4 is no object",
		"model_list[3]: has its credential in a variable", "model_list[4]: has an api_base that is read from the environment",
		"model_list[5]: has an address that cannot be one here",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note says: %s\n%s", want, notes)
		}
	}
	if strings.Contains(notes, "sk-") || strings.Contains(notes, "pw@") {
		t.Errorf("a secret is in the notes: %s", notes)
	}
	for _, p := range r.Set.Items[catalog.KindProvider] {
		if p.Text("type") == "azure" && (p.Text("status") != "disabled" ||
			p.Text("base_url") != "https://base-url.example.com") {
			t.Errorf("without an address: %v", p.Fields)
		}
	}
	readBack(t, r)
	_, err = imports.LiteLLM([]byte("model_list:\n  - a: [sk-hidden\n"), "")
	if err == nil || !strings.Contains(err.Error(), "line ") || strings.Contains(err.Error(), "sk-hidden") {
		t.Errorf("not YAML: %v", err)
	}
}

func FuzzImports(f *testing.F) {
	f.Add([]byte(exporter))
	f.Add([]byte(liteLLM))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := imports.NewAPI(text, imports.Options{})
		if err != nil && len(text) > 40 && strings.Contains(err.Error(), string(text[20:40])) {
			t.Errorf("the text is in the error: %v", err)
		}
		_, _ = imports.LiteLLM(text, "")
	})
}

// What could use nothing there can use nothing here.
func TestTokensThatCouldUseNothing(t *testing.T) {
	path := database(t,
		`insert into users values(1, 'root', 1, 'vip', 1000000, null), (2, 'gone', 1, 'vip', 5, '2026-01-01')`,
		`insert into tokens values(1, 1, '0123456789abcdef', 1, 'all models', -1, 5, 1, 0, 'ignored', '', '', null),
			(2, 1, 'bbbbbbbbbbbbbbbb', 1, 'no model', -1, 5, 1, 1, '', '', '', null),
			(3, 1, 'cccccccccccccccc', 1, 'no name that can be one here', -1, 5, 1, 1, 'a*b', '', '', null),
			(4, 2, 'dddddddddddddddd', 1, 'of a user who was deleted', -1, 5, 1, 0, '', '', '', null),
			(5, 9, 'eeeeeeeeeeeeeeee', 1, 'of nobody', -1, 5, 1, 0, '', '', '', null)`)
	r, err := imports.Database(t.Context(), path, imports.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys := items(r, catalog.KindKey, "external_id")
	for id := 1; id <= 5; id++ {
		want := any("disabled")
		if id == 1 {
			want = nil
		}
		if got := keys[fmt.Sprint("new-api:token:", id)]["status"]; got != want {
			t.Errorf("token %d has the status %v; want %v", id, got, want)
		}
	}
}

// Deployments that share an address and a credential, and differ in their prices of one model, keep their prices.
func TestLiteLLMPrices(t *testing.T) {
	r, err := imports.LiteLLM([]byte(`model_list:
  - {model_name: inner, litellm_params: {model: openai/gpt-4o, input_cost_per_token: 0}}
  - {model_name: outer, litellm_params: {model: openai/gpt-4o, input_cost_per_token: 2.5e-6},
     model_info: {input_cost_per_token: 1}}
  - {model_name: plain, litellm_params: {model: openai/gpt-4o}}
  - {model_name: again, litellm_params: {model: openai/gpt-4o, input_cost_per_token: 0.0000025}}
`), "")
	if err != nil {
		t.Fatal(err)
	}
	prices := map[string]any{}
	for _, p := range r.Set.Items[catalog.KindProvider] {
		prices[p.Text("name")] = p.Fields["prices"]
	}
	expect(t, "prices", prices, map[string]any{
		"openai": object{"gpt-4o": object{"input_price": "0"}}, "openai-2": object{"gpt-4o": object{"input_price": "2.5"}},
		"openai-3": nil,
	})
	expect(t, "bindings", bindingsOf(r), []string{"again openai-2 gpt-4o", "inner openai gpt-4o", "outer openai-2 gpt-4o",
		"plain openai-3 gpt-4o"})
}
