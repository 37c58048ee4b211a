package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ez-api/ez-api/catalog"
)

// Set is what some files say together.
type Set struct {
	Owner string                  // who owns what the files name; may be empty
	Store string                  // UUID of the catalog whose ids the files have; may be empty
	Items map[catalog.Kind][]Item // of the kinds that are present; a kind may be present and empty
}

// Item is one resource of a file.
type Item struct {
	Fields map[string]any // as in JSON: string, json.Number, bool, nil, []any, map[string]any; or catalog.Secret
	File   string
	Line   int

	node *yaml.Node
}

// Text returns a field that is a string, else "".
func (i Item) Text(name string) string {
	text, _ := i.Fields[name].(string)
	return text
}

// word returns a field without white space at its ends, or what it is by default.
func (i Item) word(name, byDefault string) string {
	if v := strings.TrimSpace(i.Text(name)); v != "" {
		return v
	}
	return byDefault
}

// Object returns the item in the JSON form of the API, its secrets included.
func (i Item) Object() ([]byte, error) { return json.Marshal(revealed(i.Fields)) }

// revealed returns a copy of an object whose secrets are strings. Only its own members can
// be secrets.
func revealed(fields map[string]any) map[string]any {
	object := make(map[string]any, len(fields))
	for name, v := range fields {
		if secret, ok := v.(catalog.Secret); ok {
			v = secret.Reveal()
		}
		object[name] = v
	}
	return object
}

// Body returns what the API's /apply takes: a list for each kind that is present.
func (s *Set) Body() ([]byte, error) {
	body := map[string]any{}
	if s.Store != "" {
		body["store"] = s.Store
	}
	for kind, items := range s.Items {
		list := make([]any, len(items))
		for i, item := range items {
			list[i] = revealed(item.Fields)
		}
		body[string(kind)] = list
	}
	return json.Marshal(body)
}

// Len returns how many resources there are.
func (s *Set) Len() (n int) {
	for _, items := range s.Items {
		n += len(items)
	}
	return n
}

// Locate turns the field errors that an API answered to [Set.Body] into [Problems] with
// files and lines. Other errors are returned as they are.
func (s *Set) Locate(err error) error {
	fields, ok := errors.AsType[catalog.FieldErrors](err)
	if !ok {
		return err
	}
	var found Problems
	for _, f := range fields {
		item, path, ok := s.item(f.Field)
		if !ok {
			return err
		}
		found.add(Problem{item.File, lineOf(item.node, path), f.Field, f.Message})
	}
	return found.err()
}

// item finds the item that a path of the body begins with: "keys[3].group".
func (s *Set) item(path string) (item Item, rest string, ok bool) {
	kind, after, ok1 := strings.Cut(path, "[")
	index, rest, ok2 := strings.Cut(after, "]")
	n, err := strconv.Atoi(index)
	items := s.Items[catalog.Kind(kind)]
	if !ok1 || !ok2 || err != nil || n < 0 || n >= len(items) {
		return item, "", false
	}
	return items[n], strings.TrimPrefix(rest, "."), true
}

// Outside lists what the resources refer to that stands in none of the files: it has to
// exist in the catalog already.
func (s *Set) Outside() (notes []Problem) {
	known := map[string]bool{}
	for kind, items := range s.Items {
		for _, item := range items {
			known[string(kind)+" "+naturalKey(kind, item)] = true
		}
	}
	for _, kind := range Kinds() {
		for i, item := range s.Items[kind] {
			field, of, key := reference(kind, item)
			if key != "" && !known[string(of)+" "+key] {
				notes = append(notes, Problem{item.File, lineOf(item.node, field), fmt.Sprintf("%s[%d].%s", kind, i, field),
					"needs a " + of.Noun() + " that is in none of the files, and has to exist already"})
			}
		}
	}
	return notes
}

// reference returns the field of an item that names another, and the kind and the natural
// key of what it names; no key where it names none.
func reference(kind catalog.Kind, item Item) (field string, of catalog.Kind, key string) {
	switch kind {
	case catalog.KindBinding:
		return "model", catalog.KindModel, catalog.ModelKey(item.word("namespace", "default"), item.word("model", ""))
	case catalog.KindKey:
		return "project", catalog.KindProject, item.word("project", "")
	case catalog.KindProject:
		return "name", catalog.KindProject, catalog.ParentProject(item.word("name", ""))
	}
	return "", "", ""
}

// Place says where an item of a kind stands: "gateway.yaml:12".
func (i Item) Place() string { return fmt.Sprintf("%s:%d", i.File, i.Line) }

// lineOf returns the line of what a path names below a node, or of what of it is found.
func lineOf(node *yaml.Node, path string) int {
	node = target(node)
	line := node.Line
	for path != "" {
		var next *yaml.Node
		if path[0] == '[' {
			index, rest, _ := strings.Cut(path[1:], "]")
			n, err := strconv.Atoi(index)
			if err != nil || node.Kind != yaml.SequenceNode || n < 0 || n >= len(node.Content) {
				return line
			}
			next, path = node.Content[n], rest
			line = next.Line
		} else {
			key, value, rest := member(node, path)
			if key == nil {
				return line
			}
			next, path = value, rest
			line = key.Line
		}
		node, path = target(next), strings.TrimPrefix(path, ".")
	}
	return line
}

// member finds the member of a mapping that a path begins with: the longest name, because
// names may have dots themselves.
func member(node *yaml.Node, path string) (key, value *yaml.Node, rest string) {
	if node.Kind != yaml.MappingNode {
		return nil, nil, ""
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		k := node.Content[i]
		after, ok := strings.CutPrefix(path, k.Value)
		if ok && (after == "" || after[0] == '.' || after[0] == '[') && (key == nil || len(k.Value) > len(key.Value)) {
			key, value, rest = k, node.Content[i+1], after
		}
	}
	return key, value, rest
}

// target follows aliases, as far as a file that was read has them.
func target(node *yaml.Node) *yaml.Node {
	for range maxDepth {
		if node.Kind != yaml.AliasNode || node.Alias == nil {
			break
		}
		node = node.Alias
	}
	return node
}
