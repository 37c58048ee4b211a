package ctl_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

const gateway = `version: 1
owner: platform
providers:
  - name: openai-main
    type: openai
    api_key: !env OPENAI_API_KEY
    models: [gpt-4o, o3]
models:
  - name: gpt-4o
    input_price: 2.5
  - name: o3
bindings:
  - model: gpt-4o
keys:
  - external_id: alice
    name: 爱丽丝
`

func TestSync(t *testing.T) {
	b := newBench(t)
	b.env["OPENAI_API_KEY"] = "sk-0123456789abcdefgh"
	file, tokens := b.file("gateway.yaml", gateway), filepath.Join(b.dir, "tokens")

	out := b.must("diff", file)
	contains(t, out, "gateway.yaml against revision", "owner platform", "+ provider  openai-main", "+ key       爱丽丝",
		"5 to add, 0 to change, 0 to delete, 0 unchanged; 6 documents will change.")
	if strings.Contains(out, "sk-") {
		t.Errorf("a secret is in the diff:\n%s", out)
	}
	b.fails(2, "", "diff", "--exit-code", file)
	b.fails(1, "--tokens-out", "sync", file)
	out = b.must("sync", file, "--tokens-out", tokens, "--wait", "applied")
	contains(t, out, "5 to add", "done, as revision")
	var issued struct {
		ExternalID string `json:"external_id"`
		Token      string
	}
	text, err := os.ReadFile(tokens)
	if err == nil {
		err = json.Unmarshal(text, &issued)
	}
	if err != nil || issued.ExternalID != "alice" {
		t.Fatalf("tokens %s: %v", text, err)
	}
	key, err := b.plane.Keys.Authenticate(t.Context(), catalog.NewSecret(issued.Token))
	if err != nil || key.ExternalID != "alice" {
		t.Errorf("the token is that of %+v: %v", key, err)
	}
	contains(t, b.must("diff", "--exit-code", file), "nothing to do, 5 unchanged.")

	exported := filepath.Join(b.dir, "exported.yaml")
	b.must("export", "-o", exported, "--owner", "platform")
	contains(t, b.must("diff", "--exit-code", exported), "nothing to do, 5 unchanged.")
	contains(t, b.must("export"), "name: openai-main", "owner: platform")

	// another value, something less, and somebody else's
	b.must("create", "model", "name=theirs", "labels={owner: ops}")
	b.must("create", "model", "name=nobodys")
	changed := b.file("gateway.yaml", strings.NewReplacer("input_price: 2.5", "input_price: 3", "  - name: o3\n",
		"").Replace(gateway))
	out = b.run("diff", changed).out
	contains(t, out, "~ model     default.gpt-4o\n    input_price        \"2.5\" → \"3\"", "- model     default.o3",
		"! model     default.theirs         owner=ops: left alone",
		"0 to add, 1 to change, 1 to delete, 3 unchanged; 4 documents will change.")
	contains(t, b.must("diff", "--no-prune", changed), "0 to add, 1 to change, 0 to delete")
	plan := filepath.Join(b.dir, "plan.json")
	b.must("diff", changed, "--out", plan)
	b.must("edit", "provider", "openai-main", "priority=5")
	b.fails(4, "the plan has changed since it was made", "apply", "--plan", plan, changed)
	b.must("edit", "provider", "openai-main", "priority=0")
	b.must("diff", changed, "--out", plan)
	b.must("create", "model", "name=unrelated")
	contains(t, b.must("apply", "--plan", plan, changed), "done, as revision")
	contains(t, b.must("diff", "--exit-code", changed), "nothing to do")

	b.fails(4, "belongs to another owner", "apply",
		b.file("ops.yaml", "version: 1\nowner: platform\nmodels:\n- name: theirs\n"))
	b.fails(1, "sync deletes what the owner", "sync", b.file("nobody.yaml", "version: 1\nmodels: []\n"))
	b.fails(1, "gateway.yaml:3: bindings[0].model names no model", "diff",
		b.file("gateway.yaml", "version: 1\nbindings:\n- model: missing\n"))
}

