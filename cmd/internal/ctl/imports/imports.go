// Package imports makes files of what other gateways have: New API and one-api, by the
// JSON of the New API exporter or by their SQLite database, and LiteLLM by its config.yaml.
//
// An import is a file first, which people read, change and apply as any other. What cannot be
// mapped is listed in [Result.Notes], and never dropped in silence.
//
// dump.go has New API's data as both of its sources give it, exporter.go and database.go
// read them, channels.go and tokens.go turn them into resources, and litellm.go does all for LiteLLM.
package imports

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
)

// Result is what an import comes to.
type Result struct {
	Set   *manifest.Set
	Notes []string // what was not mapped, or not as it was
}

// plain returns a text that can stand in a line: without what cannot be seen.
func plain(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsGraphic(r)
	}), " ")
}

// cut returns the first characters of a text.
func cut(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return strings.TrimSpace(string(runes[:most]))
	}
	return s
}

// words hands out names of a form, a different one for each text.
type words struct {
	of    map[string]string // by text
	taken map[string]bool
}

// get returns the word for a text: that of make, with a part of the text's hash where it is
// taken or empty.
func (w *words) get(text string, most int, make func(string) string) string {
	if word, ok := w.of[text]; ok {
		return word
	}
	if w.of == nil {
		w.of, w.taken = map[string]string{}, map[string]bool{}
	}
	word := cut(make(text), most)
	if word == "" || w.taken[word] {
		sum := sha256.Sum256([]byte(text))
		word = strings.TrimLeft(cut(word, most-9)+"-"+hex.EncodeToString(sum[:4]), "-")
	}
	w.of[text], w.taken[word] = word, true
	return word
}

const (
	maxSlug  = 63
	maxGroup = 64
	maxName  = 256
)

// slug returns a text in the form of namespaces and of parts of a project's path.
func slug(text string) string {
	s := strings.Map(func(r rune) rune {
		switch r = unicode.ToLower(r); {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '-'
	}, strings.TrimSpace(text))
	for strings.Contains(s, "--") {
		s = strings.ReplaceAll(s, "--", "-")
	}
	return strings.Trim(s, "-_")
}

// groupWord returns a text in the form of groups.
func groupWord(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '*' || !unicode.IsGraphic(r) {
			return '-'
		}
		return r
	}, strings.TrimSpace(text))
}

// splitList splits a list with commas, and leaves out what is empty.
func splitList(text string) []string {
	list := []string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" && !slices.Contains(list, part) {
			list = append(list, part)
		}
	}
	return list
}

// modelKind guesses what a model does by its name.
func modelKind(name string) string {
	name = strings.ToLower(name)
	for part, kind := range map[string]string{"embed": "embedding", "rerank": "rerank", "moderation": "moderation"} {
		if strings.Contains(name, part) {
			return kind
		}
	}
	return "chat"
}

// newSet returns an empty set in which all kinds that are imported are present.
func newSet(owner string, kinds ...catalog.Kind) *manifest.Set {
	s := &manifest.Set{Owner: owner, Items: map[catalog.Kind][]manifest.Item{}}
	for _, k := range kinds {
		s.Items[k] = []manifest.Item{}
	}
	return s
}

// texts turns strings into a list as a file has it.
func texts(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
