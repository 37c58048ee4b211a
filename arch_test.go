package ezapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/ez-api/ez-api"

// arrows says what of this module each room may import. A room is a directory
// and all below it; the longest that fits a package is its room.
var arrows = map[string][]string{
	".":                     {"catalog", "snapshot", "logbuf", "storage/memstore"},
	"catalog/alerts/causes": {"catalog", "catalog/alerts", "snapshot", "logbuf"},
	"catalog/upstreams":     {"catalog", "logbuf"},
	"catalog/budgets":       {"catalog", "catalog/alerts", "logbuf"},
	"catalog/clocks":        {"catalog", "logbuf"},
	"catalog/costs":         {"catalog", "snapshot", "logbuf"},
	"catalog/health":        {"catalog", "catalog/alerts", "catalog/upstreams", "logbuf"},
	"catalog":               {},
	"snapshot":              {"catalog"},
	"logbuf":                {},
	"storage/internal":      {"catalog", "snapshot", "logbuf", "storage/internal"},
	"storage/memstore":      {"catalog", "snapshot", "logbuf", "storage/internal"},
	"storage/sqlitestore":   {"catalog", "snapshot", "logbuf", "storage/internal"},
	"storage/pgstore":       {"catalog", "snapshot", "logbuf", "storage/internal"},
	"storage/redisstore":    {"catalog", "snapshot", "logbuf", "storage/internal"},
	"storage/chstore":       {"logbuf", "storage/internal"},
	"storage/storagetest":   {"catalog", "snapshot", "logbuf"},
	"httpapi":               {".", "catalog", "snapshot", "logbuf"},
	"httpapi/client":        {"catalog", "snapshot", "logbuf"},
	"httpapi/console":       {".", "catalog", "snapshot", "logbuf", "httpapi", "httpapi/client"},
	"cmd":                   {".", "catalog", "snapshot", "logbuf", "storage", "httpapi", "cmd/internal/ctl"},
	"cmd/ezctl":             {"cmd/internal/ctl"},
	"cmd/internal/ctl":      {"catalog", "snapshot", "logbuf", "httpapi/client"},
	"examples":              {".", "catalog", "snapshot", "logbuf", "storage", "httpapi"},
}

// homes says in which rooms a library may be imported, whatever the room's
// tests do. Libraries are named by the start of their path.
var homes = map[string][]string{
	"database/sql":                      {"storage/pgstore", "storage/sqlitestore", "cmd/internal/ctl/imports"},
	"github.com/jmoiron/sqlx":           {"storage/pgstore", "storage/sqlitestore"},
	"github.com/pressly/goose":          {"storage/pgstore", "storage/sqlitestore"},
	"github.com/jackc/pgx":              {"storage/pgstore", "storage/internal/pgtest", "cmd", "examples"},
	"modernc.org/sqlite":                {"storage/sqlitestore", "cmd/internal/ctl/imports"},
	"github.com/redis/go-redis":         {"storage/redisstore", "cmd", "examples"},
	"github.com/alicebob/miniredis":     {"cmd"},
	"github.com/julienschmidt":          {"httpapi"},
	"github.com/danielgtaylor/huma":     {"httpapi"},
	"github.com/prometheus":             {"httpapi/metrics", "cmd"},
	"github.com/alecthomas/kong":        {"cmd"},
	"github.com/willabides/kongplete":   {"cmd/internal/ctl"},
	"github.com/posener/complete":       {"cmd/internal/ctl"},
	"github.com/mattn/go-runewidth":     {"cmd/internal/ctl"},
	"go.yaml.in/yaml":                   {"cmd/internal/ctl"},
	"github.com/lmittmann/tint":         {"cmd"},
	"golang.org/x/text":                 {"httpapi/console"},
	"golang.org/x/oauth2":               {"httpapi/console"},
	"github.com/coreos/go-oidc":         {"httpapi/console"},
	"github.com/mattn/go-isatty":        {"cmd"},
	"github.com/ory/dockertest":         {},
	"github.com/tsenart/vegeta":         {},
	"github.com/testcontainers":         {},
	"github.com/stretchr/testify":       {},
	"github.com/google/go-cmp":          {"storage/storagetest"},
	"pgregory.net/rapid":                {"storage/storagetest"},
	"go.uber.org/goleak":                {"storage/storagetest"},
	"testing":                           {"storage/storagetest", "storage/internal"},
	module + "/storage/storagetest":     {},
	module + "/storage/internal/pgtest": {},
}

// notInRoot is what embedding the root package must never bring along.
var notInRoot = []string{
	"github.com/jmoiron/sqlx", "github.com/jackc/pgx", "modernc.org", "github.com/pressly/goose",
	"github.com/redis/go-redis", "github.com/alicebob/miniredis", "github.com/julienschmidt/httprouter",
	"github.com/danielgtaylor/huma",
	"github.com/prometheus",
}

// A goPackage is what `go list -json` says of a package. Imports are those of
// its code; what its tests import is not restricted.
type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestArrowsRunOneWay(t *testing.T) {
	packages := list(t, "./...")
	if len(packages) < 10 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	for _, wrong := range check(packages) {
		t.Error(wrong)
	}
}

