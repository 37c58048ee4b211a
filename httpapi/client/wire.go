package client

import (
	"encoding/json"
	"maps"
	"reflect"

	"github.com/ez-api/ez-api/catalog"
)

// wire is an entity as the API takes and shows it, with what its Go type keeps back.
type wire[T catalog.Noun] struct{ noun T }

// MarshalJSON writes what is sent of an entity: with its secret.
func (w wire[T]) MarshalJSON() ([]byte, error) {
	fields, err := w.fields()
	if err != nil {
		return nil, err
	}
	maps.Copy(fields, secrets(&w.noun))
	return json.Marshal(fields)
}

// fields returns the JSON of an entity, without its secret.
func (w wire[T]) fields() (fields map[string]any, err error) {
	text, err := json.Marshal(w.noun)
	if err != nil {
		return nil, err
	}
	err = decodeNumbers(text, &fields)
	dropEmpty(fields)
	return fields, err
}

// dropEmpty leaves out the texts of a struct that are empty: in Go that means the default, and the
// API takes no empty texts.
func dropEmpty(fields map[string]any) {
	for name, value := range fields {
		switch v := value.(type) {
		case string:
			if v == "" {
				delete(fields, name)
			}
		case []any:
			for _, element := range v {
				if inner, ok := element.(map[string]any); ok {
					dropEmpty(inner)
				}
			}
		}
	}
}

// clone returns a copy that shares no memory.
func (w wire[T]) clone() (other wire[T], err error) {
	text, err := json.Marshal(w.noun)
	if err != nil {
		return other, err
	}
	return other, json.Unmarshal(text, &other.noun)
}

// UnmarshalJSON reads an entity, with a token where one was made.
func (w *wire[T]) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &w.noun); err != nil {
		return err
	}
	known := credentialOf(&w.noun)
	if known == nil {
		return nil
	}
	var made struct{ Token string }
	if err := json.Unmarshal(data, &made); err != nil {
		return err
	}
	known.Token = catalog.NewSecret(made.Token)
	return nil
}

// credentialOf returns by what the holder of an entity is known; nil for one that has no tokens.
func credentialOf(noun any) *catalog.Credential {
	switch v := noun.(type) {
	case *catalog.Key:
		return &v.Credential
	case *catalog.Operator:
		return &v.Credential
	}
	return nil
}

// secrets returns the fields of an entity that its JSON does not show.
func secrets(noun any) map[string]any {
	fields := map[string]any{}
	if p, ok := noun.(*catalog.Provider); ok && !p.APIKey.IsZero() {
		fields["api_key"] = p.APIKey.Reveal()
	}
	known := credentialOf(noun)
	if known == nil {
		return fields
	}
	if !known.Token.IsZero() {
		fields["token"] = known.Token.Reveal()
	}
	var hashes []string
	for _, t := range known.Tokens {
		hashes = append(hashes, t.Hash)
	}
	if hashes != nil {
		fields["token_hashes"] = hashes
	}
	return fields
}

// difference returns the merge patch (RFC 7396) that makes after of before.
func difference[T catalog.Noun](before, after wire[T]) ([]byte, error) {
	from, err := before.fields()
	if err != nil {
		return nil, err
	}
	to, err := after.fields()
	if err != nil {
		return nil, err
	}
	patch := differ(from, to)
	if provider, ok := any(&after.noun).(*catalog.Provider); ok {
		maps.Copy(patch, secrets(provider))
	}
	return json.Marshal(patch)
}

func differ(from, to map[string]any) map[string]any {
	patch := map[string]any{}
	for name := range from {
		if _, kept := to[name]; !kept {
			patch[name] = nil
		}
	}
	for name, value := range to {
		was, known := from[name]
		if known && reflect.DeepEqual(was, value) {
			continue
		}
		inner, ok := value.(map[string]any)
		innerWas, wasOne := was.(map[string]any)
		if ok && wasOne {
			patch[name] = differ(innerWas, inner)
			continue
		}
		patch[name] = value
	}
	return patch
}
