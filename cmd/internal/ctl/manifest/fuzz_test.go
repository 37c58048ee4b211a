package manifest_test

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
)

// FuzzParse feeds the reader with anything. Nothing panics, no value is in an error, and what is
// read can be sent and written.
func FuzzParse(f *testing.F) {
	const secret = "hunter2hunter2"
	f.Add([]byte(whole))
	for _, text := range []string{
		"version: 1\nproviders:\n- name: p\n  type: openai\n  api_key: hunter2hunter2\n",
		"version: 1\nproviders:\n- {hunter2hunter2: 1, name: [hunter2hunter2]}\n",
		"version: 1\nhunter2hunter2: &hunter2hunter2 *hunter2hunter2",
		"version: 1\nkeys: &k\n- <<: *k\n  token_hashes: [!hunter2hunter2 x, !env hunter2hunter2, !file hunter2hunter2]",
		"version: 1\nmodels:\n- {name: a, input_price: hunter2hunter2, price_tiers: [{above_input_tokens: hunter2hunter2}]}",
		"{\"version\": 1, \"bindings\": [{\"model\": \"hunter2hunter2\", \"weight\": \"hunter2hunter2\"}]}",
		"hunter2hunter2: \"", "- hunter2hunter2\n\t", "%TAG ! hunter2hunter2\n---\nversion: 1",
		"version: 1\n? [hunter2hunter2]\n: x",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := manifest.Parse([]manifest.Source{{Name: "f.yaml", Text: text}}, &manifest.Options{
			Literals: bytes.Contains(text, []byte("literals")),
			Env:      func(string) (string, bool) { return secret, true },
		})
		if err != nil {
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a value is in the error: %v", err)
			}
			return
		}
		body, err := set.Body()
		if err != nil || !json.Valid(body) {
			t.Errorf("the body: %v", err)
		}
		set.Outside()
		var again bytes.Buffer
		if err := manifest.Write(&again, set, nil, false); err != nil {
			t.Errorf("written: %v", err)
		}
		second, err := manifest.Parse([]manifest.Source{{Name: "f.yaml", Text: again.Bytes()}},
			&manifest.Options{Literals: true})
		if err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, &again)
		}
		if twice, err := second.Body(); err != nil || !bytes.Equal(body, twice) {
			t.Errorf("read again it is other:\n%s\n%s", body, twice)
		}
	})
}

// A file at the bounds of what is read does not take memory beyond all measure.
func TestMemoryIsBounded(t *testing.T) {
	for name, text := range map[string]string{
		"a list of lists": "version: 1\nx-a: [" + strings.Repeat("[],", 200_000) + "[]]",
		"a long string":   "version: 1\nowner: " + strings.Repeat("x", 5<<20),
		"many anchors":    "version: 1\nx-a: [" + strings.Repeat("&a b, ", 100_000) + "c]",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = parse(t, text)
		runtime.ReadMemStats(&after)
		if taken := (after.TotalAlloc - before.TotalAlloc) >> 20; taken > 512 {
			t.Errorf("%s of %d MiB takes %d MiB", name, len(text)>>20, taken)
		} else {
			t.Logf("%s of %d MiB takes %d MiB", name, len(text)>>20, taken)
		}
	}
}
