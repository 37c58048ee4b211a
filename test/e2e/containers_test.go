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
		shell.run(t, "docker rm -f -v ez-api ez-second; docker volume rm ezapi-data; "+
			"docker compose -f compose.yaml -f docker-compose.integration.yml down -v; true")
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
	runsByEnvFile(t, shell)
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

// runsByEnvFile runs a second server beside that of compose, by a file of variables for Docker, and then
// others whose file is wrong, each of which says in one line what is.
func runsByEnvFile(t *testing.T, shell *shell) {
	t.Helper()
	for _, command := range []string{
		`{ cat .env; . ./.env; echo "EZ_REDIS_ADDR=redis://:$REDIS_PASSWORD@redis:6379"; ` +
			`echo "EZ_PG_DSN=postgres://ezapi:$POSTGRES_PASSWORD@postgres:5432/ezapi?sslmode=disable"; } >run.env`,
		`SERVER=$(docker compose -f compose.yaml -f docker-compose.integration.yml ps -q server)`,
		`NET=$(docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}' "$SERVER")`,
		`docker run -d --name ez-second --network "$NET" --env-file run.env ez-api`,
		`for i in $(seq 60); do docker exec ez-second server -check && exit 0; sleep 1; done; ` +
			`docker logs ez-second; exit 1`,
	} {
		shell.run(t, command)
	}
	for edit, want := range map[string]string{
		`/^EZ_DB_KEYS=/d`: "EZ_DB_KEYS",
		`s/^EZ_SYNC_KEYS=\(.*\)/EZ_SYNC_KEYS="\1"/`: "EZ_SYNC_KEYS has quotation marks",
	} {
		shell.run(t, `sed '`+edit+`' run.env >wrong.env`)
		said := shell.run(t, `docker run --rm --env-file wrong.env ez-api; echo "ends with $?"`)
		lines := strings.Split(strings.TrimSpace(said), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], want) || lines[1] != "ends with 2" {
			t.Errorf("with a file whose %s is wrong:\n%s", want, said)
		}
	}
}
