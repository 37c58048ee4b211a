package pgtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pooler starts PgBouncer in transaction mode, with a few server connections, in front of the
// database of a configuration, and returns a configuration that leads through it. Without pgbouncer
// it skips the test, and says so.
func Pooler(tb testing.TB, cfg *pgxpool.Config, size int) *pgxpool.Config {
	tb.Helper()
	binary := pgbouncer()
	if binary == "" {
		tb.Skip("NOT TESTED BEHIND A POOLER: install pgbouncer")
	}
	dir, err := os.MkdirTemp("", "ez-pgbouncer-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // pgbouncer reads it as another user
		tb.Fatal(err)
	}
	port := freePort(tb)
	c := cfg.ConnConfig
	password := ""
	if c.Password != "" {
		password = " password=" + c.Password
	}
	text := fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
auth_type = any
pool_mode = transaction
default_pool_size = %d
ignore_startup_parameters = search_path
unix_socket_dir =
`, c.Host, c.Port, c.User, password, port, size)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // as above
		tb.Fatal(err)
	}
	args := []string{"-q", file}
	if os.Geteuid() == 0 { // it refuses to be root
		args = append([]string{"-u", "nobody"}, args...)
	}
	process := exec.Command(binary, args...)
	if err := process.Start(); err != nil {
		tb.Fatalf("start pgbouncer: %v", err)
	}
	tb.Cleanup(func() {
		process.Process.Kill() //nolint:errcheck // Wait says what there is to say
		process.Wait()         //nolint:errcheck // it was killed
	})
	through := cfg.Copy()
	through.ConnConfig.Host, through.ConnConfig.Port = "127.0.0.1", port
	through.ConnConfig.Fallbacks, through.ConnConfig.TLSConfig = nil, nil
	through.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close() //nolint:errcheck // it was a question
			return through
		}
		if time.Since(begin) > 20*time.Second {
			tb.Fatalf("pgbouncer does not listen: %v", err)
		}
	}
}

func pgbouncer() string {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// freePort returns a port that nobody listens on.
func freePort(tb testing.TB) uint16 {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer listener.Close()                             //nolint:errcheck // only its port is wanted
	return uint16(listener.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
}
