package catalog

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// timeForm is what RFC 3339 calls a time. Package time also takes hours of one digit, commas, and offsets of a day.
var timeForm = regexp.MustCompile(
	`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// Decode reads a noun from a JSON object in the form of the API. Absent fields
// and nulls are left to their defaults, unknown fields are errors, read-only
// fields are ignored, so that what was read can be sent again. A key may bring
// token or token_hashes. Errors name fields and never hold values.
func Decode[T Noun](data []byte) (T, error) {
	var v, zero T
	object, err := parseObject(data)
	if err != nil {
		return zero, err
	}
	if err := decodeObject(asRecord(&v), fieldsOf(reflect.TypeFor[T]()), object); err != nil {
		return zero, err
	}
	return v, nil
}

// decodeObject reads a record, which has these fields, from a parsed object.
func decodeObject(r record, fields structFields, object map[string]any) error {
	var errs FieldErrors
	r.receive(&errs, object, newBody)
	v := reflect.ValueOf(r).Elem()
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if field, ok := fields.writable(&errs, "", name); ok && object[name] != nil {
			assignField(&errs, name, field, v, object[name])
		}
	}
	return errs.err()
}

// body says what an object of the API is for.
type body int

const (
	newBody   body = iota // describes a whole record
	patchBody             // changes one
)

// structFields are the fields of a struct by their names in JSON, those of
// embedded structs included.
type structFields map[string]reflect.StructField

func fieldsOf(t reflect.Type) structFields {
	fields := structFields{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.Anonymous && f.IsExported() && name != "-" {
			fields[name] = f
		}
	}
	return fields
}

// writable finds the field that a member sets. It is false for one that the
// API ignores, and for one that does not exist, which is an error.
func (fields structFields) writable(errs *FieldErrors, path, name string) (reflect.StructField, bool) {
	field, ok := fields[name]
	if !ok {
		errs.add(memberPath(path, name), "is not a field of this resource")
		return field, false
	}
	return field, field.Tag.Get("readOnly") != "true"
}

// assignField sets a field of the struct v from a tree that is not null.
func assignField(errs *FieldErrors, path string, field reflect.StructField, v reflect.Value, tree any) {
	into, before := v.FieldByIndex(field.Index), len(*errs)
	if text, ok := tree.(string); ok && strings.TrimSpace(text) == "" {
		// It would count as absent: a variable that was not set must not restore a default.
		errs.add(path, "%s", emptyText(field))
		into.SetZero()
		return
	}
	assign(errs, path, into, tree)
	if len(*errs) > before {
		into.SetZero()
		return
	}
	// A zero would count as absent, and the default would take its place.
	if least, err := strconv.ParseInt(field.Tag.Get("min"), 10, 64); err == nil && into.CanInt() && into.Int() < least {
		errs.add(path, "must be at least %d; leave it out or send null for the default", least)
	}
}

// emptyText says why a field must not be an empty text, and what to send instead.
func emptyText(field reflect.StructField) string {
	if field.Tag.Get("create") == "required" {
		return "is required, and must not be empty"
	}
	return "must not be empty; leave it out or send null for the default"
}

// assign sets a value from a tree. null is the zero value.
func assign(errs *FieldErrors, path string, into reflect.Value, tree any) {
	into.SetZero()
	if tree == nil {
		return
	}
	switch v := into.Addr().Interface().(type) {
	case *Secret:
		text, ok := tree.(string)
		if !ok {
			errs.add(path, "must be a string")
		}
		*v = NewSecret(text)
		return
	case *NanoUSD:
		assignAmount(errs, path, v, tree)
		return
	case *time.Time:
		text, _ := tree.(string)
		t, err := time.Parse(time.RFC3339, strings.ToUpper(text)) // t and z mean the same
		switch {
		case err != nil || !timeForm.MatchString(text):
			errs.add(path, "must be an RFC 3339 time such as 2030-01-31T12:00:00Z")
		case t.Year() < 1970: // the zero time would be taken for an absent one
			errs.add(path, "must be a time from 1970 to 9999")
		}
		*v = t
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		assign(errs, path, into.Elem(), tree)
	case reflect.Bool:
		b, ok := tree.(bool)
		if !ok {
			errs.add(path, "must be true or false")
		}
		into.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, ok := tree.(json.Number)
		whole, whole64 := wholeNumber(string(n))
		if !ok || !whole64 {
			errs.add(path, "must be a whole number")
		}
		into.SetInt(whole)
	case reflect.String:
		s, ok := tree.(string)
		if !ok {
			errs.add(path, "must be a string")
		}
		into.SetString(s)
	case reflect.Slice:
		assignList(errs, path, into, tree)
	case reflect.Map:
		assignMap(errs, path, into, tree)
	case reflect.Struct:
		assignStruct(errs, path, into, tree)
	case reflect.Interface:
		into.Set(reflect.ValueOf(tree))
	default:
		panic(fmt.Sprintf("catalog: no JSON form for %s", into.Type())) // a mistake in this package
	}
}

func assignAmount(errs *FieldErrors, path string, into *NanoUSD, tree any) {
	var err error
	switch v := tree.(type) {
	case string:
		*into, err = ParseUSD(v)
	case json.Number:
		*into, err = roundUSD(string(v))
	default:
		errs.add(path, "must be an amount in USD, a string or a number")
	}
	if err != nil {
		errs.add(path, "%s", strings.TrimSuffix(err.Error(), ": "+ErrInvalid.Error()))
	}
}

func assignList(errs *FieldErrors, path string, into reflect.Value, tree any) {
	list, ok := tree.([]any)
	if !ok {
		errs.add(path, "must be a list")
		return
	}
	if len(list) > maxList {
		errs.add(path, "must have at most %d elements", maxList)
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(list), len(list)))
	for i, v := range list {
		if v == nil {
			errs.add(elementPath(path, i), "must not be null")
			continue
		}
		assign(errs, elementPath(path, i), into.Index(i), v)
	}
}

func assignMap(errs *FieldErrors, path string, into reflect.Value, tree any) {
	object, ok := tree.(map[string]any)
	if !ok {
		errs.add(path, "must be an object")
		return
	}
	of := into.Type().Elem()
	into.Set(reflect.MakeMapWithSize(into.Type(), len(object)))
	for _, name := range slices.Sorted(maps.Keys(object)) {
		v := reflect.New(of).Elem()
		if object[name] == nil && of.Kind() != reflect.Interface {
			errs.add(memberPath(path, name), "must not be null")
			continue
		}
		assign(errs, memberPath(path, name), v, object[name])
		into.SetMapIndex(reflect.ValueOf(name), v)
	}
}

func assignStruct(errs *FieldErrors, path string, into reflect.Value, tree any) {
	object, ok := tree.(map[string]any)
	if !ok {
		errs.add(path, "must be an object")
		return
	}
	fields := fieldsOf(into.Type())
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if field, ok := fields.writable(errs, path, name); ok && object[name] != nil {
			assignField(errs, path+"."+name, field, into, object[name])
		}
	}
}
