package console

import (
	"encoding/json"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sayers are the files that say what a page may show: messages about fields, details of problems, warnings,
// notes of plans, steps of Explain, notes of readiness, alerts, and reasons of changes and holds.
func sayers(t *testing.T) (files []string) {
	t.Helper()
	for _, pattern := range []string{
		"../../*.go", "../../catalog/*.go", "../../catalog/alerts/*.go", "../../catalog/alerts/causes/*.go",
		"../../catalog/budgets/*.go", "../../catalog/clocks/*.go", "../../catalog/costs/*.go",
		"../../catalog/health/*.go", "../../catalog/operators/*.go", "../../catalog/pricefile/*.go",
		"../../catalog/upstreams/*.go",
		"../../logbuf/*query.go", "../../snapshot/explain.go", "../../snapshot/held.go", "../../snapshot/route.go",
		"../../snapshot/view.go",
		"../../snapshot/decide.go", "../../snapshot/look.go", "../*.go", "../internal/request/*.go",
		"../client/priceimport/*.go", "../../cmd/internal/server/console.go",
		"oidc.go", "prices.go",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		for _, name := range found {
			if !strings.HasSuffix(name, "_test.go") && !slices.Contains(documenting(), filepath.Base(name)) {
				files = append(files, name)
			}
		}
	}
	return files
}

// documenting are files of the API's own document, and of routes that no page calls.
func documenting() []string {
	return []string{
		"document.go", "details.go", "routes.go", "reach.go", "schema.go", "nouns.go", "distribute.go", "ingest.go",
		"auth.go", "doc.go", "tokens.go", "throttle.go",
	}
}

// A collector collects what a file says.
type collector struct {
	consts map[string]string
	said   map[string]string // where, by the format
	file   string
	set    *token.FileSet
	stack  []ast.Node
}

// formatsSaid returns the formats of all sentences, and where each is said.
func formatsSaid(t *testing.T) map[string]string {
	t.Helper()
	c := collector{consts: map[string]string{}, said: map[string]string{}, set: token.NewFileSet()}
	var trees []*ast.File
	files := sayers(t)
	for _, name := range files {
		tree, err := parser.ParseFile(c.set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tree)
		c.readConsts(tree)
	}
	for i, tree := range trees {
		c.file = files[i]
		ast.Inspect(tree, c.visit)
	}
	return c.said
}

// readConsts notes the texts that have names, which sentences are put together of.
func (c *collector) readConsts(tree *ast.File) {
	for _, d := range tree.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, s := range group.Specs {
			spec, _ := s.(*ast.ValueSpec)
			for i, value := range spec.Values {
				if text, literal := c.text(value); literal {
					c.consts[spec.Names[i].Name] = text
				}
			}
		}
	}
}

// text returns the format of a text that is put together of literals and other things.
func (c *collector) text(e ast.Expr) (format string, literal bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			return constant.StringVal(constant.MakeFromLiteral(e.Value, e.Kind, 0)), true
		}
	case *ast.Ident:
		if text, ok := c.consts[e.Name]; ok {
			return text, true
		}
	case *ast.ParenExpr:
		return c.text(e.X)
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			a, first := c.text(e.X)
			b, second := c.text(e.Y)
			return a + b, first || second
		}
	}
	return "%s", false
}

// visit takes the largest text at each place.
func (c *collector) visit(n ast.Node) bool {
	if n == nil {
		c.stack = c.stack[:len(c.stack)-1]
		return true
	}
	if c.silent(n) {
		return false
	}
	if call, ok := n.(*ast.CallExpr); ok && calls(call) == "tell" { // the name of a step may be one word
		if name, literal := c.text(call.Args[0]); literal {
			c.said[name] = c.set.Position(n.Pos()).String()
		}
	}
	if e, ok := n.(ast.Expr); ok {
		if format, literal := c.text(e); literal {
			if sentence.MatchString(format) && spoken.MatchString(verb.ReplaceAllString(format, "")) {
				c.said[format] = c.set.Position(n.Pos()).String()
			}
			return false
		}
	}
	c.stack = append(c.stack, n)
	return true
}

