package catalog

import (
	"reflect"
	"slices"
	"testing"
)

// Every kind is known wherever it has to be, so that one that is added cannot be forgotten.
func TestEveryKindIsKnown(t *testing.T) {
	tables := reflect.TypeFor[Nouns]()
	if tables.NumField() != len(Kinds()) {
		t.Errorf("there are %d tables for %d kinds", tables.NumField(), len(Kinds()))
	}
	for i, k := range Kinds() {
		r := k.facts().new()
		if r.kind() != k {
			t.Errorf("a new record of %s is one of %s", k, r.kind())
		}
		f := k.facts()
		for _, of := range f.refers {
			if at := slices.Index(Kinds(), of); at < 0 || at > i {
				t.Errorf("%s refer to %s, which must come before them", k, of)
			}
		}
		if (f.field == "") != (len(f.refers) == 0) {
			t.Errorf("%s refer to %v by field %q", k, f.refers, f.field)
		}
		fields := fieldsOf(reflect.TypeOf(r).Elem())
		for _, name := range append(slices.Clone(f.key), f.field) {
			if _, ok := fields[name]; !ok && name != "" {
				t.Errorf("%s have no field %q", k, name)
			}
		}
		if _, ok := r.(holder); ok != f.tokens {
			t.Errorf("%s have tokens: %t, and the facts say %t", k, ok, f.tokens)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("nothing is said of a kind that is not known")
		}
	}()
	Kind("gizmos").facts()
}

// What refers to an entity is read back as that entity.
func TestTargets(t *testing.T) {
	for _, k := range Kinds() {
		for _, of := range k.Refers() {
			e := Entity{Kind: of, ID: 12, NaturalKey: "a/b"}
			got, ok := k.Target(k.RefTo(e))
			if !ok || got.Kind != of || got.ID != 12 && got.NaturalKey != "a/b" {
				t.Errorf("%s to %s: %q is read as %+v, %t", k, of, k.RefTo(e), got, ok)
			}
		}
		if ref := k.RefTo(Entity{Kind: KindHold, ID: 1, NaturalKey: "x"}); ref != "" {
			t.Errorf("%s refer to a hold by %q", k, ref)
		}
		if _, ok := k.Target(""); ok {
			t.Errorf("%s: nothing names something", k)
		}
	}
	for _, ref := range []string{"key", "key/", "key/x", "key/01", "key/-1", "key/1/2", "provider/1/m", "project/",
		"model/1", "x", "/"} {
		if got, ok := KindHold.Target(ref); ok {
			t.Errorf("%q is read as %+v", ref, got)
		}
	}
	if ref := KindHold.RefTo(Entity{Kind: KindProject}); ref != "" {
		t.Errorf("a project without a name is referred to by %q", ref)
	}
}
