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
// not name stays as it is. kept says that the patch left the secret alone.
func merge[T Noun](current T, patch []byte) (patched T, kept bool, err error) {
	object, err := parseObject(patch)
	if err != nil {
		return patched, false, err
	}
	if _, ok := any(current).(Key); ok {
		dropUsage(object)
	}
	patched = current
	v, fields := reflect.ValueOf(&patched).Elem(), fieldsOf(reflect.TypeFor[T]())
	var errs FieldErrors
	for _, name := range slices.Sorted(maps.Keys(object)) {
		field, ok := fields.writable(&errs, "", name)
		if !ok {
			continue
		}
		if object[name] == nil {
			v.FieldByIndex(field.Index).SetZero()
			continue
		}
		tree, err := mergeField(v.FieldByIndex(field.Index), object[name])
		if err != nil {
			return patched, false, err
		}
		assignField(&errs, name, field, v, tree)
	}
	_, sent := object["api_key"]
	return patched, !sent, errs.err()
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
