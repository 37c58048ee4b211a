//go:build race

package e2e_test

// buildFlags make the processes look for races when the tests do.
var buildFlags = []string{"-race"}
