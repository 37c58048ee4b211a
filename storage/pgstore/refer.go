package pgstore

import (
	"maps"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// broken is a reference that a foreign key says is broken, without saying at which end.
type broken struct{ from, to catalog.Kind }

// brokenBy reads the name of the constraint: <table>_ref_<table that it refers to>.
func brokenBy(constraint string) (b broken, ok bool) {
	from, to, ok := strings.Cut(constraint, "_ref_")
	return broken{catalog.Kind(from), catalog.Kind(to)}, ok
}

// explain returns the error for a commit that broke the reference: [catalog.Dangling] when an
// entity that it wrote refers to nothing, else [catalog.Referenced]. Where the commit alone does
// not tell, it calls exist with targets, which returns how many of them are there without the commit.
func (b broken) explain(c catalog.Commit, exist func(ids []int64, naturalKeys []string) (int, error)) error {
	asked := map[catalog.Target]bool{} // what was written refers to these
	made := map[catalog.Target]bool{}  // what was written is these
	moved := false                     // whether targets went, or may have been renamed
	for _, w := range c.Writes {
		e := w.Entity
		if e.Kind == b.to {
			moved = moved || w.Delete || w.If != 0
			if !w.Delete {
				made[catalog.Target{Kind: b.to, ID: e.ID}] = true
				made[catalog.Target{Kind: b.to, NaturalKey: e.NaturalKey}] = true
			}
		}
		if t, ok := e.Kind.Target(e.Ref); ok && e.Kind == b.from && t.Kind == b.to && !w.Delete {
			asked[t] = true
		}
	}
	switch {
	case len(asked) == 0:
		return catalog.Referenced(b.to)
	case !moved:
		return catalog.Dangling(b.from)
	}

	maps.DeleteFunc(asked, func(t catalog.Target, _ bool) bool { return made[t] })
	var ids []int64
	var naturalKeys []string
	for t := range asked {
		if t.ID != 0 {
			ids = append(ids, t.ID)
		} else {
			naturalKeys = append(naturalKeys, t.NaturalKey)
		}
	}
	slices.Sort(ids)
	slices.Sort(naturalKeys)
	if n, err := exist(ids, naturalKeys); err != nil || n == len(asked) {
		return catalog.Referenced(b.to)
	}
	return catalog.Dangling(b.from)
}
