package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

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
	return startVictim(t, func(v *victim) *exec.Cmd {
		return v.command("initdb", "-D", v.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
	})
}

// newStandby makes and starts a standby of a server's, which replicates it asynchronously.
func newStandby(t *testing.T, primary *victim) *victim {
	return startVictim(t, func(v *victim) *exec.Cmd {
		return v.command("pg_basebackup", "-D", v.data(), "-R", "-c", "fast", "-h", "127.0.0.1",
			"-p", fmt.Sprint(primary.port), "-U", "postgres")
	})
}

// startVictim starts one on the data that a command makes.
func startVictim(t *testing.T, fill func(v *victim) *exec.Cmd) *victim {
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
	if out, err := fill(v).CombinedOutput(); err != nil {
		t.Fatalf("the data of a PostgreSQL cannot be made: %v\n%s", err, out)
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
