package docs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/httpapi"
)

const token = "admin-token-0123456789abcdef0123456789"

var console = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")

// step is a command, and what the page shows as its output, with … for what varies.
type step struct{ command, output string }

// steps returns the commands of a page.
func steps(text string) (all []step) {
	for _, block := range console.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(block[1]) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				all = append(all, step{command: strings.TrimSuffix(command, "\n")})
			} else if len(all) > 0 {
				all[len(all)-1].output += line
			}
		}
	}
	return all
}

// serve starts a control plane in memory that publishes, and returns where it is.
func serve(t *testing.T) string {
	t.Helper()
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = plane.Run(ctx)
	}()
	if _, err := plane.Sync(ctx); err != nil { // so that what comes has the same revisions each time
		t.Fatal(err)
	}
	server := httptest.NewServer(httpapi.New(plane, httpapi.Tokens(httpapi.TokenList{Admin: []string{token}}), nil))
	t.Cleanup(func() {
		server.Close()
		stop()
		<-done
		_ = plane.Close(context.Background())
	})
	return server.URL
}

// run runs the commands in one shell, and returns what each has said.
func run(t *testing.T, url string, all []step) []string {
	t.Helper()
	const mark = "@@ next @@"
	var script strings.Builder
	for _, s := range all {
		fmt.Fprintf(&script, "%s\necho; echo '%s'\n", s.command, mark)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "EZ_URL="+url, "EZ_TOKEN="+token, "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := strings.Split(string(out), "\n"+mark+"\n")
	if len(said) != len(all)+1 {
		t.Fatalf("%d commands said %d things:\n%s", len(all), len(said), out)
	}
	return said[:len(all)]
}

// pattern matches what a page shows.
func pattern(output string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(strings.TrimSpace(output))
	return regexp.MustCompile(`^` + strings.ReplaceAll(quoted, "…", `[^\n]*?`) + `$`)
}

// varying is what is written as … when a page is updated.
var varying = []*regexp.Regexp{
	regexp.MustCompile(`()[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z`), regexp.MustCompile(`()[0-9a-f]{8}-[0-9a-f-]{27}`),
	regexp.MustCompile(`("(?:priced_)?revision":|Etag: ")[0-9]+`),
}

// TestPages runs every command of a page. With EZ_TEST_UPDATE_DOCS=1 it writes into the page what
// it has seen.
func TestPages(t *testing.T) {
	for _, page := range []string{"http-api.md", "concepts.md", "logs.md"} {
		t.Run(page, func(t *testing.T) {
			file := filepath.Join("../../docs", page)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all := steps(string(text))
			if len(all) < 5 {
				t.Fatalf("the page has %d commands", len(all))
			}
			said := run(t, serve(t), all)
			if os.Getenv("EZ_TEST_UPDATE_DOCS") != "" {
				update(t, file, string(text), said)
				return
			}
			for i, s := range all {
				if got := strings.TrimSpace(strings.ReplaceAll(said[i], "\r", "")); !pattern(s.output).MatchString(got) {
					t.Errorf("$ %s\nsays\n%s\nand the page shows\n%s", s.command, got, s.output)
				}
			}
		})
	}
}

// update writes a page with what the commands have said.
func update(t *testing.T, file, text string, said []string) {
	t.Helper()
	next := 0
	text = console.ReplaceAllStringFunc(text, func(block string) string {
		out := "```console\n"
		for line := range strings.Lines(block) {
			if !strings.HasPrefix(line, "$ ") {
				continue
			}
			out += line
			if got := strings.TrimSpace(strings.ReplaceAll(said[next], "\r", "")); got != "" {
				for _, v := range varying {
					got = v.ReplaceAllString(got, "${1}…")
				}
				out += got + "\n"
			}
			next++
		}
		return out + "```"
	})
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // it is for everybody
		t.Fatal(err)
	}
}

var fields = regexp.MustCompile(`(?s)(<!-- fields -->\n).*?(<!-- /fields -->)`)

// TestLimitsOfFields: the table of fields is what the OpenAPI document says. With
// EZ_TEST_UPDATE_DOCS=1 it is written.
func TestLimitsOfFields(t *testing.T) {
	resp, err := http.Get(serve(t) + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var document struct {
		Components struct{ Schemas map[string]schema }
	}
	if err := json.NewDecoder(resp.Body).Decode(&document); err != nil {
		t.Fatal(err)
	}
	table := "| resource | field | limit |\n|---|---|---|\n"
	for _, name := range slices.Sorted(maps.Keys(document.Components.Schemas)) {
		noun, ok := strings.CutSuffix(name, "Create")
		if !ok || noun == "LogEntry" {
			continue
		}
		properties := document.Components.Schemas[name].Properties
		for _, field := range slices.Sorted(maps.Keys(properties)) {
			if limit := properties[field].limit(); limit != "" {
				table += fmt.Sprintf("| %s | `%s` | %s |\n", strings.ToLower(noun), field, limit)
			}
		}
	}
	const file = "../../docs/limits.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := fields.ReplaceAllLiteralString(string(text), "<!-- fields -->\n"+table+"<!-- /fields -->")
	if os.Getenv("EZ_TEST_UPDATE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil { //nolint:gosec // it is for everybody
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("the table of fields (-document +page); EZ_TEST_UPDATE_DOCS=1 writes it:\n%s", diff)
	}
}

// schema is what of a schema says how large something may be.
type schema struct {
	MinLength, MaxLength, MaxItems, MaxProperties *int
	Minimum, Maximum                              *float64
	Items                                         *schema
	Properties                                    map[string]schema
}

func (s schema) limit() string {
	var all []string
	switch {
	case s.MaxItems != nil:
		all = append(all, fmt.Sprintf("%d elements", *s.MaxItems))
		if s.Items != nil && s.Items.limit() != "" {
			all = append(all, "each "+s.Items.limit())
		}
	case s.MaxProperties != nil:
		all = append(all, fmt.Sprintf("%d names", *s.MaxProperties))
	case s.MaxLength != nil:
		all = append(all, fmt.Sprintf("%d characters", *s.MaxLength))
	case s.Minimum != nil && s.Maximum != nil:
		all = append(all, fmt.Sprintf("%.0f to %.0f", *s.Minimum, *s.Maximum))
	}
	return strings.Join(all, ", ")
}
