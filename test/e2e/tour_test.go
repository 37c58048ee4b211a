package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestEmbeddedTour does what the README's tour says, command by command, and
// expects what the README shows. With EZ_TEST_UPDATE_TOUR=1 it writes into the README
// what it has seen instead.
func TestEmbeddedTour(t *testing.T) {
	const readme = "../../README.md"
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	blocks := consoleBlocks(string(text))
	if len(blocks) < 4 {
		t.Fatalf("the README has %d console blocks", len(blocks))
	}

	dir := t.TempDir()
	server, plane, _ := embedded(t, filepath.Join(dir, "ezapi-data"))
	upstream := start(t, "upstream", nil, "-key", "sk-upstream-secret")
	balancer := startBalancer(t,
		"EZ_REDIS_ADDR="+secretFile(t, filepath.Join(dir, "ezapi-data"), "redis-url"), "EZ_LOGS_URL="+server.url, "EZ_BALANCER_TOKEN="+plane.token)
	// The README's addresses are the usual ones, which may be taken here.
	usual := []string{"http://127.0.0.1:8080", "http://127.0.0.1:9090", "http://127.0.0.1:9000"}
	ours := []string{server.url, upstream.url, balancer.url}
	toOurs, toUsual := replacer(usual, ours), replacer(ours, usual)

	shell := newShell(t, dir)
	updated := string(text)
	for _, block := range blocks {
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
			if diff := cmp.Diff(settled(step.output), settled(got)); diff != "" {
				t.Errorf("$ %s (-README +seen):\n%s", step.command, diff)
			}
		}
		updated = strings.Replace(updated, block, seen.String(), 1)
	}
	if os.Getenv("EZ_TEST_UPDATE_TOUR") != "" {
		if err := os.WriteFile(readme, []byte(updated), 0o644); err != nil { //nolint:gosec // it is for everybody
			t.Fatal(err)
		}
	}
}

func replacer(from, to []string) *strings.Replacer {
	var pairs []string
	for i := range from {
		pairs = append(pairs, from[i], to[i])
	}
	return strings.NewReplacer(pairs...)
}

// consoleBlocks returns the content of a document's console blocks.
func consoleBlocks(text string) (blocks []string) {
	for _, m := range regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
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

// settled replaces what is another at each run.
func settled(text string) string {
	for pattern, name := range map[string]string{
		`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z`:                         "TIME",
		`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`: "UUID",
		`"(latency_ms|ttft_ms|created)":[0-9]+`:                        `"$1":N`,
		`"token_hint":"[^"]*"`:                                         `"token_hint":"HINT"`,
		`"balancer":"[^"]*"`:                                           `"balancer":"NAME"`,
		`"[0-9]{10}-([0-9]+)"`:                                         `"EPOCH-$1"`,
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, name)
	}
	return text
}

// A shell runs commands one after the other; each has the variables that those
// before it have set.
type shell struct{ dir, variables string }

func newShell(t *testing.T, dir string) *shell {
	t.Helper()
	for _, name := range []string{"bash", "curl", "redis-cli", "sha256sum"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("the tour needs %s: run test/integration.sh, which installs it", name)
		}
	}
	return &shell{dir: dir, variables: filepath.Join(t.TempDir(), "variables")}
}

var assignment = regexp.MustCompile(`(?:^| )([A-Z]+)=`)

// run returns the output of a command.
func (s *shell) run(t *testing.T, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	script := "touch $0; . $0\n" + command + "\nstatus=$?\n"
	for _, m := range assignment.FindAllStringSubmatch(command, -1) {
		script += "declare -p " + m[1] + " >>$0\n"
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", script+"exit $status", s.variables)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("$ %s: %v\n%s", command, err, out)
	}
	return string(out)
}
