package imports

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
)

// mapper turns a dump into resources.
type mapper struct {
	*dump
	opts       Options
	set        *manifest.Set
	namespaces words
	groups     words
	names      words // of providers
	paths      words // of projects
	served     map[string]*group
	spaces     map[string]string // namespace of a group's models, as the source calls both
}

// group is a group of providers and of keys.
type group struct {
	name      string
	models    []string // public names, in their order
	providers []*provider
}

// provider is what a credential of a channel becomes in one group.
type provider struct {
	fields   map[string]any
	channel  *channel
	upstream map[string]string // public name to upstream name
	active   bool
}

// result maps everything.
func (d *dump) result(opts Options) *Result {
	if opts.QuotaPerUSD <= 0 {
		opts.QuotaPerUSD = defaultQuotaPerUSD
	}
	m := &mapper{
		dump: d, opts: opts, set: newSet(opts.Owner, kinds()...), served: map[string]*group{}, spaces: map[string]string{},
	}
	for i := range d.channels {
		m.channel(&d.channels[i])
	}
	m.routesAndModels()
	m.people()
	return &Result{Set: m.set, Notes: d.notes.Lines()}
}

func (m *mapper) add(kind catalog.Kind, fields map[string]any) {
	m.set.Items[kind] = append(m.set.Items[kind], manifest.Item{Fields: fields})
}

// group returns a group by the name that the source has for it.
func (m *mapper) group(name string) *group {
	if name = strings.TrimSpace(name); name == "" {
		name = "default"
	}
	g := m.served[name]
	if g == nil {
		g = &group{name: m.groups.get(name, maxGroup, groupWord)}
		if g.name != name {
			m.notes.Add("group "+plain(name), "is called %s now: groups hold no white space and no *", g.name)
		}
		m.served[name] = g
	}
	return g
}

// channel makes a provider for each group and each credential of a channel.
func (m *mapper) channel(c *channel) {
	subject := fmt.Sprintf("channel %d", c.id)
	if !c.known {
		m.notes.Add(subject, "has a type that is not known here; it becomes custom")
	}
	for _, name := range slices.Sorted(maps.Keys(c.left)) {
		if v := c.left[name]; v != "" && v != "{}" && v != "null" {
			m.notes.Add(subject, "has %s, which has no place here", name)
		}
	}
	if c.weight <= 0 {
		m.notes.Add(subject, "has weight 0, which took its share there and takes none here; it becomes 1")
	}
	address, note, usable := usableAddress(c.vendor.typ, c.vendor.address(c.baseURL))
	if note != "" {
		m.notes.Add(subject, "%s", note)
	}
	c.active = c.active && usable
	c.weight = m.bounded(subject, "weight", c.weight, 0)
	c.priority = m.bounded(subject, "priority", c.priority, -maxWeight)
	if len(c.keys) == 0 {
		m.notes.Add(subject, "has no credential")
		c.keys = []credential{{}}
	}
	if len(c.groups) == 0 {
		c.groups = []string{"default"}
	}
	upstream := m.mapping(c, subject)
	for i, of := range c.groups {
		g := m.group(of)
		for _, k := range c.keys {
			m.provider(c, g, k, address, upstream, i == 0)
		}
	}
}

// provider makes a provider of a channel's credential in a group.
func (m *mapper) provider(c *channel, g *group, k credential, address string, upstream map[string]string, first bool) {
	id := fmt.Sprintf("%s:channel:%d", m.source, c.id)
	name := plain(c.name)
	if name == "" {
		name = fmt.Sprintf("channel %d", c.id)
	}
	if k.number > 0 {
		id += ":" + strconv.Itoa(k.number)
		name += fmt.Sprintf(" #%d", k.number)
	}
	if !first {
		name += " @" + g.name
	}
	id += ":" + g.name
	p := &provider{channel: c, upstream: upstream, active: c.active && !k.disabled}
	p.fields = map[string]any{
		"external_id": cut(id, maxName), "type": c.vendor.typ, "group": g.name, "models": m.upstreams(c, upstream),
		"name": m.names.get(id, maxName, func(string) string { return cut(name, maxName) }),
	}
	setNonEmpty(p.fields, "base_url", address)
	if k.text != "" {
		p.fields["api_key"] = catalog.NewSecret(k.text)
	}
	if c.weight > 1 {
		p.fields["weight"] = c.weight
	}
	if c.priority != 0 {
		p.fields["priority"] = c.priority
	}
	if !p.active {
		p.fields["status"] = "disabled"
	}
	if !c.autoBan {
		p.fields["auto_ban"] = false
	}
	if tag := plain(c.tag); tag != "" {
		p.fields["labels"] = map[string]any{"tag": cut(tag, maxName)}
	}
	m.options(p, k)
	g.providers = append(g.providers, p)
	for _, model := range c.models {
		if model = strings.TrimSpace(model); model != "" && !slices.Contains(g.models, model) {
			g.models = append(g.models, model)
		}
	}
	m.add(catalog.KindProvider, p.fields)
}

