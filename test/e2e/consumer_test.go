package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// consumer is a unit test in somebody else's module.
const consumer = `package consumer

import (
	"testing"

	"github.com/ez-api/ez-api"
)

func TestKeyIsPublished(t *testing.T) {
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plane.Keys.Create(t.Context(), ezapi.Key{Name: "alice"}); err != nil {
		t.Fatal(err)
	}
	head, err := plane.Sync(t.Context())
	if err != nil || head.Counts["keys"] != 1 {
		t.Fatalf("published %+v, %v", head, err)
	}
}
`

// TestConsumerModule runs a short unit test, against the plane in memory, from
// another module, which gets none of the drivers.
func TestConsumerModule(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod": "module example.com/consumer\n\ngo 1.26.0\n\nrequire github.com/ez-api/ez-api v0.0.0\n\n" +
			"replace github.com/ez-api/ez-api => " + root + "\n",
		"go.sum":           string(sums),
		"consumer_test.go": consumer,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	out := run("test", "-mod=mod", "-count=1", "-v", "./...")
	if !strings.Contains(out, "--- PASS: TestKeyIsPublished") {
		t.Errorf("the test did not run:\n%s", out)
	}
	deps := run("list", "-mod=mod", "-test", "-deps", "./...")
	for _, heavy := range []string{"sqlx", "jackc/pgx", "go-redis", "httprouter", "modernc.org", "huma",
		"miniredis", "dockertest", "goose"} {
		if strings.Contains(deps, heavy) {
			t.Errorf("the consumer gets %s", heavy)
		}
	}
}