// Two owners that sync at once never undo each other: each gets what it wants, or is told that
// nothing was done.
func TestTwoOwnersAtOnce(t *testing.T) {
	b := newBench(t)
	var both sync.WaitGroup
	for _, owner := range []string{"a", "b"} {
		both.Go(func() {
			for round := range 5 {
				file := b.file(owner+".yaml", fmt.Sprintf("version: 1\nowner: %s\nmodels:\n- {name: %s, max_output_tokens: "+
					"%d}\n- {name: %s-%d}\n",
					owner, owner, round+1, owner, round))
				for r := b.run("sync", file); r.code != 0; r = b.run("sync", file) {
					if r.code != 4 {
						t.Errorf("exit %d: %s", r.code, r.err)
						return
					}
				}
			}
		})
	}
	both.Wait()
	models := b.must("export", "--kind", "models")
	for _, owner := range []string{"a", "b"} {
		contains(t, models, "name: "+owner+"\n    max_output_tokens: 5", "name: "+owner+"-4")
		if strings.Contains(models, "name: "+owner+"-3") {
			t.Errorf("what %s does not want any more is there:\n%s", owner, models)
		}
	}
}

// A plan that was kept makes new keys, too.
func TestPlanWithNewKeys(t *testing.T) {
	b := newBench(t)
	file := b.file("keys.yaml", "version: 1\nowner: o\nkeys:\n- {external_id: a, name: a}\n- {external_id: b, name: "+
		"b, token_hashes: ['"+
		catalog.HashToken("imported")+"']}\n")
	plan, tokens := filepath.Join(b.dir, "plan.json"), filepath.Join(b.dir, "tokens")
	b.must("diff", file, "--out", plan)
	b.must("apply", "--plan", plan, file, "--tokens-out", tokens)
	if text, err := os.ReadFile(tokens); err != nil || strings.Count(string(text), "\n") != 1 {
		t.Errorf("tokens %s: %v", text, err)
	}
	if _, err := b.plane.Keys.Authenticate(t.Context(), catalog.NewSecret("imported")); err != nil {
		t.Error(err)
	}
	// what is refused leaves no tokens behind
	other := b.file("more.yaml", "version: 1\nowner: other\nkeys:\n- {external_id: a, name: a}\n- "+
		"{external_id: c, name: c}\n")
	b.fails(4, "belongs to another owner", "apply", other, "--tokens-out", filepath.Join(b.dir, "none"))
	if _, err := os.Stat(filepath.Join(b.dir, "none")); err == nil {
		t.Error("tokens that nobody knows are kept")
	}
}

func TestForce(t *testing.T) {
	b := newBench(t)
	var text strings.Builder
	text.WriteString("version: 1\nowner: o\nmodels:\n")
	for i := range 12 {
		text.WriteString("- name: m" + string(rune('a'+i)) + "\n")
	}
	b.must("sync", b.file("all.yaml", text.String()))
	none := b.file("none.yaml", "version: 1\nowner: o\nmodels: []\n")
	b.fails(4, "more than half of the models would be deleted; --force", "sync", none)
	contains(t, b.must("sync", none, "--force"), "12 to delete")
}