// TestCheckFindsWrongArrows shows that check is able to fail.
func TestCheckFindsWrongArrows(t *testing.T) {
	p := func(room string, imports ...string) goPackage {
		path := module
		if room != "." {
			path += "/" + room
		}
		return goPackage{ImportPath: path, Imports: imports}
	}
	own := func(room string) string { return module + "/" + room }

	for _, tc := range []struct {
		name string
		pkg  goPackage
		want []string
	}{
		{"an engine may import the seams", p("storage/pgstore", own("catalog"), own("logbuf"),
			own("storage/internal/wake"), "github.com/jackc/pgx/v5/pgxpool"), nil},
		{"an engine imports the root", p("storage/pgstore", module), []string{"storage/pgstore must not import ."}},
		{"an engine imports httpapi", p("storage/memstore", own("httpapi")),
			[]string{"storage/memstore must not import httpapi"}},
		{"an engine imports another", p("storage/sqlitestore", own("storage/memstore")),
			[]string{"storage/sqlitestore must not import storage/memstore"}},
		{"catalog imports one of ours", p("catalog", own("snapshot")), []string{"catalog must not import snapshot"}},
		{"catalog imports a driver", p("catalog", "github.com/jackc/pgx/v5"),
			[]string{"catalog must not import github.com/jackc/pgx/v5"}},
		{"snapshot knows Redis", p("snapshot", "github.com/redis/go-redis/v9"),
			[]string{"snapshot must not import github.com/redis/go-redis/v9"}},
		{"logbuf knows SQL", p("logbuf", "database/sql/driver"), []string{"logbuf must not import database/sql/driver"}},
		{"a sub-package belongs to its room", p("logbuf/spool", own("catalog")),
			[]string{"logbuf/spool must not import catalog"}},
		{"the root brings an engine", p(".", own("storage/redisstore")), []string{". must not import storage/redisstore"}},
		{"httpapi imports an engine", p("httpapi", module, own("storage/pgstore")),
			[]string{"httpapi must not import storage/pgstore"}},
		{"the client of the API brings the plane", p("httpapi/client", module), []string{"httpapi/client must not import ."}},
		{"the client of the API brings its server", p("httpapi/client", own("httpapi")),
			[]string{"httpapi/client must not import httpapi"}},
		{"the server imports anything", p("cmd/internal/server", module, own("storage/pgstore"), own("httpapi"),
			"github.com/redis/go-redis/v9"), nil},
		{"the command line talks to the API", p("cmd/internal/ctl/manifest", own("catalog"), "go.yaml.in/yaml/v4"), nil},
		{"the command line brings a server", p("cmd/internal/ctl", own("httpapi/client"), own("httpapi"), module),
			[]string{"cmd/internal/ctl must not import httpapi", "cmd/internal/ctl must not import ."}},
		{"a room that nobody drew", p("util"), []string{"util is in no room of the design"}},
		{"a name that only begins alike", p("catalogue"), []string{"catalogue is in no room of the design"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, check([]goPackage{tc.pkg})); diff != "" {
				t.Errorf("check (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRootStaysLight(t *testing.T) {
	root := list(t, ".")[0]
	if len(root.Deps) == 0 {
		t.Fatal("go list named no dependencies")
	}
	if got := within(root.Deps, notInRoot); len(got) > 0 {
		t.Errorf("the root package brings along %v", got)
	}
	if slices.Contains(root.Deps, "database/sql") { // its driver interfaces alone come with UUIDs
		t.Error("the root package brings along database/sql")
	}
	if got := within([]string{"fmt", "github.com/jackc/pgx/v5/pgconn", "modernc.org/libc"}, notInRoot); len(got) != 2 {
		t.Errorf("within found %v", got)
	}
}

// check returns a line for every import that design and libraries forbid.
func check(packages []goPackage) (wrong []string) {
	for _, p := range packages {
		name := shorten(p.ImportPath)
		allowed, ok := arrows[roomOf(name)]
		if !ok {
			wrong = append(wrong, name+" is in no room of the design")
			continue
		}
		room := roomOf(name)
		for _, path := range p.Imports {
			short := shorten(path)
			ours := short != path
			if ours && roomOf(short) != room && !slices.ContainsFunc(allowed, func(a string) bool { return inside(short, a) }) {
				wrong = append(wrong, name+" must not import "+short)
				continue
			}
			for library, rooms := range homes {
				if inside(path, library) && !slices.ContainsFunc(rooms, func(r string) bool { return inside(name, r) }) {
					wrong = append(wrong, name+" must not import "+short)
				}
			}
		}
	}
	return wrong
}

// shorten returns the path within the module, "." for the root; other paths as
// they are.
func shorten(path string) string {
	if path == module {
		return "."
	}
	if rest, ok := strings.CutPrefix(path, module+"/"); ok {
		return rest
	}
	return path
}

// roomOf returns the longest room that a package of ours is in.
func roomOf(name string) (room string) {
	for r := range arrows {
		if inside(name, r) && len(r) > len(room) {
			room = r
		}
	}
	return room
}

// inside reports whether a path is dir or below it; nothing is below ".".
func inside(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// within returns the paths that are in one of dirs.
func within(paths, dirs []string) (found []string) {
	for _, p := range paths {
		if slices.ContainsFunc(dirs, func(d string) bool { return inside(p, d) }) {
			found = append(found, p)
		}
	}
	return found
}

// list asks the go command for packages of this module.
func list(t *testing.T, pattern string) (packages []goPackage) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", pattern)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
		packages = append(packages, p)
	}
}
