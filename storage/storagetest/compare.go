package storagetest

import (
	"reflect"

	"github.com/google/go-cmp/cmp"
)

// differ is [cmp.Diff] with a short way for what is equal, which nearly everything is. [cmp.Diff] looks for the
// shortest difference at every step, and that was a third of the time of some suites.
func differ(want, got any, options ...cmp.Option) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got, options...)
}
