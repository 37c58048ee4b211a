package catalog

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkName accepts what people call things: every printable text of every
// language, see [badRune]. Callers trim white space at the ends first.
func checkName(errs *FieldErrors, field, v string) { checkText(errs, field, v, 1, maxName) }

// checkText accepts a printable text of least to most characters.
func checkText(errs *FieldErrors, field, v string, least, most int) {
	switch n := utf8.RuneCountInString(v); {
	case n < least && n == 0:
		errs.add(field, "is required")
	case n < least:
		errs.add(field, "must have at least %d characters", least)
	case n > most:
		errs.add(field, "must have at most %d characters, and has %d", most, n)
	case strings.TrimSpace(v) != v:
		errs.add(field, "must not begin or end with white space")
	default:
		if what := badRune(v); what != "" {
			errs.add(field, "must not hold %s", what)
		} else if v != "" && strings.IndexFunc(v, isSeen) < 0 {
			errs.add(field, "must hold a character that can be seen")
		}
	}
}

// isSeen reports whether a character leaves a mark of its own. Among those that do not are
// letters and symbols that are blank by design: the fillers of Hangul and the empty Braille cell.
func isSeen(r rune) bool {
	return !unicode.IsSpace(r) && r != brailleBlank && r != zeroWidthNonJoiner && r != zeroWidthJoiner &&
		!unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// checkWord accepts a text without white space, such as a group or a scope.
func checkWord(errs *FieldErrors, field, v string, most int) {
	if i := indexSpace(v); i >= 0 {
		errs.add(field, "must not hold white space, as character %d is", i+1)
		return
	}
	checkText(errs, field, v, 1, most)
}

// indexSpace returns which character of v is the first that is white space, or -1.
func indexSpace(v string) int {
	i := strings.IndexFunc(v, unicode.IsSpace)
	if i < 0 {
		return -1
	}
	return utf8.RuneCountInString(v[:i])
}

// badRune says which character of a text is the first that no name may hold,
// and where; "" when there is none. Allowed are letters, marks, digits,
// punctuation, symbols and spaces of all languages, and the joiners that Persian,
// Indic scripts and emoji are written with. Refused is what a reader cannot see
// and what turns the direction of the text around it: control and format characters,
// line and paragraph separators, private use, and bytes that are not UTF-8.
func badRune(v string) string {
	n := 0
	for i, r := range v {
		n++
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(v[i:]); size == 1 {
				return fmt.Sprintf("a byte that is not UTF-8 (byte %d)", i+1)
			}
		}
		if what := refusedRune(r); what != "" {
			return fmt.Sprintf("%s (U+%04X, character %d)", what, r, n)
		}
	}
	return ""
}

const (
	zeroWidthNonJoiner = '\u200C'
	zeroWidthJoiner    = '\u200D'
	brailleBlank       = '\u2800'
)

// refusedRune names the class of a character that names may not hold.
func refusedRune(r rune) string {
	switch {
	case r == utf8.RuneError:
		return "the character that stands for text that was lost"
	case unicode.IsGraphic(r), r == zeroWidthNonJoiner, r == zeroWidthJoiner:
		return ""
	case unicode.Is(unicode.Prepended_Concatenation_Mark, r): // Arabic and Syriac signs that are seen
		return ""
	case r >= 0x1F000 && r <= 0x1FAFF, r >= 0x20000 && r <= 0x3FFFD:
		return "" // pictographs and ideographs, those that are newer than this program's tables too
	case unicode.Is(unicode.Bidi_Control, r):
		return "a character that changes the direction of the text"
	case unicode.Is(unicode.Cc, r):
		return "a control character"
	case unicode.Is(unicode.Cf, r):
		return "an invisible format character"
	case unicode.In(r, unicode.Zl, unicode.Zp):
		return "a line or paragraph separator"
	case unicode.Is(unicode.Co, r):
		return "a private-use character"
	}
	return "a character that Unicode does not define"
}
