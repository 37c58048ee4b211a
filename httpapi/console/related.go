package console

import (
	"errors"
	"net/url"
	"strconv"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

func asProblem(err error) (*client.Error, bool) { return errors.AsType[*client.Error](err) }

// link writes an address with a query.
func link(path string, query ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		if query[i+1] != "" {
			v.Set(query[i], query[i+1])
		}
	}
	return path + "?" + v.Encode()
}

// related returns where what belongs to an entity is: its neighbours, its traffic, its history.
func (p *page) related(n *noun, o object) []related {
	id := strconv.FormatInt(o.number("id"), 10)
	all := p.neighbours(n, o)
	switch n.kind {
	case catalog.KindProvider:
		all = append(
			all,
			related{"nav.logs", link("logs", "provider_id", id)},
			related{"nav.usage", link("usage", "provider_id", id)},
		)
	case catalog.KindModel:
		all = append(
			all,
			related{"nav.logs", link("logs", "model", o.text("name"), "namespace", o.text("namespace"))},
			related{"nav.usage", link("usage", "model", o.text("name"), "namespace", o.text("namespace"))},
		)
	case catalog.KindKey:
		all = append(
			all,
			related{"nav.logs", link("logs", "key_id", id)},
			related{"nav.usage", link("usage", "key_id", id)},
			related{"nav.explain", link("explain", "key_id", id)},
		)
	case catalog.KindProject:
		all = append(all, related{"nav.logs", link("logs", "project", o.text("name"))},
			related{"nav.usage", link("usage", "project", o.text("name"))})
	}
	return append(all, related{"related.history", link("changes", "kind", string(n.kind), "id", id)})
}

func (p *page) neighbours(n *noun, o object) []related {
	switch n.kind {
	case catalog.KindProvider:
		return []related{{"related.bindings", link("bindings", "group", o.text("group"))}}
	case catalog.KindModel:
		return []related{
			{"related.bindings", link("bindings", "name", o.text("name"), "namespace", o.text("namespace"))},
		}
	case catalog.KindBinding:
		all := []related{{"related.model", link("models", "name", o.text("model"), "namespace", o.text("namespace"))}}
		if !p.Limited() {
			all = append(all, related{"related.providers", link("providers", "group", o.text("provider_group"))})
		}
		return append(all, related{"related.keys", link("keys", "group", o.text("route_group"))})
	case catalog.KindProject:
		return []related{
			{"related.keys", link("keys", "project", o.text("name"))},
			{"related.projects", link("projects", "project", o.text("name"))},
		}
	}
	return nil
}

// maxSuggestions bounds what a form offers for a field.
const maxSuggestions = 100

// suggest offers, for fields that name something, what there is.
func (p *page) suggest(n *noun, f *form) {
	for _, s := range f.Sections {
		for _, in := range s.Fields {
			switch {
			case in.Name == "project":
				in.Options = p.names(catalog.KindProject)
			case n.kind == catalog.KindBinding && in.Name == "model":
				in.Options = p.names(catalog.KindModel)
			}
		}
	}
}

// names returns the names of some of a kind. Without them a form works as well.
func (p *page) names(kind catalog.Kind) (names []string) {
	found, err := p.client.Objects(kind).List(p.ctx(), client.Query{Limit: maxSuggestions})
	if err != nil {
		return nil
	}
	for _, data := range found.Data {
		if o, err := decodeObject(data); err == nil {
			names = append(names, o.text("name"))
		}
	}
	return names
}
