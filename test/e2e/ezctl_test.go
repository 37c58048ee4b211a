package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// A gateway is a control plane with its databases, a balancer, a stand-in for a provider, and a
// command line.
type gateway struct {
	upstream, balancer *process.Process
	env                []string
	dir                string
	documents          func() map[string]map[string]string // what is published, by kind and name
}

func startGateway(t *testing.T) *gateway {
	t.Helper()
	dsn, _ := process.Postgres(t)
	redisAddr, prefix, rdb := process.Redis(t)
	admin, syncKey := process.NewToken(), process.NewKey("s1")
	g := &gateway{dir: t.TempDir(), upstream: process.Start(t, "upstream", nil, "-key", upstreamKey)}
	server := process.Start(t, "server", []string{
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_PG_DSN=" + dsn, "EZ_REDIS_ADDR=" + redisAddr, "EZ_REDIS_PREFIX=" +
			prefix,
		"EZ_ADMIN_TOKEN=" + admin, "EZ_DB_KEYS=" + process.NewKey("k1"), "EZ_SYNC_KEYS=" +
			syncKey, "EZ_ALLOW_PRIVATE_UPSTREAMS=true",
	})
	g.balancer = process.StartBalancer(t, "EZ_REDIS_ADDR="+redisAddr, "EZ_REDIS_PREFIX="+prefix, "EZ_SYNC_KEYS="+syncKey,
		"EZ_LOGS_URL="+server.URL, "EZ_BALANCER_TOKEN="+admin)
	g.env = []string{
		"EZ_URL=" + server.URL, "EZ_TOKEN=" + admin, "OPENAI_API_KEY=sk-0123456789abcdef", "PATH=" + os.Getenv("PATH"),
	}
	g.documents = func() map[string]map[string]string { return publishedDocuments(t, rdb, prefix) }
	return g
}

func publishedDocuments(t *testing.T, rdb *redis.Client, prefix string) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	for _, kind := range []string{"projects", "providers", "models", "bindings", "keys"} {
		docs, err := rdb.HGetAll(t.Context(), "{"+prefix+"}:"+kind).Result()
		if err != nil {
			t.Fatal(err)
		}
		all[kind] = docs
	}
	return all
}

