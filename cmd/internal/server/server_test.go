package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// asServer makes the test binary behave as the server, for tests that need a
// process of its own.
const asServer = "EZ_TEST_AS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		os.Exit(Main())
	}
	os.Exit(m.Run())
}

// A running is a server at work, in this process or another.
type running struct {
	dir               string // where its data is
	url, token, redis string // as the files there say
	out               *output
	stop              func() // as SIGTERM does
	code              <-chan int
}

var (
	urlText = regexp.MustCompile(`"url":"(http://[^"]+)"`)
	dirText = regexp.MustCompile(`"data":"([^"]+)"`)
)

// run starts a server in this process.
func run(t *testing.T, environ ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	s := &running{out: &output{}, stop: cancel, code: code}
	go func() { code <- Run(ctx, nil, environ, s.out, s.out) }()
	t.Cleanup(cancel)
	s.ready(t)
	return s
}

// spawn starts a server in a process of its own.
func spawn(t *testing.T, environ ...string) *running {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	code := make(chan int, 1)
	s := &running{out: &output{}, code: code, stop: func() { _ = cmd.Process.Signal(syscall.SIGTERM) }}
	cmd.Env = append([]string{asServer + "=1"}, environ...)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	go func() {
		_ = cmd.Wait()
		code <- cmd.ProcessState.ExitCode()
	}()
	s.ready(t)
	return s
}

// ready waits until the server says that it is, and reads what it has made.
func (s *running) ready(t *testing.T) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		text := s.out.String()
		if strings.Contains(text, `"msg":"ready"`) {
			s.url = urlText.FindStringSubmatch(text)[1]
			s.dir = dirText.FindStringSubmatch(text)[1]
			s.token, s.redis = s.file(tokenFile), s.file(redisURLFile)
			return
		}
		select {
		case code := <-s.code:
			t.Fatalf("ended with %d before it was ready:\n%s", code, text)
		default:
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("not ready:\n%s", text)
		}
	}
}

// file returns what a file of the data directory holds; nothing if there is none.
func (s *running) file(name string) string {
	content, _ := os.ReadFile(filepath.Join(s.dir, name)) // the test will miss it
	return strings.TrimSpace(string(content))
}

// client returns a client of the in-process Redis.
func (s *running) client(t *testing.T) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(s.redis)
	if err != nil {
		t.Fatalf("%s does not hold a URL: %v", redisURLFile, err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// end stops the server and expects exit code 0.
func (s *running) end(t *testing.T) {
	t.Helper()
	s.stop()
	select {
	case code := <-s.code:
		if code != 0 {
			t.Errorf("exit code %d\n%s", code, s.out)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("does not end\n%s", s.out)
	}
}

// call sends a request with a token, and reads the answer into out.
func (s *running) call(t *testing.T, method, path, token string, body, out any) int {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, answer)
		}
	}
	return resp.StatusCode
}

// output collects what a server writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// embeddedEnv is an environment that leaves nothing behind.
func embeddedEnv(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{"EZ_API_PORT=0", "EZ_DATA_DIR=" + filepath.Join(t.TempDir(), "data")}, more...)
}

func TestEmbeddedServes(t *testing.T) {
	s := run(t, embeddedEnv(t)...)
	if got := s.call(t, "GET", "/healthz", "", nil, nil); got != http.StatusOK {
		t.Errorf("GET /healthz: %d", got)
	}
	if got := s.call(t, "GET", "/keys", "wrong", nil, nil); got != http.StatusUnauthorized {
		t.Errorf("GET /keys with a wrong token: %d", got)
	}
	var key struct{ Token string }
	if got := s.call(t, "POST", "/keys", s.token, map[string]string{"name": "alice"},
		&key); got != http.StatusCreated || key.Token == "" {
		t.Errorf("POST /keys: %d", got)
	}
	client := s.client(t)
	for begin := time.Now(); client.HLen(t.Context(), "{ezapi}:keys").Val() != 1; time.Sleep(time.Millisecond) {
		if time.Since(begin) > 5*time.Second {
			t.Fatal("the key is not in the in-process Redis")
		}
	}
	s.end(t)
}

// Headers have a bound, less than that of the language's own server.
func TestHeadersAreBounded(t *testing.T) {
	s := run(t, embeddedEnv(t)...)
	for size, want := range map[int]int{60 << 10: http.StatusOK, 80 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Long", strings.Repeat("a", size))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d bytes of headers: status %d, want %d", size, resp.StatusCode, want)
		}
	}
	s.end(t)
}

