package ctl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/logbuf"
)

const admin = "admin-token-0123456789abcdef0123456789"

// A bench is a server, and a command line that talks to it.
type bench struct {
	t     *testing.T
	plane *ezapi.Plane
	env   map[string]string
	dir   string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	plane, err := ezapi.New(ezapi.Config{AllowPrivateUpstreams: true})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(httpapi.New(plane, httpapi.Tokens(httpapi.TokenList{Admin: []string{admin}}), nil))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- plane.Run(ctx) }()
	t.Cleanup(func() {
		server.Close()
		cancel()
		<-done
		_ = plane.Close(context.Background())
	})
	return &bench{t, plane, map[string]string{"EZ_URL": server.URL, "EZ_TOKEN": admin}, t.TempDir()}
}

// A result is what a command line came to.
type result struct {
	code     int
	out, err string
}

// run runs a command line.
func (b *bench) run(args ...string) result { return b.runWith("", args...) }

func (b *bench) runWith(stdin string, args ...string) result {
	b.t.Helper()
	var out, errs bytes.Buffer
	code := ctl.Run(b.t.Context(), args, ctl.Streams{
		Env: func(name string) (string, bool) { v, ok := b.env[name]; return v, ok },
		In:  strings.NewReader(stdin), Out: &out, Err: &errs,
	})
	return result{code, out.String(), errs.String()}
}

// must runs a command line that has to succeed, and returns its output.
func (b *bench) must(args ...string) string {
	b.t.Helper()
	r := b.run(args...)
	if r.code != 0 {
		b.t.Fatalf("ezctl %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// fails runs a command line that has to fail with a code, and to say something.
func (b *bench) fails(code int, want string, args ...string) result {
	b.t.Helper()
	r := b.run(args...)
	if r.code != code || !strings.Contains(r.err, want) {
		b.t.Errorf("ezctl %s: exit %d, want %d and %q\n%s%s", strings.Join(args, " "), r.code, code, want, r.out, r.err)
	}
	return r
}

func (b *bench) file(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in\n%s", p, text)
		}
	}
}

func TestResources(t *testing.T) {
	b := newBench(t)
	b.env["OPENAI_API_KEY"] = "sk-0123456789abcdefgh"
	out := b.must("create", "provider", "name=openai-main", "type=openai", "api_key=!env OPENAI_API_KEY",
		"models=[gpt-4o, o3]")
	contains(t, out, "name: openai-main", "api_key_hint: efgh", "models: [gpt-4o, o3]")
	b.must("create", "model", "name=gpt-4o", "input_price=2.5", "--wait", "published")
	b.must("create", "model", "-f", b.file("model.yaml", "name: o3\nlabels: {team: a}\n"))
	tokens := filepath.Join(b.dir, "tokens")
	b.must("create", "key", "name=爱丽丝", "external_id=alice", "--tokens-out", tokens)
	text, err := os.ReadFile(tokens)
	if err != nil {
		t.Fatal(err)
	}
	var issued struct{ Name, Token string }
	if err := json.Unmarshal(text, &issued); err != nil || issued.Name != "爱丽丝" || !catalog.IsToken(issued.Token) {
		t.Fatalf("tokens %s: %v", text, err)
	}
	if info, err := os.Stat(tokens); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of tokens: %v %v", info, err)
	}
	if r := b.runWith(issued.Token+"\n", "lookup"); r.code != 0 || !strings.Contains(r.out, "external_id: alice") {
		t.Errorf("lookup: %+v", r)
	}
	b.fails(1, "names a file that exists", "create", "key", "name=b", "--tokens-out", tokens)
	b.fails(1, "--tokens-out", "create", "key", "name=b")

	table := b.must("get", "keys")
	lines := strings.Split(table, "\n")
	contains(t, lines[0], "ID  NAME    PROJECT  GROUP")
	contains(t, lines[1], "爱丽丝  -        default")
	contains(t, b.must("get", "models", "-l", "team=a"), "o3")
	if out := b.must("get", "models", "-l", "team=b"); strings.Contains(out, "o3") {
		t.Errorf("models of another label:\n%s", out)
	}
	var listed []map[string]any
	if err := json.Unmarshal([]byte(b.must("get", "providers", "-o", "json")), &listed); err != nil || len(listed) != 1 {
		t.Errorf("providers in JSON: %v, %v", listed, err)
	}
	contains(t, b.must("get", "model", "default.gpt-4o", "-o", "yaml"), `input_price: "2.5"`)

	b.must("edit", "key", "alice", "group=vip", "expires_at=2030-01-01T00:00:00Z")
	b.env["EDITOR"] = b.file("editor", "#!/bin/sh\nsed -i 's/^group: vip/group: gold/; /^expires_at/d' \"$1\"\n")
	if err := os.Chmod(b.env["EDITOR"], 0o700); err != nil {
		t.Fatal(err)
	}
	out = b.must("edit", "key", "alice")
	contains(t, out, "group: gold")
	if strings.Contains(out, "expires_at") {
		t.Errorf("a field that was removed is there:\n%s", out)
	}
	b.env["EDITOR"] = "true"
	if r := b.run("edit", "key", "alice"); r.code != 0 || !strings.Contains(r.err, "nothing was changed") {
		t.Errorf("an edit of nothing: %+v", r)
	}
	b.must("rotate", "key", "alice", "--grace", "1h", "--tokens-out", filepath.Join(b.dir, "rotated"))
	if r := b.runWith(issued.Token, "lookup"); r.code != 0 {
		t.Errorf("the old token within its grace: %+v", r)
	}
	b.fails(4, "", "edit", "model", "o3", "name=gpt-4o")
	b.fails(1, "no key has this id, external_id or name", "delete", "key", "nobody")
	contains(t, b.must("delete", "model", "o3"), "deleted")
	b.fails(1, "there is no kind of that name", "get", "things")
	contains(t, b.must("get", "providers", "openai-main", "-o", "json"), `"api_key_hint": "efgh"`)
}

