package storagetest

import (
	"testing"

	"pgregory.net/rapid"
)

// checkSome checks a property as [rapid.Check] does, but on so many cases at most: where each costs many
// commits, and every engine is tested with cases of its own.
func checkSome(t testing.TB, most int, property func(*rapid.T)) {
	checked, failed := 0, false
	rapid.Check(t, func(r *rapid.T) {
		if checked >= most && !failed {
			return
		}
		checked++
		defer func() { failed = failed || r.Failed() }() // then it is tried again, with less
		property(r)
	})
}
