package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// An event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of what does not build
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// exitFailed is the action of a line that the caller adds when go test itself
// ended with an error, so that a failure without events is not overlooked.
const exitFailed = "exit-failed"

// engines are what tests run on, in the order of the report.
var engines = []string{"memory", "SQLite", "PostgreSQL", "Redis", "miniredis"}

type summary struct {
	passed, failed, skipped int
	byEngine                map[string]int
	output                  map[string][]string // of tests at work, by package and test
	tests                   map[string]int      // by package
	bad                     []string            // what failed or was skipped
	slowest                 []timing            // tests without their subtests, the slowest first
}

// A timing is how long a test took.
type timing struct {
	name    string
	seconds float64
}

// maxSlowest is how many of the slowest tests are named.
const maxSlowest = 10

func newSummary() *summary {
	return &summary{byEngine: map[string]int{}, output: map[string][]string{}, tests: map[string]int{}}
}

// read takes events until r ends and writes what is worth seeing at once.
func (s *summary) read(r io.Reader, w io.Writer) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprintln(w, strings.TrimRight(line, "\n")) // of the go command itself
			} else {
				s.take(e, w)
			}
		}
		if err != nil {
			return
		}
	}
}

func (s *summary) take(e event, w io.Writer) {
	id := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		s.output[id] = append(s.output[id], e.Output)
	case "build-output":
		fmt.Fprint(w, e.Output)
	case exitFailed:
		if s.failed == 0 {
			s.failed++
			s.bad = append(s.bad, "FAIL "+e.Package+" (go test itself)")
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e, w)
		} else {
			s.endTest(e, w)
		}
		delete(s.output, id)
	}
}

func (s *summary) endTest(e event, w io.Writer) {
	s.tests[e.Package]++
	name := e.Package + " " + e.Test
	s.time(name, e)
	switch e.Action {
	case "pass":
		s.passed++
		for _, engine := range enginesOf(e.Package, e.Test) {
			s.byEngine[engine]++
		}
		return
	case "fail":
		s.failed++
		s.bad = append(s.bad, "FAIL "+name)
	case "skip":
		s.skipped++
		s.bad = append(s.bad, "SKIP "+name)
	}
	fmt.Fprint(w, strings.Join(s.output[e.Package+" "+e.Test], ""))
}

// time keeps a test among the slowest if it is one of them.
func (s *summary) time(name string, e event) {
	if strings.Contains(e.Test, "/") {
		return // part of the test above it
	}
	s.slowest = append(s.slowest, timing{strings.TrimPrefix(name, "github.com/ez-api/ez-api/"), e.Elapsed})
	slices.SortStableFunc(s.slowest, func(a, b timing) int { return cmp.Compare(b.seconds, a.seconds) })
	s.slowest = s.slowest[:min(len(s.slowest), maxSlowest)]
}

// endPackage counts a package that failed for another reason than its tests: it does not build,
// or it ended in the middle.
func (s *summary) endPackage(e event, w io.Writer) {
	short := strings.TrimPrefix(e.Package, "github.com/ez-api/")
	switch {
	case e.Action == "pass":
		fmt.Fprintf(w, "ok    %-36s %5.1fs  %d tests\n", short, e.Elapsed, s.tests[e.Package])
	case e.Action == "fail":
		fmt.Fprintf(w, "FAIL  %-36s %5.1fs  %d tests\n", short, e.Elapsed, s.tests[e.Package])
		inTest := false
		for _, b := range s.bad {
			inTest = inTest || strings.HasPrefix(b, "FAIL "+e.Package+" ")
		}
		if !inTest {
			s.failed++
			s.bad = append(s.bad, "FAIL "+e.Package)
		}
		for id, output := range s.output { // of the package, and of tests that never ended
			if strings.HasPrefix(id, e.Package+" ") && (!inTest || id == e.Package+" ") {
				fmt.Fprint(w, strings.Join(output, ""))
			}
		}
	}
}

// report writes the whole, the counts last, and reports whether all is well. leftOut says what the
// caller has not run.
func (s *summary) report(w io.Writer, leftOut []string) bool {
	fmt.Fprintln(w)
	for _, b := range s.bad {
		fmt.Fprintln(w, b)
	}
	if len(s.slowest) > 0 {
		fmt.Fprintln(w, "the slowest tests:")
	}
	for _, t := range s.slowest {
		fmt.Fprintf(w, "%7.1fs  %s\n", t.seconds, t.name)
	}
	fmt.Fprint(w, "tests by engine:")
	for i, engine := range engines {
		if i > 0 {
			fmt.Fprint(w, ",")
		}
		fmt.Fprintf(w, " %s %d", engine, s.byEngine[engine])
	}
	fmt.Fprintln(w)
	for _, what := range leftOut {
		fmt.Fprintln(w, "NOT RUN:", what)
	}
	if s.passed+s.failed == 0 {
		fmt.Fprintln(w, "no test ran")
	}
	if s.skipped > 0 {
		fmt.Fprintln(w, "a skipped test counts as a failure of the whole")
		fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	} else {
		fmt.Fprintf(w, "%d passed, %d failed\n", s.passed, s.failed)
	}
	return s.passed > 0 && s.failed == 0 && s.skipped == 0
}

// enginesOf says what a test ran on, by its package and by the words of its name.
func enginesOf(pkg, test string) (on []string) {
	name := strings.ToLower(test)
	switch room := strings.TrimPrefix(pkg, "github.com/ez-api/ez-api/"); {
	case room == "storage/memstore":
		on = append(on, "memory")
	case room == "storage/sqlitestore":
		on = append(on, "SQLite")
	case room == "storage/pgstore":
		on = append(on, "PostgreSQL")
	case room == "storage/redisstore" && strings.Contains(name, "miniredis"):
		on = append(on, "miniredis")
	case room == "storage/redisstore":
		on = append(on, "Redis")
	case strings.HasPrefix(room, "test/e2e"):
		if strings.Contains(name, "embedded") {
			on = append(on, "SQLite", "miniredis")
		} else {
			on = append(on, "PostgreSQL", "Redis")
		}
	}
	return on
}
