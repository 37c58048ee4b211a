// Command summary reads the events of `go test -json` and says what happened:
// a line per package, the output of what failed, how many tests ran on each
// engine, what was not run as its arguments say, and last one line, "N passed,
// N failed". It fails when a test failed, and when one was skipped: a test that
// did not run says nothing.
package main

import (
	"os"
)

func main() {
	s := newSummary()
	s.read(os.Stdin, os.Stdout)
	if !s.report(os.Stdout, os.Args[1:]) {
		os.Exit(1)
	}
}
