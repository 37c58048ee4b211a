package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	const pg = "github.com/ez-api/ez-api/storage/pgstore"
	for _, tc := range []struct {
		name   string
		events string
		last   string
		ok     bool
		says   string
	}{
		{
			name: "all pass",
			events: `{"Action":"pass","Package":"` + pg + `","Test":"TestStore/lost_update"}
{"Action":"pass","Package":"` + pg + `","Test":"TestStore"}
{"Action":"pass","Package":"` + pg + `","Elapsed":1.5}
`,
			last: "2 passed, 0 failed", ok: true, says: "PostgreSQL 2,",
		},
		{
			name: "the slowest come first, without their subtests",
			events: `{"Action":"pass","Package":"p","Test":"TestQuick","Elapsed":0.1}
{"Action":"pass","Package":"p","Test":"TestSlow/part","Elapsed":9}
{"Action":"pass","Package":"p","Test":"TestSlow","Elapsed":9.5}
{"Action":"pass","Package":"p","Elapsed":9.6}
`,
			last: "3 passed, 0 failed", ok: true, says: "the slowest tests:\n    9.5s  p TestSlow\n    0.1s  p TestQuick\n",
		},
		{
			name: "one fails, and its output is shown",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"  a_test.go:1: broken\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}
`,
			last: "0 passed, 1 failed", says: "a_test.go:1: broken",
		},
		{
			name: "a skip fails the whole",
			events: `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}
`,
			last: "1 passed, 0 failed, 1 skipped", says: "SKIP p TestB",
		},
		{
			name: "a package does not build",
			events: `{"Action":"build-output","ImportPath":"p","Output":"p.go:1: syntax error\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`,
			last: "0 passed, 1 failed", says: "syntax error",
		},
		{
			name: "a package ends in the middle of a test",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: oh\n"}
{"Action":"fail","Package":"p"}
`,
			last: "0 passed, 1 failed", says: "panic: oh",
		},
		{
			name:   "the go command itself fails",
			events: "go: cannot find main module\n" + `{"Action":"exit-failed","Package":"test"}` + "\n",
			last:   "0 passed, 1 failed", says: "cannot find main module",
		},
		{name: "nothing ran", events: "", last: "0 passed, 0 failed", says: "no test ran"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			s := newSummary()
			s.read(strings.NewReader(tc.events), &out)
			if ok := s.report(&out, []string{"the tests on ClickHouse"}); ok != tc.ok {
				t.Errorf("report = %v, want %v", ok, tc.ok)
			}
			lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
			if got := lines[len(lines)-1]; got != tc.last {
				t.Errorf("last line is %q, want %q", got, tc.last)
			}
			for _, says := range []string{tc.says, "\nNOT RUN: the tests on ClickHouse\n"} {
				if !strings.Contains(out.String(), says) {
					t.Errorf("output does not say %q:\n%s", says, &out)
				}
			}
		})
	}
}