func TestHoldsOfATarget(t *testing.T) {
	b := newBench(t)
	b.must("create", "provider", "name=p", "type=openai", "models=[m]")
	b.must("create", "key", "name=k", "--tokens-out", filepath.Join(b.dir, "tokens"))
	target := func(kind, noun string) string {
		var listed []struct{ ID json.Number }
		if err := json.Unmarshal([]byte(b.must("get", noun, "-o", "json")), &listed); err != nil || len(listed) != 1 {
			t.Fatalf("%s: %v, %v", noun, listed, err)
		}
		return kind + "/" + listed[0].ID.String()
	}
	key, provider := target("key", "keys"), target("provider", "providers")
	b.must("create", "hold", "target="+key)
	b.must("create", "hold", "target="+provider)
	for _, c := range []struct {
		arg   string
		shown map[string]bool
	}{
		{"--target=" + key, map[string]bool{key: true, provider: false}},
		{"--target=" + provider, map[string]bool{key: false, provider: true}},
		{"--reason=admin", map[string]bool{key: true, provider: true}},
		{"--reason=budget", map[string]bool{key: false, provider: false}},
	} {
		out := b.must("get", "holds", c.arg)
		for of, want := range c.shown {
			if strings.Contains(out, of) != want {
				t.Errorf("holds with %s; of %s %t is wanted:\n%s", c.arg, of, want, out)
			}
		}
	}
	b.fails(1, "target", "get", "holds", "--target=key")
}

