// Package process runs this project's programs as processes of their own, for tests that see them
// as their users do: by what they answer over HTTP, and by what they leave in PostgreSQL and Redis.
//
// A test package builds the programs that it starts in its TestMain, with [Main].
package process

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// T is what a test is here, and whatever else runs programs to see how they do.
type T interface {
	Helper()
	Context() context.Context
	TempDir() string
	Cleanup(func())
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	Failed() bool
}

// A Program is a package of one of the modules of this repository, by their directories as the
// tests see them, with build tags if it needs some.
type Program struct{ Module, Package, Tags string }

// Main builds the programs, runs the tests with them first in PATH, and returns the exit code.
func Main(m *testing.M, programs ...Program) int {
	clean, err := Build(programs...)
	defer clean()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Build builds programs and puts them first in PATH. What it returns removes them.
func Build(programs ...Program) (clean func(), err error) {
	dir, err := os.MkdirTemp("", "ezapi-programs")
	if err != nil {
		return func() {}, err
	}
	clean = func() { _ = os.RemoveAll(dir) }
	for _, program := range programs {
		args := append([]string{"build", "-C", program.Module, "-tags", program.Tags, "-o", dir + "/"}, buildFlags()...)
		if out, err := exec.Command("go", append(args, program.Package)...).CombinedOutput(); err != nil {
			return clean, fmt.Errorf("build %s: %w\n%s", program.Package, err, out)
		}
	}
	return clean, os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// A Process is a program at work. Its output is shown when the test fails.
type Process struct {
	Name string
	URL  string // the first in its output
	Cmd  *exec.Cmd
	Out  *Output
	Done chan struct{} // closed when it has ended
}

// urlPattern finds where a program says that it listens, and no address that it complains of.
var urlPattern = regexp.MustCompile(`(?:listening on |"url":")(http://[^\s"]+)`)

// Start runs a program until the test ends, and waits until it says its URL.
// The environment holds what env says, and nothing else of ours.
func Start(t T, name string, env []string, args ...string) *Process {
	t.Helper()
	p := Launch(t, name, env, args...)
	p.WaitForURL(t, time.Minute)
	return p
}

// WaitForURL waits until the process says its URL.
func (p *Process) WaitForURL(t T, limit time.Duration) {
	t.Helper()
	deadline := time.After(limit)
	p.URL = ""
	for {
		if m := urlPattern.FindStringSubmatch(p.Out.String()); m != nil {
			p.URL = m[1]
			return
		}
		select {
		case <-p.Done:
			t.Fatalf("%s ended before it was ready: %v", p.Name, p.Cmd.ProcessState)
		case <-deadline:
			t.Fatalf("%s does not say its URL", p.Name)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// StartBalancer runs the balancer until the test ends, and waits until it has
// a snapshot.
func StartBalancer(t T, env ...string) *Process {
	t.Helper()
	p := Start(t, "balancer", append(env, "LISTEN=127.0.0.1:0"))
	WaitForSnapshot(t, p.URL)
	return p
}

// WaitForSnapshot waits until the balancer at a URL has a snapshot.
func WaitForSnapshot(t T, url string) {
	t.Helper()
	Eventually(t, 30*time.Second, "the balancer has a snapshot", func() bool {
		resp, err := http.Get(url + "/healthz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// Launch runs a program without waiting for anything.
func Launch(t T, name string, env []string, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	cmd.Dir = t.TempDir()
	return Run(t, name, cmd)
}

// Run runs a command until the test ends, with all its children where it has a process group of its
// own.
func Run(t T, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Name: name, Cmd: cmd, Out: &Output{}, Done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Out, p.Out
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.Done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if cmd.SysProcAttr != nil && cmd.SysProcAttr.Setpgid {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		<-p.Done
		if t.Failed() {
			t.Logf("output of %s (%v):\n%s", name, cmd.ProcessState, p.Out)
		}
		if strings.Contains(p.Out.String(), "DATA RACE") {
			t.Errorf("%s has a data race:\n%s", name, p.Out)
		}
	})
	return p
}

// Stop asks a process to end, and expects that it does so well.
func (p *Process) Stop(t T) {
	t.Helper()
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s: %v", p.Name, err)
	}
	if code := p.Wait(t); code != 0 {
		t.Errorf("%s: exit code %d after SIGTERM, want 0", p.Name, code)
	}
}

// Wait returns the exit code.
func (p *Process) Wait(t T) int {
	t.Helper()
	select {
	case <-p.Done:
	case <-time.After(60 * time.Second):
		t.Fatalf("%s does not end", p.Name)
	}
	return p.Cmd.ProcessState.ExitCode()
}

// Output collects what a process writes.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
