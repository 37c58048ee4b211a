package docs

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// packages are those of the library that pages name, by where they are.
var packages = map[string]string{
	"ezapi": "", "catalog": "catalog", "snapshot": "snapshot", "logbuf": "logbuf", "httpapi": "httpapi",
	"metrics": "httpapi/metrics", "alerts": "catalog/alerts", "memstore": "storage/memstore",
	"sqlitestore": "storage/sqlitestore", "pgstore": "storage/pgstore", "redisstore": "storage/redisstore",
	"chstore": "storage/chstore", "storagetest": "storage/storagetest",
}

// parsed returns the files of a package without its tests.
func parsed(t *testing.T, dir string) (files []*ast.File) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// declared returns what a package declares.
func declared(files []*ast.File) map[string]bool {
	names := map[string]bool{}
	for _, f := range files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					names[d.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						names[s.Name.Name] = true
					case *ast.ValueSpec:
						for _, n := range s.Names {
							names[n.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

// What pages call by its name in Go is there.
func TestGoNamesInPages(t *testing.T) {
	known := map[string]map[string]bool{}
	for name, dir := range packages {
		known[name] = declared(parsed(t, dir))
	}
	pages, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(root + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\b([a-z]+)\.([A-Z]\w*)`)
	seen := 0
	for _, page := range append(pages, more...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range named.FindAllStringSubmatch(string(text), -1) {
			if names, ours := known[found[1]]; ours {
				seen++
				if !names[found[2]] {
					t.Errorf("%s: there is no %s", filepath.Base(page), found[0])
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d names were found", seen)
	}
}

// The files that package comments name are there.
func TestFilesInPackageComments(t *testing.T) {
	file := regexp.MustCompile(`[a-z0-9_/*]+\.go\b`)
	seen := 0
	for _, dir := range packages {
		for _, f := range parsed(t, dir) {
			if f.Doc == nil {
				continue
			}
			for _, name := range file.FindAllString(f.Doc.Text(), -1) {
				seen++
				here, err := filepath.Glob(filepath.Join(root, dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if there, _ := filepath.Glob(filepath.Join(root, name)); len(here)+len(there) == 0 {
					t.Errorf("package %s: there is no %s", f.Name.Name, name)
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d files were found", seen)
	}
}
