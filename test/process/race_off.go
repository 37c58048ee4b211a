//go:build !race

package process

func buildFlags() []string { return nil }
