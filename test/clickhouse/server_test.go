//go:build clickhouse

package clickhouse_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/test/clickhouse"
)

const token = "clickhouse-test-token-of-the-role-admin"

// A controlPlane is the reference server as a process.
type controlPlane struct {
	program, dir, dsn, url string
	cmd                    *exec.Cmd

	mu  sync.Mutex
	out bytes.Buffer
}

func (c *controlPlane) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(b)
}

func (c *controlPlane) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

var listening = regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`)

func (c *controlPlane) start(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	c.out.Reset()
	c.mu.Unlock()
	c.cmd = exec.Command(c.program)
	c.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "EZ_DATA_DIR=" + c.dir, "EZ_API_PORT=0", "EZ_ADMIN_TOKEN=" + token,
		"EZ_REDIS_ADDR=embedded", "EZ_LOG_STORE=" + c.dsn, "EZ_LOG_FLUSH_INTERVAL=100ms", "EZ_LOG_FORMAT=json",
	}
	c.cmd.Stdout, c.cmd.Stderr = c, c
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.url = ""
	eventually(t, time.Minute, "the server says its URL", func() bool {
		c.url = listening.FindString(c.output())
		return c.url != ""
	})
}

func (c *controlPlane) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// call sends a request and reads the answer into out, unless that is nil.
func (c *controlPlane) call(t *testing.T, method, path string, body, out any) (status int) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, c.url+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(answer), clickhouse.Password) {
		t.Errorf("%s %s shows the password", method, path)
	}
	if out != nil && response.StatusCode < 300 {
		if err := json.Unmarshal(answer, out); err != nil {
			t.Fatalf("%s %s: %v\n%s", method, path, err, answer)
		}
	}
	return response.StatusCode
}

func eventually(t *testing.T, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

type object = map[string]any

// The reference server with its access logs in ClickHouse: entries that are sent again count once, through a kill of
// either; a budget holds; prices that come late change entries and usage; readiness says what is away.
func TestServer(t *testing.T) {
	own, err := clickhouse.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Stop)
	dir := t.TempDir()
	c := &controlPlane{program: filepath.Join(dir, "server"), dir: filepath.Join(dir, "data"), dsn: own.DSN("ez")}
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../..", "-o", c.program, "./cmd/server")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	c.start(t)
	t.Cleanup(func() { c.kill() })
	defer func() {
		if out := c.output(); t.Failed() || strings.Contains(out, clickhouse.Password) {
			t.Errorf("the server wrote\n%s", out)
		}
	}()

	post := func(path string, body object, out any) {
		t.Helper()
		if status := c.call(t, http.MethodPost, path, body, out); status >= 300 {
			t.Fatalf("POST %s: %d", path, status)
		}
	}
	post("/models?wait=applied", object{"name": "m", "request_price": "0.5"}, nil)
	var key struct {
		ID int64 `json:"id"`
	}
	post("/keys", object{"name": "k", "budgets": []object{{"limit": "1", "window": "total"}}}, &key)
	entries := make([]object, 4)
	for i := range entries {
		entries[i] = object{
			"id": uuid.NewString(), "ts": time.Now().Add(-time.Duration(i) * time.Hour).UTC().Format(time.RFC3339Nano),
			"key_id": key.ID, "model": "m", "status": 200,
		}
	}
	send := func(some ...object) {
		t.Helper()
		if status := c.call(t, http.MethodPost, "/logs", some, nil); status != http.StatusAccepted {
			t.Fatalf("POST /logs: %d", status)
		}
	}
	var usage struct {
		Data []struct {
			Requests int64 `json:"requests"`
			Cost     int64 `json:"cost_nano_usd"`
		} `json:"data"`
	}
	used := func() (requests, cost int64) {
		c.call(t, http.MethodGet, "/usage?since=24h", nil, &usage)
		for _, row := range usage.Data {
			requests, cost = requests+row.Requests, cost+row.Cost
		}
		return requests, cost
	}
	wantUsed := func(wantRequests, wantCost int64) {
		t.Helper()
		eventually(t, 30*time.Second, fmt.Sprintf("%d requests cost %d", wantRequests, wantCost), func() bool {
			requests, cost := used()
			return requests == wantRequests && cost == wantCost
		})
	}
	send(entries[:3]...)
	send(entries[0], entries[2])
	send(entries[2], entries[1], entries[0])
	wantUsed(3, 1_500_000_000)
	eventually(t, time.Minute, "the key is held, because its budget is used up", func() bool {
		var holds struct {
			Data []struct {
				Target string `json:"target"`
				Reason string `json:"reason"`
			} `json:"data"`
		}
		c.call(t, http.MethodGet, "/holds", nil, &holds)
		return len(holds.Data) == 1 && holds.Data[0].Target == fmt.Sprint("key/", key.ID) && holds.Data[0].Reason == "budget"
	})

	// ClickHouse goes, and what is accepted waits; then the server is killed, too.
	own.Kill()
	send(entries...)
	eventually(t, time.Minute, "readiness says that the log store is away", func() bool {
		var ready struct {
			Status string `json:"status"`
			Checks map[string]struct {
				Status string `json:"status"`
			} `json:"checks"`
		}
		status := c.call(t, http.MethodGet, "/readyz", nil, &ready)
		return status == http.StatusOK && ready.Status == "degraded" && ready.Checks["log_store"].Status == "failed"
	})
	if status := c.call(t, http.MethodGet, "/usage", nil, nil); status != http.StatusServiceUnavailable {
		t.Errorf("GET /usage without ClickHouse: %d; want 503", status)
	}
	c.kill()
	c.start(t) // without ClickHouse
	if err := own.Run(); err != nil {
		t.Fatal(err)
	}
	wantUsed(4, 2_000_000_000)
	send(entries...)

	if status := c.call(t, http.MethodPatch, "/models/1?wait=applied", object{"request_price": "0.75"},
		nil); status != 200 {
		t.Fatalf("PATCH /models/1: %d", status)
	}
	var repriced struct {
		Changed int `json:"changed"`
	}
	post("/logs/reprice", object{"since": time.Now().Add(-24 * time.Hour), "only": "all", "key_id": key.ID}, &repriced)
	if repriced.Changed != 4 {
		t.Errorf("%d entries were priced anew; want 4", repriced.Changed)
	}
	wantUsed(4, 3_000_000_000)
	send(entries...) // priced by 0.75, too; the row that was priced anew counts
	send(entries[3])
	wantUsed(4, 3_000_000_000)
	var logs struct {
		Data []struct {
			ID   string `json:"id"`
			Cost int64  `json:"cost_nano_usd"`
		} `json:"data"`
	}
	c.call(t, http.MethodGet, "/logs?key_id="+fmt.Sprint(key.ID), nil, &logs)
	if len(logs.Data) != 4 || logs.Data[3].ID != entries[3]["id"] || logs.Data[0].Cost != 750_000_000 {
		t.Errorf("GET /logs: %+v; want four entries, each once", logs.Data)
	}
}
