//go:build race

package process

// buildFlags makes the processes look for races when the tests do.
func buildFlags() []string { return []string{"-race"} }
