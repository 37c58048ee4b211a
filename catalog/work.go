package catalog

import (
	"context"
	"maps"
	"slices"
	"strings"
)

const (
	// maxWork bounds the work that the provider groups of one commit make for those who render
	// documents, in steps of a regular expression over a byte. A step takes some 8 ns.
	maxWork = 500_000_000

	// pairSteps is what it costs to ask one provider's list one question.
	pairSteps = 100
)

// renders notes that the bindings to a provider group are to be rendered again, because of a
// field of a record.
func (tx *txn) renders(group string, because record, field string) {
	if tx.groups == nil {
		tx.groups = map[string]cause{}
	}
	tx.groups[group] = cause{because, field}
}

// cause is a field of a record that has changed.
type cause struct {
	record record
	field  string
}

// checkRendering refuses a commit after which finding the models that bindings pick would take
// too long. Every control plane does that for each publish that touches a group, and nothing
// else is published meanwhile.
func (tx *txn) checkRendering(ctx context.Context) error {
	work := 0
	for _, group := range slices.Sorted(maps.Keys(tx.groups)) {
		questions, steps, err := tx.questions(ctx, group)
		if err != nil {
			return err
		}
		if questions == 0 {
			continue
		}
		providers, err := tx.count(ctx, KindProvider, Query{Groups: []string{group}})
		if err != nil {
			return err
		}
		work += questions * int(providers) * pairSteps
		if steps > 0 {
			size, err := tx.modelBytes(ctx, group)
			if err != nil {
				return err
			}
			work += steps * size
		}
		if work > maxWork {
			c := tx.groups[group]
			return &FieldError{Field: tx.fieldOf(c.record, c.field), Message: "makes the bindings to a provider group take " +
				"too long to match against the models of its providers; make the regular expressions of the bindings " +
				"simpler, or the lists of models shorter"}
		}
	}
	return nil
}

// questions counts the bindings to a group that do not ask for one name alone, and adds up the steps
// per byte of their regular expressions. What cannot be read is not rendered either.
func (tx *txn) questions(ctx context.Context, group string) (n, steps int, err error) {
	bindings, err := tx.list(ctx, KindBinding, Query{Groups: []string{group}})
	if err != nil {
		return 0, 0, err
	}
	for _, e := range bindings {
		var b Binding
		if b.decode(e, nil) != nil || b.ProviderGroup != group || b.SelectorType == SelectExact {
			continue
		}
		n++
		if s, err := ParseSelector(b.SelectorType, b.SelectorValue); err == nil && b.SelectorType == SelectRegex {
			steps += s.steps
		}
	}
	return n, steps, nil
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
		var listed struct{ Models []string }
		if e.spec(&listed) != nil {
			continue
		}
		list := NewModelList(listed.Models)
		if id := list.ID(); !seen[id] {
			seen[id] = true
			size += len(strings.Join(list.literal, " "))
		}
	}
	return size, nil
}
