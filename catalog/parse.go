package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrMalformed says that a text is not a JSON object at all. Everything else
// that can be wrong with one is a [FieldError].
var ErrMalformed = errors.New("malformed JSON")

// maxNesting bounds how deep a JSON text may be nested. Options, the deepest
// field, may be nested maxDepth deep.
const (
	maxDepth   = 32
	maxNesting = maxDepth + 8
)

// parseObject reads one JSON object into a tree of map[string]any, []any,
// string, json.Number, bool and nil. Numbers keep the digits that they were
// written with. A name that occurs twice in an object, at any depth, is a
// [FieldError]; everything else that is wrong wraps [ErrMalformed].
func parseObject(data []byte) (map[string]any, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true))
	if dec.PeekKind() != jsontext.KindBeginObject {
		return nil, fmt.Errorf("the body must be one JSON object: %w", ErrMalformed)
	}
	tree, err := parseValue(dec, "", 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows the object, at byte %d: %w", dec.InputOffset(), ErrMalformed)
	}
	return tree.(map[string]any), nil
}

func parseValue(dec *jsontext.Decoder, path string, depth int) (any, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("nested more than %d deep, at byte %d: %w", maxNesting, dec.InputOffset(), ErrMalformed)
	}
	token, err := dec.ReadToken()
	if err != nil {
		return nil, syntaxError(dec)
	}
	switch token.Kind() {
	case jsontext.KindBeginObject:
		return parseMembers(dec, path, depth)
	case jsontext.KindBeginArray:
		list := []any{}
		for dec.PeekKind() != jsontext.KindEndArray {
			v, err := parseValue(dec, elementPath(path, len(list)), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if _, err := dec.ReadToken(); err != nil {
			return nil, syntaxError(dec)
		}
		return list, nil
	case jsontext.KindString:
		return token.String(), nil
	case jsontext.KindNumber:
		return json.Number(token.String()), nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return token.Bool(), nil
	default:
		return nil, nil
	}
}

func parseMembers(dec *jsontext.Decoder, path string, depth int) (map[string]any, error) {
	object := map[string]any{}
	for dec.PeekKind() != jsontext.KindEndObject {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, syntaxError(dec)
		}
		name := token.String()
		if _, twice := object[name]; twice {
			return nil, &FieldError{Field: memberPath(path, name), Message: "occurs twice in the object; send it once"}
		}
		if object[name], err = parseValue(dec, memberPath(path, name), depth+1); err != nil {
			return nil, err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntaxError(dec)
	}
	return object, nil
}

// syntaxError hides the decoder's own message, which quotes the text.
func syntaxError(dec *jsontext.Decoder) error {
	return fmt.Errorf("the body is not valid JSON in UTF-8, at byte %d: %w", dec.InputOffset(), ErrMalformed)
}

func elementPath(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func memberPath(path, name string) string {
	if path == "" {
		return SafeName(name)
	}
	return path + "." + SafeName(name)
}
