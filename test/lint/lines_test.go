package lint_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// maxColumns is how long a line of Go may be, in characters. A tab counts as one.
const maxColumns = 120

func TestLinesAreShort(t *testing.T) {
	for _, file := range goFiles(t) {
		for _, line := range longLines(t, file, read(t, file)) {
			t.Errorf("%s is longer than %d characters: break it", line, maxColumns)
		}
	}
}

// longLines returns the lines of a file that are too long, as file:line. Two
// kinds of line may be long, because they cannot be broken: fields of structs
// with their tags, and the lines of raw strings.
func longLines(t *testing.T, name string, source []byte) (long []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	whole := map[int]bool{} // lines that cannot be broken
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			if n.Tag != nil {
				whole[files.Position(n.Tag.Pos()).Line] = true
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING && strings.HasPrefix(n.Value, "`") {
				for line := files.Position(n.Pos()).Line; line <= files.Position(n.End()).Line; line++ {
					whole[line] = true
				}
			}
		}
		return true
	})
	number := 0
	for line := range strings.Lines(string(source)) {
		number++
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > maxColumns && !whole[number] {
			long = append(long, fmt.Sprintf("%s:%d", name, number))
		}
	}
	return long
}

// TestLongLinesAreFound shows that the check is able to fail, and what it lets pass.
func TestLongLinesAreFound(t *testing.T) {
	long := strings.Repeat("x", maxColumns)
	source := "package p\n\n" +
		"// " + long + "\n" + // too long
		"type t struct {\n" +
		"\tF string `json:\"" + long + "\"`\n" +
		"}\n\n" +
		"const raw = `\n" + long + "x\n`\n\n" +
		"const text = \"" + long + "\"\n" + // too long
		"// " + strings.Repeat("é", maxColumns-3) + "\n"
	got := longLines(t, "p.go", []byte(source))
	if diff := cmp.Diff([]string{"p.go:3", "p.go:12"}, got); diff != "" {
		t.Errorf("long lines (-want +got):\n%s", diff)
	}
}
