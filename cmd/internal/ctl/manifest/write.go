package manifest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ez-api/ez-api/catalog"
)

// Reference is a secret that a file names instead of holding it. It is a value of an
// [Item] that is to be written.
type Reference struct{ source, name string }

// Env returns the reference !env NAME.
func Env(name string) Reference { return Reference{tagEnv, name} }

// File returns the reference !file PATH.
func File(path string) Reference { return Reference{tagFile, path} }

// MarshalJSON writes the reference as a file in JSON has it.
func (r Reference) MarshalJSON() ([]byte, error) {
	key := keyEnv
	if r.source == tagFile {
		key = keyFile
	}
	return json.Marshal(map[string]string{key: r.name})
}

// Tidy returns the fields of a resource, as the API shows it, that a file needs: neither
// what the server sets, nor what has its default.
func Tidy(kind catalog.Kind, object map[string]any) map[string]any {
	tidy := map[string]any{}
	for _, f := range findNoun(kind).fields {
		v, ok := object[f.name]
		if !ok || f.readOnly() && (f.name != "id" || object["external_id"] != nil) || isDefault(f, v) {
			continue
		}
		tidy[f.name] = tidyValue(f.typ, v)
	}
	if naturalKey(kind, Item{Fields: object}) != "" {
		delete(tidy, "id")
	}
	if tidy["default_namespace"] == firstOf(object["namespaces"]) {
		delete(tidy, "default_namespace")
	}
	return tidy
}

// firstOf returns the first element of a list, which is the default of default_namespace.
func firstOf(v any) any {
	if list, ok := v.([]any); ok && len(list) > 0 {
		return list[0]
	}
	return nil
}

// tidyValue leaves out of the parts of a value what has its default.
func tidyValue(t reflect.Type, v any) any {
	switch v := v.(type) {
	case []any:
		if t.Kind() != reflect.Slice {
			break
		}
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = tidyValue(t.Elem(), e)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		switch t.Kind() {
		case reflect.Map:
			for name, e := range v {
				object[name] = tidyValue(t.Elem(), e)
			}
			return object
		case reflect.Struct:
			for _, f := range fieldsOf(t) {
				if e, ok := v[f.name]; ok && !isDefault(f, e) {
					object[f.name] = tidyValue(f.typ, e)
				}
			}
			return object
		}
	}
	return v
}

// isDefault reports whether a field need not be written.
func isDefault(f field, v any) bool {
	if byDefault, ok := f.tag.Lookup("default"); ok {
		text, _ := json.Marshal(v)
		return string(text) == byDefault || string(text) == strconv.Quote(byDefault)
	}
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case json.Number:
		return v == "0" && f.typ.Kind() != reflect.Pointer
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// Write writes a file. comments stand at its top, where the form has comments.
func Write(w io.Writer, s *Set, comments []string, asJSON bool) error {
	root := mapping()
	add := func(name string, value *yaml.Node) { root.Content = append(root.Content, text(name), value) }
	add("version", number(strconv.Itoa(Version)))
	if s.Owner != "" {
		add("owner", text(s.Owner))
	}
	if s.Store != "" && s.hasIDs() {
		add("store", text(s.Store))
	}
	for _, n := range nouns() {
		items, ok := s.Items[n.kind]
		if !ok {
			continue
		}
		list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, item := range items {
			list.Content = append(list.Content, n.node(item.Fields))
		}
		if len(items) == 0 {
			list.Style = yaml.FlowStyle
		}
		add(string(n.kind), list)
	}
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(ordered{root})
	}
	for _, line := range comments {
		if _, err := fmt.Fprintln(w, strings.TrimRight("# "+line, " ")); err != nil {
			return err
		}
	}
	return WriteYAML(w, root)
}

// hasIDs reports whether any resource has an id, which counts in one store only.
func (s *Set) hasIDs() bool {
	for _, items := range s.Items {
		for _, item := range items {
			if item.Fields["id"] != nil {
				return true
			}
		}
	}
	return false
}

// WriteYAML writes a value as YAML.
func WriteYAML(w io.Writer, v any) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return err
	}
	return enc.Close()
}

// Node returns a value as in JSON as YAML. The fields of a resource of the kind come in the
// order in which a file has them.
func Node(kind catalog.Kind, v any) *yaml.Node {
	fields, ok := v.(map[string]any)
	if n := findNoun(kind); ok && len(n.fields) > 0 {
		return n.node(fields)
	}
	return node(v)
}

func (n *noun) node(fields map[string]any) *yaml.Node {
	object := mapping()
	for _, f := range n.fields {
		if v, ok := fields[f.name]; ok {
			object.Content = append(object.Content, text(f.name), node(v))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) { // what the API shows besides
		if _, known := n.field(name); !known {
			object.Content = append(object.Content, text(name), node(fields[name]))
		}
	}
	return object
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"} }

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

func number(s string) *yaml.Node {
	tag := "!!int"
	if strings.ContainsAny(s, ".eE") {
		tag = "!!float"
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: s}
}

const maxFlow = 80 // characters of a list in one line

// node turns a value as in JSON into a node.
func node(v any) *yaml.Node {
	switch v := v.(type) {
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}
	case string:
		return text(v)
	case json.Number:
		return number(string(v))
	case int:
		return number(strconv.Itoa(v))
	case int64:
		return number(strconv.FormatInt(v, 10))
	case catalog.Secret:
		return text(v.Reveal())
	case Reference:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: v.source, Style: yaml.TaggedStyle, Value: v.name}
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = s
		}
		return node(list)
	case []any:
		return sequence(v)
	case map[string]any:
		object := mapping()
		for _, name := range slices.Sorted(maps.Keys(v)) {
			object.Content = append(object.Content, text(name), node(v[name]))
		}
		if len(v) == 0 {
			object.Style = yaml.FlowStyle
		}
		return object
	}
	panic(fmt.Sprintf("manifest: no YAML form for %T", v)) // a mistake in this program
}

// sequence writes short lists of scalars in one line.
func sequence(list []any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	width, flat := 0, true
	for _, v := range list {
		e := node(v)
		flat = flat && e.Kind == yaml.ScalarNode
		width += len(e.Value) + 2
		n.Content = append(n.Content, e)
	}
	if flat && width <= maxFlow {
		n.Style = yaml.FlowStyle
	}
	return n
}

// ordered writes a node as JSON, its names in their order.
type ordered struct{ *yaml.Node }

// MarshalJSON writes the node.
func (o ordered) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	switch o.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(o.Content); i += 2 {
			name, _ := json.Marshal(o.Content[i].Value)
			value, err := ordered{o.Content[i+1]}.MarshalJSON()
			if err != nil {
				return nil, err
			}
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(name)
			b.WriteByte(':')
			b.Write(value)
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, e := range o.Content {
			value, err := ordered{e}.MarshalJSON()
			if err != nil {
				return nil, err
			}
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(value)
		}
		b.WriteByte(']')
	default:
		switch o.Tag {
		case tagEnv, tagFile:
			return Reference{o.Tag, o.Value}.MarshalJSON()
		case "!!str":
			return json.Marshal(o.Value)
		}
		return []byte(o.Value), nil
	}
	return []byte(b.String()), nil
}