func TestLooking(t *testing.T) {
	b := newBench(t)
	b.must("create", "provider", "name=p", "type=compatible", "base_url=https://p.example.com/v1", "models=[m]")
	b.must("create", "model", "name=m")
	b.must("create", "key", "name=k", "external_id=k", "--tokens-out", filepath.Join(b.dir, "t"), "--wait", "published")
	out := b.must("explain", "k", "m")
	contains(t, out, "can reach the model", "CHECK", "PROVIDER", "p")
	contains(t, b.must("explain", "k", "nothing"), "cannot reach the model")
	contains(t, b.must("explain", "k", "m", "-o", "json"), `"reachable": true`)
	contains(t, b.must("status"), "server     ok", "catalog    revision", "published  revision", "balancers  0 applied")
	contains(t, b.must("status", "-o", "yaml"), "sync:", "ready:")
	contains(t, b.must("changes"), "REVISION", "create", "provider", "key")
	contains(t, b.must("changes", "--kind", "models", "-o", "json"), `"kind": "models"`)

	cost := int64(1_500_000_000)
	if err := b.plane.Logs().Append(t.Context(), logbuf.Entry{
		ID: uuid.Must(uuid.NewV7()), Time: time.Now(), Namespace: "default", Model: "模型", Status: 429, Error: "too\nmany",
		KeyID:       9,
		InputTokens: 5, CostNanoUSD: &cost,
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	contains(t, b.must("logs", "--errors", "--since", "1h"), "429", "模型", "1.5", "too many")
	if out := b.must("logs", "--status", "200"); strings.Contains(out, "429") {
		t.Errorf("logs of another status:\n%s", out)
	}
	contains(t, b.must("usage", "--by", "model,key", "--interval", "month"), "模型", "9", "1.5")
	b.fails(1, "--since must be a time", "logs", "--since", "soon")
	b.fails(1, "group_by", "usage", "--by", "colour")
}

func TestFollow(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out := &watched{want: "followed", found: cancel}
	append1 := func() {
		for ctx.Err() == nil {
			_ = b.plane.Logs().Append(ctx, logbuf.Entry{ID: uuid.Must(uuid.NewV7()), Time: time.Now(), Namespace: "default",
				Model: "followed", Status: 200})
			_ = b.plane.Logs().Flush(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	go append1()
	var errs bytes.Buffer
	code := ctl.Run(ctx, []string{"logs", "--follow"}, ctl.Streams{
		Env: func(name string) (string, bool) { v, ok := b.env[name]; return v, ok }, In: strings.NewReader(""), Out: out,
		Err: &errs,
	})
	if code != 0 || out.found != nil {
		t.Errorf("exit %d, %s", code, &errs)
	}
}

// watched calls found when a text was written.
type watched struct {
	want  string
	found func()
	text  strings.Builder
}

func (w *watched) Write(p []byte) (int, error) {
	w.text.Write(p)
	if w.found != nil && strings.Contains(w.text.String(), w.want) {
		w.found()
		w.found = nil
	}
	return len(p), nil
}

func TestUsageErrors(t *testing.T) {
	b := newBench(t)
	b.fails(1, "unexpected argument", "nothing")
	b.fails(1, "--output must be one of", "get", "keys", "-o", "xml")
	b.env["EZ_TOKEN"] = "nobody's"
	b.fails(1, "does not know the token", "get", "keys")
	b.env["EZ_TOKEN"] = ""
	b.fails(1, "EZ_TOKEN or EZ_TOKEN_FILE must be set", "get", "keys")
	b.env["EZ_TOKEN_FILE"] = b.file("token", admin+"\n")
	b.must("get", "keys")
	b.env["EZ_TOKEN"] = admin
	b.fails(1, "must not be set both", "get", "keys")
	delete(b.env, "EZ_TOKEN_FILE")
	b.env["EZ_URL"] = "http://127.0.0.1:1"
	if r := b.fails(1, "http://127.0.0.1:1 cannot be reached", "get", "keys"); strings.Contains(r.err, admin) {
		t.Errorf("the token is in the error: %s", r.err)
	}
	b.fails(1, "EZ_URL must be an http or https URL", "get", "keys", "--url", "nowhere")
	if out := b.must("--help"); !strings.Contains(out, "Exit codes") {
		t.Errorf("help:\n%s", out)
	}
}

func TestFilesWithoutServer(t *testing.T) {
	b := newBench(t)
	delete(b.env, "EZ_TOKEN")
	good := b.file("good.yaml", "version: 1\nmodels:\n- name: m\nbindings:\n- model: n\n")
	r := b.run("validate", good)
	if r.code != 0 || !strings.Contains(r.out, "2 resources") ||
		!strings.Contains(r.err, "bindings[0].model needs a model that is in none") {
		t.Errorf("validate: %+v", r)
	}
	b.fails(1, "bad.yaml:3: models[0].nam is not a field of a model; is name meant?", "validate",
		b.file("bad.yaml", "version: 1\nmodels:\n- nam: m\n"))
	if r := b.runWith("version: 1\nkeys: []\n", "validate", "-"); r.code != 0 {
		t.Errorf("validate -: %+v", r)
	}
	if out := b.must("schema"); !json.Valid([]byte(out)) {
		t.Error("the schema is no JSON")
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		contains(t, b.must("completion", shell), "ezctl")
	}
}
