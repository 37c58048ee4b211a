package manifest

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ez-api/ez-api/catalog"
)

const (
	maxDepth = 40        // how deep values may be nested, aliases followed
	maxAlias = 1_000_000 // values that aliases may stand for, in all

	tagEnv, tagFile = "!env", "!file"
	keyEnv, keyFile = "$env", "$file"
)

// tree turns the nodes of one file into values as JSON has them.
type tree struct {
	file     string
	secrets  func(source, name string) (string, error)
	problems *Problems
	aliased  int  // values made by following aliases
	stopped  bool // because a bound was exceeded
}

func (t *tree) problem(n *yaml.Node, field, message string) {
	t.problems.add(Problem{t.file, n.Line, field, message})
}

// value turns a node into a value. What is wrong with it is noted, and nil returned.
func (t *tree) value(n *yaml.Node, path string, depth int, aliased bool) any {
	if aliased {
		t.aliased++
	}
	switch {
	case t.stopped:
		return nil
	case depth > maxDepth:
		t.problem(n, path, fmt.Sprintf("must be nested at most %d deep", maxDepth))
		t.stopped = true
		return nil
	case t.aliased > maxAlias:
		t.problem(n, path, fmt.Sprintf("is too much: aliases may stand for %d values in all", maxAlias))
		t.stopped = true
		return nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		return t.value(n.Alias, path, depth+1, true)
	case yaml.MappingNode:
		return t.object(n, path, depth, aliased)
	case yaml.SequenceNode:
		if !t.plainTag(n, path, "!!seq") {
			return nil
		}
		list := make([]any, 0, len(n.Content))
		for i, v := range n.Content {
			list = append(list, t.value(v, fmt.Sprintf("%s[%d]", path, i), depth+1, aliased))
		}
		return list
	case yaml.ScalarNode:
		return t.scalar(n, path)
	}
	t.problem(n, path, "is no value")
	return nil
}

// plainTag reports whether a node has no tag but its own.
func (t *tree) plainTag(n *yaml.Node, path, own string) bool {
	if tag := n.ShortTag(); tag != own && tag != "" {
		t.problem(n, path, "has a tag that means nothing here; only !env NAME and !file PATH do")
		return false
	}
	return true
}

// object turns a mapping into an object, or into a secret.
func (t *tree) object(n *yaml.Node, path string, depth int, aliased bool) any {
	if !t.plainTag(n, path, "!!map") {
		return nil
	}
	if len(n.Content) == 2 {
		source, ok := map[string]string{keyEnv: tagEnv, keyFile: tagFile}[n.Content[0].Value]
		if ok && n.Content[1].Kind == yaml.ScalarNode { // else it is a name like others, such as that of a model
			return t.secret(n.Content[1], path, source)
		}
	}
	object := make(map[string]any, len(n.Content)/2)
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			t.problem(key, path, "must have names that are strings")
			continue
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		at := memberPath(path, key.Value)
		if _, twice := object[key.Value]; twice {
			t.problem(key, at, "occurs twice; write it once")
			continue
		}
		object[key.Value] = t.value(value, at, depth+1, aliased)
	}
	for _, m := range merged {
		t.merge(object, m, path, depth)
	}
	return object
}

// merge adds the members of what a merge key (<<) names, where they are not there.
func (t *tree) merge(object map[string]any, n *yaml.Node, path string, depth int) {
	from := t.value(n, path, depth+1, true)
	list, ok := from.([]any)
	if !ok {
		list = []any{from}
	}
	for _, v := range list {
		members, ok := v.(map[string]any)
		if !ok {
			t.problem(n, path, "must merge (<<) only objects")
			return
		}
		for name, value := range members {
			if _, there := object[name]; !there {
				object[name] = value
			}
		}
	}
}

// scalar turns a scalar into a string, a number, a boolean or nothing, or into a secret.
func (t *tree) scalar(n *yaml.Node, path string) any {
	switch n.ShortTag() {
	case tagEnv, tagFile:
		return t.secret(n, path, n.ShortTag())
	case "!!str", "!!timestamp", "":
		return n.Value
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		if number, ok := jsonNumber(n.Value); ok {
			return number
		}
		t.problem(n, path, "must be a number in decimal digits, such as 12 or 0.5")
		return nil
	}
	t.plainTag(n, path, "!!str")
	return nil
}

// secret reads what a secret's source names.
func (t *tree) secret(n *yaml.Node, path, source string) any {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		t.problem(n, path, "must name a variable (!env NAME) or a file (!file PATH)")
		return nil
	}
	text, err := t.secrets(source, n.Value)
	if err != nil {
		t.problem(n, path, err.Error())
		return nil
	}
	return catalog.NewSecret(text)
}

var (
	decimal  = regexp.MustCompile(`^[-+]?(\d[\d_]*)?(\.\d*)?([eE][-+]?\d+)?$`)
	inBase   = regexp.MustCompile(`^[-+]?0[xob][0-9a-fA-F_]+$`)
	jsonForm = regexp.MustCompile(`^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$`)
)

// jsonNumber writes a number of YAML as JSON has it, digit by digit.
func jsonNumber(text string) (json.Number, bool) {
	switch {
	case len(text) > maxNumber:
		return "", false
	case jsonForm.MatchString(text):
		return json.Number(text), true
	case inBase.MatchString(text):
		n, ok := new(big.Int).SetString(strings.TrimPrefix(text, "+"), 0)
		if !ok {
			return "", false
		}
		return json.Number(n.String()), true
	case !decimal.MatchString(text) || !strings.ContainsAny(text, "0123456789"):
		return "", false
	}
	text = strings.TrimPrefix(strings.ReplaceAll(text, "_", ""), "+")
	sign := ""
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		sign, text = "-", rest
	}
	mantissa, exponent := text, ""
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, exponent = text[:i], text[i:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if fraction != "" {
		fraction = "." + fraction
	}
	text = sign + whole + fraction + exponent
	return json.Number(text), jsonForm.MatchString(text)
}

const maxNumber = 400 // characters

// memberPath adds a name to a path, unless the name may be a secret in the wrong place.
func memberPath(path, name string) string {
	if name = catalog.SafeName(name); path == "" {
		return name
	}
	return path + "." + name
}
