package catalog

import (
	"strings"
	"unicode"
)

// Unknown stands in errors for a name that is not shown, see [SafeName].
const Unknown = "(unknown)"

const (
	maxSafeName   = 64
	maxSafeWord   = 12 // letters: "experimental"
	maxSafeCode   = 5  // letters and digits in one word, or capitals: "Qwen2", "405B", "GPT"
	maxSafeDigits = 8  // a date: "20241022"
)

// SafeName makes a name that comes from a caller, such as that of an unknown field, of a label or of
// a parameter, fit for an error that may be logged: it is returned as it is when it consists of
// words, as names of fields and of models do, and else as [Unknown], because it may be a secret that was put in the
// place of a name. Words are short, and are joined by any of . : / @ * - and _.
func SafeName(name string) string {
	if name == "" || len(name) > maxSafeName {
		return Unknown
	}
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return strings.ContainsRune(".:/@*-_", r) }) {
		if !isWord(word) {
			return Unknown
		}
	}
	return name
}

// isWord reports whether a text is a word, a number or a short code.
func isWord(s string) bool {
	var upper, lower, digits int
	for _, r := range s {
		switch {
		case r >= 'A' && r <= 'Z':
			upper++
		case r >= 'a' && r <= 'z':
			lower++
		case r >= '0' && r <= '9':
			digits++
		default:
			return false
		}
	}
	switch {
	case upper+lower == 0:
		return digits <= maxSafeDigits
	case digits == 0 && (upper == 0 || upper == 1 && unicode.IsUpper(rune(s[0]))):
		return len(s) <= maxSafeWord
	}
	return len(s) <= maxSafeCode
}