// ezctl runs a command line that has to end with an exit code, and returns what it prints.
func (g *gateway) ezctl(t *testing.T, code int, args ...string) (out string) {
	t.Helper()
	cmd := exec.Command("ezctl", args...)
	cmd.Env, cmd.Dir = g.env, g.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begun := time.Now()
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("ezctl %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, &stdout, &stderr)
	}
	t.Logf("ezctl %s took %s: %s", args[0], time.Since(begun).Round(time.Millisecond), lastLine(stderr.String()))
	return stdout.String()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func (g *gateway) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// revision returns the revision that the catalog is at.
func (g *gateway) revision(t *testing.T) string {
	t.Helper()
	var status struct {
		Sync struct{ Revision json.Number }
	}
	mustJSON(t, g.ezctl(t, 0, "status", "-o", "json"), &status)
	return status.Sync.Revision.String()
}

// An empty server becomes what the file of the documentation says, and says so itself; a bad edit is
// reverted, and everything that is published is byte for byte what it was.
func TestCatalogInFiles(t *testing.T) {
	g := startGateway(t)
	file := blockWith(t, readDocument(t, "docs/configuration.md"), "yaml", "owner: platform   ")
	g.write(t, "gateway.yaml", file)
	g.write(t, "secrets/vendor-b", "sk-vendor-b-0123456789\n")

	g.ezctl(t, 0, "validate", "gateway.yaml")
	if diff := g.ezctl(t, 2, "diff", "gateway.yaml", "--exit-code"); strings.Contains(diff, "sk-") ||
		!strings.Contains(diff, "+ project   acme/search") {
		t.Errorf("diff:\n%s", diff)
	}
	g.ezctl(t, 0, "sync", "gateway.yaml", "--wait", "applied", "--tokens-out", "tokens")
	g.ezctl(t, 0, "diff", "gateway.yaml", "--exit-code")
	g.ezctl(t, 0, "export", "--owner", "platform", "-o", "exported.yaml")
	g.ezctl(t, 0, "diff", "exported.yaml", "--exit-code")
	g.ezctl(t, 0, "export", "-o", "everything.json")
	g.ezctl(t, 0, "diff", "everything.json", "--exit-code")

	before, at := g.documents(), g.revision(t)
	if len(before["keys"]) != 1 || len(before["projects"]) != 2 || len(before["providers"]) != 2 {
		t.Fatalf("published: %v", before)
	}
	bad := strings.NewReplacer("input_price: 2.5 ", "input_price: 25", "weight: 3", "weight: 0", "rpm_limit: 600",
		"rpm_limit: 6",
		"  - model: gpt-4o                         # when pool-a has failed\n    provider_group: pool-b\n    "+
			"selector_value: gpt-4o-eu\n", "").
		Replace(file)
	g.write(t, "gateway.yaml", bad)
	g.ezctl(t, 0, "sync", "gateway.yaml", "--wait", "applied")
	if cmp.Equal(before, g.documents()) {
		t.Fatal("the bad edit has changed nothing")
	}
	g.ezctl(t, 0, "revert", "--to", at, "--wait", "applied")
	if diff := cmp.Diff(before, g.documents()); diff != "" {
		t.Errorf("published before (-) and after (+) the edit and its reversal:\n%s", diff)
	}
	g.write(t, "gateway.yaml", file)
	g.ezctl(t, 0, "diff", "gateway.yaml", "--exit-code")
	g.write(t, "other.yaml", "version: 1\nowner: ops\nmodels:\n- name: gpt-4o\n")
	g.ezctl(t, 4, "apply", "other.yaml")
}

// What a New API with many channels and tokens exports becomes one revision, and then nothing more. A
// token of it is taken with and without the prefix that it was stored without.
func TestLargeImport(t *testing.T) {
	channels, tokens := scaled(500, 5_000), scaled(5_000, 50_000)
	g := startGateway(t)
	g.write(t, "export.json", exportOf(channels, tokens, g.upstream.URL))
	g.ezctl(t, 0, "import", "new-api", "export.json", "-o", "gateway.yaml", "--owner", "migrated")
	out := g.ezctl(t, 0, "sync", "gateway.yaml", "--allow-literal-secrets", "--wait", "applied", "--timeout", "3m")
	if !strings.Contains(out, "as revision") {
		t.Errorf("sync:\n%s", out)
	}
	revision := g.revision(t)
	g.ezctl(t, 0, "import", "new-api", "export.json", "-o", "again.yaml", "--owner", "migrated")
	if out := g.ezctl(t, 0, "sync", "again.yaml", "--allow-literal-secrets"); !strings.Contains(out, "nothing to do") {
		t.Errorf("imported again:\n%s", out)
	}
	if again := g.revision(t); again != revision {
		t.Errorf("an empty plan has made a revision: %s after %s", again, revision)
	}
	for _, token := range []string{tokenOf(7), "sk-" + tokenOf(7)} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.balancer.URL+"/v1/chat/completions",
			strings.NewReader(`{"model": "large", "messages": [{"role": "user", "content": "hello"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("with %d characters of token: %d %s", len(token), answer.StatusCode, text)
		}
	}
}

func tokenOf(i int) string { return fmt.Sprintf("%048d", i) }

// exportOf makes a file of the New API exporter. One channel leads to the upstream.
func exportOf(channels, tokens int, upstream string) string {
	var data struct {
		Providers []object `json:"providers"`
		Masters   []object `json:"masters"`
		Keys      []object `json:"keys"`
		Bindings  []object `json:"bindings"`
	}
	for i := range channels {
		c := object{
			"original_id": i + 1, "name": fmt.Sprintf("渠道 %d", i+1), "type": "openai", "base_url": "https://gw.example.cn",
			"api_key": fmt.Sprintf("sk-%040d", i), "models": []string{fmt.Sprintf("m%d", i%50), fmt.Sprintf("m%d", (i+1)%50)},
			"primary_group": "default", "all_groups": []string{"default"}, "weight": 1, "status": "active", "auto_ban": true,
		}
		if i == 0 {
			c["type"], c["base_url"], c["api_key"], c["models"] = "custom", upstream+"/v1", upstreamKey, []string{"large"}
			c["_original"] = object{"type": 8, "model_mapping": `{"large": "mock-large-2026"}`}
		}
		data.Providers = append(data.Providers, c)
	}
	data.Masters = []object{{"name": "root", "group": "default", "status": "active", "_source_user_id": 1}}
	for i := range tokens {
		data.Keys = append(data.Keys, object{
			"master_ref": "root", "original_token": tokenOf(i), "group": "default", "status": "active",
			"namespaces":      []string{"default"},
			"unlimited_quota": true, "_original_id": i + 1, "_token_plaintext_available": true,
		})
	}
	data.Bindings = []object{{"namespace": "default", "route_group": "default", "model": "large", "status": "active"}}
	text, err := json.Marshal(object{"version": "1.0.0", "data": data})
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(text)
}
