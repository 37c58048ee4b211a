package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrMalformed says that a text is not a JSON object at all. Everything else
// that can be wrong with one is a [FieldError].
var ErrMalformed = errors.New("malformed JSON")

// Decode reads a noun from a JSON object in the form of the API. Absent fields
// and nulls are left to their defaults, unknown fields are errors, read-only
// fields are ignored, so that what was read can be sent again. A key may bring
// token or token_hashes. Errors name fields and never hold values.
func Decode[T Noun](data []byte) (T, error) {
	var v, zero T
	object, err := decodeObject(data)
	if err != nil {
		return zero, err
	}
	var errs FieldErrors
	if key, ok := any(&v).(*Key); ok {
		takeTokens(&errs, key, object)
		dropUsage(object)
	}
	decodeFields(&errs, &v, object)
	if err := errs.err(); err != nil {
		return zero, err
	}
	return v, nil
}

// Merge applies an RFC 7396 merge patch to a noun: null restores a field's
// default, objects are merged, everything else is replaced. kept says that the
// patch left the secret alone.
func merge[T Noun](current T, patch []byte) (patched T, kept bool, err error) {
	object, err := decodeObject(patch)
	if err != nil {
		return patched, false, err
	}
	if d, ok := any(&current).(interface{ forgetDerived() }); ok {
		d.forgetDerived()
	}
	if _, ok := any(current).(Key); ok {
		dropUsage(object)
	}
	text, err := json.Marshal(current)
	if err != nil {
		return patched, false, err
	}
	var base map[string]json.RawMessage
	if err := json.Unmarshal(text, &base); err != nil {
		return patched, false, err
	}
	for name, value := range object {
		if base[name], err = mergeValue(base[name], value, 0); err != nil {
			return patched, false, err
		}
	}
	var errs FieldErrors
	decodeFields(&errs, &patched, base)
	_, sent := object["api_key"]
	return patched, !sent, errs.err()
}

// dropUsage takes out what the API shows of a key besides its fields.
func dropUsage(object map[string]json.RawMessage) {
	delete(object, "last_used_at")
	delete(object, "spend")
}

// maxDepth bounds what merging and checking descend into.
const maxDepth = 32

func mergeValue(target, patch json.RawMessage, depth int) (json.RawMessage, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep: %w", maxDepth, ErrMalformed)
	}
	var changes map[string]json.RawMessage
	if json.Unmarshal(patch, &changes) != nil || changes == nil {
		return patch, nil // no object: it replaces
	}
	var into map[string]json.RawMessage
	if json.Unmarshal(target, &into) != nil || into == nil {
		into = map[string]json.RawMessage{}
	}
	for name, value := range changes {
		if isNull(value) {
			delete(into, name)
			continue
		}
		merged, err := mergeValue(into[name], value, depth+1)
		if err != nil {
			return nil, err
		}
		into[name] = merged
	}
	return json.Marshal(into)
}

func isNull(raw json.RawMessage) bool { return bytes.Equal(bytes.TrimSpace(raw), []byte("null")) }

// decodeObject splits a JSON object into its members; a name that stands twice is an error.
func decodeObject(data []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("the body is not UTF-8: %w", ErrMalformed)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("the body must be one JSON object: %w", ErrMalformed)
	}
	object := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		var value json.RawMessage
		if err != nil || !ok || dec.Decode(&value) != nil {
			return nil, fmt.Errorf("at byte %d: %w", dec.InputOffset(), ErrMalformed)
		}
		if _, twice := object[name]; twice {
			return nil, &FieldError{Field: fieldName(name), Message: "stands twice in the object"}
		}
		object[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("at byte %d: %w", dec.InputOffset(), ErrMalformed)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows the object, at byte %d: %w", dec.InputOffset(), ErrMalformed)
	}
	return object, nil
}

// fieldName makes the caller's name for a field fit to be shown: a secret put
// in the place of a name is not repeated.
func fieldName(name string) string {
	if len(name) > 40 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != "" {
		return "(unknown)"
	}
	return name
}

// decodeFields sets the fields of the struct that v points to from the object.
func decodeFields(errs *FieldErrors, v any, object map[string]json.RawMessage) {
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v).Elem()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.Anonymous && name != "-" {
			fields[name] = f
		}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		field, ok := fields[name]
		switch {
		case !ok:
			errs.add(fieldName(name), "is not a field of this resource")
		case field.Tag.Get("readOnly") == "true", isNull(object[name]):
		default:
			decodeField(errs, name, field, reflect.ValueOf(v).Elem().FieldByIndex(field.Index), object[name])
		}
	}
}

func decodeField(errs *FieldErrors, name string, field reflect.StructField, into reflect.Value, raw json.RawMessage) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(into.Addr().Interface()); err != nil {
		into.SetZero()
		if _, ok := into.Interface().(*NanoUSD); ok && errors.Is(err, ErrInvalid) {
			errs.add(name, "%s", strings.TrimSuffix(err.Error(), ": "+ErrInvalid.Error()))
			return
		}
		errs.add(name, "must be %s", describe(field.Type))
		return
	}
	// A zero would count as absent, and the default would take its place.
	if least, err := strconv.ParseInt(field.Tag.Get("min"), 10, 64); err == nil && into.Int() < least {
		errs.add(name, "must be at least %d; leave it out or send null for the default", least)
	}
}

func describe(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Time]():
		return "an RFC 3339 time such as 2030-01-31T12:00:00Z"
	case reflect.TypeFor[Secret]():
		return "a string"
	case reflect.TypeFor[*NanoUSD]():
		return "an amount in USD, a string or a number"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "a list of strings"
	case reflect.Map:
		if t.Elem().Kind() == reflect.String {
			return "an object of strings"
		}
		return "an object"
	}
	return "a string"
}

// takeTokens reads the members with which a key imports tokens.
func takeTokens(errs *FieldErrors, key *Key, object map[string]json.RawMessage) {
	if raw, ok := object["token"]; ok {
		if !isNull(raw) && json.Unmarshal(raw, &key.Token) != nil {
			errs.add("token", "must be a string")
		}
		delete(object, "token")
	}
	if raw, ok := object["token_hashes"]; ok {
		var hashes []string
		if json.Unmarshal(raw, &hashes) != nil {
			errs.add("token_hashes", "must be a list of strings")
		}
		for _, h := range hashes {
			key.Tokens = append(key.Tokens, TokenHash{Hash: h})
		}
		delete(object, "token_hashes")
	}
}
