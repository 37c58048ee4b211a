package catalog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// Names that people give in their own languages are taken as they are, and come
// back as they went in.
func TestNamesOfEveryLanguage(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	for _, name := range []string{
		"山田　太郎",                            // ideographic space
		"مدل\u200cهای زبانی",               // Persian, zero width non-joiner
		"क्\u200dष हिन्दी",                 // Hindi, zero width joiner
		"modèle\u00a0«\u202frapide\u202f»", // French, no-break spaces
		"家族 👨\u200d👩\u200d👧 ❤\ufe0f",       // emoji with joiners and variation selectors
		"العربية", "עברית", "ไทย", "한국어", "Ελληνικά", "Tiếng Việt", "Đặng", "ქართული", "አማርኛ", "Кириллица",
		"a\u0301", "ﬁ", "½ €", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "٪", "\u0600١", "🫩 new", "𠮷", "it's \"quoted\" \\ {x} [1] % $1 <b>&amp;",
	} {
		k, err := tables.Keys.Create(ctx,
			catalog.Key{Name: name, Meta: catalog.Meta{Labels: map[string]string{"name": name, labelOf(name): "x"}}})
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		got := must[catalog.Key](t)(tables.Keys.Get(ctx, k.ID))
		if got.Name != name || got.Labels["name"] != name || got.Labels[labelOf(name)] != "x" {
			t.Errorf("%q came back as %q and %q", name, got.Name, got.Labels["name"])
		}
		if _, err := tables.Models.Create(ctx, catalog.Model{Name: name}); err != nil {
			t.Errorf("model %q: %v", name, err)
		}
	}
}

// What a reader does not see, or sees in another order, is refused, and the
// message says what it is and where.
func TestCharactersThatAreRefused(t *testing.T) {
	tables := newTables(t, nil)
	for name, want := range map[string]string{
		"a\x00b":             "a control character (U+0000, character 2)",
		"a\tb":               "a control character (U+0009, character 2)",
		"日本\u0085x":          "a control character (U+0085, character 3)",
		"a\u202eb":           "changes the direction of the text (U+202E, character 2)",
		"ab\u2066c":          "changes the direction of the text (U+2066, character 3)",
		"a\u200eb":           "changes the direction of the text (U+200E, character 2)",
		"a\u200bb":           "an invisible format character (U+200B, character 2)",
		"a\ufeffb":           "an invisible format character (U+FEFF, character 2)",
		"a\U000E0041b":       "an invisible format character (U+E0041, character 2)",
		"a\u2028b":           "a line or paragraph separator (U+2028, character 2)",
		"a\ue000b":           "a private-use character (U+E000, character 2)",
		"a\u0378b":           "does not define (U+0378, character 2)",
		"a\ufffdb":           "stands for text that was lost (U+FFFD, character 2)",
		"\u3164":             "must hold a character that can be seen",
		"\u2800\u2800":       "must hold a character that can be seen",
		"\ufe0f":             "must hold a character that can be seen",
		"\u200c\u200c\u200c": "must hold a character that can be seen",
		"é\xffb":             "a byte that is not UTF-8 (byte 3)",
	} {
		_, err := tables.Keys.Create(t.Context(), catalog.Key{Name: name})
		var field *catalog.FieldError
		if !errors.As(err, &field) || field.Field != "name" || !strings.Contains(field.Message, want) {
			t.Errorf("%q: %v; want %s", name, err, want)
		}
	}
}

func TestLengthsAreOfCharacters(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	if _, err := tables.Keys.Create(ctx, catalog.Key{Name: strings.Repeat("漢", 256)}); err != nil {
		t.Errorf("256 characters: %v", err)
	}
	_, err := tables.Keys.Create(ctx, catalog.Key{Name: strings.Repeat("漢", 257)})
	if err == nil || !strings.Contains(err.Error(), "at most 256 characters, and has 257") {
		t.Errorf("257 characters: %v", err)
	}
	must[catalog.Model](t)(tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	selector := strings.Repeat("漢", 1024)
	if _, err := tables.Bindings.Create(ctx, catalog.Binding{Model: "m", SelectorValue: selector}); err != nil {
		t.Errorf("a selector of 1024 characters: %v", err)
	}
}

// labelOf makes the name of a label of a text: without white space, and short enough.
func labelOf(text string) string {
	runes := []rune(strings.Join(strings.Fields(text), ""))
	return string(runes[:min(len(runes), 63)])
}

// Space at the ends is trimmed, space within stays, and words have none.
func TestSpaces(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	k := must[catalog.Key](t)(tables.Keys.Create(ctx, catalog.Key{Name: "　a b　", Models: []string{" gpt 4 "},
		Scopes: []string{"read "}}))
	if k.Name != "a b" || k.Models[0] != "gpt 4" || k.Scopes[0] != "read" {
		t.Errorf("%+v", k)
	}
	for body, field := range map[string]string{
		`{"name":"k","group":"a b"}`: "group", `{"name":"k","group":"a\u3000b"}`: "group", `{"name":"k","scopes":["a b"]}`: "scopes[0]",
		`{"name":"k","labels":{"a b":"c"}}`: "labels", `{"name":"k","labels":{"a\u3000b":"c"}}`: "labels",
		`{"name":"k","labels":{"":"c"}}`: "labels", `{"name":"k","labels":{"a\u202eb":"c"}}`: "labels",
		`{"name":"k","labels":{"` + strings.Repeat("ключ", 16) + `":"c"}}`: "labels",
		`{"name":" "}`: "name",
	} {
		var got *catalog.FieldError
		if err := create(t, tables.Keys.Table, body); !errors.As(err, &got) || got.Field != field {
			t.Errorf("%s: %v; want an error about %s", body, err, field)
		}
	}
}
