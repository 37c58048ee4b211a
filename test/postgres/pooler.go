package postgres

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ez-api/ez-api/test/process"
)

// NewPooler starts PgBouncer in transaction mode in front of a server, with some connections to it for
// each user, and returns its port. Whoever the server trusts is let in.
func NewPooler(t process.T, s *Server, size int) (port int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ezapi-pgbouncer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port = process.FreePort(t)
	cmd := exec.Command("pgbouncer", "-q", filepath.Join(dir, "pgbouncer.ini"))
	if os.Getuid() == 0 { // it refuses to be root, too
		cmd.Args = append(cmd.Args, "-u", "postgres")
	}
	text := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = %d
ignore_startup_parameters = search_path
unix_socket_dir =
`, s.Port, port, filepath.Join(dir, "users"), size)
	for name, content := range map[string]string{"pgbouncer.ini": text, "users": "\"ezapi\" \"\"\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content),
			0o644); err != nil { //nolint:gosec // for another user
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // as above
		t.Fatal(err)
	}
	process.Run(t, "pgbouncer", cmd)
	process.Eventually(t, time.Minute, "PgBouncer listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
		return err == nil && conn.Close() == nil
	})
	return port
}
