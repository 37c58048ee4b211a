package clients

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/httpapi"
)

const token = "admin-token-0123456789abcdef0123456789"

// serve starts a control plane in memory, and returns where it is and a file with its
// OpenAPI document.
func serve(t *testing.T) (url, document string) {
	t.Helper()
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Close(context.Background()) })
	server := httptest.NewServer(httpapi.New(plane, httpapi.Tokens(httpapi.TokenList{Admin: []string{token}}), nil))
	t.Cleanup(server.Close)
	resp, err := http.Get(server.URL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	document = filepath.Join(t.TempDir(), "openapi.json")
	if err := os.WriteFile(document, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return server.URL, document
}

// run runs a program, and shows what it says when it fails.
func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// workspace returns a copy of a directory of testdata.
func workspace(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// packages returns a node_modules with what the lock file says. It is kept for the next
// run, under a name that changes with the lock file.
func packages(t *testing.T, from string) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Fatal("npm is missing, which the generated TypeScript clients need; test/integration.sh installs it")
	}
	lock, err := os.ReadFile(filepath.Join(from, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	sum := sha256.Sum256(lock)
	home := filepath.Join(cache, "ezapi-test-clients", hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(filepath.Join(home, "node_modules")); err == nil {
		return filepath.Join(home, "node_modules")
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o700); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(home), "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(fresh, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	run(t, fresh, nil, "npm", "ci", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts")
	if err := os.Rename(fresh, home); err != nil { // somebody else was faster
		if _, err := os.Stat(filepath.Join(home, "node_modules")); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(home, "node_modules")
}

func TestTypeScriptClients(t *testing.T) {
	url, document := serve(t)
	dir := workspace(t, "typescript")
	modules := packages(t, dir)
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(modules, ".bin")
	run(t, dir, nil, filepath.Join(bin, "openapi-typescript"), document, "-o", "api.d.ts")
	run(t, dir, []string{"EZ_OPENAPI=" + document}, filepath.Join(bin, "openapi-ts"), "--silent")
	run(t, dir, nil, filepath.Join(bin, "tsc"), "-p", ".")
	env := []string{"EZ_URL=" + url, "EZ_TOKEN=" + token}
	run(t, dir, env, "node", "out/fetch.js")
	run(t, dir, env, "node", "out/hey.js")
}

func TestGoClient(t *testing.T) {
	url, document := serve(t)
	dir := workspace(t, "oapi")
	if err := os.Mkdir(filepath.Join(dir, "client"), 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{"GOWORK=off", "GOFLAGS=-mod=readonly", "EZ_URL=" + url, "EZ_TOKEN=" + token}
	run(t, dir, env, "go", "tool", "oapi-codegen", "-generate", "types,client", "-package", "client",
		"-o", "client/client.gen.go", document)
	run(t, dir, env, "go", "run", ".")
}
