// Package postgres starts PostgreSQL servers of a test's own, which it may configure and kill.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/test/certs"
	"github.com/ez-api/ez-api/test/process"
)

// Options say how a [Server] differs from the usual. The zero value is fine, and so is nil.
type Options struct {
	Bin      string   // the directory of its programs; empty: the newest of this machine
	Settings []string // lines of its configuration
	HBA      string   // its pg_hba.conf; empty: everybody on this machine is trusted
}

// A Server is a PostgreSQL of the test's own, with all that makes a commit durable. It ends with
// the test.
type Server struct {
	// Dir has the unix socket, and may take files that the settings name.
	Dir  string
	Port int

	bin string
	as  *syscall.Credential // nil: as ourselves

	cmd *exec.Cmd
	out process.Output
}

// New makes and starts a server. Its only role is postgres.
func New(t process.T, opts *Options) *Server {
	t.Helper()
	s := prepare(t, opts)
	s.run(t, "initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	s.Configure(t, opts)
	s.Start(t)
	return s
}

// NewStandby makes and starts a hot standby of a server, under a name that the primary's
// synchronous_standby_names may have.
func NewStandby(t process.T, primary *Server, name string) *Server {
	t.Helper()
	s := prepare(t, &Options{Bin: primary.bin})
	s.run(t, "pg_basebackup", "-D", s.data(), "-R", "-c", "fast", "--no-sync",
		"-d", fmt.Sprintf("host=127.0.0.1 port=%d user=postgres application_name=%s", primary.Port, name))
	s.Start(t)
	return s
}

func prepare(t process.T, opts *Options) *Server {
	t.Helper()
	s := &Server{}
	if opts != nil {
		s.bin = opts.Bin
	}
	if s.bin == "" {
		s.bin = newest(t)
	}
	var err error
	if s.Dir, err = os.MkdirTemp("", "ezapi-pg"); err != nil { // short: a socket's path has its limit
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.Dir) })
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		s.as = credential(t, "postgres")
		s.own(t, s.Dir)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("output of PostgreSQL:\n%s", &s.out)
		}
	})
	s.Port = process.FreePort(t)
	return s
}

func credential(t process.T, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// own gives a file to the user that the server runs as.
func (s *Server) own(t process.T, path string) {
	t.Helper()
	if s.as == nil {
		return
	}
	if err := os.Chown(path, int(s.as.Uid), int(s.as.Gid)); err != nil {
		t.Fatal(err)
	}
}

// newest finds where the programs of the newest PostgreSQL of this machine are.
func newest(t process.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	slices.Sort(found)
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		t.Skip("NOT TESTED ON A POSTGRESQL OF ITS OWN: its programs are not on this machine")
	}
	return filepath.Dir(path)
}

// Versions returns where the programs of each PostgreSQL are that EZ_TEST_PG_VERSIONS names, a list
// as that of PATH.
func Versions() []string { return filepath.SplitList(os.Getenv("EZ_TEST_PG_VERSIONS")) }

// Configure adds settings and sets who may connect. They count from the next start.
func (s *Server) Configure(t process.T, opts *Options) {
	t.Helper()
	if opts == nil {
		return
	}
	file, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(file, "\n%s\n", strings.Join(opts.Settings, "\n"))
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	if opts.HBA != "" {
		s.Put(t, "pg_hba.conf", []byte(opts.HBA))
	}
}

// Put writes a file into the data directory, which only the server may read.
func (s *Server) Put(t process.T, name string, content []byte) {
	t.Helper()
	path := filepath.Join(s.data(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.own(t, path)
}

// Certify puts a certificate for an address into the data directory, and its key, as ADDRESS.pem
// and ADDRESS.key.
func (s *Server) Certify(t process.T, ca *certs.Authority, ip string) {
	t.Helper()
	cert, key := ca.Sign(t, ip)
	for _, path := range []string{cert, key} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.Put(t, filepath.Base(path), content)
	}
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

// Bin is the directory of its programs.
func (s *Server) Bin() string { return s.bin }

// DSN is the connection string of the role postgres over TCP.
func (s *Server) DSN() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.Port)
}

func (s *Server) socketDSN() string {
	return fmt.Sprintf("host=%s port=%d user=postgres", s.Dir, s.Port)
}

// Exec runs statements as the role postgres, in a database.
func (s *Server) Exec(t process.T, database string, statements ...string) {
	t.Helper()
	conn := s.connect(t, database)
	defer conn.Close(context.Background())
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// Query reads one value in a database, as the role postgres.
func (s *Server) Query(t process.T, database, sql string, value any) {
	t.Helper()
	conn := s.connect(t, database)
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), sql).Scan(value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (s *Server) connect(t process.T, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.socketDSN()+" dbname="+database)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

func (s *Server) run(t process.T, name string, args ...string) {
	t.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Start starts it and waits until it answers.
func (s *Server) Start(t process.T) {
	t.Helper()
	s.cmd = s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.Port), "-h", "127.0.0.1", "-k", s.Dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	process.Eventually(t, time.Minute, "PostgreSQL answers", func() bool {
		time.Sleep(20 * time.Millisecond)
		conn, err := pgx.Connect(t.Context(), s.socketDSN()+" dbname=postgres")
		return err == nil && conn.Close(t.Context()) == nil
	})
}

// Stop ends it at once, and cleanly.
func (s *Server) Stop(t process.T) {
	t.Helper()
	s.run(t, "pg_ctl", "-D", s.data(), "-m", "fast", "-w", "stop")
	_ = s.cmd.Wait()
}

// Kill ends all of its processes at once.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.ProcessState != nil {
		return
	}
	pids := []int{s.cmd.Process.Pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, _ := os.ReadFile(name)
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(pids[0]) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = s.cmd.Wait()
}
