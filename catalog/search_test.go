package catalog_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
)

// Texts that differ only in case fold to the same, in every script, and folding twice changes nothing more.
func TestFoldCase(t *testing.T) {
	for _, same := range [][]string{
		{"Gpt-4O", "gPT-4o"}, {"ÉCLAIR", "éclair"}, {"ΣΊΣΥΦΟΣ", "σίσυφος"}, {"ЁЖ", "ёж"}, {"山田　太郎"}, {"ﬃ"},
		{"K", "k", "\u212a"},
	} {
		for _, s := range same {
			if got, want := catalog.FoldCase(s), catalog.FoldCase(same[0]); got != want {
				t.Errorf("%q folds to %q, and %q to %q", s, got, same[0], want)
			}
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		s := rapid.String().Draw(r, "s")
		folded := catalog.FoldCase(s)
		if catalog.FoldCase(folded) != folded || !strings.EqualFold(s, folded) {
			r.Fatalf("%q folds to %q", s, folded)
		}
		if upper := strings.ToUpper(s); strings.EqualFold(upper, s) && catalog.FoldCase(upper) != folded {
			r.Fatalf("%q folds to %q, and in upper case to %q", s, folded, catalog.FoldCase(upper))
		}
	})
}
