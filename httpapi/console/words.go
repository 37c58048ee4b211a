package console

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/text/language"

	"github.com/ez-api/ez-api/httpapi/client"
)

//go:embed words
var wordFiles embed.FS

// words is the catalogue of one language.
type words struct {
	Language string // en, zh
	texts    map[string]string
	messages
}

// languages are those that there are catalogues of, the default first.
func languages() []string { return []string{"en", "zh"} }

// loadWords reads a catalogue. What fields mean is said in English by the tags of the nouns.
func loadWords(lang string, nouns nounTable) (*words, error) {
	text, err := wordFiles.ReadFile("words/" + lang + ".json")
	if err != nil {
		return nil, err
	}
	w := &words{Language: lang}
	if err := json.Unmarshal(text, &w.texts); err != nil {
		return nil, fmt.Errorf("words/%s.json: %w", lang, err)
	}
	if w.messages, err = loadMessages(lang); err != nil {
		return nil, err
	}
	if lang == languages()[0] {
		for key, doc := range nouns.docs() {
			if _, said := w.texts[key]; !said { // where a form says it otherwise than the API's document
				w.texts[key] = doc
			}
		}
	}
	return w, nil
}

// text returns the text of a key, with its arguments put in as by fmt. A key without a text is shown
// as it is; the tests find those.
func (w *words) text(key string, args ...any) string {
	text, ok := w.texts[key]
	switch {
	case !ok:
		return key
	case len(args) > 0:
		return fmt.Sprintf(text, args...)
	}
	return text
}

// or returns the text of a key, or a word as it is where the catalogue has none of it.
func (w *words) or(prefix, word string) string {
	if text, ok := w.texts[prefix+word]; ok {
		return text
	}
	return word
}

// problem returns the title of a problem document.
func (w *words) problem(e *client.Error) string {
	if text, ok := w.texts["problem."+strings.TrimPrefix(e.Type, "urn:ezapi:")]; ok {
		return text
	}
	return w.message(e.Title)
}

// nodes says how far balancers have come, of which the API has the numbers as applied=1 lagging=0 lost=0.
func (w *words) nodes(text string) string {
	var applied, lagging, lost int
	if _, err := fmt.Sscanf(text, "applied=%d lagging=%d lost=%d", &applied, &lagging, &lost); err != nil {
		return ""
	}
	if applied+lagging+lost == 0 {
		return w.text("progress.nobody")
	}
	said := w.text("progress.applied", applied, applied+lagging)
	if lost > 0 {
		said += ", " + w.text("overview.lost", lost)
	}
	return said
}

// sentence returns what a problem document says, its detail behind its title.
func (w *words) sentence(e *client.Error) string {
	text, detail := w.problem(e), w.message(e.Detail)
	switch {
	case detail == "":
		return text
	case w.english:
		return text + ": " + detail
	}
	return text + "：" + detail
}

// languageOf returns the language of a request: as it was chosen, else as the browser likes it.
func languageOf(r *http.Request) string {
	all := languages()
	tags := make([]language.Tag, len(all))
	for i, l := range all {
		tags[i] = language.Make(l)
	}
	_, i := language.MatchStrings(
		language.NewMatcher(tags),
		cookieValue(r, languageCookie),
		r.Header.Get("Accept-Language"),
	)
	return all[i]
}