func TestMetrics(t *testing.T) {
	viewer := strings.Repeat("v", 32)
	s := run(t, embeddedEnv(t, "EZ_VIEWER_TOKEN="+viewer, "EZ_LOG_DURABILITY=disk")...)
	if got := s.call(t, "GET", "/metrics", "", nil, nil); got != http.StatusUnauthorized {
		t.Errorf("GET /metrics without a token: %d", got)
	}
	s.call(t, "POST", "/logs", s.token, map[string]any{"status": 200}, nil)
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+viewer)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"ezapi_logs_accepted_total 1", "ezapi_publisher_up 1", `ezapi_nodes{state="lagging"} 0`, "ezapi_logs_spool_broken 0", "go_goroutines ",
		`ezapi_http_request_duration_seconds_count{route="GET /metrics",status="401"} 1`,
	} {
		if !strings.Contains(string(text), "\n"+line) {
			t.Errorf("%s is not shown", line)
		}
	}
	if resp.StatusCode != http.StatusOK || t.Failed() {
		t.Errorf("status %d:\n%s", resp.StatusCode, text)
	}
	s.end(t)
}

func TestRestartKeepsEverything(t *testing.T) {
	environ := embeddedEnv(t)
	first := spawn(t, environ...)
	first.call(t, "POST", "/keys", first.token, map[string]string{"name": "alice"}, nil)
	const logs = 250
	for i := range logs { // more than a moment's worth: they are pending when the signal comes
		if got := first.call(t, "POST", "/logs", first.token,
			map[string]any{"status": 200, "request_id": fmt.Sprint(i)}, nil); got != http.StatusAccepted {
			t.Fatalf("POST /logs: %d", got)
		}
	}
	first.end(t) // a real signal, a real exit code

	second := spawn(t, environ...)
	if second.token != first.token {
		t.Error("another admin token")
	}
	var keys, stored struct{ Data []struct{ Name string } }
	second.call(t, "GET", "/keys", second.token, nil, &keys)
	if len(keys.Data) != 1 || keys.Data[0].Name != "alice" {
		t.Errorf("keys after the restart: %+v", keys)
	}
	second.call(t, "GET", "/logs?limit=1000", second.token, nil, &stored)
	if len(stored.Data) != logs {
		t.Errorf("%d logs after the restart, accepted were %d", len(stored.Data), logs)
	}
	second.end(t)
}

func TestDataDirIsLocked(t *testing.T) {
	environ := embeddedEnv(t)
	s := run(t, environ...)
	var out output
	code := Run(t.Context(), nil, environ, &out, &out)
	if text := out.String(); code != 2 || strings.Count(text, "\n") != 1 ||
		!strings.Contains(text, "EZ_DATA_DIR ") || !strings.Contains(text, "in use") {
		t.Errorf("a second server: %d %q", code, text)
	}
	s.end(t)
	again := run(t, environ...) // the lock is gone with its holder
	again.end(t)
}

func TestDataDirFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := run(t, "EZ_API_PORT=0", "EZ_DATA_DIR="+dir)
	s.end(t)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
	for _, name := range []string{lockFile, sqliteFile, tokenFile, dbKeysFile, redisPasswordFile, redisURLFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", name, info.Mode())
		}
	}

	// A new key would open nothing that is in the database.
	if err := os.Remove(filepath.Join(dir, dbKeysFile)); err != nil {
		t.Fatal(err)
	}
	var out output
	if code := Run(t.Context(), nil, []string{"EZ_API_PORT=0", "EZ_DATA_DIR=" + dir}, &out, &out); code != 2 ||
		!strings.Contains(out.String(), "EZ_DB_KEYS must be") {
		t.Errorf("without its keys: %d %s", code, &out)
	}
}

func TestStartStopsAt(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		environ []string
		says    string
	}{
		"a wrong value":     {embeddedEnv(t, "EZ_LOG_QUEUE=many"), "EZ_LOG_QUEUE must be"},
		"a taken port":      {embeddedEnv(t, "EZ_API_PORT="+port), "EZ_API_PORT must be a free port"},
		"a foreign address": {embeddedEnv(t, "EZ_API_ADDR=192.0.2.1"), "EZ_API_ADDR must be an address of this machine"},
		"a taken port for Redis": {embeddedEnv(t, "EZ_REDIS_ADDR=embedded://127.0.0.1:"+port),
			"EZ_REDIS_ADDR must name a free port"},
		"a file for directory": {embeddedEnv(t, "EZ_DATA_DIR="+file), "EZ_DATA_DIR must name a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr output
			code := Run(t.Context(), nil, tc.environ, &stdout, &stderr)
			if text := stderr.String(); code != 2 || !strings.HasPrefix(text, "ezapi: "+tc.says) ||
				strings.Count(text, "\n") != 1 || stdout.String() != "" {
				t.Errorf("%d %q %q, want one line with %q", code, text, &stdout, tc.says)
			}
		})
	}
}

