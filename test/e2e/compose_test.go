package e2e_test

import (
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
	for _, file := range []string{"compose.yaml", "docker-compose.integration.yml"} {
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

// TestContainerCommands: the README's commands for Docker name files and services that exist. They are
// run where the tests have the build tag integration.
func TestContainerCommands(t *testing.T) {
	start, tour, alone := containerCommands(t)
	for _, m := range regexp.MustCompile(`-f (\S+)`).FindAllStringSubmatch(start+tour+alone, -1) {
		readDocument(t, m[1])
	}
	for _, service := range regexp.MustCompile(`(?:UPSTREAM|upstream)(?:=http://|:)(\w*)`).FindAllString(tour, -1) {
		if !strings.Contains(readDocument(t, "docker-compose.integration.yml"), "  upstream:") {
			t.Errorf("%s is no service of docker-compose.integration.yml", service)
		}
	}
}

// containerCommands returns the README's commands that start everything on compose, those that add
// what the tour needs, and those that run the image alone.
func containerCommands(t *testing.T) (start, tour, alone string) {
	t.Helper()
	text := readDocument(t, "README.md")
	return blockWith(t, text, "sh", "-init-env"), blockWith(t, text, "sh", "docker-compose.integration.yml"),
		blockWith(t, text, "sh", "docker run -d")
}
