package storagetest_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/pgstore"
	"github.com/ez-api/ez-api/storage/sqlitestore"
)

// sample is an entity as somebody sends it, and what it must then show.
type sample struct {
	kind  catalog.Kind
	sent  map[string]any
	shown map[string]any // the fields that are not shown as they were sent
}

// scripts are names as people write them, one for each of some scripts.
func scripts() []string {
	return []string{
		"Team Blue — R&D <1>", "山田　太郎", "مدل\u200cهای زبانی", "क्\u200dष हिन्दी", "modèle\u00a0«\u202frapide\u202f»",
		"Команда № 7",
		"ทีมงาน", "한국어 모델", "Ελληνικά", "👨\u200d👩\u200d👧 ❤\ufe0f", "עברית", "ქართული", "it's \"x\" \\ {y} [1] %s $1 -- ;",
	}
}

// samples are 460 entities as price lists, other gateways and people have them.
func samples() (all []sample) {
	// Prices that went through floats: as sent, and as meant.
	prices := [][2]string{
		{"0.30000000000000004", "0.3"}, {"0.7999999999999999", "0.8"}, {"2.5", "2.5"}, {`"2.50"`, "2.5"}, {"1e-2", "0.01"}, {"0", "0"}, {"15.000000000000002", "15"},
		{"0.15", "0.15"}, {"6e-1", "0.6"}, {`"0.000000001"`, "0.000000001"}, {"1.25E1", "12.5"}, {"0.049999999999999996", "0.05"}, {"75.0", "75"}, {"1.0000000005", "1"}, {"1.0000000015", "1.000000002"},
	}
	wholes := [][2]any{{"2000000.0", 2_000_000}, {"2e6", 2_000_000}, {"128000", 128_000}, {"1.048576e6", 1_048_576},
		{"9007199254740991", 9007199254740991}}
	forms := []string{
		"gpt-4o-%d", "openai/gpt-4.1-%d", "bedrock/anthropic.claude-3-5-sonnet-2024%04d-v1:0", "ft:gpt-4o:acme::%d",
		"@cf/meta/llama-%d-instruct", "claude 3.5 sonnet %d", "vendor%d/*",
		"1024-x-1024/%d-steps/x", "模型-%d", "a.b.c-%d", "models/gemini-%d.5-pro", "accounts/x/models/y%d",
		"Qwen%d Coder (free)",
	}
	names := scripts()
	for i := range 20 {
		all = append(all, sample{catalog.KindProject, map[string]any{
			"name":   fmt.Sprintf("%sp_%d-x", []string{"", "p_0-x/"}[min(i, 1)], i),
			"models": []string{"gpt-*", names[i%len(names)]},
			"groups": []string{"группа", "default", "vip"}, "namespaces": []string{"eu-1", "default"},
			"rpm_limit": json.RawMessage("6e1"),
			"budgets": []map[string]any{{"limit": json.RawMessage(prices[i%len(prices)][0]), "window": "hour",
				"alert_at": []any{json.RawMessage("1e2"), 80}}},
		}, map[string]any{"rpm_limit": 60, "budgets": []any{map[string]any{"limit": prices[i%len(prices)][1],
			"window":   "hour",
			"timezone": "UTC", "action": "block", "alert_at": []any{80, 100}}}}})
		all = append(all, sample{catalog.KindOperator, map[string]any{
			"name": fmt.Sprint(names[i%len(names)], i), "role": catalog.OperatorRoles()[i%2], "project": "p_0-x",
			"expires_at": "2030-01-02T03:04:05.123456789+08:00",
		}, map[string]any{"expires_at": "2030-01-01T19:04:05.123456Z"}})
		all = append(all, sample{catalog.KindHold, map[string]any{
			"target": fmt.Sprintf("project/%sp_%d-x", []string{"", "p_0-x/"}[min(i, 1)], i), "message": names[i%len(names)],
			"until": "2100-01-02T03:04:05.123456789+08:00",
		}, map[string]any{"reason": "admin", "until": "2100-01-01T19:04:05.123456Z"}})
	}
	for i := range 200 {
		in, out, whole := prices[i%len(prices)], prices[(i+3)%len(prices)], wholes[i%len(wholes)]
		name := fmt.Sprintf(forms[i%len(forms)], i)
		all = append(all, sample{catalog.KindModel, map[string]any{
			"name": name, "namespace": []string{"default", "eu-1",
				"a_b"}[i%3], "labels": map[string]string{"who": names[i%len(names)]}, "kind": catalog.ModelKinds()[i%7],
			"input_price": json.RawMessage(in[0]), "output_price": json.RawMessage(out[0]), "request_price": json.RawMessage(
				in[0]),
			"context_window": json.RawMessage(whole[0].(string)), "supports_stream": i%2 == 0, "external_id": fmt.Sprint(
				names[i%len(names)], i),
			"price_tiers": []map[string]any{{"above_input_tokens": json.RawMessage("200000.0"),
				"input_price": json.RawMessage(out[0])}},
		}, map[string]any{
			"input_price": in[1], "output_price": out[1], "request_price": in[1], "context_window": whole[1],
			"cache_read_price": nil, "price_source": "manual",
			"price_tiers": []any{map[string]any{"above_input_tokens": 200_000, "input_price": out[1], "output_price": nil,
				"cache_read_price": nil, "cache_write_price": nil, "request_price": nil}},
		}})
	}
	for i := range 80 {
		in := prices[i%len(prices)]
		model := strings.ReplaceAll(fmt.Sprintf(forms[i%len(forms)], i), "/*", "/x")
		options := map[string]any{
			"exact": json.RawMessage("12345678901234567890"), "float": json.RawMessage("0.10"), "huge": json.RawMessage(
				"1e300"), "small": json.RawMessage("-4.9e-324"),
			"text": names[i%len(names)] + "\t\n\u2028<&>", "deep": []any{map[string]any{"a": []any{nil, true,
				"\u0001"}}}, "": "empty", "a.b": json.RawMessage("-0"),
		}
		if i == 0 {
			options = map[string]any{"big": strings.Repeat("1e300,é<", 6500)}
		}
		if i == 1 {
			var numbers []json.RawMessage
			for range 10_000 {
				numbers = append(numbers, json.RawMessage("1e300"))
			}
			options = map[string]any{"numbers": numbers} // 60 KB that a database may think are 3 MB
		}
		all = append(all, sample{catalog.KindProvider, map[string]any{
			"name": fmt.Sprint(names[i%len(names)], " ",
				i), "type": "compatible", "base_url": fmt.Sprintf("https://up-%d.example.com/v1", i),
			"api_key": fmt.Sprintf("  sk-0123456789-%04d\n", i),
			"models":  []string{model, "ft:*"}, "weight": []int{0, 1,
				1_000_000}[i%3], "priority": -i, "auto_ban": i%2 == 0, "options": options,
			"status": []string{"active", "disabled"}[i%2],
			"prices": map[string]any{model: map[string]any{"input_price": json.RawMessage(in[0])}},
		}, map[string]any{
			"api_key": nil, "api_key_hint": fmt.Sprintf("%04d", i),
			"prices": map[string]any{model: map[string]any{"input_price": in[1], "output_price": nil,
				"cache_read_price": nil, "cache_write_price": nil, "request_price": nil, "price_tiers": []any{}}},
		}})
	}
	for i := range 100 {
		all = append(all, sample{catalog.KindKey, map[string]any{
			"name": " " + names[i%len(names)] + "　", "group": []string{"default", "vip",
				"группа"}[i%3], "models": []string{fmt.Sprintf("gpt-%d", i), "bedrock/*", names[i%len(names)]},
			"namespaces": []string{"eu-1", "default"}, "scopes": []string{"read:*",
				"чтение"}, "allow_ips": []string{"10.1.2.3/8", "::ffff:192.0.2.1", "2001:DB8::1"},
			"rpm_limit":  json.RawMessage("6e1"),
			"expires_at": "2030-01-02T03:04:05.123456789+08:00", "project": "p_0-x",
			"budgets": []map[string]any{{
				"limit": json.RawMessage(prices[i%len(prices)][0]), "window": "total",
				"timezone": "America/Argentina/Buenos_Aires",
			}},
			"labels": map[string]string{"a/b": names[i%len(names)],
				strings.Join(strings.Fields(names[i%len(names)]), "_"): "x"},
		}, map[string]any{
			"name": names[i%len(names)], "allow_ips": []any{"10.0.0.0/8", "192.0.2.1",
				"2001:db8::1"}, "rpm_limit": 60, "default_namespace": "eu-1",
			"expires_at": "2030-01-01T19:04:05.123456Z", "budgets": []any{map[string]any{"limit": prices[i%len(prices)][1],
				"window": "total", "timezone": "America/Argentina/Buenos_Aires", "action": "block", "alert_at": []any{}}},
		}})
	}
	for i := range 20 { // to models that are there
		j := i * 3
		name := fmt.Sprintf(forms[j%len(forms)], j)
		all = append(all, sample{catalog.KindBinding, map[string]any{
			"model": name, "namespace": []string{"default", "eu-1",
				"a_b"}[j%3], "route_group": "グループ", "provider_group": "p",
			"selector_value": strings.Repeat("漢", 1000) + strings.Repeat("*", strings.Count(name, "*")), "weight": 0,
		}, nil})
	}
	return all
}

