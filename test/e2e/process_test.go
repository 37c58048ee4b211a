package e2e_test

import (
	"bytes"
	"fmt"
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
)

// binaries is where TestMain puts the programs under test.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ezapi-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	for _, program := range []struct{ module, pkg string }{
		{"../..", "./cmd/server"}, {"../..", "./cmd/ezctl"}, {"../..", "./examples/balancer"}, {"../..", "./examples/mirror"},
		{"..", "./cmd/upstream"},
	} {
		args := append([]string{"build", "-C", program.module, "-o", dir}, buildFlags...)
		if out, err := exec.Command("go", append(args, program.pkg)...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", program.pkg, err, out)
			return 1
		}
	}
	return m.Run()
}

// A process is a program at work. Its output is shown when the test fails.
type process struct {
	name string
	url  string // the first in its output
	cmd  *exec.Cmd
	out  *output
	done chan struct{} // closed when it has ended
}

var urlPattern = regexp.MustCompile(`http://[^\s"]+`)

// start runs a program until the test ends, and waits until it says its URL.
// The environment holds what env says, and nothing else of ours.
func start(t *testing.T, name string, env []string, args ...string) *process {
	t.Helper()
	p := launch(t, name, env, args...)
	p.waitForURL(t, time.Minute)
	return p
}

// waitForURL waits until the process says its URL.
func (p *process) waitForURL(t *testing.T, limit time.Duration) {
	t.Helper()
	deadline := time.After(limit)
	for p.url = ""; p.url == ""; p.url = urlPattern.FindString(p.out.String()) {
		select {
		case <-p.done:
			t.Fatalf("%s ended before it was ready: %v", p.name, p.cmd.ProcessState)
		case <-deadline:
			t.Fatalf("%s does not say its URL", p.name)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// startBalancer runs the balancer until the test ends, and waits until it has
// a snapshot.
func startBalancer(t *testing.T, env ...string) *process {
	t.Helper()
	p := start(t, "balancer", append(env, "LISTEN=127.0.0.1:0"))
	waitForSnapshot(t, p.url)
	return p
}

// waitForSnapshot waits until the balancer at a URL has a snapshot.
func waitForSnapshot(t *testing.T, url string) {
	t.Helper()
	eventually(t, 30*time.Second, "the balancer has a snapshot", func() bool {
		resp, err := http.Get(url + "/healthz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// launch runs a program without waiting for anything.
func launch(t *testing.T, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(filepath.Join(binaries, name), args...), out: &output{},
		done: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("output of %s (%v):\n%s", name, p.cmd.ProcessState, p.out)
		}
		if strings.Contains(p.out.String(), "DATA RACE") {
			t.Errorf("%s has a data race:\n%s", name, p.out)
		}
	})
	return p
}

// stop asks a process to end, and expects that it does so well.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("%s: exit code %d after SIGTERM, want 0", p.name, code)
	}
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		t.Fatalf("%s does not end", p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// output collects what a process writes.
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