var (
	sentence = regexp.MustCompile(`^[A-Za-z(%;][^{}\x00]* [^{}\x00]*$`)
	spoken   = regexp.MustCompile(`[a-z]{2,}`)
)

// silent reports what is said to nobody who looks at a page: to the log, to the reader of the API's
// document, and in errors that are wrapped.
func (c *collector) silent(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ImportSpec:
		return true
	case *ast.Field:
		if n.Tag == nil {
			return false
		}
		tag, _ := strconv.Unquote(n.Tag.Value)
		if what := reflect.StructTag(tag).Get("patternDescription"); what != "" {
			c.said[what] = c.set.Position(n.Pos()).String()
		}
		return true
	case *ast.CallExpr:
		c.noteWrapped(n)
		name := calls(n)
		if name == "New" { // an error that has a name is shown in other words
			return !slices.ContainsFunc(c.stack, func(n ast.Node) bool { _, within := n.(*ast.FuncDecl); return within })
		}
		return slices.Contains([]string{
			"Debug", "Info", "Warn", "Error", "DebugContext", "InfoContext", "WarnContext", "ErrorContext", "Errorf",
			"panic", "handle", "handled", "problemResponse", "explains", "withHeader", "regularly", "Fprintf", "HasPrefix",
			"Join",
			"logRefusal", "NewRecord", "Cut", "Contains", "line", "MustCompile", "TrimPrefix", "TrimSuffix",
		}, name)
	case *ast.KeyValueExpr:
		key, _ := n.Key.(*ast.Ident)
		return key != nil && slices.Contains([]string{"Description", "Summary", "Identity", "Remedy", "Challenge"}, key.Name)
	}
	return false
}

// noteWrapped notes what is said of what a caller has sent wrongly.
func (c *collector) noteWrapped(call *ast.CallExpr) {
	if calls(call) != "Errorf" {
		return
	}
	format, _ := c.text(call.Args[0])
	wrapped, named := call.Args[len(call.Args)-1].(*ast.Ident)
	if other, ok := call.Args[len(call.Args)-1].(*ast.SelectorExpr); ok {
		wrapped, named = other.Sel, true
	}
	if named && slices.Contains([]string{"ErrInvalid", "ErrMalformed", "ErrMediaType", "ErrTooLarge"}, wrapped.Name) {
		c.said[strings.TrimSuffix(format, ": %w")] = c.set.Position(call.Pos()).String()
	}
}

// calls returns the name of what is called.
func calls(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// composed are formats of what is put together in several steps, of which the source has the parts alone.
func composed() []string {
	return []string{
		`active`, `disabled`,
		`ClickHouse cannot be asked: entries wait in the spool, logs and usage cannot be read`,
		`published by another catalog`,
		`would lose more than half of the documents`,
		`published by a control plane that this one must not overwrite`,
		`waiting for other control planes`,
		`the publisher refuses writes`,
		`%d of %d %s would go; re-synchronise with force if that is right`,
		`key is held%s`,
		`project of this key is held%s`,
		` because its budget is used up%s`,
		`, until %s: %s`,
		`, until %s`,
		`%s and %s name it; the lists stay as they are %s`,
		`%s name it; the lists stay as they are %s`,
		`%s names it; the lists stay as they are %s`,
		`%d key`,
		`%d keys`,
		`%d name`,
		`%d names`,
		`%d project`,
		`%d projects`,
		`%d list`,
		`%d lists`,
		`%d list was changed with it`,
		`%d lists were changed with it`,
		`the budget of %s USD a day (%s)`,
		`the budget of %s USD an hour (%s)`,
		`the budget of %s USD a week (%s)`,
		`the budget of %s USD a month (%s)`,
		`model`,
		`binding`,
		`key`,
		`hold`,
		`operator`,
		` from %d to %d`,
		` of at least %d`,
		`%d%% of the budget of %s of %s is spent: %s USD.`,
		`All of the budget of %s of %s is spent: %s USD.`,
		`%s USD a day (%s)`,
		`%s USD an hour (%s)`,
		`%s USD a week (%s)`,
		`%s USD a month (%s)`,
		`%s USD in total`,
	}
}

// unshown are texts that look like sentences and are on no page.
func unshown(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/unshown.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		format, err := strconv.Unquote(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, format)
	}
	return all
}

