package refer_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/internal/refer"
)

func TestExplain(t *testing.T) {
	model := func(name string, at catalog.Revision) catalog.Write {
		return catalog.Write{If: at, Entity: catalog.Entity{Kind: catalog.KindModel, NaturalKey: name}}
	}
	binding := func(ref string) catalog.Write {
		return catalog.Write{Entity: catalog.Entity{Kind: catalog.KindBinding, Ref: ref}}
	}
	gone := catalog.Write{If: 1, Delete: true, Entity: catalog.Entity{Kind: catalog.KindModel}}
	unbound := catalog.Write{If: 1, Delete: true, Entity: catalog.Entity{Kind: catalog.KindBinding, Ref: "none"}}

	for name, tt := range map[string]struct {
		writes   []catalog.Write
		dangling bool
	}{
		"binding without model":                      {[]catalog.Write{binding("none")}, true},
		"model deleted":                              {[]catalog.Write{gone}, false},
		"model renamed":                              {[]catalog.Write{model("new", 1)}, false},
		"binding without model beside a new model":   {[]catalog.Write{model("new", 0), binding("none")}, true},
		"binding without model, another deleted":     {[]catalog.Write{gone, binding("none")}, true},
		"binding to a model that is, another gone":   {[]catalog.Write{gone, binding("there")}, false},
		"binding to a model just made, another gone": {[]catalog.Write{model("new", 0), gone, binding("new")}, false},
		"binding deleted, model too":                 {[]catalog.Write{unbound, gone}, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := refer.Explain(catalog.Commit{Writes: tt.writes}, func(keys []string) (n int, err error) {
				for _, key := range keys {
					if slices.Contains([]string{"there"}, key) {
						n++
					}
				}
				return n, nil
			})
			if !errors.Is(err, catalog.ErrReferenced) || catalog.IsDangling(err) != tt.dangling {
				t.Errorf("%v; dangling: %t, want %t", err, catalog.IsDangling(err), tt.dangling)
			}
		})
	}
}
