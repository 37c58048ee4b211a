package catalog

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// merge applies an RFC 7396 merge patch to a noun: null restores a field's
// default, objects are merged, everything else is replaced. What the patch does
// not name stays as it is, but for what can only be written, which is left out.
// named are the fields that the patch names.
func merge[T Noun](current T, patch []byte) (patched T, named map[string]bool, err error) {
	object, err := parseObject(patch)
	if err != nil {
		return patched, nil, err
	}
	var errs FieldErrors
	patched, named = current, map[string]bool{}
	asRecord(&patched).receive(&errs, object, patchBody)
	v, fields := reflect.ValueOf(&patched).Elem(), fieldsOf(reflect.TypeFor[T]())
	for _, field := range fields {
		if field.Tag.Get("writeOnly") == "true" {
			v.FieldByIndex(field.Index).SetZero()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		field, ok := fields.writable(&errs, "", name)
		if !ok {
			continue
		}
		named[name] = true
		if object[name] == nil {
			v.FieldByIndex(field.Index).SetZero()
			continue
		}
		tree, err := mergeField(v.FieldByIndex(field.Index), object[name])
		if err != nil {
			return patched, nil, err
		}
		assignField(&errs, name, field, v, tree)
	}
	return patched, named, errs.err()
}

// mergeField returns what a field becomes. Only objects have members to keep.
func mergeField(field reflect.Value, patch any) (any, error) {
	changes, ok := patch.(map[string]any)
	if !ok || field.Kind() != reflect.Map {
		return patch, nil
	}
	text, err := json.Marshal(map[string]any{"field": field.Interface()})
	if err != nil {
		return nil, fmt.Errorf("write the field as it is: %w", err)
	}
	stored, err := parseObject(text)
	if err != nil {
		return nil, fmt.Errorf("read the field as it is: %w", err)
	}
	return mergeObject(stored["field"], changes), nil
}

func mergeObject(target any, changes map[string]any) map[string]any {
	merged, ok := target.(map[string]any)
	if !ok {
		merged = map[string]any{}
	}
	for name, value := range changes {
		switch v := value.(type) {
		case nil:
			delete(merged, name)
		case map[string]any:
			merged[name] = mergeObject(merged[name], v)
		default:
			merged[name] = v
		}
	}
	return merged
}