func messagesIn(t *testing.T, lang string) map[string]string {
	t.Helper()
	data, err := wordFiles.ReadFile("words/messages/" + lang + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var texts map[string]string
	if err := json.Unmarshal(data, &texts); err != nil {
		t.Fatal(err)
	}
	return texts
}

// TestMessagesAreComplete: whatever a page may show of what the API says has a text in each language. A new
// sentence gets one in words/messages, or a line in testdata/unshown.txt if no page shows it.
func TestMessagesAreComplete(t *testing.T) {
	said, hidden := formatsSaid(t), unshown(t)
	if len(said) < 250 {
		t.Fatalf("only %d sentences were found", len(said))
	}
	for i, lang := range languages() {
		texts := messagesIn(t, lang)
		for _, format := range slices.Sorted(maps.Keys(said)) {
			if _, ok := texts[format]; i > 0 && !ok && !slices.Contains(hidden, format) {
				t.Errorf("%s: %q has no text in %s", said[format], format, lang)
			}
		}
		for format := range texts {
			if _, ok := said[format]; !ok && !slices.Contains(composed(), format) {
				t.Errorf("%s: nothing says %q", lang, format)
			}
			if slices.Contains(hidden, format) {
				t.Errorf("%q has a text, and is in testdata/unshown.txt", format)
			}
		}
	}
	for _, format := range hidden {
		if _, ok := said[format]; !ok {
			t.Errorf("testdata/unshown.txt: nothing says %q", format)
		}
	}
}

// TestMessagesAreRecognised: each message is found by what was put into its format, and has the same places
// for arguments.
func TestMessagesAreRecognised(t *testing.T) {
	for _, lang := range languages() {
		m, err := loadMessages(lang)
		if err != nil {
			t.Fatal(err)
		}
		for format, text := range messagesIn(t, lang) {
			a, b := verb.FindAllString(format, -1), verb.FindAllString(text, -1)
			if len(a) != len(b) {
				t.Errorf("%q has the arguments %v, and %v in %s", format, a, b, lang)
			}
			fill := func(s string) string { return strings.ReplaceAll(verb.ReplaceAllString(s, "17"), "%%", "%") }
			if got, want := m.message(fill(format)), fill(text); got != want {
				t.Errorf("%q is %q, want %q", fill(format), got, want)
			}
		}
		if lang == "zh" {
			const english = "delete or change first what refers to it: binding (id 12); key alice bob (id 7); and others"
			const want = "请先删除或修改引用它的资源：绑定（id 12）；密钥 alice bob（id 7）；以及其他"
			if got := m.message(english); got != want {
				t.Errorf("%q is %q, want %q", english, got, want)
			}
		}
		if got := m.message("is new here"); got != "is new here" {
			t.Errorf("a message that is not known: %q", got)
		}
	}
}

// A text that only looks like many messages takes little time, and stays as it is.
func TestMessagesOfManyParts(t *testing.T) {
	for _, lang := range languages() {
		m, err := loadMessages(lang)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{strings.Repeat("a: b; ", 42), strings.Repeat("a; ", 300), strings.Repeat("a: ", 300)} {
			if got := m.message(text); got != text {
				t.Errorf("%s: %q is %q", lang, text, got)
			}
		}
	}
}
