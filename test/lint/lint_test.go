package lint_test

import (
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the directory of the repository, as seen from this package.
const root = "../.."

// modules are the directories of the Go modules, below root.
var modules = []string{".", "test"}

func TestGofmt(t *testing.T) {
	for _, file := range goFiles(t) {
		source := read(t, file)
		formatted, err := format.Source(source)
		if err != nil {
			t.Errorf("%s cannot be read as Go: %v", file, err)
		} else if string(formatted) != string(source) {
			t.Errorf("%s is not formatted: run gofmt -w on it", file)
		}
	}
}

// tags are set for vet and staticcheck, so that they see the files of tests that are not run here. untagged has a file
// for a build without them.
const (
	tags     = "clickhouse,ezapi_testclock,integration"
	untagged = "./cmd/internal/server"
)

func TestVet(t *testing.T) {
	for _, dir := range modules {
		command(t, dir, "go", "vet", "-tags", tags, "./...")
	}
	command(t, ".", "go", "vet", untagged)
}

// TestTags holds the list of tags complete.
func TestTags(t *testing.T) {
	constraint := regexp.MustCompile(`(?m)^//go:build !?(\w+)$`)
	var found []string
	for _, file := range goFiles(t) {
		for _, m := range constraint.FindAllSubmatch(read(t, file), -1) {
			if tag := string(m[1]); !slices.Contains([]string{"unix", "linux", "race"}, tag) {
				found = append(found, tag)
			}
		}
	}
	slices.Sort(found)
	if got := strings.Join(slices.Compact(found), ","); got != tags {
		t.Errorf("tags of files: %s; checked are %s", got, tags)
	}
}

// TestStaticcheck runs the version that test/go.mod pins as a tool.
func TestStaticcheck(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "staticcheck")
	command(t, "test", "go", "build", "-o", binary, "honnef.co/go/tools/cmd/staticcheck")
	for _, dir := range modules {
		command(t, dir, binary, "-tags", tags, "./...")
	}
	command(t, ".", binary, untagged)
}

// command runs a program in a directory below root. Its output is the reason
// when it fails.
func command(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = filepath.Join(root, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %s, in %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), dir, err, out)
	}
}

// goFiles returns the Go files of the repository, with their path from root.
func goFiles(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, ".go"):
			name, err := filepath.Rel(root, path)
			files = append(files, name)
			return err
		}
		return nil
	})
	if err != nil || len(files) < 100 {
		t.Fatalf("%d Go files found below %s: %v", len(files), root, err)
	}
	return files
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return source
}