// valueEngines are the engines that the samples go through.
func valueEngines(t *testing.T) map[string]catalog.Store {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	file, err := sqlitestore.Open(filepath.Join(t.TempDir(), "ezapi.db"), &sqlitestore.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return map[string]catalog.Store{"memory": memstore.New(nil), "sqlite": file}
}

// Values come back as they went in: what is created is what is read, listed, found,
// patched with itself and published, alike on all engines.
func TestValues(t *testing.T) {
	for name, store := range valueEngines(t) {
		t.Run(name, func(t *testing.T) { testValues(t, store) })
	}
	t.Run("postgresql", func(t *testing.T) {
		store, err := pgstore.Open(t.Context(), pgtest.Pool(t), &pgstore.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		testValues(t, store)
	})
}

func testValues(t *testing.T, store catalog.Store) {
	plane, err := ezapi.New(ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing(),
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	all := samples()
	if len(all) != 460 {
		t.Fatalf("%d samples", len(all))
	}
	shown := map[catalog.Kind][]map[string]any{}
	for _, s := range all {
		var v map[string]any
		switch s.kind {
		case catalog.KindModel:
			v = goesThrough(t, plane.Models, s)
		case catalog.KindProvider:
			v = goesThrough(t, plane.Providers, s)
		case catalog.KindBinding:
			v = goesThrough(t, plane.Bindings, s)
		case catalog.KindKey:
			v = goesThrough(t, plane.Keys.Table, s)
		case catalog.KindProject:
			v = goesThrough(t, plane.Projects, s)
		case catalog.KindOperator:
			v = goesThrough(t, plane.Operators.Table, s)
		case catalog.KindHold:
			v = goesThrough(t, plane.Holds, s)
		default:
			t.Fatalf("%s go through nothing", s.kind)
		}
		shown[s.kind] = append(shown[s.kind], v)
	}
	for _, k := range catalog.Kinds() {
		if len(shown[k]) == 0 {
			t.Errorf("there is no sample of %s", k)
		}
	}
	isExported(t, plane, shown)
	isPublished(t, plane, shown)
}

// goesThrough creates what was sent, and returns what is shown of it.
func goesThrough[T catalog.Noun](t *testing.T, table catalog.Table[T], s sample) map[string]any {
	t.Helper()
	ctx := t.Context()
	sent := marshal(t, s.sent)
	v, err := catalog.Decode[T](sent)
	if err != nil {
		t.Fatalf("%.200s: %v", sent, err)
	}
	created, err := table.Create(ctx, v)
	if err != nil {
		t.Fatalf("%.200s: %v", sent, err)
	}
	id := table.Meta(created).ID
	shown := object(t, marshal(t, created))
	want := object(t, sent)
	for field, value := range s.shown {
		want[field] = object(t, marshal(t, map[string]any{"v": value}))["v"]
	}
	for field, value := range want {
		if diff := cmp.Diff(value, shown[field]); diff != "" {
			t.Errorf("%s of %.200s (-sent +shown):\n%s", field, sent, diff)
		}
	}

	read, err := table.Get(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shown, object(t, marshal(t, read))); diff != "" {
		t.Errorf("created and read %.200s (-created +read):\n%s", sent, diff)
	}
	listed, err := table.List(ctx, catalog.Query{IDs: []int64{id}})
	if err != nil || len(listed) != 1 || string(marshal(t, listed[0])) != string(marshal(t, read)) {
		t.Errorf("listed %d, %v", len(listed), err)
	}
	same, err := table.Patch(ctx, id, 0, marshal(t, read))
	if err != nil || table.Meta(same).Revision != table.Meta(read).Revision {
		t.Errorf("what was read is sent again: %v; revision %d of %d", err, table.Meta(same).Revision,
			table.Meta(read).Revision)
	}
	changed, err := table.Patch(ctx, id, 0, []byte(`{"labels":{"changed":"yes"}}`))
	if err != nil {
		t.Fatal(err)
	}
	back, err := table.Patch(ctx, id, table.Meta(changed).Revision, []byte(`{"labels":{"changed":null}}`))
	if err != nil {
		t.Fatal(err)
	}
	after := object(t, marshal(t, back))
	after["revision"], after["updated_at"] = shown["revision"], shown["updated_at"]
	if diff := cmp.Diff(shown, after); diff != "" {
		t.Errorf("patched and patched back (-before +after):\n%s", diff)
	}
	return shown
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// object reads an object; numbers keep their digits.
func object(t *testing.T, text []byte) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%.200s: %v", text, err)
	}
	return v
}
