//go:build integration

package e2e_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestContainers runs the README's commands for Docker, and its tour on compose, on the engine of this
// machine. It takes the ports 8080 and 9000, and minutes.
func TestContainers(t *testing.T) {
	start, tour, alone := containerCommands(t)
	dir := copyOfRepository(t)
	shell := newShell(t, dir)
	shell.limit = containersTimeout
	if exec.Command("docker", "compose", "version").Run() != nil { // then Compose is a program of its own
		shell.run(t, `docker() { if [ "$1" = compose ]; then docker-compose "${@:2}"; else command docker "$@"; fi; }`)
	}
	down := func() {
		shell.run(t, "docker compose -f compose.yaml -f docker-compose.integration.yml down -v; "+
			"docker rm -f -v ez-api; docker volume rm ezapi-data; true")
	}
	defer down()
	for line := range strings.Lines(start + tour) {
		t.Logf("$ %s%s", line, shell.run(t, strings.TrimSpace(line)))
	}
	shell.run(t, "for i in $(seq 120); do curl -sf http://127.0.0.1:8080/readyz >&2 && "+
		"curl -sf http://127.0.0.1:9000/healthz >&2 && break; sleep 1; done")
	for _, block := range blocksOf(readDocument(t, "README.md"), "console") {
		for _, step := range steps(block) {
			if strings.HasPrefix(step.command, "EZ=") || strings.HasPrefix(step.command, "AUTH=") ||
				strings.HasPrefix(step.command, "redis-cli ") {
				continue // the variables are those of the block above; Redis is not open to the outside
			}
			if got := shell.run(t, step.command); strings.TrimSpace(got) != strings.TrimSpace(step.output) {
				t.Errorf("$ %s\n%s\nwant\n%s", step.command, got, step.output)
			}
		}
	}
	down()
	var last string
	for line := range strings.Lines(alone) {
		last = shell.run(t, strings.TrimSpace(line))
		shell.run(t, "sleep 3")
	}
	if !strings.HasPrefix(last, "ez-admin-") {
		t.Errorf("the last command does not print the admin's token")
	}
}