func TestAdoptAndRevert(t *testing.T) {
	b := newBench(t)
	b.must("create", "model", "name=m", "input_price=1")
	b.must("create", "key", "name=k", "external_id=k", "--tokens-out", filepath.Join(b.dir, "t"))
	file := b.file("g.yaml", "version: 1\nowner: platform\nmodels:\n- {name: m, input_price: 2}\n- {name: "+
		"new}\nkeys:\n- {external_id: k, name: other}\n")
	b.fails(4, "has no owner", "apply", file)
	out := b.must("adopt", file)
	contains(t, out, "~ model     default.m", "labels", "0 to add, 2 to change")
	if strings.Contains(out, "input_price") {
		t.Errorf("adopting changes more than the owner:\n%s", out)
	}
	contains(t, b.must("diff", file), "1 to add, 2 to change", `"1" → "2"`)
	b.must("apply", file)
	history := b.must("changes")
	var now struct{ Sync struct{ Revision int64 } }
	if err := json.Unmarshal([]byte(b.must("status", "-o", "json")), &now); err != nil {
		t.Fatal(err)
	}
	r := now.Sync.Revision
	contains(t, b.must("revert", "--undo", itoa(r), "--dry-run"), "- model     default.new", `"2" → "1"`)
	contains(t, b.must("revert", "--undo", itoa(r)), "done, as revision "+itoa(r+1))
	contains(t, b.must("diff", file), "1 to add, 2 to change")
	b.must("delete", "key", "k")
	b.fails(1, "--tokens-out", "revert", "--to", itoa(r+1))
	tokens := filepath.Join(b.dir, "again")
	contains(t, b.must("revert", "--to", itoa(r+1), "--tokens-out", tokens), "+ key       k")
	if text, err := os.ReadFile(tokens); err != nil || !strings.Contains(string(text), "ez-") {
		t.Errorf("tokens %s: %v\n%s", text, err, history)
	}
	b.fails(1, "", "revert")
	b.fails(1, "", "revert", "--to", "9999")
}

func itoa(n int64) string { return string(must(json.Marshal(n))) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPrices(t *testing.T) {
	b := newBench(t)
	b.must("create", "provider", "name=main", "type=openai", "models=[gpt-x, up-y, free, manual]")
	b.must("create", "provider", "name=other", "type=openai", "group=b", "models=[gpt-x]")
	for _, fields := range []string{"name=gpt-x", "name=y", "name=free", "name=unlisted"} {
		b.must("create", "model", fields)
	}
	b.must("create", "model", "name=manual", "input_price=7")
	b.must("create", "binding", "model=y", "selector_value=up-y")
	list := b.file("prices.json", `{
		"gpt-x": {"litellm_provider": "openai", "input_cost_per_token": 1.5000999999999998e-07, "output_cost_per_token": 8e-06,
			"input_cost_per_token_above_200k_tokens": 3e-07, "input_cost_per_audio_token": 1e-5},
		"up-y": {"litellm_provider": "openai", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
		"free": {"litellm_provider": "openai", "input_cost_per_token": 0, "output_cost_per_token": 0},
		"manual": {"litellm_provider": "openai", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
		"azure/gpt-x": {"litellm_provider": "azure", "input_cost_per_token": 9e-06, "output_cost_per_token": 2e-06}}`)
	import_ := []string{"prices", "import", "--from", list, "--map", "openai=main", "--map", "azure=other"}
	r := b.run(append(import_, "--dry-run")...)
	contains(t, r.out, "~ model     default.gpt-x", `null → "0.15001"`, "price_tiers", "~ model     default.y", "0 to add, 2 to change")
	contains(t, r.err, "model default.free: costs 0 by the list, which is only taken where free",
		"model default.manual: has prices that a person has set",
		"model default.gpt-x: costs something else at other", "input_cost_per_audio_token of the list has no place")
	b.must(import_...)
	out := b.must("get", "model", "gpt-x")
	contains(t, out, `input_price: "0.15001"`, "price_source: litellm", "above_input_tokens: 200000")
	contains(t, b.must("get", "model", "manual"), `input_price: "7"`, "price_source: manual")
	if r := b.run(import_...); r.code != 0 || !strings.Contains(r.out, "nothing to do") {
		t.Errorf("imported again: %+v", r)
	}
	contains(t, b.must(append(import_, "--accept-free")...), "~ model     default.free")
	b.fails(1, "--map names a provider that the list does not have: it has azure, openai", "prices", "import",
		"--from", list, "--map", "x=main")
	b.fails(1, "--from must be litellm, models.dev, or a file", "prices", "import", "--from", "nowhere", "--map",
		"openai=main")
}
