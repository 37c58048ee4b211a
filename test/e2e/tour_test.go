package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
	"github.com/google/go-cmp/cmp"
)

// TestEmbeddedTour does what the README's tour says, command by command, in a copy of the
// repository, and expects what the README shows. With EZ_TEST_UPDATE_TOUR=1 it writes into the
// README what it has seen instead. That README.zh-CN.md has the same commands is another test's
// matter.
func TestEmbeddedTour(t *testing.T) {
	text := readDocument(t, "README.md")
	terminals := blockWith(t, text, "sh", "go run ./examples/balancer")
	dir := copyOfRepository(t)

	// The README's addresses are the usual ones, which may be taken here.
	usual := []string{"http://127.0.0.1:8080", "http://127.0.0.1:9090", "http://127.0.0.1:9000"}
	ours := make([]string, len(usual))
	upstream := freeAddress(t)
	env := map[int][]string{
		0: {"EZ_API_PORT=0"},
		2: {"LISTEN=127.0.0.1:0"},
	}
	commands := strings.Split(strings.TrimSpace(terminals), "\n")
	if len(commands) != len(usual) {
		t.Fatalf("the README has %d commands for terminals, want %d", len(commands), len(usual))
	}
	for i, command := range commands {
		command = strings.Replace(command, "127.0.0.1:9090", upstream, 1)
		p := runInTerminal(t, dir, command, env[i]...)
		ours[i] = p.URL
		env[2] = append(env[2], "EZ_LOGS_URL="+ours[0])
	}
	process.WaitForSnapshot(t, ours[2])
	toOurs, toUsual := replacer(usual, ours), replacer(ours, usual)

	shell := newShell(t, dir)
	updated := text
	for _, block := range blocksOf(text, "console") {
		var seen strings.Builder
		for _, step := range steps(block) {
			got := toUsual.Replace(shell.run(t, toOurs.Replace(step.command)))
			if got != "" && !strings.HasSuffix(got, "\n") {
				got += "\n"
			}
			fmt.Fprintf(&seen, "$ %s\n%s", step.command, got)
			if os.Getenv("EZ_TEST_UPDATE_TOUR") != "" {
				continue
			}
			if diff := cmp.Diff(step.output, got); diff != "" {
				t.Errorf("$ %s (-README +seen):\n%s", step.command, diff)
			}
		}
		updated = strings.Replace(updated, block, seen.String(), 1)
	}
	if os.Getenv("EZ_TEST_UPDATE_TOUR") != "" {
		if err := os.WriteFile("../../README.md", []byte(updated), 0o644); err != nil { //nolint:gosec // it is for everybody
			t.Fatal(err)
		}
	}
}

// runInTerminal runs a command line until the test ends, with all the processes that it starts, and
// waits until it says its URL.
func runInTerminal(t *testing.T, dir, command string, env ...string) *process.Process {
	t.Helper()
	cmd := exec.Command("bash", "-c", command)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := process.Run(t, command, cmd)
	p.WaitForURL(t, 5*time.Minute) // it may have to be compiled first
	return p
}

// copyOfRepository returns a directory with the files that somebody would have who cloned it.
func copyOfRepository(t *testing.T) string {
	t.Helper()
	list, err := exec.Command("git", "-C", "../..", "ls-files", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	dir := t.TempDir()
	lines := bufio.NewScanner(strings.NewReader(string(list)))
	for lines.Scan() {
		copyFile(t, filepath.Join("../..", lines.Text()), filepath.Join(dir, lines.Text()))
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	source, err := os.Open(from)
	if os.IsNotExist(err) { // deleted, but not committed yet
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	target, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(target, source); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
}

func replacer(from, to []string) *strings.Replacer {
	var pairs []string
	for i := range from {
		pairs = append(pairs, from[i], to[i])
	}
	return strings.NewReplacer(pairs...)
}

type step struct{ command, output string }

// steps takes a block apart: lines that begin with "$ " are commands, the ones
// after it their output.
func steps(block string) (all []step) {
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			all = append(all, step{command: strings.TrimSuffix(command, "\n")})
		} else if len(all) > 0 {
			all[len(all)-1].output += line
		}
	}
	return all
}

// A shell runs commands one after the other; each has the variables and functions that those before
// it have set.
type shell struct {
	dir, state string
	limit      time.Duration // for each command
}

const (
	commandTimeout    = 30 * time.Second
	containersTimeout = 9 * time.Minute
)

func newShell(t *testing.T, dir string) *shell {
	t.Helper()
	for _, name := range []string{"bash", "curl", "redis-cli"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("the tour needs %s: run test/integration.sh, which installs it", name)
		}
	}
	return &shell{dir: dir, state: filepath.Join(t.TempDir(), "state"), limit: commandTimeout}
}

var (
	assignment = regexp.MustCompile(`(?:^| )([A-Z]+)=`)
	definition = regexp.MustCompile(`^([a-z]+)\(\)`)
)

// run returns the output of a command.
func (s *shell) run(t *testing.T, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), s.limit)
	defer cancel()
	script := "touch $0; . $0\n" + command + "\nstatus=$?\n"
	for _, m := range assignment.FindAllStringSubmatch(command, -1) {
		script += "declare -p " + m[1] + " >>$0\n"
	}
	for _, m := range definition.FindAllStringSubmatch(command, -1) {
		script += "declare -f " + m[1] + " >>$0\n"
	}
	if strings.HasPrefix(command, ". ") { // all that it sets
		script += "echo " + strconv.Quote(command) + " >>$0\n"
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", script+"exit $status", s.state)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("$ %s: %v\n%s", command, err, out)
	}
	return string(out)
}
