package manifest

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

type object = map[string]any

// Schema returns the JSON Schema (draft 2020-12) of files, for editors. It is derived
// from the Go types and the tags beside their fields.
func Schema() ([]byte, error) {
	secret := object{"oneOf": []any{
		object{"type": "string"},
		object{"type": "object", "required": []string{keyEnv}, "additionalProperties": false,
			"properties": object{keyEnv: object{"type": "string", "description": "The variable that holds the secret."}}},
		object{"type": "object", "required": []string{keyFile}, "additionalProperties": false,
			"properties": object{keyFile: object{"type": "string", "description": "The file that holds the secret."}}},
	}}
	defs := object{"secret": secret}
	properties := object{
		"version": object{"const": Version, "description": "The version of the form of this file."},
		"owner":   object{"type": "string", "minLength": 1, "description": "Who owns what the file names."},
		"store":   object{"type": "string", "description": "The UUID of the catalog whose ids the file has."},
	}
	defaults := object{}
	for _, n := range nouns() {
		word := n.kind.Noun()
		fields := object{}
		var required []string
		for _, f := range n.fields {
			if f.readOnly() && f.name != "id" {
				continue
			}
			fields[f.name] = schemaOf(f.typ, f.tag)
			if f.tag.Get("create") == "required" {
				required = append(required, f.name)
			}
		}
		defs[word] = object{"type": "object", "properties": fields, "required": required, "additionalProperties": false}
		properties[string(n.kind)] = object{"type": "array", "items": object{"$ref": "#/$defs/" + word}}
		defaults[string(n.kind)] = object{"type": "object", "properties": fields, "additionalProperties": false}
	}
	properties["defaults"] = object{"type": "object", "properties": defaults, "additionalProperties": false,
		"description": "The fields, by kind, that a resource has when it does not name them."}
	return json.MarshalIndent(object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A catalog of EZ-API",
		"type": "object", "required": []string{"version"}, "properties": properties, "$defs": defs,
		"patternProperties": object{"^x-": object{}}, "additionalProperties": false,
	}, "", "  ")
}

// schemaOf returns the schema of a field.
func schemaOf(t reflect.Type, tag reflect.StructTag) object {
	s := typeSchema(t, tag)
	if doc := tag.Get("doc"); doc != "" {
		s["description"] = doc
	}
	if byDefault, ok := tag.Lookup("default"); ok {
		if !json.Valid([]byte(byDefault)) || t.Kind() == reflect.String {
			byDefault = strconv.Quote(byDefault)
		}
		s["default"] = json.RawMessage(byDefault)
	}
	return s
}

// typeSchema returns the schema of a type. Of lists the tags are about the elements, but for
// maxItems.
func typeSchema(t reflect.Type, tag reflect.StructTag) object {
	switch t {
	case reflect.TypeFor[catalog.Secret]():
		return object{"$ref": "#/$defs/secret"}
	case reflect.TypeFor[catalog.NanoUSD]():
		return object{"type": []string{"string", "number", "null"}}
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeSchema(t.Elem(), tag)
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return withBounds(object{"type": "integer"}, tag, "minimum", "maximum")
	case reflect.String:
		s := withBounds(object{"type": "string"}, tag, "minLength", "maxLength")
		if values := tag.Get("enum"); values != "" {
			s["enum"] = strings.Split(values, ",")
		}
		if pattern := tag.Get("pattern"); pattern != "" {
			s["pattern"] = pattern
		}
		return s
	case reflect.Slice:
		return withBounds(object{"type": "array", "items": typeSchema(t.Elem(), tag)}, tag, "maxItems")
	case reflect.Map:
		return withBounds(object{"type": "object", "additionalProperties": typeSchema(t.Elem(), "")}, tag, "maxProperties")
	case reflect.Struct:
		fields := object{}
		for _, f := range fieldsOf(t) {
			fields[f.name] = schemaOf(f.typ, f.tag)
		}
		return object{"type": "object", "properties": fields, "additionalProperties": false}
	}
	return object{}
}

// withBounds adds the bounds that are numbers.
func withBounds(s object, tag reflect.StructTag, names ...string) object {
	for _, name := range names {
		if n, err := strconv.ParseInt(tag.Get(name), 10, 64); err == nil {
			s[name] = n
		}
	}
	return s
}
