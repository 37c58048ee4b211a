package request

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// Rule says in one sentence what a value must be that a schema describes. The same sentence
// answers every mistake in the value, so that its reader knows what to send instead.
func Rule(s *huma.Schema) string {
	switch {
	case len(s.Enum) > 0:
		return "must be " + choice(s.Enum)
	case s.PatternDescription != "":
		return "must be " + s.PatternDescription
	}
	switch s.Type {
	case huma.TypeBoolean:
		return "must be true or false"
	case huma.TypeInteger:
		return "must be a whole number" + bounds(s)
	case huma.TypeArray:
		return fmt.Sprintf("must have at most %d values", valueOr(s.MaxItems, MaxBody))
	case huma.TypeObject:
		return fmt.Sprintf("must be an object of at most %d texts", valueOr(s.MaxProperties, MaxBody))
	}
	switch least, most := valueOr(s.MinLength, 0), valueOr(s.MaxLength, 0); {
	case s.Format == "date-time":
		return timeRule
	case most == 0:
		return "must be text"
	case least > 0:
		return fmt.Sprintf("must be text of %d to %d characters", least, most)
	default:
		return fmt.Sprintf("must be text of at most %d characters", most)
	}
}

// choice lists what a value may be.
func choice(values []any) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	last := len(texts) - 1
	if last == 0 {
		return texts[0]
	}
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
}

// bounds says between which numbers one must be.
func bounds(s *huma.Schema) string {
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf(" from %.0f to %.0f", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		return fmt.Sprintf(" of at least %.0f", *s.Minimum)
	}
	return ""
}

func valueOr(v *int, none int) int {
	if v == nil {
		return none
	}
	return *v
}

// WrongText says why a text is no filter, in a query or in a body; "" is nothing. An empty one
// is a variable that was not set rather than a wish.
func WrongText(s string) string {
	if s == "" {
		return "must not be empty; leave it out instead"
	}
	return wrongCharacters(s)
}

// wrongCharacters says of a text that it holds what no engine can look for.
func wrongCharacters(s string) string {
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if !utf8.ValidString(s) || strings.ContainsFunc(s, control) {
		return "must hold no control characters, and be UTF-8"
	}
	return ""
}
