package request

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ez-api/ez-api/catalog"
)

// Decode reads a small JSON object into the struct that v points to. The tags that document the
// struct's fields are the rules of their values, as they are those of parameters: bounds, lengths,
// enums and patterns. null counts as absent, and an empty text is refused. The error is a
// catalog.FieldErrors, or wraps ErrMalformed; it holds no values.
func (b *Body) Decode(v any) error {
	data, err := b.Bytes(JSON)
	if err != nil {
		return err
	}
	members, err := membersOf(data)
	if err != nil {
		return err
	}
	into := reflect.ValueOf(v).Elem()
	rules := rulesOf(into.Type())
	var errs catalog.FieldErrors
	refuse := func(field, message string) {
		errs = append(errs, &catalog.FieldError{Field: catalog.SafeName(field), Message: message})
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		rule, field := rules.Properties[name], fieldOf(into, name)
		if rule == nil || !field.IsValid() {
			refuse(name, "is not a field of this resource")
		} else if message := assign(field, members[name], rule); message != "" {
			refuse(name, message)
		}
	}
	for _, name := range rules.Required {
		if _, ok := members[name]; !ok {
			refuse(name, "is required, and "+Rule(rules.Properties[name]))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// membersOf returns the members of a JSON object that are not null.
func membersOf(data []byte) (map[string]jsontext.Value, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true))
	malformed := fmt.Errorf("the body must be one JSON object in UTF-8: %w", ErrMalformed)
	if token, err := dec.ReadToken(); err != nil || token.Kind() != jsontext.KindBeginObject {
		return nil, malformed
	}
	seen, members := map[string]bool{}, map[string]jsontext.Value{}
	for dec.PeekKind() == jsontext.KindString {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, malformed
		}
		name := token.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, malformed
		}
		if seen[name] {
			return nil, catalog.FieldErrors{{Field: catalog.SafeName(name), Message: "occurs twice in the object; send it once"}}
		}
		seen[name] = true
		if value.Kind() != jsontext.KindNull {
			members[name] = value.Clone()
		}
	}
	if _, err := dec.ReadToken(); err != nil { // the end of the object
		return nil, malformed
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, malformed
	}
	return members, nil
}

// rulesOf returns the schema of a struct, inline.
func rulesOf(t reflect.Type) *huma.Schema {
	registry := huma.NewMapRegistry("", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[Whole](), reflect.TypeFor[int64]())
	return huma.SchemaFromType(registry, t)
}

// fieldOf returns the field of a struct that has a name in JSON.
func fieldOf(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); tag == name {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// assign reads a value into a field, and says which rule it breaks; "" is none.
func assign(into reflect.Value, text jsontext.Value, rule *huma.Schema) string {
	var plain any
	if err := json.Unmarshal(text, &plain); errors.Is(err, jsontext.ErrDuplicateName) {
		return "has a member that occurs twice; send it once"
	}
	if message := wrongTexts(plain); message != "" {
		return message
	}
	err := json.Unmarshal(text, into.Addr().Interface())
	var broken huma.ValidateResult
	huma.Validate(nil, rule, huma.NewPathBuffer(nil, 0), huma.ModeWriteToServer, plain, &broken)
	if err != nil || len(broken.Errors) > 0 {
		return Rule(rule)
	}
	return ""
}

// wrongTexts says what is wrong with a text, or with the texts of an object.
func wrongTexts(v any) string {
	switch v := v.(type) {
	case string:
		return WrongText(v)
	case map[string]any:
		for name, value := range v {
			text, _ := value.(string) // an empty one may be looked for
			if message := wrongCharacters(name + text); message != "" {
				return message
			}
		}
	}
	return ""
}
