package console

import (
	"reflect"

	"github.com/ez-api/ez-api/catalog"
)

// A noun says how the pages show one kind of resource. Everything else comes from its Go type.
type noun struct {
	kind     catalog.Kind
	fields   map[string]*field // by their names in the API
	title    []string          // the fields by which people know one
	columns  []string          // of lists, beside the title
	filters  []string          // of lists, by the names of the API's parameters
	sections []section         // of forms and of the page of one
	facts    []string          // that are shown with those of the first section, and not filled in
	limited  bool              // whether who is limited to a project sees any
	writes   bool              // whether such an admin may change some
}

// A section is a part of a form.
type section struct {
	name   string // a key of the catalogue begins with section.
	fields []string
}

type nounTable map[catalog.Kind]*noun

func newNouns() nounTable {
	common := []string{"external_id", "labels"}
	table := nounTable{}
	for _, n := range []*noun{
		{
			kind: catalog.KindProvider, fields: fieldsOf[catalog.Provider](), title: []string{"name"},
			columns: []string{"type", "group", "models", "priority", "weight", "updated_at"},
			filters: []string{"q", "status", "group", "label"},
			sections: []section{
				{"basics", []string{"name", "type", "base_url", "api_key", "google_project", "google_location"}},
				{"routing", []string{"group", "models", "priority", "weight", "auto_ban"}},
				{"prices", []string{"prices"}},
				{"other", []string{"external_id", "labels", "options"}},
			},
		},
		{
			kind: catalog.KindModel, fields: fieldsOf[catalog.Model](), title: []string{"name"},
			columns: []string{"namespace", "kind", "context_window", "input_price", "output_price", "price_source"},
			filters: []string{"q", "status", "namespace", "label"}, limited: true,
			sections: []section{
				{"basics", []string{"name", "namespace", "kind"}},
				{"capabilities", []string{"context_window", "max_output_tokens", "supports_vision", "supports_functions",
					"supports_tool_choice", "supports_fim", "supports_stream"}},
				{"prices", []string{"input_price", "output_price", "cache_read_price", "cache_write_price", "request_price",
					"price_tiers", "price_source"}},
				{"other", common},
			},
		},
		{
			kind: catalog.KindBinding, fields: fieldsOf[catalog.Binding](), title: []string{"model"},
			columns: []string{"namespace", "route_group", "provider_group", "selector_type", "selector_value",
				"priority", "weight"},
			filters: []string{"q", "status", "group", "namespace", "label"}, limited: true,
			sections: []section{
				{"basics", []string{"model", "namespace", "route_group", "provider_group"}},
				{"selector", []string{"selector_type", "selector_value"}},
				{"routing", []string{"priority", "weight"}},
				{"other", common},
			},
		},
		{
			kind: catalog.KindKey, fields: fieldsOf[catalog.Key](), title: []string{"name"},
			columns: []string{"project", "group", "token_hint", "last_used_at", "expires_at", "spend"},
			filters: []string{"q", "status", "project", "group", "namespace", "label"}, limited: true, writes: true,
			facts: []string{"last_used_at", "spend"},
			sections: []section{
				{"basics", []string{"name", "project", "group", "expires_at"}},
				{"access", []string{"models", "namespaces", "default_namespace", "scopes", "allow_ips"}},
				{"limits", []string{"rpm_limit", "tpm_limit", "max_parallel", "budgets"}},
				{"other", common},
			},
		},
		{
			kind: catalog.KindProject, fields: fieldsOf[catalog.Project](), title: []string{"name"},
			columns: []string{"models", "groups", "max_keys", "rpm_limit", "tpm_limit", "budgets"},
			filters: []string{"q", "status", "project", "label"}, limited: true, writes: true,
			sections: []section{
				{"basics", []string{"name", "max_keys"}},
				{"access", []string{"models", "groups", "namespaces"}},
				{"limits", []string{"rpm_limit", "tpm_limit", "max_parallel", "budgets"}},
				{"other", common},
			},
		},
		{
			kind: catalog.KindHold, fields: fieldsOf[catalog.Hold](), title: []string{"target"},
			columns: []string{"reason", "until", "message", "created_at"},
			filters: []string{"q", "status", "label"}, limited: true, writes: true, facts: []string{"reason"},
			sections: []section{{"basics", []string{"target", "until", "message"}}, {"other", common}},
		},
		{
			kind: catalog.KindOperator, fields: fieldsOf[catalog.Operator](), title: []string{"name"},
			columns: []string{"role", "project", "token_hint", "last_used_at", "expires_at"},
			facts:   []string{"last_used_at"},
			filters: []string{"q", "status", "project", "label"},
			sections: []section{
				{"basics", []string{"name", "role", "project", "expires_at"}},
				{"other", common},
			},
		},
	} {
		table[n.kind] = n
	}
	table.nameHelp()
	return table
}

// nameHelp gives each field that pages show its key of the catalogue: one for the fields of the same
// name of all nouns, where they mean the same.
func (t nounTable) nameHelp() {
	meanings := map[string]map[string]bool{}
	for _, n := range t {
		for name, f := range n.fields {
			if meanings[name] == nil {
				meanings[name] = map[string]bool{}
			}
			meanings[name][f.Doc] = true
		}
	}
	for kind, n := range t {
		for name, f := range n.fields {
			f.Help = "help." + name
			if len(meanings[name]) > 1 {
				f.Help = "help." + string(kind) + "." + name
			}
			for _, column := range f.Columns {
				column.Help = "help." + name + "." + column.Name
			}
		}
	}
}

// docs returns what the fields that pages show mean, by the keys of the catalogue.
func (t nounTable) docs() map[string]string {
	docs := map[string]string{}
	add := func(f *field) {
		docs[f.Help] = f.Doc
		for _, column := range f.Columns {
			docs[column.Help] = column.Doc
		}
	}
	for _, n := range t {
		for _, f := range n.inputs() {
			add(f)
		}
		for _, name := range n.facts {
			add(n.fields[name])
		}
	}
	return docs
}

func fieldsOf[T catalog.Noun]() map[string]*field {
	fields := map[string]*field{}
	for _, f := range readFields(reflect.TypeFor[T]()) {
		fields[f.Name] = f
	}
	// What the API adds to keys when it shows them.
	if reflect.TypeFor[T]() == reflect.TypeFor[catalog.Key]() {
		fields["last_used_at"] = &field{Name: "last_used_at", Widget: widgetTime, ReadOnly: true,
			Doc: "When the key was last used, to the hour."}
		fields["spend"] = &field{Name: "spend", Widget: widgetSpend, ReadOnly: true,
			Doc: "What was spent of each budget in the window that lasts now."}
	}
	return fields
}
