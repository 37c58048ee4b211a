package console

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// messages are what the API says, in the words of the pages: about wrong fields, what it refuses, what it warns
// of, why a key cannot reach a model, and what does not work. The API says it in English, and the
// catalogue of a language has a text for each format that it says it with. A message is recognised by the
// format, and what stands in the places of the arguments is taken over. That of English has only what the
// API says of its own parameters, which the pages call otherwise.
type messages struct {
	english  bool
	whole    map[string]string // of formats without arguments
	patterns []messagePattern  // of the others, the one with the most text first
}

type messagePattern struct {
	message *regexp.Regexp
	text    string // with %s in the places of arguments, or %[1]s where their order is another one
	weight  int
}

var verb = regexp.MustCompile(`%(\[\d\])?[-+.#0-9]*[a-zA-Z]`)

// loadMessages reads the catalogue of a language.
func loadMessages(lang string) (messages, error) {
	m := messages{english: lang == languages()[0], whole: map[string]string{}}
	name := "words/messages/" + lang + ".json"
	data, err := fs.ReadFile(wordFiles, name)
	var texts map[string]string
	if err == nil {
		err = json.Unmarshal(data, &texts)
	}
	if err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	for format, text := range texts {
		verbs := verb.FindAllString(format, -1)
		if len(verbs) == 0 {
			m.whole[format] = text
			continue
		}
		m.patterns = append(m.patterns, messagePattern{
			message: regexp.MustCompile("(?s)^" + patternOf(format, verbs) + "$"),
			text:    verb.ReplaceAllString(text, "%${1}s"), weight: len(verb.ReplaceAllString(format, "")),
		})
	}
	slices.SortFunc(m.patterns, func(a, b messagePattern) int {
		return cmp.Or(b.weight-a.weight, strings.Compare(a.message.String(), b.message.String()))
	})
	return m, nil
}

// patternOf returns the expression of what may be said with a format.
func patternOf(format string, verbs []string) string {
	var b strings.Builder
	for i, part := range verb.Split(format, -1) {
		b.WriteString(regexp.QuoteMeta(strings.ReplaceAll(part, "%%", "%")))
		switch {
		case i == len(verbs):
		case verbs[i] == "%d":
			b.WriteString(`(-?[\d,]+)`)
		default:
			b.WriteString("(.*?)")
		}
	}
	return b.String()
}

// mostParts is how many parts of a message are looked up, so that a text which only looks like a message, and which
// somebody may have made up, takes little time.
const mostParts = 40

// message returns a message of the API in the language, and one that is not known as it is. Several may
// be joined by semicolons, and one may have the name of what it is about before it.
func (m messages) message(english string) string {
	left := mostParts
	text := m.part(english, &left)
	if left < 0 {
		return english
	}
	return text
}

// part is message, for at most as many parts as are left.
func (m messages) part(english string, left *int) string {
	if *left--; *left < 0 {
		return english
	}
	if text, ok := m.whole[english]; ok {
		return text
	}
	for _, p := range m.patterns {
		found := p.message.FindStringSubmatch(english)
		if found == nil {
			continue
		}
		args := make([]any, len(found)-1)
		for i, arg := range found[1:] {
			args[i] = m.part(arg, left)
		}
		return fmt.Sprintf(p.text, args...)
	}
	// The name of an error stands behind what is said of it.
	if i := strings.LastIndex(english, ": "); i > 0 {
		if name, ok := m.whole[english[i+2:]]; ok {
			return m.part(english[:i], left) + m.between(": ", "：") + name
		}
	}
	for _, between := range []struct{ english, other string }{{"; ", "；"}, {": ", "："}} {
		first, rest, ok := strings.Cut(english, between.english)
		if !ok {
			continue
		}
		a, b := m.part(first, left), m.part(rest, left)
		if b != rest || a != first && between.english == "; " {
			return a + m.between(between.english, between.other) + b
		}
	}
	return english
}

// between returns what stands between two messages.
func (m messages) between(english, other string) string {
	if m.english {
		return english
	}
	return other
}

// field returns a message about a field in a line, in which the field is called as in the API.
func (w *words) field(e *catalog.FieldError) string {
	text := w.message(e.Message)
	switch {
	case !w.english:
		return e.Field + "：" + text
	case e.Field == "":
		return text
	}
	return e.Field + " " + text
}
