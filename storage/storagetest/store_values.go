package storagetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
)

// texts are names as people write them, in several scripts, and what databases have special signs for.
func texts() []string {
	return []string{
		"Team Blue — R&D <1>", "山田　太郎", "مدل\u200cهای زبانی", "क्\u200dष हिन्दी", "modèle\u00a0«\u202frapide\u202f»",
		"Команда № 7", "ทีมงาน", "한국어 모델", "Ελληνικά", "עברית", "ქართული", "👨\u200d👩\u200d👧 ❤\ufe0f", "e\u0301 é",
		`it's "x" \ {y} [1] %s $1 -- ; NULL`, "true", "0", "1e5", "2030-01-01", "a\u00adb\tc\nd", "\u0001\u001f\u007f",
		strings.Repeat("漢", 256), strings.Repeat("👩", 64), utf8Max,
	}
}

// utf8Max has the last character of each length in UTF-8.
const utf8Max = "\u007f\u07ff\uffef\U0010fffd"

// testStoreValues: every text and every JSON comes back as it went in, is found, and is no other.
func testStoreValues(t testing.TB, h StoreHarness) {
	all := texts()
	first := mustIDs(t, h.Store, len(all))
	entities := make([]catalog.Entity, len(all))
	var writes []catalog.Write
	for i, text := range all {
		if !utf8.ValidString(text) {
			t.Fatalf("%q is no text", text)
		}
		spec, err := json.Marshal(map[string]any{
			text: text, "numbers": []json.RawMessage{[]byte("12345678901234567890"), []byte("0.10"), []byte("1e300"),
				[]byte("-0"), []byte("-4.9e-324")},
			"deep": []any{map[string]any{"": []any{nil, true, "<&>\u2028"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		entities[i] = entity(catalog.KindKey, first+int64(i), natural(text), external(text), hashes(fmt.Sprint("hash-", i)),
			func(e *catalog.Entity) {
				e.Name, e.Namespaces, e.Groups, e.Mentions = text, []string{text, "n"}, []string{text, "g"}, []string{text, "m"}
				e.Labels, e.Spec = map[string]string{"text": text, text: "name"}, spec
			})
		writes = append(writes, create(entities[i]))
	}
	rev := mustCommit(t, h.Store, writes...)
	mustRead(t, h.Second, func(r catalog.Reader) {
		for i, e := range entities {
			text, want := all[i], written(e, rev)
			for _, by := range []catalog.Index{catalog.ByNaturalKey, catalog.ByExternalID} {
				got, err := r.Find(t.Context(), e.Kind, by, text)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("Find by %s %q: %v (-want +got):\n%s", by, text, err, diff)
				}
			}
			one := []string{text}
			for j, q := range []catalog.Query{
				{NaturalKeys: one}, {Names: one}, {ExternalIDs: one}, {Namespace: text}, {Groups: one}, {Mentions: one},
				{Labels: map[string]string{"text": text}}, {Labels: map[string]string{text: "name"}},
			} {
				list, err := r.List(t.Context(), e.Kind, q)
				if err != nil || len(list) != 1 || list[0].ID != e.ID || string(list[0].Spec) != string(e.Spec) {
					t.Errorf("%q by query %d: %d entities, %v", text, j, len(list), err)
				}
			}
		}
	})
}
