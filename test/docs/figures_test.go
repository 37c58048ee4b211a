package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestFigures: what docs/scale.md calls measured is in docs/performance.md, which says how. It compares
// the large figures of the first table; small ones are rounded there.
func TestFigures(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(root + "/docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	performance := read("performance.md")
	_, table, _ := strings.Cut(read("scale.md"), "## What one of each can do")
	table, _, _ = strings.Cut(table, "\n## ")
	row := regexp.MustCompile(`(?m)^\| (.*) \| (.*) \| M \| .* \|$`)
	figure := regexp.MustCompile(`\d{1,3}(,\d{3})+`)
	compared := 0
	for _, m := range row.FindAllStringSubmatch(table, -1) {
		for _, n := range figure.FindAllString(m[2], -1) {
			compared++
			if !regexp.MustCompile(`\b` + n + `\b`).MatchString(performance) {
				t.Errorf("docs/scale.md has %s for %q, and docs/performance.md has not", n, m[1])
			}
		}
	}
	if compared < 5 {
		t.Errorf("%d figures were compared", compared)
	}
}