func TestPostgresOutOfReach(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0") // and closed: nobody answers there
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().String()
	taken.Close()
	var out output
	code := Run(t.Context(), nil, withPostgres(
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_LOG_DURABILITY=memory",
		"EZ_PG_DSN=postgres://ez:hunter2hunter2@"+addr+"/ez",
	), &out, &out)
	last := out.String()[strings.LastIndex(strings.TrimSpace(out.String()), "\n")+1:]
	if code != 1 || !strings.HasPrefix(last, "ezapi: ") || strings.Contains(out.String(), "hunter2hunter2") {
		t.Errorf("%d %s", code, &out)
	}
}

// TestNoSecretIsWritten does what uses each secret, with all there is to log.
func TestNoSecretIsWritten(t *testing.T) {
	viewer, balancer, sync := strings.Repeat("v", 40), strings.Repeat("b", 40), "s1:"+goodKey[3:]
	environ := embeddedEnv(t, "EZ_LOG_LEVEL=debug", "EZ_VIEWER_TOKEN="+viewer, "EZ_BALANCER_TOKEN="+balancer,
		"EZ_SYNC_KEYS="+sync)
	s := run(t, environ...)
	const upstream = "sk-upstream-0123456789"
	var key struct{ Token string }
	s.call(t, "POST", "/providers", s.token, map[string]any{"name": "p", "type": "openai", "api_key": upstream}, nil)
	s.call(t, "POST", "/providers", s.token, map[string]any{"name": "p", "type": "nonsense", "api_key": upstream,
		"x": upstream}, nil)
	s.call(t, "POST", "/keys", s.token, map[string]any{"name": "alice"}, &key)
	s.call(t, "GET", "/keys", viewer, nil, nil)
	s.call(t, "POST", "/logs", balancer, map[string]any{"status": 200}, nil)
	s.call(t, "GET", "/keys", "a-token-that-nobody-has-0123456789", nil, nil)
	s.end(t)

	text := s.out.String()
	for name, secret := range map[string]string{
		"admin token": s.token, "password of Redis": s.file(redisPasswordFile),
		"viewer token": viewer, "balancer token": balancer, "sync key": sync[3:], "provider key": upstream,
		"client token": key.Token,
		"wrong token":  "a-token-that-nobody-has-0123456789",
	} {
		if strings.Contains(text, secret) {
			t.Errorf("the %s is written:\n%s", name, text)
		}
	}

	given := run(t, embeddedEnv(t, "EZ_ADMIN_TOKEN="+goodToken)...)
	given.end(t)
	if strings.Contains(given.out.String(), goodToken) {
		t.Error("an admin token that was given is written")
	}
}

func TestUnknownVariableIsWarnedOf(t *testing.T) {
	s := run(t, embeddedEnv(t, "EZ_REDIS_ADRR=h:1")...)
	s.end(t)
	if !strings.Contains(s.out.String(), "EZ_REDIS_ADRR") {
		t.Errorf("no warning:\n%s", s.out)
	}
}

func TestHelp(t *testing.T) {
	var out, errs output
	if code := Run(t.Context(), []string{"--help"}, nil, &out, &errs); code != 0 ||
		!strings.Contains(out.String(), "EZ_PG_DSN") {
		t.Errorf("--help: %d %s", code, &out)
	}
	if code := Run(t.Context(), []string{"--port=1"}, nil, &out, &errs); code == 0 ||
		!strings.Contains(errs.String(), "takes no other arguments") {
		t.Errorf("an argument: %d %s", code, &errs)
	}
}

func TestRedisTakesAFreePort(t *testing.T) {
	// Whether or not 6379 is free here, the second of two servers finds it taken.
	const password = "0123456789abcdef"
	first, err := startRedis("", password)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := startRedis("", password)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if first.Addr() == second.Addr() || second.Addr() == redisAddress {
		t.Errorf("addresses %s and %s", first.Addr(), second.Addr())
	}
	client := redis.NewClient(&redis.Options{Addr: second.Addr(), Password: password})
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", 30*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); !errors.Is(client.Get(t.Context(), "k").Err(), redis.Nil); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 5*time.Second {
			t.Fatal("what should expire never does")
		}
	}
}
