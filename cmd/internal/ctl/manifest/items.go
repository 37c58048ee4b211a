package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/ez-api/ez-api/catalog"
)

const numberOne = json.Number("1")

// maxItems is how many resources the API takes at once.
const maxItems = 100_000

// defaults reads the defaults of all kinds.
func (p *parser) defaults(t *tree, all *yaml.Node) map[catalog.Kind]map[string]any {
	byKind := map[catalog.Kind]map[string]any{}
	if all == nil {
		return byKind
	}
	if all = target(all); all.Kind != yaml.MappingNode {
		t.problem(all, "defaults", "must hold the fields of each kind, such as keys: {group: vip}")
		return byKind
	}
	for i := 0; i+1 < len(all.Content); i += 2 {
		key, value := all.Content[i], all.Content[i+1]
		n := findNoun(catalog.Kind(key.Value))
		at := memberPath("defaults", key.Value)
		if !slices.Contains(kindNames(), key.Value) {
			t.problem(key, at, "is no kind"+nearest(key.Value, kindNames()))
			continue
		}
		fields, ok := t.value(value, at, 2, false).(map[string]any)
		if !ok {
			t.problem(value, at, "must be an object with fields of the kind")
			continue
		}
		p.checkNames(t, n, value, at, fields)
		for name, v := range fields {
			if f, ok := n.field(name); ok && f.secret() || isSecret(v) || isSecretWithin(v) {
				t.problem(value, memberPath(at, name), "must not be a default: it is a secret")
				delete(fields, name)
			}
		}
		byKind[n.kind] = fields
	}
	return byKind
}

func kindNames() (names []string) {
	for _, k := range Kinds() {
		names = append(names, string(k))
	}
	return names
}

// list reads the resources of one kind.
func (p *parser) list(t *tree, n *noun, list *yaml.Node, defaults map[string]any) {
	kind := string(n.kind)
	if list = target(list); list.Kind != yaml.SequenceNode {
		t.problem(list, kind, "must be a list; write [] for an empty one, or leave the kind out")
		return
	}
	items := p.set.Items[n.kind]
	if items == nil {
		items = []Item{}
	}
	for _, node := range list.Content {
		if p.set.Len()-len(p.set.Items[n.kind])+len(items) >= maxItems {
			t.problem(node, kind, fmt.Sprintf("are too many: at most %d resources can be applied at once", maxItems))
			break
		}
		at := fmt.Sprintf("%s[%d]", kind, len(items))
		fields, ok := t.value(node, at, 2, false).(map[string]any)
		if t.stopped {
			break
		}
		if !ok {
			t.problem(node, at, "must be an object with the fields of a "+n.kind.Noun())
			continue
		}
		item := Item{Fields: fields, File: t.file, Line: node.Line, node: node}
		if p.checkNames(t, n, node, at, fields) && p.checkSecrets(t, n, node, at, fields) {
			fill(fields, defaults)
			p.checkValues(n, item, at)
			p.checkTwice(n, item, at)
		}
		items = append(items, item)
	}
	p.set.Items[n.kind] = items
}

// checkNames says which names are no fields.
func (p *parser) checkNames(t *tree, n *noun, node *yaml.Node, at string, fields map[string]any) bool {
	ok := true
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if _, known := n.field(name); known {
			continue
		}
		ok = false
		var names []string
		for _, f := range n.fields {
			if !f.readOnly() {
				names = append(names, f.name)
			}
		}
		t.problems.add(Problem{t.file, lineOf(node, name), memberPath(at, name),
			"is not a field of a " + n.kind.Noun() + nearest(name, names)})
	}
	return ok
}

// checkSecrets says which secrets are where none belong, or in the file itself.
func (p *parser) checkSecrets(t *tree, n *noun, node *yaml.Node, at string, fields map[string]any) bool {
	before := len(p.problems)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f, _ := n.field(name)
		v := fields[name]
		line, path := lineOf(node, name), memberPath(at, name)
		_, literal := v.(string)
		switch {
		case f.secret() && literal && !p.literals:
			t.problems.add(Problem{t.file, line, path, "must not stand in the file: write !env NAME or !file PATH, " +
				"or allow it with --allow-literal-secrets"})
		case f.secret() && literal:
			fields[name] = catalog.NewSecret(v.(string))
		case !f.secret() && isSecret(v) || isSecretWithin(v):
			t.problems.add(Problem{t.file, line, path, "must not be read with !env or !file: these are for secrets, " +
				"and other fields are shown in plans"})
		}
	}
	return len(p.problems) == before
}

