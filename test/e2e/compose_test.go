package e2e_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestComposeFindsItsSecrets: every variable that compose.yaml needs is in the file that the
// README's command makes, so that no command of docker compose needs anything else.
func TestComposeFindsItsSecrets(t *testing.T) {
	out, err := exec.Command("server", "-init-env").Output()
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([A-Z_]+)=\S+$`).FindAllStringSubmatch(string(out), -1) {
		made[m[1]] = true
	}
	asked := map[string]bool{}
	for _, file := range []string{"compose.yaml", "compose.tour.yaml"} {
		for _, m := range regexp.MustCompile(`\$\{([A-Z_]+)`).FindAllStringSubmatch(readDocument(t, file), -1) {
			asked[m[1]] = true
			if !made[m[1]] {
				t.Errorf("%s needs %s, which server -init-env does not make", file, m[1])
			}
		}
	}
	for name := range made {
		if !asked[name] {
			t.Errorf("server -init-env makes %s, which no compose file uses", name)
		}
	}
	for _, file := range []string{".gitignore", ".dockerignore"} {
		if !regexp.MustCompile(`(?m)^/?\.env$`).MatchString(readDocument(t, file)) {
			t.Errorf("%s does not name .env: secrets would be committed, or be in an image", file)
		}
	}
}

// TestContainers runs the README's commands for Docker, and its tour on compose, where
// EZ_TEST_DOCKER says that an engine may be used for that: it takes ports 8080 and 9000, and
// minutes. Otherwise it makes sure that the commands name files and services that exist.
func TestContainers(t *testing.T) {
	text := readDocument(t, "README.md")
	start := blockWith(t, text, "sh", "-init-env")
	tour := blockWith(t, text, "sh", "compose.tour.yaml")
	alone := blockWith(t, text, "sh", "docker run -d")
	if os.Getenv("EZ_TEST_DOCKER") == "" {
		for _, m := range regexp.MustCompile(`-f (\S+)`).FindAllStringSubmatch(start+tour+alone, -1) {
			readDocument(t, m[1])
		}
		for _, service := range regexp.MustCompile(`(?:UPSTREAM|upstream)(?:=http://|:)(\w*)`).FindAllString(tour, -1) {
			if !strings.Contains(readDocument(t, "compose.tour.yaml"), "  upstream:") {
				t.Errorf("%s is no service of compose.tour.yaml", service)
			}
		}
		return
	}
	dir := copyOfRepository(t)
	shell := newShell(t, dir)
	shell.limit = containersTimeout
	down := func() {
		cmd := exec.Command("bash", "-c", "docker compose -f compose.yaml -f compose.tour.yaml down -v; "+
			"docker rm -f -v ez-api; docker volume rm ezapi-data; true")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("%v\n%s", err, out)
		}
	}
	defer down()
	for line := range strings.Lines(start + tour) {
		t.Logf("$ %s%s", line, shell.run(t, strings.TrimSpace(line)))
	}
	shell.run(t, "for i in $(seq 120); do curl -sf http://127.0.0.1:8080/readyz >&2 && "+
		"curl -sf http://127.0.0.1:9000/healthz >&2 && break; sleep 1; done")
	for _, block := range blocksOf(text, "console") {
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
