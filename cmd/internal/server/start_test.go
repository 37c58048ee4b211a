package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestRedisAsksForAPassword: every user of the machine reaches loopback.
func TestRedisAsksForAPassword(t *testing.T) {
	s := run(t, embeddedEnv(t)...)
	for name, options := range map[string]*redis.Options{
		"no password":      {Addr: s.client(t).Options().Addr, Protocol: 2},
		"a wrong password": {Addr: s.client(t).Options().Addr, Password: "wrong"},
		"by name, without": {Addr: s.client(t).Options().Addr, Username: "default"},
	} {
		client := redis.NewClient(options)
		err := client.HGetAll(t.Context(), "{ezapi}:providers").Err()
		if err == nil || !strings.Contains(err.Error(), "NOAUTH") && !strings.Contains(err.Error(), "WRONGPASS") {
			t.Errorf("%s: %v", name, err)
		}
		_ = client.Close()
	}
	if err := s.client(t).Ping(t.Context()).Err(); err != nil {
		t.Errorf("with the URL of the data directory: %v", err)
	}
	password := s.file(redisPasswordFile)
	s.end(t)

	again := run(t, "EZ_API_PORT=0", "EZ_DATA_DIR="+s.dir)
	if got := again.file(redisPasswordFile); got != password {
		t.Error("another password after the restart, which the balancers do not have")
	}
	again.end(t)
}

func TestRedisListensWhereItIsTold(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	_ = free.Close()
	s := run(t, embeddedEnv(t, "EZ_REDIS_ADDR=embedded://:of-my-own-0123456789@0.0.0.0:"+port)...)
	if want := "redis://default:of-my-own-0123456789@127.0.0.1:" + port; s.redis != want {
		t.Errorf("%s holds %s, want %s", redisURLFile, s.redis, want)
	}
	if err := s.client(t).Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	s.end(t)
}

// TestNotReadyBeforeTheDatabaseWasReached starts a server whose database is away. That it becomes
// ready later is tested with a real database, in test/e2e.
func TestNotReadyBeforeTheDatabaseWasReached(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := nobody.Addr().String()
	_ = nobody.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out output
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, nil, withPostgres("EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_LOG_DURABILITY=disk",
			"EZ_DATA_DIR="+t.TempDir(), "EZ_REDIS_ADDR=embedded", "EZ_PG_DSN=postgres://ez@"+addr+"/ez"), &out, &out)
	}()
	var found []string
	for begin := time.Now(); found == nil; found = urlText.FindStringSubmatch(out.String()) {
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("does not listen:\n%s", &out)
		}
		time.Sleep(5 * time.Millisecond)
	}
	s := &running{url: found[1]}
	if got := s.call(t, "GET", "/readyz", "", nil, nil); got != http.StatusServiceUnavailable {
		t.Errorf("GET /readyz: %d, want 503", got)
	}
	entry := map[string]any{"status": 200, "ts": time.Now()} // without a time it waits for the database's clock
	if got := s.call(t, "POST", "/logs", goodToken, entry, nil); got != http.StatusAccepted {
		t.Errorf("POST /logs: %d, want 202", got)
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
	var said, errs output
	if got := Run(t.Context(), []string{"-check"}, []string{"EZ_API_PORT=" + port}, &said, &errs); got != 1 ||
		!strings.Contains(said.String(), `"status":"unavailable"`) {
		t.Errorf("-check: %d %s%s, want 1", got, &said, &errs)
	}
	cancel()
	<-code
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, `"msg":"ready"`) {
			t.Errorf("it says that it is ready:\n%s", line)
		}
		if !strings.HasPrefix(line, `{"time":`) {
			t.Errorf("a line that is not JSON: %s", line)
		}
	}
}

func TestCheck(t *testing.T) {
	s := run(t, embeddedEnv(t)...)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
	var out, errs output
	if code := Run(t.Context(), []string{"-check"}, []string{"EZ_API_PORT=" + port, "EZ_DB_KEYS=wrong"}, &out,
		&errs); code != 0 ||
		!strings.Contains(out.String(), `"catalog":{"status":"ok"}`) {
		t.Errorf("-check of a server at work: %d %s%s", code, &out, &errs)
	}
	s.end(t)
	for name, environ := range map[string][]string{
		"nobody listens": {"EZ_API_PORT=" + port}, "a free port": {"EZ_API_PORT=0"}, "a wrong port": {"EZ_API_PORT=x"},
	} {
		if code := Run(t.Context(), []string{"-check"}, environ, &out, &errs); code == 0 {
			t.Errorf("%s: -check is content", name)
		}
	}
}

func TestInitEnv(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	var out, errs output
	if code := Run(t.Context(), []string{"-init-env", file}, nil, &out, &errs); code != 0 {
		t.Fatalf("-init-env: %d %s", code, &errs)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others can read it: %v %v", info.Mode(), err)
	}
	var environ []string
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "EZ_") {
			environ = append(environ, strings.TrimSpace(line))
		}
	}
	c, unknown, err := Load(append(environ, "EZ_PG_DSN="+goodDSN, "EZ_REDIS_ADDR=redis:6379"))
	if err != nil || len(unknown) > 0 {
		t.Fatalf("a server does not take it: %v, %v", err, unknown)
	}
	if len(c.AdminTokens) != 1 || len(c.ViewerTokens) != 1 || len(c.BalancerTokens) != 1 {
		t.Errorf("not every role has a token: %+v", c)
	}
	// What is there is worth more than what would be made.
	if code := Run(t.Context(), []string{"-init-env", file}, nil, &out, &errs); code != 1 ||
		!strings.Contains(errs.String(), "exists") {
		t.Errorf("a second -init-env: %d %s", code, &errs)
	}
	if again, _ := os.ReadFile(file); string(again) != string(content) {
		t.Error("the file was overwritten")
	}
	var stdout output
	if code := Run(t.Context(), []string{"-init-env"}, nil, &stdout, &errs); code != 0 ||
		!strings.Contains(stdout.String(), "\nEZ_SYNC_KEYS=s1:") || stdout.String() == string(content) {
		t.Errorf("-init-env without a file: %d", code)
	}
}

func TestFaultsOfTheMachineAreToldAtOnce(t *testing.T) {
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
	var out, errs output
	code := Run(t.Context(), nil, []string{"EZ_API_PORT=" + port, "EZ_DATA_DIR=" + file}, &out, &errs)
	if text := errs.String(); code != 2 || strings.Count(text, "\n") != 2 ||
		!strings.Contains(text, "EZ_DATA_DIR must") || !strings.Contains(text, "EZ_API_PORT must") {
		t.Errorf("%d %s", code, text)
	}
}

func TestOwnerRemedyNamesWhoAndHow(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "not", "there")
	text := ownerRemedy(missing, &os.PathError{Op: "mkdir", Path: missing, Err: fs.ErrPermission})
	for _, part := range []string{"belongs to uid ", "runs as uid ", "chown -R ", "--user "} {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
	if text := ownerRemedy(missing, errors.New("the disk is full")); text != "" {
		t.Errorf("another error: %q", text)
	}
}

// TestDefaultLoggerIsTheServers: libraries that are given none use it.
func TestDefaultLoggerIsTheServers(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	s := run(t, embeddedEnv(t)...)
	slog.Warn("from elsewhere")
	s.end(t)
	if !strings.Contains(s.out.String(), `"msg":"from elsewhere"`) {
		t.Errorf("it is not in the server's log:\n%s", s.out)
	}
}