const maxWeight int64 = 1_000_000

// bounded returns a weight or a priority as it can be here.
func (m *mapper) bounded(subject, what string, n, least int64) int64 {
	if b := min(max(n, least), maxWeight); b != n && n > 0 || b != n && least < 0 {
		m.notes.Add(subject, "has a %s beyond what one can be here; it becomes %d", what, b)
		return b
	}
	return n
}

func setNonEmpty(fields map[string]any, name, value string) {
	if value != "" {
		fields[name] = value
	}
}

// options sets what some types have besides.
func (m *mapper) options(p *provider, k credential) {
	options := map[string]any{}
	setNonEmpty(options, "organization", p.channel.org)
	version := strings.TrimSpace(p.channel.version)
	switch p.channel.vendor.typ {
	case "azure":
		setNonEmpty(options, "api_version", version)
	case "vertex":
		setVertex(p.fields, k.text, version)
	case "bedrock":
		region := version
		if parts := strings.Split(k.text, "|"); len(parts) > 2 { // access key, secret key, region
			region = parts[len(parts)-1]
			p.fields["api_key"] = catalog.NewSecret(strings.Join(parts[:len(parts)-1], "|"))
		}
		setNonEmpty(options, "region", strings.TrimSpace(region))
	default:
		if version != "" {
			m.notes.Add(fmt.Sprintf("channel %d", p.channel.id), "has a value in other, which has no place here")
		}
	}
	if len(options) > 0 {
		p.fields["options"] = options
	}
}

// setVertex takes the project of a service account, and the location.
func setVertex(fields map[string]any, account, location string) {
	var parsed struct {
		Project string `json:"project_id"`
	}
	if json.Unmarshal([]byte(account), &parsed) == nil {
		setNonEmpty(fields, "google_project", parsed.Project)
	}
	var byModel map[string]string
	if json.Unmarshal([]byte(location), &byModel) == nil {
		location = byModel["default"]
	}
	setNonEmpty(fields, "google_location", strings.TrimSpace(location))
}

const maxChain = 10 // of mappings that lead to each other

// mapping reads which upstream model a channel asks for by which public name.
func (m *mapper) mapping(c *channel, subject string) map[string]string {
	upstream := map[string]string{}
	mapped := map[string]string{}
	if c.mapping != "" {
		if err := json.Unmarshal([]byte(c.mapping), &mapped); err != nil {
			m.notes.Add(subject, "has a model_mapping that is no JSON object of strings, and is left out")
		}
	}
	for _, model := range c.models {
		name := model
		for range maxChain {
			next, ok := mapped[name]
			if next = strings.TrimSpace(next); !ok || next == "" || next == name {
				break
			}
			name = next
		}
		upstream[model] = name
	}
	return upstream
}

// upstreams lists the models of a channel by the names that the upstream gives them.
func (m *mapper) upstreams(c *channel, upstream map[string]string) (models []any) {
	models = []any{}
	for _, model := range c.models {
		name := upstream[model]
		if name = strings.TrimSpace(name); name == "" || slices.Contains(models, any(name)) {
			continue
		}
		if i := strings.IndexByte(name, '*'); i >= 0 && i < len(name)-1 {
			m.notes.Add(fmt.Sprintf("channel %d", c.id), "serves a model with a * within its name, which is left out")
			continue
		}
		models = append(models, name)
	}
	return models
}

