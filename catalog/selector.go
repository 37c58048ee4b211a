package catalog

import (
	"context"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// The selector types.
const (
	SelectExact      = "exact"           // the same model id
	SelectRegex      = "regex"           // RE2, matches the whole model id
	SelectNormalized = "normalize_exact" // the same after trimming, lower-casing and cutting all up to the last "/"
)

// SelectorTypes lists the values of Binding.SelectorType.
func SelectorTypes() []string { return []string{SelectExact, SelectRegex, SelectNormalized} }

const (
	maxSelector = 1024 // characters

	// maxProgram bounds the instructions that a regular expression compiles to.
	// Matching takes time in proportion to them. "gpt-4o(-\d{4}-\d{2}-\d{2})?" has 24.
	maxProgram = 500
)

// Selector picks upstream models. It is safe for concurrent use.
type Selector struct {
	typ, value string
	re         *regexp.Regexp
	steps      int // per byte of a model id, about
}

// ParseSelector makes the selector of a binding. The error wraps [ErrInvalid]
// and says in words for people what is wrong with the value.
func ParseSelector(typ, value string) (*Selector, error) {
	s := &Selector{typ: typ, value: value, steps: 1}
	switch typ {
	case SelectExact:
	case SelectNormalized:
		s.value = normalizeModel(value)
	case SelectRegex:
		parsed, err := syntax.Parse(value, syntax.Perl)
		if err != nil {
			return nil, fmt.Errorf("must be a regular expression in RE2 syntax: %w", ErrInvalid)
		}
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil || len(program.Inst) > maxProgram {
			return nil, fmt.Errorf("must be a simpler regular expression: it compiles to more than %d instructions, mostly "+
				"because of counted repetition such as {1,100}: %w", maxProgram, ErrInvalid)
		}
		// The parsed form has closed what the text may leave open, such as \Q.
		if s.re, err = regexp.Compile(`\A(?:` + parsed.String() + `)\z`); err != nil {
			return nil, fmt.Errorf("must be a regular expression in RE2 syntax: %w", ErrInvalid)
		}
		s.steps = len(program.Inst)
	default:
		return nil, fmt.Errorf("must be one of %s: %w", strings.Join(SelectorTypes(), ", "), ErrInvalid)
	}
	return s, nil
}

// Pick returns the upstream model that the selector picks from those that a provider lists, and how
// many it hits; the pick is right only when it hits one. An exact selector hits the listed model of
// the same name. It also hits one that ends in *, when the selector's value, without a * at its own
// end, begins with what stands before that *; the model is then the selector's value. The other
// types hit only listed models without *.
//
// When ctx ends, Pick stops and returns the error of ctx.
func (s *Selector) Pick(ctx context.Context, listed *ModelList) (model string, hits int, err error) {
	switch {
	case s.re != nil:
		return listed.matching(ctx, s)
	case s.typ == SelectNormalized:
		model, hits = listed.normalized(s.value)
	case listed.has(s.value):
		model, hits = s.value, 1
	}
	return model, hits, ctx.Err()
}

func normalizeModel(model string) string {
	model = strings.ToLower(strings.TrimSpace(model))
	return model[strings.LastIndexByte(model, '/')+1:]
}

// checkSelector says what is wrong with how a binding picks upstream models.
func (b *Binding) checkSelector(errs *FieldErrors) {
	before := len(*errs)
	checkText(errs, "selector_value", b.SelectorValue, 1, maxSelector)
	if len(*errs) > before {
		return
	}
	if _, err := ParseSelector(b.SelectorType, b.SelectorValue); err != nil {
		field := "selector_value"
		if !slices.Contains(SelectorTypes(), b.SelectorType) {
			field = "selector_type"
		}
		errs.add(field, "%s", strings.TrimSuffix(err.Error(), ": "+ErrInvalid.Error()))
		return
	}
	switch star := strings.Contains(b.SelectorValue, "*"); {
	case IsWildcard(b.Model) && b.SelectorType != SelectExact:
		errs.add("selector_type", "must be exact for a model whose name ends in *")
	case IsWildcard(b.Model) && strings.IndexByte(b.SelectorValue, '*') != len(b.SelectorValue)-1:
		errs.add("selector_value", "must end in * and have no other, because the name of the model ends in *")
	case !IsWildcard(b.Model) && star && b.SelectorType != SelectRegex:
		errs.add("selector_value", "must have no *, because the name of the model has none")
	}
}
