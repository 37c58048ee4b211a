package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxWork bounds the work that one commit makes for those who render documents,
// in steps of a regular expression over a byte. A step takes a few nanoseconds.
const maxWork = 500_000_000

// renders notes that the bindings to a provider group are to be rendered again.
func (tx *txn) renders(group string) {
	if tx.groups == nil {
		tx.groups = map[string]bool{}
	}
	tx.groups[group] = true
}

// checkRendering refuses a commit after which matching the regular expressions
// of bindings against the models of providers would take too long. Every control
// plane does that for each publish, and nothing else is published meanwhile.
func (tx *txn) checkRendering(ctx context.Context) error {
	work := 0
	for _, group := range slices.Sorted(maps.Keys(tx.groups)) {
		steps, err := tx.regexSteps(ctx, group)
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
			return &FieldError{Field: "selector_value",
				Message: fmt.Sprintf("of the bindings to provider group %q takes too long "+
					"to match against the models of its providers; make the regular expressions simpler, or the lists of "+
					"models shorter", group)}
		}
	}
	return nil
}

// regexSteps adds up the steps per byte of the regular expressions of a group.
func (tx *txn) regexSteps(ctx context.Context, group string) (steps int, err error) {
	bindings, err := tx.list(ctx, KindBinding, Query{Groups: []string{group}})
	if err != nil {
		return 0, err
	}
	for _, e := range bindings {
		var b Binding
		if err := b.decode(e, nil); err != nil {
			return 0, err
		}
		if b.ProviderGroup != group || b.SelectorType != SelectRegex {
			continue
		}
		if s, err := ParseSelector(b.SelectorType, b.SelectorValue); err == nil {
			steps += s.steps
		}
	}
	return steps, nil
}

// modelBytes adds up the lengths of the different models that the providers of a
// group list. Each is matched once, however many list it.
func (tx *txn) modelBytes(ctx context.Context, group string) (size int, err error) {
	providers, err := tx.list(ctx, KindProvider, Query{Groups: []string{group}})
	if err != nil {
		return 0, err
	}
	seen := map[string]bool{}
	for _, e := range providers {
		var listed struct{ Models []string }
		if err := e.spec(&listed); err != nil {
			return 0, err
		}
		for _, m := range listed.Models {
			if !seen[m] && !strings.HasSuffix(m, "*") {
				seen[m] = true
				size += len(m) + 1
			}
		}
	}
	return size, nil
}
