package console

import (
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCataloguesAreEqual: every text is there in every language, with the same places for arguments.
func TestCataloguesAreEqual(t *testing.T) {
	nouns := newNouns()
	var catalogues []*words
	for _, lang := range languages() {
		w, err := loadWords(lang, nouns)
		if err != nil {
			t.Fatal(err)
		}
		catalogues = append(catalogues, w)
	}
	first := catalogues[0]
	verbs := regexp.MustCompile(`%.`)
	for _, other := range catalogues[1:] {
		for _, key := range slices.Sorted(maps.Keys(first.texts)) {
			text, ok := other.texts[key]
			if !ok || text == "" {
				t.Errorf("%s has no %q: %s", other.Language, key, first.texts[key])
			} else if a, b := verbs.FindAllString(first.texts[key], -1), verbs.FindAllString(text,
				-1); !slices.Equal(a, b) {
				t.Errorf("%q has the arguments %v in %s and %v in %s", key, a, first.Language, b, other.Language)
			}
		}
		for key := range other.texts {
			if _, ok := first.texts[key]; !ok {
				t.Errorf("%s has %q, which %s has not", other.Language, key, first.Language)
			}
		}
	}
}

var (
	literal = regexp.MustCompile(`"([a-z][a-z0-9_]*(?:\.[a-z0-9_-]+)*\.?)"`)
)

// TestTextsAreUsed finds texts that no page shows, and keys that have no text.
func TestTextsAreUsed(t *testing.T) {
	named, prefixes := map[string]bool{}, map[string]bool{}
	for _, dir := range []string{".", "templates"} {
		err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") ||
				!strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".html") {
				return err
			}
			text, err := fs.ReadFile(os.DirFS(dir), path)
			for _, found := range literal.FindAllSubmatch(text, -1) {
				named[string(found[1])] = true
				if strings.HasSuffix(string(found[1]), ".") {
					prefixes[string(found[1])] = true
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	w, err := loadWords(languages()[0], newNouns())
	if err != nil {
		t.Fatal(err)
	}
	families := map[string]bool{}
	for key := range w.texts {
		prefix, _, _ := strings.Cut(key, ".")
		families[prefix] = true
		if !named[key] && !prefixes[prefix+"."] {
			t.Errorf("nothing shows %q", key)
		}
	}
	for key := range named {
		prefix, _, dotted := strings.Cut(key, ".")
		if _, ok := w.texts[key]; dotted && !ok && families[prefix] && !strings.HasSuffix(key, ".") {
			t.Errorf("%q has no text", key)
		}
	}
}
