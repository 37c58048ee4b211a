package ctl_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl"
	"github.com/ez-api/ez-api/snapshot"
)

// The ids of another catalog name nothing here.
func TestAdoptTakesNoIDOfAnotherCatalog(t *testing.T) {
	b := newBench(t)
	b.must("create", "key", "name=k", "--tokens-out", filepath.Join(b.dir, "t"))
	key := must(b.plane.Keys.List(t.Context(), catalog.Query{}))[0]
	foreign := b.file("th.yaml", "version: 1\nowner: thief\nstore: 11111111-2222-3333-4444-555555555555\n"+
		"keys: [{id: "+itoa(key.ID)+", name: foreign}]\n")
	contains(t, b.must("adopt", foreign), "nothing that the files name")
	own := b.file("own.yaml", "version: 1\nowner: mine\nstore: "+
		must(b.plane.Plan(t.Context(), catalog.Desired{}, nil)).Store+"\nkeys: [{id: "+itoa(key.ID)+", name: k}]\n")
	contains(t, b.must("adopt", own), "1 to change")
	if got := must(b.plane.Keys.Get(t.Context(), key.ID)); got.Labels["owner"] != "mine" {
		t.Errorf("%+v", got)
	}
	if help := b.must("adopt", "--help"); strings.Contains(help, "--take-over") || strings.Contains(help, "--tokens-out") {
		t.Errorf("flags that mean nothing: %s", help)
	}
}

// A file that is written anew stays as it was until the new one is complete.
func TestExportReplacesItsFileAtTheEnd(t *testing.T) {
	b := newBench(t)
	b.must("create", "model", "name=m")
	file := b.file("e.yaml", "before")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code := ctl.Run(ctx, []string{"export", "-o", file}, ctl.Streams{Out: &strings.Builder{}, Err: &strings.Builder{},
		Env: func(name string) (string, bool) { v, ok := b.env[name]; return v, ok }})
	if text := must(os.ReadFile(file)); code == 0 || string(text) != "before" {
		t.Errorf("interrupted: exit %d, %s", code, text)
	}
	b.must("export", "-o", file)
	contains(t, string(must(os.ReadFile(file))), "name: m")
	b.fails(1, "", "export", "-o", "/dev/full")
	if left := must(filepath.Glob(filepath.Join(b.dir, ".*"))); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A command that is repeated because balancers lagged behind waits for them again.
func TestAnEmptyPlanWaitsToo(t *testing.T) {
	b := newBench(t)
	file := b.file("w.yaml", "version: 1\nowner: o\nmodels: [{name: m}]\n")
	node := snapshot.Node{ID: "slow", Kinds: snapshot.Kinds()}
	for {
		if _, err := b.plane.Publisher().Report(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		if nodes := must(b.plane.Publisher().Nodes(t.Context(), snapshot.NodeQuery{})); len(nodes.Nodes) == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.fails(3, "not applied everywhere", "sync", file, "--wait", "applied", "--timeout", "1s")
	r := b.fails(3, "not applied everywhere", "sync", file, "--wait", "applied", "--timeout", "1s")
	contains(t, r.out, "nothing to do")
	contains(t, b.must("sync", file, "--wait", "published"), "nothing to do")
}

// A file for tokens that holds none, or tokens that nobody knows, does not stay.
func TestTokenFilesAfterARefusal(t *testing.T) {
	b := newBench(t)
	b.must("create", "provider", "name=p", "type=openai")
	out := filepath.Join(b.dir, "tokens")
	for _, args := range [][]string{
		{"rotate", "key", "nosuch"}, {"rotate", "provider", "p"}, {"create", "key", "name=k", "project=nosuch"},
	} {
		b.fails(1, "", append(args, "--tokens-out", out)...)
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%v leaves its file", args)
		}
	}
	b.fails(1, "only keys and operators have", "rotate", "provider", "p", "--tokens-out", out)
	b.must("create", "key", "name=k", "external_id=k", "--tokens-out", out)
	contains(t, string(must(os.ReadFile(out))), `"token"`)
}

// An import writes all or nothing, and can be repeated.
func TestImportAgain(t *testing.T) {
	b := newBench(t)
	config := b.file("config.yaml", "model_list:\n"+
		"  - {model_name: a, litellm_params: {model: openai/a, api_key: sk-one}}\n"+
		"  - {model_name: b, litellm_params: {model: openai/b, api_key: sk-two}}\n")
	out, secrets := filepath.Join(b.dir, "gw.yaml"), filepath.Join(b.dir, "secrets")
	existing := b.file("existing.yaml", "x")
	b.fails(1, "exists; remove it", "import", "litellm", config, "-o", existing, "--secrets-dir", secrets)
	if _, err := os.Stat(secrets); err == nil {
		t.Error("secrets were written for a file that was not")
	}
	for range 2 {
		b.must("import", "litellm", config, "-o", out, "--secrets-dir", secrets)
		if err := os.Remove(out); err != nil {
			t.Fatal(err)
		}
	}
	b.file("secrets/litellm-openai-2.key", "sk-another\n")
	b.fails(1, "--secrets-dir has litellm-openai-2.key already", "import", "litellm", config, "-o", out,
		"--secrets-dir", secrets)

	dump := b.file("dump.json", `{"version": "1.0.0", "source": {"type": "newapi"}, "data": {"providers": [{"original_id": 1,
		"name": "c", "type": "openai", "api_key": "sk-x", "models": ["m"], "all_groups": ["v.1", "v-1"], "weight": 1, "status": "active"}]}}`)
	secrets = filepath.Join(b.dir, "more")
	b.must("import", "new-api", dump, "-o", out, "--secrets-dir", secrets)
	if files := must(os.ReadDir(secrets)); len(files) != 2 {
		t.Errorf("groups whose names look the same in a path: %v", files)
	}
	b.must("validate", out)
}
