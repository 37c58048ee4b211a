package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
	"github.com/redis/go-redis/v9"
)

// embedded starts a server with nothing but a data directory, and returns it
// with what it has made there.
func embedded(t *testing.T, dir string) (p *process.Process, plane process.API, rdb *redis.Client) {
	t.Helper()
	p = process.Start(t, "server", []string{"EZ_API_PORT=0", "EZ_DATA_DIR=" + dir})
	options, err := redis.ParseURL(secretFile(t, dir, "redis-url"))
	if err != nil {
		t.Fatal("redis-url does not hold the URL of Redis")
	}
	rdb = redis.NewClient(options)
	t.Cleanup(func() { _ = rdb.Close() })
	return p, process.API{URL: p.URL, Token: secretFile(t, dir, "admin-token")}, rdb
}

// secretFile returns what a file of a data directory holds.
func secretFile(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

// TestEmbeddedKeepsEverything restarts a server without any configuration.
func TestEmbeddedKeepsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	server, plane, rdb := embedded(t, dir)

	var provider, key struct {
		ID    int64
		Token string
	}
	plane.Call(t, "POST", "/providers", object{
		"name": "local", "type": "compatible", "base_url": "http://127.0.0.1:9090", "api_key": upstreamKey,
		"models": []string{"m"},
	}, http.StatusCreated, &provider)
	plane.Call(t, "POST", "/models", object{"name": "m"}, http.StatusCreated, nil)
	plane.Call(t, "POST", "/keys", object{"name": "alice"}, http.StatusCreated, &key)
	plane.Call(t, "POST", "/logs", object{"model": "m", "key_id": key.ID, "status": 200, "request_id": "before"},
		http.StatusAccepted, nil)
	process.Eventually(t, 2*time.Second, "the key in the in-process Redis",
		func() bool { return field(t, rdb, "ezapi", "keys", hash(key.Token)) != "" })
	before := (&fleet{prefix: "ezapi", rdb: rdb}).documents(t)

	t.Run("a second server on the directory says so", func(t *testing.T) {
		p := process.Launch(t, "server", []string{"EZ_API_PORT=0", "EZ_DATA_DIR=" + dir})
		if code := p.Wait(t); code == 0 {
			t.Error("exit code 0")
		}
		if text := strings.TrimSpace(p.Out.String()); !strings.Contains(text, "EZ_DATA_DIR") || strings.Contains(text, "\n") {
			t.Errorf("it says %q, want one line that names EZ_DATA_DIR", text)
		}
	})

	server.Stop(t)
	server, again, rdb := embedded(t, dir)
	if again.Token != plane.Token {
		t.Error("another admin token after the restart")
	}
	process.Eventually(t, 5*time.Second, "all documents in the new in-process Redis", func() bool {
		after := (&fleet{prefix: "ezapi", rdb: rdb}).documents(t)
		if len(after) != len(before) {
			return false
		}
		for name, doc := range before {
			if after[name] != doc {
				return false
			}
		}
		return true
	})
	var got struct {
		Name       string
		APIKeyHint string `json:"api_key_hint"`
	}
	again.Call(t, "GET", fmt.Sprintf("/providers/%d", provider.ID), nil, http.StatusOK, &got)
	if got.Name != "local" || got.APIKeyHint != upstreamKey[len(upstreamKey)-4:] {
		t.Errorf("the provider is now %+v", got)
	}
	var logs struct {
		Data []struct {
			RequestID string `json:"request_id"`
		}
	}
	again.Call(t, "GET", "/logs", nil, http.StatusOK, &logs)
	if len(logs.Data) != 1 || logs.Data[0].RequestID != "before" {
		t.Errorf("the logs are now %+v", logs)
	}
	server.Stop(t)

	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if !f.IsDir() && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %v", f.Name(), info.Mode())
		}
	}
	if strings.Contains(server.Out.String(), upstreamKey) || strings.Contains(server.Out.String(), key.Token) {
		t.Error("the server writes out a secret")
	}
}
