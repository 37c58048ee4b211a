package e2e_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readDocument returns a document, named from the root of the repository.
func readDocument(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocksOf returns the content of a document's blocks in a language.
func blocksOf(text, language string) (blocks []string) {
	fence := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```$")
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// blockWith returns the one block in a language that has a text.
func blockWith(t *testing.T, text, language, part string) string {
	t.Helper()
	found := slices.DeleteFunc(blocksOf(text, language), func(b string) bool { return !strings.Contains(b, part) })
	if len(found) != 1 {
		t.Fatalf("the README has %d blocks of %s with %q, want one", len(found), language, part)
	}
	return found[0]
}

func freeAddress(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	return free.Addr().String()
}

// TestReadmesAreEqual: what is tested in one language must not be another in the other.
func TestReadmesAreEqual(t *testing.T) {
	english, chinese := readDocument(t, "README.md"), readDocument(t, "README.zh-CN.md")
	comment := regexp.MustCompile(` +# .*`)
	for _, language := range []string{"sh", "console", "go"} {
		want, got := blocksOf(english, language), blocksOf(chinese, language)
		for _, blocks := range [][]string{want, got} {
			for i, b := range blocks {
				blocks[i] = comment.ReplaceAllString(b, "")
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
			t.Errorf("%d blocks of %s (-README.md +README.zh-CN.md):\n%s", len(want), language, diff)
		}
	}
	for what, pattern := range map[string]string{
		"heading": `(?m)^#+ `, "link": `\]\(([^)]*)\)`, "row of a table": `(?m)^\|`, "point": `(?m)^- `,
	} {
		want := len(regexp.MustCompile(pattern).FindAllString(english, -1))
		if got := len(regexp.MustCompile(pattern).FindAllString(chinese, -1)); got != want {
			t.Errorf("README.zh-CN.md has %d of %s, README.md %d", got, what, want)
		}
	}
}

// TestLinksLeadSomewhere looks at the links between the documents, and to files and headings.
func TestLinksLeadSomewhere(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(documents) < 5 {
		t.Fatalf("%d documents in docs: %v", len(documents), err)
	}
	front, err := filepath.Glob("../../*.md")
	if err != nil || len(front) < 5 {
		t.Fatalf("%d documents in the root: %v", len(front), err)
	}
	link := regexp.MustCompile(`(?:\]\(|(?:src|srcset)=")([^)"]+)`)
	for _, document := range append(documents, front...) {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			path, heading, _ := strings.Cut(m[1], "#")
			target := document
			if path != "" {
				target = filepath.Join(filepath.Dir(document), path)
			}
			content, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr != nil || err != nil && !info.IsDir() {
				t.Errorf("%s: the link to %s leads nowhere", document, m[1])
			} else if heading != "" && !slices.Contains(headings(string(content)), heading) {
				t.Errorf("%s: the link to %s: there is no such heading", document, m[1])
			}
		}
	}
}

// headings returns the names by which the headings of a document are linked to.
func headings(text string) (names []string) {
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		names = append(names, strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return names
}

// TestReadmeProgramsCompile builds the programs that the README shows, as they stand there.
func TestReadmeProgramsCompile(t *testing.T) {
	programs := blocksOf(readDocument(t, "README.md"), "go")
	if len(programs) == 0 {
		t.Fatal("the README shows no program")
	}
	dir := copyOfRepository(t) // its go.mod has what they import
	if err := os.Mkdir(filepath.Join(dir, "examples", "readme"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if err := os.WriteFile(filepath.Join(dir, "examples", "readme", "main.go"), []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("go", "vet", "./examples/readme")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go vet: %v\n%s\n%s", err, out, program)
		}
	}
}

// TestDrawingsAreEqual: they differ in their colours only.
func TestDrawingsAreEqual(t *testing.T) {
	colour := regexp.MustCompile(`#[0-9a-f]{6}`)
	light := colour.ReplaceAllString(readDocument(t, "docs/flows-light.svg"), "#")
	dark := colour.ReplaceAllString(readDocument(t, "docs/flows-dark.svg"), "#")
	if light != dark {
		t.Errorf("flows-light.svg and flows-dark.svg differ (-light +dark):\n%s", cmp.Diff(light, dark))
	}
}
