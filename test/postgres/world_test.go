package postgres_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/test/process"
)

func TestMain(m *testing.M) {
	os.Exit(process.Main(m, process.Program{Module: "../..", Package: "./cmd/server"}))
}

type object = map[string]any

const password = "a-password-that-is-shown-nowhere"

// A controlPlane is a server on a PostgreSQL.
type controlPlane struct {
	*process.Process
	process.API
}

// environment is that of a server on a database, which another server may have, too.
func environment(t *testing.T, dsn string) []string {
	t.Helper()
	redis, prefix, _ := process.Redis(t)
	return []string{
		"EZ_PG_DSN=" + dsn, "EZ_REDIS_ADDR=" + redis, "EZ_REDIS_PREFIX=" + prefix, "EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1",
		"EZ_ADMIN_TOKEN=" + process.NewToken(), "EZ_DB_KEYS=" + process.NewKey("k1"), "EZ_SYNC_KEYS=" + process.NewKey("s1"),
		"EZ_LOG_FLUSH_INTERVAL=100ms", "EZ_LOG_FORMAT=json",
	}
}

// start starts a server, and waits until it is ready.
func start(t *testing.T, env []string) *controlPlane {
	t.Helper()
	c := launch(t, env)
	c.isReady(t)
	return c
}

// isReady waits until the server says so.
func (c *controlPlane) isReady(t *testing.T) {
	t.Helper()
	process.Eventually(t, time.Minute, "the server is ready", func() bool {
		status, _ := c.readiness(t)
		return status == http.StatusOK
	})
}

// isNotReady checks that the server says so, and waits until its log has the reason.
func (c *controlPlane) isNotReady(t *testing.T, reason string) {
	t.Helper()
	process.Eventually(t, time.Minute, "the log has the reason: "+reason, func() bool {
		time.Sleep(20 * time.Millisecond)
		return strings.Contains(c.Out.String(), reason)
	})
	if status, body := c.readiness(t); status != http.StatusServiceUnavailable {
		t.Errorf("readiness: %d %s", status, body)
	}
}

func (c *controlPlane) readiness(t *testing.T) (status int, body string) {
	t.Helper()
	time.Sleep(20 * time.Millisecond)
	resp := c.Send(t, "GET", "/readyz", nil)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// launch starts a server, which need not become ready.
func launch(t *testing.T, env []string) *controlPlane {
	t.Helper()
	c := &controlPlane{}
	c.Process = process.Start(t, "server", append([]string{"EZ_DATA_DIR=" + filepath.Join(t.TempDir(), "data")}, env...))
	c.API = process.API{URL: c.Process.URL, Token: variable(env, "EZ_ADMIN_TOKEN")}
	t.Cleanup(func() {
		if strings.Contains(c.Out.String(), password) {
			t.Error("the server writes a password out")
		}
	})
	return c
}

func variable(env []string, name string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// lives takes a key and what it uses through their life: everything that a control plane needs its
// database for.
func (c *controlPlane) lives(t *testing.T) {
	t.Helper()
	name := "m-" + uuid.NewString()[:8]
	c.Call(t, "POST", "/models", object{"name": name, "input_price": "2", "output_price": "8"}, http.StatusCreated, nil)
	var key struct {
		ID       int64 `json:"id"`
		Revision int64 `json:"revision"`
	}
	c.Call(t, "POST", "/keys?wait=published", object{"name": name}, http.StatusCreated, &key)
	path := fmt.Sprint("/keys/", key.ID)
	c.Call(t, "PATCH", path+"?wait=published", object{"labels": object{"team": "a"}}, http.StatusOK, nil)

	// Of now, and of a day that has no partition yet. Some come again, in another batch.
	const entries, costOfEach = 200, 10_000_000_000
	now := time.Now().UTC()
	batch := make([]object, entries)
	for i := range batch {
		at := now.Add(-time.Duration(i) * time.Millisecond)
		if i%4 == 0 {
			at = at.Add(-72 * time.Hour)
		}
		batch[i] = object{"id": uuid.Must(uuid.NewV7()), "ts": at, "key_id": key.ID, "model": name, "status": 200,
			"input_tokens": 1_000_000, "output_tokens": 1_000_000, "tags": object{"n": fmt.Sprint(i)}}
	}
	c.Call(t, "POST", "/logs", batch, http.StatusAccepted, nil)
	c.Call(t, "POST", "/logs", append(slices.Clone(batch[50:150]), batch[0]), http.StatusAccepted, nil)

	usage := func() (requests, cost int64) {
		var page struct {
			Data []struct {
				Requests int64 `json:"requests"`
				Cost     int64 `json:"cost_nano_usd"`
			} `json:"data"`
		}
		c.Call(t, "GET", fmt.Sprintf("/usage?key_id=%d&since=7d", key.ID), nil, http.StatusOK, &page)
		for _, row := range page.Data {
			requests += row.Requests
			cost += row.Cost
		}
		return requests, cost
	}
	process.Eventually(t, time.Minute, "all is stored", func() bool {
		time.Sleep(50 * time.Millisecond)
		requests, _ := usage()
		return requests >= entries
	})
	if requests, cost := usage(); requests != entries || cost != entries*costOfEach {
		t.Errorf("usage: %d requests for %d; want %d for %d", requests, cost, entries, entries*int64(costOfEach))
	}
	var logs struct {
		Data []object `json:"data"`
	}
	c.Call(t, "GET", fmt.Sprintf("/logs?key_id=%d&since=7d&limit=1000", key.ID), nil, http.StatusOK, &logs)
	if len(logs.Data) != entries {
		t.Errorf("%d entries; want %d", len(logs.Data), entries)
	}

	c.Call(t, "DELETE", path, nil, http.StatusNoContent, nil)
	c.Call(t, "GET", path, nil, http.StatusNotFound, nil)
	c.maintained(t)
}

// maintained waits until each task of maintenance has worked, and fails where one does not.
func (c *controlPlane) maintained(t *testing.T) {
	t.Helper()
	process.Eventually(t, time.Minute, "maintenance has run", func() bool {
		time.Sleep(20 * time.Millisecond)
		resp := c.Send(t, "GET", "/metrics", nil)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		tasks := 0
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "ezapi_logs_maintenance_failing{"); ok {
				tasks++
				if !strings.HasSuffix(strings.TrimSpace(rest), " 0") {
					t.Errorf("maintenance fails: %s", rest)
				}
			}
		}
		return tasks > 0
	})
}
