package manifest

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ez-api/ez-api/catalog"
)

// ReadFields reads the fields of one resource from a file, which has nothing else. Their
// values are not checked.
func ReadFields(kind catalog.Kind, path string, opts *Options) (map[string]any, error) {
	text, err := readAtMost(path, maxBytes, opts)
	if err != nil {
		return nil, err
	}
	p := newParser(opts)
	root := p.root(Source{path, text})
	if root == nil {
		return nil, p.problems.err()
	}
	return p.single(kind, path, root)
}

// ParseFields reads fields written NAME=VALUE. A value is YAML, but where the field is a
// string it is taken as it is, unless it is null or has a tag.
func ParseFields(kind catalog.Kind, args []string, opts *Options) (map[string]any, error) {
	const file = "the command line"
	n := findNoun(kind)
	root := mapping()
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, errors.New("fields are written NAME=VALUE")
		}
		v := text(value)
		if f, known := n.field(name); !known || !isText(f.typ) || strings.HasPrefix(value, "!") || value == "null" {
			var doc yaml.Node
			if err := yaml.Unmarshal([]byte(value), &doc); err != nil {
				return nil, fmt.Errorf("the value of %s is not valid YAML", memberPath("", name))
			}
			if v = text(""); len(doc.Content) > 0 {
				v = doc.Content[0]
			}
		}
		root.Content = append(root.Content, text(name), v)
	}
	return newParser(opts).single(kind, file, root)
}

func isText(t reflect.Type) bool {
	return t.Kind() == reflect.String || t == reflect.TypeFor[catalog.Secret]()
}

// findNoun describes a kind.
func findNoun(kind catalog.Kind) *noun {
	for _, n := range everyNoun() {
		if n.kind == kind {
			return &n
		}
	}
	return &noun{kind: kind}
}

// single reads one resource.
func (p *parser) single(kind catalog.Kind, file string, root *yaml.Node) (map[string]any, error) {
	n := findNoun(kind)
	t := p.tree(file)
	fields, ok := t.value(root, "", 1, false).(map[string]any)
	if ok && (len(n.fields) == 0 || p.checkNames(t, n, root, "", fields)) {
		p.checkSecrets(t, n, root, "", fields)
	}
	return fields, p.problems.err()
}

func newParser(opts *Options) *parser {
	p := &parser{nouns: nouns(), set: &Set{Items: map[catalog.Kind][]Item{}}, env: os.LookupEnv, names: map[string]Item{}}
	if opts != nil {
		p.literals, p.unread = opts.Literals, opts.WithoutSecrets
		if opts.Env != nil {
			p.env = opts.Env
		}
	}
	return p
}

func (p *parser) tree(file string) *tree {
	return &tree{file: file, problems: &p.problems, secrets: func(source, name string) (string, error) {
		return p.secret(file, source, name)
	}}
}