func isSecret(v any) bool {
	_, ok := v.(catalog.Secret)
	return ok
}

// isSecretWithin reports whether a list or an object holds a secret.
func isSecretWithin(v any) bool {
	within := func(v any) bool { return isSecret(v) || isSecretWithin(v) }
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, within)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), within)
	}
	return false
}

// fill adds defaults to the fields of a resource.
func fill(fields, defaults map[string]any) {
	for name, value := range defaults {
		own, named := fields[name]
		object, isObject := value.(map[string]any)
		switch ownObject, both := own.(map[string]any); {
		case !named:
			fields[name] = clone(value)
		case isObject && both:
			fill(ownObject, object)
		}
	}
}

// clone returns a copy, because what a resource has may still change.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			out[name] = clone(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = clone(value)
		}
		return out
	}
	return v
}

// checkValues asks the catalog what is wrong with the values of a resource.
func (p *parser) checkValues(n *noun, item Item, at string) {
	text, err := item.Object()
	if err == nil {
		err = n.check(text)
	}
	if err == nil {
		return
	}
	fields := catalog.FieldsOf(err)
	if len(fields) == 0 {
		p.problems.add(Problem{item.File, item.Line, at, "cannot be read"})
	}
	for _, f := range fields {
		message := f.Message
		if message == "must be a string" {
			message += "; write it in quotes"
		}
		p.problems.add(Problem{item.File, lineOf(item.node, f.Field), at + "." + f.Field, message})
	}
}

// checkTwice says that a resource is there already.
func (p *parser) checkTwice(n *noun, item Item, at string) {
	names := map[string]string{}
	if id := item.Text("external_id"); id != "" {
		names["external_id"] = id
	} else if key := naturalKey(n.kind, item); key != "" {
		names["name"] = key
	} else if id, ok := item.Fields["id"].(json.Number); ok {
		names["id"] = string(id)
	} else if n.kind == catalog.KindKey {
		p.problems.add(Problem{item.File, item.Line, at + ".external_id", "is required: nothing else tells keys apart"})
	}
	for field, value := range names {
		key := string(n.kind) + "\x00" + field + "\x00" + value
		if first, twice := p.names[key]; twice {
			p.problems.add(Problem{item.File, item.Line, at, "is there already, at " + first.Place() +
				": each resource stands in the files once"})
			continue
		}
		p.names[key] = item
	}
}

// ByID is what a name by the id begins with.
const ByID = "id "

// Names returns the names by which a resource is found: that by its external_id, and that by
// what else makes it unique.
func Names(kind catalog.Kind, fields map[string]any) (names []string) {
	item := Item{Fields: fields}
	if id := item.Text("external_id"); id != "" {
		names = append(names, "external_id "+id)
	}
	if key := naturalKey(kind, item); key != "" {
		names = append(names, "key "+key)
	} else if id, ok := fields["id"].(json.Number); ok {
		names = append(names, ByID+string(id))
	}
	return names
}

// naturalKey returns what makes an item unique beside its ids; "" where nothing does.
func naturalKey(kind catalog.Kind, item Item) string {
	switch kind {
	case catalog.KindKey:
		return ""
	case catalog.KindModel:
		return catalog.ModelKey(item.word("namespace", "default"), item.word("name", ""))
	case catalog.KindBinding:
		route := item.word("route_group", "default")
		return catalog.BindingKey(item.word("namespace", "default"), item.word("model", ""), route,
			item.word("provider_group", route))
	}
	return item.word("name", "")
}

// nearest names the nearest of some names, for what may be misspelt.
func nearest(name string, names []string) string {
	best, least := "", 3
	for _, candidate := range names {
		if d := distance(name, candidate); d < least {
			best, least = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return "; is " + best + " meant?"
}

// distance counts the letters that have to change to make one name of another (Levenshtein).
// Long names are far from all.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
