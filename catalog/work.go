package catalog

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// maxWork bounds the work that the provider groups of one commit make for those who render
// documents, in steps of a regular expression over a byte. A step takes some 8 ns. Other selectors
// look up a name, which is nothing beside that; documents.go bounds how many do.
const maxWork = 500_000_000

// rendered notes what the commit makes others render again, and which field is to blame for it.
type rendered struct {
	groups map[string]cause // of providers, whose bindings are to be matched again
	models map[string]cause // by natural key, whose bindings have changed
	names  map[string]cause // of models that providers may serve without a binding
	every  *cause           // a provider serves names of all beginnings
}

// cause is a field of a record that has changed.
type cause struct {
	record record
	field  string
}

// provider notes a provider that is new, or has another group or other models.
func (r *rendered) provider(p *Provider) {
	r.group(p.Group, cause{p, "models"})
	for _, m := range p.Models {
		if IsWildcard(m) {
			r.every = &cause{p, "models"}
		} else {
			r.name(m, cause{p, "models"})
		}
	}
}

// binding notes a binding that is new or has changed.
func (r *rendered) binding(b *Binding) {
	if b.SelectorType != SelectExact {
		r.group(b.ProviderGroup, cause{b, "selector_value"})
	}
	if r.models == nil {
		r.models = map[string]cause{}
	}
	r.models[ModelKey(b.Namespace, b.Model)] = cause{b, "provider_group"}
}

// model notes a model that is new or has changed.
func (r *rendered) model(m *Model) { r.name(m.Name, cause{m, "name"}) }

func (r *rendered) group(group string, because cause) {
	if r.groups == nil {
		r.groups = map[string]cause{}
	}
	r.groups[group] = because
}

func (r *rendered) name(name string, because cause) {
	if r.names == nil {
		r.names = map[string]cause{}
	}
	r.names[name] = because
}

// tooMuch is the error for what makes others render too much.
func (tx *txn) tooMuch(c cause, message string) error {
	return &FieldError{Field: tx.fieldOf(c.record, c.field), Message: message}
}

// checkRendering refuses a commit after which finding the models that bindings pick would take
// too long, or would fill documents that are too large. Every control plane does that for each
// publish that touches them, and nothing else is published meanwhile.
func (tx *txn) checkRendering(ctx context.Context) error {
	work := 0
	for _, group := range slices.Sorted(maps.Keys(tx.rendered.groups)) {
		because := tx.rendered.groups[group]
		steps, err := tx.expressions(ctx, group, because)
		if err != nil {
			return err
		}
		if steps == 0 {
			continue
		}
		size, err := tx.modelBytes(ctx, group)
		if err != nil {
			return err
		}
		if work += steps * size; work > maxWork {
			return tx.tooMuch(because, "makes the bindings to a provider group take "+
				"too long to match against the models of its providers; make the regular expressions of the bindings "+
				"simpler, or the lists of models shorter")
		}
	}
	if err := tx.checkDocuments(ctx, &groupSizes{tx: tx}); err != nil {
		return err
	}
	return tx.checkImplied(ctx)
}

// expressions adds up the steps per byte of the regular expressions in the bindings to a group. It
// notes the models of all bindings to it. What cannot be read is not rendered either.
func (tx *txn) expressions(ctx context.Context, group string, because cause) (steps int, err error) {
	bindings, err := tx.list(ctx, KindBinding, Query{Groups: []string{group}})
	if err != nil {
		return 0, err
	}
	for _, e := range bindings {
		var b Binding
		if b.decode(e, nil) != nil || b.ProviderGroup != group {
			continue
		}
		if tx.rendered.models == nil {
			tx.rendered.models = map[string]cause{}
		}
		if _, noted := tx.rendered.models[e.Ref]; !noted {
			tx.rendered.models[e.Ref] = because
		}
		if b.SelectorType != SelectRegex {
			continue
		}
		if s, err := ParseSelector(b.SelectorType, b.SelectorValue); err == nil {
			steps += s.steps
		}
	}
	return steps, nil
}

// modelBytes adds up the lengths of the models that the providers of a group list. Those that list
// the same share the work.
func (tx *txn) modelBytes(ctx context.Context, group string) (size int, err error) {
	entities, err := tx.list(ctx, KindProvider, Query{Groups: []string{group}})
	if err != nil {
		return 0, err
	}
	seen := map[ListID]bool{}
	for _, e := range entities {
		list := NewModelList(modelsOf(e))
		if id := list.ID(); !seen[id] {
			seen[id] = true
			size += len(strings.Join(list.literal, " "))
		}
	}
	return size, nil
}

// modelsOf returns what a stored provider lists: nothing where that cannot be read.
func modelsOf(e Entity) []string {
	var listed struct{ Models []string }
	if e.spec(&listed) != nil {
		return nil
	}
	return listed.Models
}
