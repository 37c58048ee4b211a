package catalog

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fill sets everything that v holds to something that is no default.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch into := v.Addr().Interface().(type) {
	case *Secret:
		*into = NewSecret("sk-0123456789abcdef")
		return
	case *time.Time:
		*into = time.Date(2031, 2, 3, 4, 5, 6, 7000, time.UTC)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x<&>é")
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
		if v.Elem().Kind() == reflect.Bool {
			v.Elem().SetBool(false) // the default is true
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		e := reflect.New(v.Type().Elem()).Elem()
		if e.Kind() == reflect.Interface {
			e.Set(reflect.ValueOf(map[string]any{"deep": []any{json.Number("1e300"), "x<", nil, true}}))
		} else {
			fill(t, e)
		}
		v.SetMapIndex(reflect.ValueOf("a.b"), e)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i))
			}
		}
	default:
		t.Fatalf("how is a %s filled?", v.Type())
	}
}

func testNoFieldIsLost[T Noun](t *testing.T) {
	ring := NewRandomKeyRing()
	stored := func(v *T) (Entity, T) {
		t.Helper()
		e, err := encode(asRecord(v), ring)
		if err != nil {
			t.Fatal(err)
		}
		var back T
		if err := asRecord(&back).decode(e, ring); err != nil {
			t.Fatal(err)
		}
		return e, back
	}
	compare := []cmp.Option{
		cmp.Comparer(func(a, b Secret) bool { return a.Equal(b) }),
		// never stored
		cmp.FilterPath(func(p cmp.Path) bool {
			return slices.Contains([]string{"Credential.Token", "Sealed", "Meta.Damaged"}, p.String())
		},
			cmp.Ignore()),
	}

	var v T
	fill(t, reflect.ValueOf(&v).Elem())
	_, back := stored(&v)
	if diff := cmp.Diff(v, back, compare...); diff != "" {
		t.Errorf("every field set (-written +read):\n%s", diff)
	}

	// A record that is acceptable comes back as it is, and normalizing it again
	// changes nothing.
	var plain T
	fields := fieldsOf(reflect.TypeFor[T]())
	for _, name := range []string{"name", "model"} {
		if f, ok := fields[name]; ok {
			reflect.ValueOf(&plain).Elem().FieldByIndex(f.Index).SetString("x")
		}
	}
	asRecord(&plain).normalize()
	e, back := stored(&plain)
	asRecord(&back).normalize()
	if diff := cmp.Diff(plain, back, compare...); diff != "" {
		t.Errorf("every field at its default (-written +read):\n%s", diff)
	}

	// A spec says what the defaults were when it was written: another version may
	// have others.
	var spec map[string]json.RawMessage
	if err := json.Unmarshal(e.Spec, &spec); err != nil {
		t.Fatal(err)
	}
	meta := fieldsOf(reflect.TypeFor[Meta]())
	for name, f := range fields {
		_, there := spec[name]
		_, column := meta[name]
		if column = column || f.Tag.Get("store") == "-" && name != "api_key"; there == column {
			t.Errorf("field %s: in the spec %t, in a column %t", name, there, column)
		}
	}
}

// A field that is added is stored and read back without a word about it
// anywhere else.
func TestNoFieldIsLost(t *testing.T) {
	t.Run("project", testNoFieldIsLost[Project])
	t.Run("provider", testNoFieldIsLost[Provider])
	t.Run("model", testNoFieldIsLost[Model])
	t.Run("binding", testNoFieldIsLost[Binding])
	t.Run("key", testNoFieldIsLost[Key])
	t.Run("operator", testNoFieldIsLost[Operator])
	t.Run("hold", testNoFieldIsLost[Hold])
}

// Every field of a noun can be decoded from JSON and be patched.
func TestEveryFieldHasAJSONForm(t *testing.T) {
	for _, k := range Kinds() {
		typ := reflect.TypeOf(k.facts().new()).Elem()
		v := reflect.New(typ).Elem()
		fill(t, v)
		for name, f := range fieldsOf(typ) {
			if f.Tag.Get("readOnly") == "true" || f.Type == reflect.TypeFor[Secret]() {
				continue
			}
			text, err := plainJSON(map[string]any{name: v.FieldByIndex(f.Index).Interface()})
			if err != nil {
				t.Fatal(err)
			}
			object, err := parseObject(text)
			if err != nil {
				t.Fatal(err)
			}
			var errs FieldErrors
			into := reflect.New(typ).Elem()
			assignField(&errs, name, f, into, object[name])
			if diff := cmp.Diff(v.FieldByIndex(f.Index).Interface(),
				into.FieldByIndex(f.Index).Interface()); diff != "" || len(errs) > 0 {
				t.Errorf("%s.%s (-written +read): %v\n%s", typ.Name(), name, errs, diff)
			}
			if f.Tag.Get("doc") == "" && !strings.HasSuffix(name, "_hint") {
				t.Errorf("%s.%s has no doc tag", typ.Name(), name)
			}
		}
	}
}
