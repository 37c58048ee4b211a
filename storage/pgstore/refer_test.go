package pgstore

import (
	"errors"
	"slices"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

func TestBrokenReferenceIsExplained(t *testing.T) {
	model := func(name string, at catalog.Revision) catalog.Write {
		return catalog.Write{If: at, Entity: catalog.Entity{Kind: catalog.KindModel, NaturalKey: name}}
	}
	binding := func(ref string) catalog.Write {
		return catalog.Write{Entity: catalog.Entity{Kind: catalog.KindBinding, Ref: ref}}
	}
	gone := catalog.Write{If: 1, Delete: true, Entity: catalog.Entity{Kind: catalog.KindModel}}
	unbound := catalog.Write{If: 1, Delete: true, Entity: catalog.Entity{Kind: catalog.KindBinding, Ref: "none"}}
	hold := catalog.Write{Entity: catalog.Entity{Kind: catalog.KindHold, Ref: "key/7"}}
	key := func(id int64, removed bool) catalog.Write {
		return catalog.Write{If: 1, Delete: removed, Entity: catalog.Entity{Kind: catalog.KindKey, ID: id}}
	}

	for name, tt := range map[string]struct {
		constraint string
		writes     []catalog.Write
		want       error
	}{
		"binding without model": {"bindings_ref_models", []catalog.Write{binding("none")},
			catalog.Dangling(catalog.KindBinding)},
		"model deleted": {"bindings_ref_models", []catalog.Write{gone},
			catalog.Referenced(catalog.KindModel)},
		"model renamed": {"bindings_ref_models", []catalog.Write{model("new", 1)},
			catalog.Referenced(catalog.KindModel)},
		"binding without model beside a new model": {"bindings_ref_models",
			[]catalog.Write{model("new", 0), binding("none")}, catalog.Dangling(catalog.KindBinding)},
		"binding without model, another deleted": {"bindings_ref_models", []catalog.Write{gone, binding("none")},
			catalog.Dangling(catalog.KindBinding)},
		"binding to a model that is, another gone": {"bindings_ref_models", []catalog.Write{gone, binding("there")},
			catalog.Referenced(catalog.KindModel)},
		"binding to a model just made, another gone": {"bindings_ref_models",
			[]catalog.Write{model("new", 0), gone, binding("new")}, catalog.Referenced(catalog.KindModel)},
		"binding deleted, model too": {"bindings_ref_models", []catalog.Write{unbound, gone},
			catalog.Referenced(catalog.KindModel)},
		"hold of no key": {"holds_ref_keys", []catalog.Write{hold},
			catalog.Dangling(catalog.KindHold)},
		"hold of a key that goes": {"holds_ref_keys", []catalog.Write{hold, key(7, true)},
			catalog.Dangling(catalog.KindHold)},
		"hold of a key that stays, another goes": {"holds_ref_keys",
			[]catalog.Write{hold, key(7, false), key(8, true)}, catalog.Referenced(catalog.KindKey)},
	} {
		t.Run(name, func(t *testing.T) {
			b, ok := brokenBy(tt.constraint)
			if !ok {
				t.Fatal("the constraint is not known")
			}
			err := b.explain(catalog.Commit{Writes: tt.writes}, func(_ []int64, keys []string) (n int, err error) {
				for _, key := range keys {
					if slices.Contains([]string{"there"}, key) {
						n++
					}
				}
				return n, nil
			})
			if !errors.Is(err, catalog.ErrReferenced) || err.Error() != tt.want.Error() {
				t.Errorf("%v; want %v", err, tt.want)
			}
		})
	}
	if _, ok := brokenBy("keys_pkey"); ok {
		t.Error("a primary key is taken for a reference")
	}
}
