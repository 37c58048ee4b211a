package redis_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/storage/redisstore"
	"github.com/ez-api/ez-api/test/certs"
)

// A server is one redis-server or redis-sentinel process.
type server struct {
	host string
	port int
	dir  string
	cmd  *exec.Cmd
}

func (s *server) addr() string { return net.JoinHostPort(s.host, fmt.Sprint(s.port)) }

// start starts a process of the program on a free port of a host, with arguments like those of a configuration file.
func start(t testing.TB, program, host string, args ...string) *server {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed: nothing here was tested", program)
	}
	dir, err := os.MkdirTemp("", "ez-redis-")
	must(t, err)
	s := &server{host: host, port: freePort(t, host), dir: dir}
	config := filepath.Join(dir, "redis.conf")
	text := fmt.Sprintf(
		"dir %s\nbind %s\nprotected-mode no\nsave \"\"\nappendonly no\nlogfile %s/log\n",
		dir,
		host,
		dir,
	)
	if program == "redis-sentinel" {
		text = fmt.Sprintf("dir %s\nbind %s\nprotected-mode no\nlogfile %s/log\n", dir, host, dir)
	}
	speaksTLS := false
	for _, a := range args {
		speaksTLS = speaksTLS || strings.HasPrefix(a, "tls-")
		text += a + "\n"
	}
	if speaksTLS {
		text += fmt.Sprintf("port 0\ntls-port %d\n", s.port)
	} else {
		text += fmt.Sprintf("port %d\n", s.port)
	}
	must(t, os.WriteFile(config, []byte(text), 0o600))
	s.cmd = exec.Command(path, config)
	must(t, s.cmd.Start())
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGCONT)
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("the log of %s at %s:\n%s", program, s.addr(), log[max(0, len(log)-3000):])
		}
		_ = os.RemoveAll(dir)
	})
	eventually(t, 20*time.Second, program+" listens", func() bool {
		conn, err := net.DialTimeout("tcp", s.addr(), time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return s
}

// again starts a process that was killed.
func (s *server) again(t testing.TB) {
	t.Helper()
	_ = s.cmd.Wait()
	s.cmd = exec.Command(s.cmd.Path, s.cmd.Args[1:]...)
	must(t, s.cmd.Start())
}

// kill ends the process at once, and freeze stops it where it is, with its connections open.
func (s *server) kill(t testing.TB)   { must(t, s.cmd.Process.Kill()) }
func (s *server) freeze(t testing.TB) { must(t, s.cmd.Process.Signal(syscall.SIGSTOP)) }

// client talks to this process alone.
func (s *server) client(t testing.TB) *redis.Client {
	t.Helper()
	return open(t, s.addr(), nil).(*redis.Client)
}

func freePort(t testing.TB, host string) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		must(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		must(t, l.Close())
		if port < 50_000 { // a Cluster's bus is on the port plus 10,000
			bus, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port+10_000)))
			if err == nil {
				must(t, bus.Close())
				return port
			}
		}
	}
	t.Fatal("there is no free port whose Cluster bus is free, too")
	return 0
}

func open(t testing.TB, address string, opts *redisstore.OpenOptions) redis.UniversalClient {
	t.Helper()
	var o redisstore.OpenOptions
	if opts != nil {
		o = *opts
	}
	o.Logger = quiet()
	client, err := redisstore.Open(address, &o)
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(start)
}

// withTLS returns what a server at an address needs to speak TLS with a certificate of an authority.
func withTLS(t testing.TB, ca *certs.Authority, ip string) []string {
	t.Helper()
	cert, key := ca.Sign(t, ip)
	return []string{"tls-cert-file " + cert, "tls-key-file " + key, "tls-ca-cert-file " + ca.File(), "tls-auth-clients no"}
}

// role returns what a server says that it is: master, slave or sentinel.
func role(c *redis.Client) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	answer, err := c.Do(ctx, "ROLE").Slice()
	if err != nil || len(answer) == 0 {
		return ""
	}
	name, _ := answer[0].(string)
	return name
}
