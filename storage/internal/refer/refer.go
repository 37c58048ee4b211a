// Package refer tells the two ends of a broken reference apart for databases
// that only say that a foreign key was violated.
package refer

import (
	"maps"
	"slices"

	"github.com/ez-api/ez-api/catalog"
)

// Explain returns the error for a commit that left a binding without its
// model: [catalog.Dangling] when a binding that it wrote names no model, else
// [catalog.Referenced]. Where the commit alone does not tell, it calls exist
// with natural keys, which returns how many of them models have.
func Explain(c catalog.Commit, exist func(naturalKeys []string) (int, error)) error {
	refs := map[string]bool{}   // referred to by what was written
	models := map[string]bool{} // names that models were given
	moved := false              // whether models went, or may have been renamed
	for _, w := range c.Writes {
		switch e := w.Entity; {
		case e.Kind == catalog.KindModel:
			moved = moved || w.Delete || w.If != 0
			if !w.Delete {
				models[e.NaturalKey] = true
			}
		case e.Ref != "" && !w.Delete:
			refs[e.Ref] = true
		}
	}
	switch {
	case len(refs) == 0:
		return catalog.Referenced(catalog.KindModel)
	case !moved:
		return catalog.Dangling(catalog.KindBinding)
	}

	maps.DeleteFunc(refs, func(ref string, _ bool) bool { return models[ref] })
	if n, err := exist(slices.Sorted(maps.Keys(refs))); err != nil || n == len(refs) {
		return catalog.Referenced(catalog.KindModel)
	}
	return catalog.Dangling(catalog.KindBinding)
}
