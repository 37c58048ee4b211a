package lint_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/semver"
)

// A dependency is a module that a build has packages of.
type dependency struct{ path, version, dir string }

// dependencies lists those of a module of ours, and with -test those of its tests, too.
func dependencies(t *testing.T, module string, flags ...string) (all []dependency) {
	t.Helper()
	args := slices.Concat([]string{"list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}} {{.Dir}}{{end}}"},
		flags, []string{"./..."})
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = filepath.Join(root, module)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || strings.HasPrefix(fields[0], "github.com/ez-api/") {
			continue
		}
		if d := (dependency{fields[0], fields[1], fields[2]}); !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d dependencies found", len(all))
	}
	return all
}

// licences are those under which we take what others wrote, each by words that only it has.
var licences = map[string]*regexp.Regexp{
	"MIT":        regexp.MustCompile(`Permission is hereby granted, free of charge, to any person obtaining a copy`),
	"ISC":        regexp.MustCompile(`Permission to use, copy, modify, and(/or)? distribute this software for any purpose`),
	"BSD":        regexp.MustCompile(`Redistribution and use in source and binary forms, with or without modification`),
	"Apache-2.0": regexp.MustCompile(`Apache License\s+Version 2\.0`),
}

// copyleft are those that only tests may have: they ask for more than to be named.
var copyleft = map[string]*regexp.Regexp{
	"MPL-2.0": regexp.MustCompile(`Mozilla Public License,?\s+[Vv]ersion 2\.0`),
}

// licenceOf returns the licence of a module, by its files; empty when it is none that we know.
func licenceOf(t *testing.T, dir string, known map[string]*regexp.Regexp) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := strings.ToLower(entry.Name()); entry.IsDir() || !licenceFile.MatchString(name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Join(strings.Fields(string(text)), " ")
		for name, pattern := range known {
			if pattern.MatchString(words) {
				return name
			}
		}
	}
	return ""
}

var licenceFile = regexp.MustCompile(`^(licen[sc]e|copying)`)

// Whoever embeds the library takes its dependencies along, so each has a licence that lets them.
func TestLicences(t *testing.T) {
	for _, d := range dependencies(t, ".") {
		if licenceOf(t, d.dir, licences) == "" && !slices.Contains(linkedOnly, d.path) {
			t.Errorf("%s %s has the licence %q, which is none of those that we take", d.path, d.version,
				licenceOf(t, d.dir, copyleft))
		}
	}
	for _, module := range modules {
		for _, d := range dependencies(t, module, "-test") {
			if licenceOf(t, d.dir, licences) == "" && licenceOf(t, d.dir, copyleft) == "" {
				t.Errorf("%s %s, which tests need, has no licence that we know", d.path, d.version)
			}
		}
	}
}

// linkedOnly are modules under a licence of the second kind, which asks nothing of who only links
// them: two that the command line has, and one that the suites for engines have.
var linkedOnly = []string{
	"github.com/hashicorp/errwrap", "github.com/hashicorp/go-multierror", "pgregory.net/rapid",
}

// Dependencies have no vulnerability that is known: to the database of Go where that can be reached,
// else to the list in testdata.
func TestVulnerabilities(t *testing.T) {
	text := read(t, "test/lint/testdata/advisories.txt")
	var all []dependency
	for _, module := range modules {
		all = append(all, dependencies(t, module, "-test")...)
	}
	listed := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] == "#" {
			continue
		}
		listed++
		for _, d := range all {
			if d.path == fields[0] && !mended(d.version, strings.Split(fields[1], ",")) {
				t.Errorf("%s %s has the vulnerability %s: take %s", d.path, d.version, fields[2], fields[1])
			}
		}
	}
	if listed < 20 {
		t.Errorf("only %d advisories in the list", listed)
	}

	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Head("https://vuln.go.dev/index/db.json")
	if err != nil {
		t.Logf("the database of vulnerabilities cannot be reached, so only the list was looked through: %v", err)
		return
	}
	_ = resp.Body.Close()
	binary := filepath.Join(t.TempDir(), "govulncheck")
	command(t, "test", "go", "build", "-o", binary, "golang.org/x/vuln/cmd/govulncheck")
	for _, module := range modules {
		command(t, module, binary, "./...")
	}
}

// mended reports whether a version is past a vulnerability that was mended in some versions, of
// different lines.
func mended(version string, in []string) bool {
	for _, fixed := range in {
		fixed = "v" + fixed
		if semver.MajorMinor(version) == semver.MajorMinor(fixed) {
			return semver.Compare(version, fixed) >= 0
		}
	}
	return semver.Compare(version, "v"+in[len(in)-1]) > 0
}

func TestMended(t *testing.T) {
	for _, c := range []struct {
		version string
		in      string
		want    bool
	}{
		{"v1.2.3", "1.2.8,1.3.3", false},
		{"v1.2.9", "1.2.8,1.3.3", true},
		{"v1.3.2", "1.2.8,1.3.3", false},
		{"v1.4.0", "1.2.8,1.3.3", true},
		{"v1.1.9", "1.2.8,1.3.3", false},
		{"v27.1.1+incompatible", "27.1.1", true},
		{"v0.0.0-20200101000000-33da011f77ad", "0.0.0-20220412211240-33da011f77ad", false},
	} {
		if got := mended(c.version, strings.Split(c.in, ",")); got != c.want {
			t.Errorf("%s, mended in %s: %t", c.version, c.in, got)
		}
	}
}
