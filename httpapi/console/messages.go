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

// messages are what the API says about wrong fields, in another language. The API says it in English,
// and the catalogue of a language has a text for each format that it says it with. A message is
// recognised by the format, and what stands in the places of the arguments is taken over.
type messages struct {
	whole    map[string]string // of formats without arguments
	patterns []messagePattern  // of the others, the one with the most text first
}

type messagePattern struct {
	message *regexp.Regexp
	text    string // with %s in the places of arguments, or %[1]s where their order is another one
	weight  int
}

var verb = regexp.MustCompile(`%(\[\d\])?[a-z]`)

// loadMessages reads the catalogue of a language. English has none.
func loadMessages(lang string) (messages, error) {
	m := messages{whole: map[string]string{}}
	name := "words/messages/" + lang + ".json"
	data, err := fs.ReadFile(wordFiles, name)
	if lang == languages()[0] {
		return m, nil
	}
	var texts map[string]string
	if err == nil {
		err = json.Unmarshal(data, &texts)
	}
	if err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	for format, text := range texts {
		parts := verb.Split(format, -1)
		if len(parts) == 1 {
			m.whole[format] = text
			continue
		}
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		m.patterns = append(m.patterns, messagePattern{
			message: regexp.MustCompile("(?s)^" + strings.Join(parts, "(.*?)") + "$"),
			text:    verb.ReplaceAllString(text, "%${1}s"), weight: len(verb.ReplaceAllString(format, "")),
		})
	}
	slices.SortFunc(m.patterns, func(a, b messagePattern) int {
		return cmp.Or(b.weight-a.weight, strings.Compare(a.message.String(), b.message.String()))
	})
	return m, nil
}

// message returns a message of the API in the language, and one that is not known as it is.
func (m messages) message(english string) string {
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
			args[i] = m.message(arg)
		}
		return fmt.Sprintf(p.text, args...)
	}
	return english
}

// field returns a message about a field in a line, in which the field is called as in the API.
func (w *words) field(e *catalog.FieldError) string {
	if w.Language == languages()[0] {
		return e.Error()
	}
	return e.Field + "：" + w.message(e.Message)
}
