package catalog

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// unserved are the records of a transaction that may ask for what nobody has. That is found out after
// all writes, because what they ask for may come in any order.
type unserved struct {
	bindings []*Binding
	lists    []newNames
}

// newNames are names that an allow-list has got.
type newNames struct {
	of    lister
	names []string
}

const (
	// maxAsked is how many providers of a group are asked whether a selector hits one of their models.
	maxAsked = 100

	// maxSearch bounds the work of a transaction that finds out what deserves a warning, in steps of a
	// regular expression over a byte. What is beyond it gets none.
	maxSearch   = 20_000_000
	lookupSteps = 100 // of a name in a list

	// maxSought is how many names of models are looked for. With more of them, lists get no warning.
	maxSought = 100_000
)

// binding notes a binding that is new or picks otherwise than before.
func (u *unserved) binding(before, b *Binding) {
	if before == nil || before.ProviderGroup != b.ProviderGroup || before.SelectorType != b.SelectorType ||
		before.SelectorValue != b.SelectorValue {
		u.bindings = append(u.bindings, b)
	}
}

// list notes the literal names that an allow-list has and had not before.
func (u *unserved) list(before, after lister) {
	had := map[string]bool{}
	if before != nil {
		models, _ := before.list()
		for _, name := range *models {
			had[name] = true
		}
	}
	models, _ := after.list()
	n := newNames{of: after}
	for _, name := range *models {
		if !strings.Contains(name, "*") && !had[name] {
			n.names = append(n.names, name)
		}
	}
	if len(n.names) > 0 {
		u.lists = append(u.lists, n)
	}
}

// warnUnserved warns of what was noted and asks for what nobody has.
func (tx *txn) warnUnserved(ctx context.Context) error {
	noted := tx.unserved
	tx.unserved = unserved{}
	if tx.reader == nil {
		return nil
	}
	if err := tx.warnBindings(ctx, noted.bindings); err != nil {
		return err
	}
	return tx.warnLists(ctx, noted.lists)
}

// warnBindings warns of bindings to a group without providers, and of those whose selector hits no
// model of any.
func (tx *txn) warnBindings(ctx context.Context, bindings []*Binding) error {
	groups := map[string][]*ModelList{}
	left := maxSearch
	for _, b := range bindings {
		lists, known := groups[b.ProviderGroup]
		if !known {
			providers, err := tx.list(ctx, KindProvider, Query{Groups: []string{b.ProviderGroup}, Limit: maxAsked + 1})
			if err != nil {
				return err
			}
			for _, e := range providers {
				lists = append(lists, NewModelList(modelsOf(e)))
			}
			groups[b.ProviderGroup] = lists
		}
		if len(lists) == 0 {
			tx.warnAbout(b, "provider_group", "has no provider yet: nobody serves the model by this binding")
			continue
		}
		selector, err := ParseSelector(b.SelectorType, b.SelectorValue)
		if err != nil || len(lists) > maxAsked {
			continue
		}
		hit := false
		for _, list := range lists {
			if left -= list.work(selector); left < 0 {
				return nil
			}
			_, hits, err := selector.Pick(ctx, list)
			if err != nil {
				return err
			}
			hit = hit || hits > 0
		}
		if !hit {
			tx.warnAbout(b, "selector_value",
				"hits no model of the providers in the group: nobody serves the model by this binding")
		}
	}
	return nil
}

// work is how many steps a selector takes on a list, about.
func (l *ModelList) work(s *Selector) int {
	n := lookupSteps
	if s.re != nil {
		for _, m := range l.literal {
			n += s.steps * len(m)
		}
	}
	return n
}

// warnLists warns of allow-lists with names that no model has in the namespaces of the list.
func (tx *txn) warnLists(ctx context.Context, lists []newNames) error {
	asked := map[string]bool{}
	for _, l := range lists {
		for _, name := range l.names {
			for _, served := range servedBy(name) {
				asked[served] = true
			}
		}
		if len(asked) > maxSought {
			return nil
		}
	}
	having := map[string][]string{} // the namespaces with a model of the name
	for names := range slices.Chunk(slices.Sorted(maps.Keys(asked)), fetchSize) {
		models, err := tx.list(ctx, KindModel, Query{Names: names})
		if err != nil {
			return err
		}
		for _, e := range models {
			having[e.Name] = append(having[e.Name], first(e.Namespaces))
		}
	}
	for _, l := range lists {
		_, namespaces := l.of.list()
		var missing int64
		for _, name := range l.names {
			if !slices.ContainsFunc(servedBy(name), func(served string) bool {
				return slices.ContainsFunc(having[served], func(n string) bool {
					return len(namespaces) == 0 || slices.Contains(namespaces, n)
				})
			}) {
				missing++
			}
		}
		if missing > 0 {
			tx.warnAbout(l.of, "models", "has "+countOf(missing, "name", "names")+
				" that no model has in these namespaces: no request is allowed by it yet")
		}
	}
	return nil
}

// servedBy returns the names of the models that may serve a name: its own, and those with a star that
// it begins like.
func servedBy(name string) []string {
	names := []string{name, "*"}
	for i := range len(name) {
		if name[i] == '/' {
			names = append(names, name[:i+1]+"*")
		}
	}
	return names
}