// routesAndModels makes the models and bindings: those that the source lists, and those that
// providers serve besides.
func (m *mapper) routesAndModels() {
	type pair struct{ group, model string }
	states := map[pair]bool{} // whether any route is active
	spaces := map[pair]string{}
	var order []pair
	see := func(p pair, namespace string, active bool) {
		if _, seen := states[p]; !seen {
			order = append(order, p)
			spaces[p] = namespace
		}
		states[p] = states[p] || active
	}
	for _, r := range m.routes {
		of := strings.TrimSpace(r.group)
		if of == "" {
			of = "default"
		}
		m.spaces[of] = r.namespace
		see(pair{of, strings.TrimSpace(r.model)}, r.namespace, r.active)
	}
	for _, of := range slices.Sorted(maps.Keys(m.served)) {
		for _, model := range m.served[of].models {
			if _, seen := states[pair{of, model}]; !seen {
				see(pair{of, model}, m.spaces[of], true)
			}
		}
	}
	made := map[string]bool{}
	for _, p := range order {
		if !m.nameable(p.model) {
			continue
		}
		namespace, g := m.namespace(spaces[p]), m.group(p.group)
		if key := catalog.ModelKey(namespace, p.model); !made[key] {
			made[key] = true
			model := map[string]any{"namespace": namespace, "name": p.model}
			if kind := modelKind(p.model); kind != "chat" {
				model["kind"] = kind
			}
			m.add(catalog.KindModel, model)
		}
		m.binding(g, namespace, p.model, states[p])
	}
}

// nameable reports whether a model can have a name.
func (m *mapper) nameable(model string) bool {
	v := catalog.Model{Name: model}
	if err := catalog.Check(&v, nil); err != nil {
		m.notes.Add("model "+cut(plain(model), 64), "cannot have this name here, and is left out")
		return false
	}
	return true
}

// namespace returns a namespace by what the source calls it.
func (m *mapper) namespace(name string) string {
	if name = strings.TrimSpace(name); name == "" {
		return "default"
	}
	word := m.namespaces.get(name, maxSlug, slug)
	if word != name {
		m.notes.Add("namespace "+plain(name), "is called %s now: namespaces have only a-z 0-9 _ -", word)
	}
	return word
}

// binding makes the binding by which the keys of a group reach a model. A binding is disabled
// when the source disables every route though a provider that serves the model is active.
func (m *mapper) binding(g *group, namespace, model string, active bool) {
	b := map[string]any{"namespace": namespace, "model": model, "route_group": g.name}
	names, serving := []string{}, false
	for _, p := range g.providers {
		name, serves := p.upstream[model]
		if serves && !slices.Contains(names, name) {
			names = append(names, name)
		}
		serving = serving || serves && p.active
	}
	if !active && serving {
		b["status"] = "disabled"
	}
	switch {
	case len(names) == 1 && names[0] != model:
		b["selector_value"] = names[0]
	case len(names) > 1:
		slices.Sort(names)
		quoted := make([]string, len(names))
		for i, name := range names {
			quoted[i] = regexp.QuoteMeta(name)
		}
		b["selector_type"], b["selector_value"] = "regex", strings.Join(quoted, "|")
	}
	m.checkSelector(g, model, b)
	m.add(catalog.KindBinding, b)
}

// checkSelector notes which providers of a group the selector of a binding does not get right:
// it may hit several of their models, or one that is another there.
func (m *mapper) checkSelector(g *group, model string, b map[string]any) {
	typ, _ := b["selector_type"].(string)
	value, _ := b["selector_value"].(string)
	if typ == "" {
		typ = catalog.SelectExact
	}
	if value == "" {
		value = model
	}
	s, err := catalog.ParseSelector(typ, value)
	for _, p := range g.providers {
		var listed []string
		for _, v := range p.fields["models"].([]any) {
			listed = append(listed, v.(string))
		}
		subject := fmt.Sprintf("channel %d", p.channel.id)
		want, serves := p.upstream[model]
		if err != nil {
			m.notes.Add(subject, "maps %s in group %s to too many names for one binding", plain(model), g.name)
			continue
		}
		hit, hits, _ := s.Pick(context.Background(), catalog.NewModelList(listed)) // a context that does not end
		switch {
		case serves && hits != 1:
			m.notes.Add(subject, "maps %s in group %s to a name that it serves as another model, too: it does not serve %s "+
				"until one of both is taken out of its models", plain(model), g.name, plain(model))
		case !serves && hits > 0 || serves && hit != want:
			m.notes.Add(subject, "serves %s in group %s by its binding, as a model that it serves under another name",
				plain(model), g.name)
		}
	}
}
