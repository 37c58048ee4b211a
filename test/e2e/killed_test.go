package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A victim is a PostgreSQL of the test's own, which it may kill.
type victim struct {
	bin, dir string
	port     int
	as       *syscall.Credential // nil: as ourselves

	cmd *exec.Cmd
	out output
}

// newVictim makes and starts one from the binaries of this machine, with all
// that makes a commit durable.
func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{bin: postgresBinaries(t)}
	var err error
	if v.dir, err = os.MkdirTemp("", "ezapi-victim"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(v.dir) })
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(v.dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		v.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	if out, err := v.command("initdb", "-D", v.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--locale=C").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v.port = listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	t.Cleanup(func() {
		v.kill()
		if t.Failed() {
			t.Logf("output of PostgreSQL:\n%s", &v.out)
		}
	})
	v.start(t)
	return v
}

// postgresBinaries finds where PostgreSQL's programs are.
func postgresBinaries(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	slices.Sort(found)
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		t.Skip("NOT TESTED THAT POSTGRESQL IS KILLED: its programs are not on this machine")
	}
	return filepath.Dir(path)
}

func (v *victim) data() string { return filepath.Join(v.dir, "data") }

func (v *victim) dsn() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", v.port)
}

func (v *victim) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(v.bin, name), args...)
	cmd.Dir = v.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: v.as}
	return cmd
}

// start starts it and waits until it answers.
func (v *victim) start(t *testing.T) {
	t.Helper()
	v.cmd = v.command("postgres", "-D", v.data(), "-p", fmt.Sprint(v.port), "-h", "127.0.0.1", "-k", v.dir)
	v.cmd.Stdout, v.cmd.Stderr = &v.out, &v.out
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "PostgreSQL answers", func() bool {
		time.Sleep(50 * time.Millisecond)
		conn, err := pgx.Connect(t.Context(), v.dsn())
		return err == nil && conn.Close(t.Context()) == nil
	})
}

// kill ends all of its processes at once.
func (v *victim) kill() {
	if v.cmd == nil || v.cmd.ProcessState != nil {
		return
	}
	pids := []int{v.cmd.Process.Pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, _ := os.ReadFile(name)
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == fmt.Sprint(pids[0]) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = v.cmd.Wait()
}

// TestDatabaseIsKilled: PostgreSQL is killed under 5,000 entries/s and stays away;
// all that was acknowledged is stored, once, within a minute of its return.
func TestDatabaseIsKilled(t *testing.T) {
	v := newVictim(t)
	redisAddr, prefix, _ := redisServer(t)
	token := newToken()
	server := start(t, "server", []string{
		"EZ_API_PORT=0", "EZ_API_ADDR=127.0.0.1", "EZ_PG_DSN=" + v.dsn(), "EZ_REDIS_ADDR=" + redisAddr,
		"EZ_REDIS_PREFIX=" + prefix,
		"EZ_ADMIN_TOKEN=" + token, "EZ_DB_KEYS=" + newKey("k1"), "EZ_SYNC_KEYS=" + newKey("s1"),
		"EZ_DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
	})
	l := &ledger{acked: map[uuid.UUID]bool{}, token: token}
	l.url.Store(&server.url)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for range 10 { // each 100 entries every 200 ms
		writers.Go(func() {
			if err := l.write(ctx, 195*time.Millisecond); err != nil {
				t.Error(err)
			}
		})
	}
	for range scaled(2, 3) {
		time.Sleep(scaled(2*time.Second, 10*time.Second))
		v.kill()
		before, away := l.size(), scaled(3*time.Second, 30*time.Second)
		time.Sleep(away)
		t.Logf("%.0f entries/s acknowledged while PostgreSQL was away", float64(l.size()-before)/away.Seconds())
		if l.size() == before {
			t.Error("nothing was taken while PostgreSQL was away")
		}
		v.start(t)
	}
	stop()
	writers.Wait()
	db := connect(t, v.dsn())
	defer db.Close(context.Background())
	took := eventually(t, time.Minute, "the backlog is stored", func() bool { return stored(t, db) >= l.size() })
	t.Logf("backlog stored %s after the end", took)
	eventually(t, time.Minute, "nothing is pending",
		func() bool { return logCounter(t, server.url, token, "pending") == 0 })
	var sum float64
	for _, name := range []string{"stored_total", "duplicate_total", "dead_total", "damaged_total"} {
		sum += logCounter(t, server.url, token, name)
	}
	if accepted := logCounter(t, server.url, token, "accepted_total"); accepted != sum || accepted < float64(l.size()) {
		t.Errorf("%v entries are accepted, %v became of them, %d were acknowledged", accepted, sum, l.size())
	}
	server.stop(t)
	l.audit(t, db)
}

// logCounter reads one of the metrics ezapi_logs_….
func logCounter(t *testing.T, url, token, name string) float64 {
	t.Helper()
	resp := api{url, token}.send(t, http.MethodGet, "/metrics", nil)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "ezapi_logs_"+name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("there is no metric ezapi_logs_%s", name)
	return 0
}
