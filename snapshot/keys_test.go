//go:build !noRelay

package snapshot_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	keyA = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	keyB = "b:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
)

func mustKeys(t testing.TB, list string) *snapshot.Keys {
	t.Helper()
	keys, err := snapshot.ParseKeys(list)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// vectors is testdata/vectors.json, which was computed in another language.
type vectors struct {
	SyncKeys string `json:"sync_keys"`
	Secrets  []struct {
		Plaintext      string `json:"plaintext"`
		AdditionalData string `json:"additional_data"`
		Sealed         string `json:"sealed"`
	} `json:"secrets"`
	Documents []struct {
		Kind catalog.Kind `json:"kind"`
		Key  string       `json:"key"`
		Doc  string       `json:"doc"`
	} `json:"documents"`
	Hashes           []string `json:"hashes"`
	HashesWithoutKey []string `json:"hashes_without_key"`
	Digest           string   `json:"digest"`
	DigestWithoutKey string   `json:"digest_without_key"`
	Heads            []struct {
		Epoch    catalog.Epoch    `json:"epoch"`
		Revision catalog.Revision `json:"revision"`
		Mark     catalog.Mark     `json:"mark"`
		Digest   snapshot.Digest  `json:"digest"`
		Sig      string           `json:"sig"`
	} `json:"heads"`
}

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Secrets) == 0 || len(v.Documents) == 0 || len(v.Heads) == 0 {
		t.Fatal("the vectors are incomplete")
	}
	keys := mustKeys(t, v.SyncKeys)
	for _, s := range v.Secrets {
		if got := keys.Seal(s.Plaintext, s.AdditionalData); got != s.Sealed {
			t.Errorf("Seal for %s = %s, want %s", s.AdditionalData, got, s.Sealed)
		}
		if got, err := keys.Open(s.Sealed, s.AdditionalData); err != nil || got != s.Plaintext {
			t.Errorf("Open for %s: %v", s.AdditionalData, err)
		}
	}
	var digest, plain snapshot.Digest
	for i, d := range v.Documents {
		h, p := keys.Hash(d.Kind, d.Key, []byte(d.Doc)), (*snapshot.Keys)(nil).Hash(d.Kind, d.Key, []byte(d.Doc))
		if h.String() != v.Hashes[i] || p.String() != v.HashesWithoutKey[i] {
			t.Errorf("Hash of %s/%s = %s and %s without a key", d.Kind, d.Key, h, p)
		}
		digest, plain = digest.Add(h), plain.Add(p)
	}
	if digest.String() != v.Digest || plain.String() != v.DigestWithoutKey {
		t.Errorf("digest = %s and %s without a key", digest, plain)
	}
	for _, h := range v.Heads {
		head := snapshot.Head{Position: snapshot.Position{Epoch: h.Epoch, Revision: h.Revision}, Mark: h.Mark, Digest: h.Digest}
		keys.Sign(&head)
		if head.Sig != h.Sig || head.Seal != "k1" {
			t.Errorf("Sign at %s = %s, %s", head.Position, head.Sig, head.Seal)
		}
		if err := keys.Verify(head); err != nil {
			t.Error(err)
		}
	}
}

func TestParseKeys(t *testing.T) {
	for _, list := range []string{"", "  "} {
		if keys, err := snapshot.ParseKeys(list); keys != nil || err != nil {
			t.Errorf("ParseKeys(%q) = %v, %v; want no key", list, keys, err)
		}
	}
	if got := mustKeys(t, keyB+", "+keyA).Active(); got != "b" {
		t.Errorf("active key %q, want the first", got)
	}
	const shaped = "a:c2hvcnQgc2VjcmV0"
	for _, list := range []string{"a", shaped, keyA + "," + keyA, keyA + ",", "a b:" + keyA[2:]} {
		_, err := snapshot.ParseKeys(list)
		if !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("ParseKeys(%q): %v", list, err)
		} else if strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestSealAndOpen(t *testing.T) {
	a, b, both, none := mustKeys(t, keyA), mustKeys(t, keyB), mustKeys(t, keyB+","+keyA), mustKeys(t, "")
	const field = "provider/1/api_key"
	sealed := a.Seal("secret", field)
	damaged := sealed[:len(sealed)-8] + "AAAAAAA="

	for _, tc := range []struct {
		name          string
		keys          *snapshot.Keys
		sealed, field string
		want          string // "" is an error
	}{
		{"its own key", a, sealed, field, "secret"},
		{"an older key of the list", both, sealed, field, "secret"},
		{"another key", b, sealed, field, ""},
		{"no key", none, sealed, field, ""},
		{"another field", a, sealed, "provider/2/api_key", ""},
		{"damaged", a, damaged, field, ""},
		{"cut", a, sealed[:20], field, ""},
		{"no base64", a, "enc:v1:a:??", field, ""},
		{"no key id", a, "enc:v1:", field, ""},
		{"clear text where it should be sealed", a, "secret", field, ""},
		{"clear text without a key", none, "secret", field, "secret"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.keys.Open(tc.sealed, tc.field)
			if got != tc.want {
				t.Errorf("Open = %q, want %q", got, tc.want)
			}
			if tc.want == "" {
				if !errors.Is(err, catalog.ErrSealed) {
					t.Errorf("error %v, want ErrSealed", err)
				}
				if strings.Contains(err.Error(), "secret\"") {
					t.Errorf("the error shows the secret: %v", err)
				}
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	for _, keys := range []*snapshot.Keys{a, none} {
		if got, err := keys.Open(keys.Seal("", field), field); got != "" || err != nil {
			t.Errorf("no secret: %q, %v", got, err)
		}
	}
	if got := none.Seal("secret", field); got != "secret" {
		t.Errorf("without a key, Seal = %q", got)
	}
}

func TestSealProperties(t *testing.T) {
	keys := mustKeys(t, keyA)
	rapid.Check(t, func(t *rapid.T) {
		plain, other := rapid.String().Draw(t, "plain"), rapid.String().Draw(t, "other")
		field := rapid.StringMatching(`provider/[1-9][0-9]{0,5}/api_key`).Draw(t, "field")
		sealed := keys.Seal(plain, field)
		if got, err := keys.Open(sealed, field); err != nil || got != plain {
			t.Fatalf("opened as %q, %v", got, err)
		}
		if same := sealed == keys.Seal(other, field); same != (plain == other) {
			t.Fatalf("equal bytes %v for %q and %q", same, plain, other)
		}
	})
}

func TestVerify(t *testing.T) {
	a, b, both, none := mustKeys(t, keyA), mustKeys(t, keyB), mustKeys(t, keyB+","+keyA), mustKeys(t, "")
	head := snapshot.Head{Position: snapshot.Position{Epoch: 7, Revision: 3}, Mark: "m", Digest: snapshot.Digest{1}}
	byA, clear := head, head
	a.Sign(&byA)
	none.Sign(&clear)
	changed := func(change func(*snapshot.Head)) snapshot.Head {
		h := byA
		change(&h)
		return h
	}
	for _, tc := range []struct {
		name string
		keys *snapshot.Keys
		head snapshot.Head
		want error
	}{
		{"signed", a, byA, nil},
		{"signed with an older key", both, byA, nil},
		{"signed with a key that is not held", b, byA, catalog.ErrSealed},
		{"signed, and there are no keys", none, byA, catalog.ErrSealed},
		{"not signed, without keys", none, clear, nil},
		{"not signed, although there are keys", a, clear, catalog.ErrSealed},
		{"another epoch", a, changed(func(h *snapshot.Head) { h.Position.Epoch++ }), snapshot.ErrCorrupt},
		{"another revision", a, changed(func(h *snapshot.Head) { h.Position.Revision++ }), snapshot.ErrCorrupt},
		{"another mark", a, changed(func(h *snapshot.Head) { h.Mark = "n" }), snapshot.ErrCorrupt},
		{"another digest", a, changed(func(h *snapshot.Head) { h.Digest[31]++ }), snapshot.ErrCorrupt},
		{"no signature", a, changed(func(h *snapshot.Head) { h.Sig = "" }), snapshot.ErrCorrupt},
		{"no hexadecimal", a, changed(func(h *snapshot.Head) { h.Sig = "xy" }), snapshot.ErrCorrupt},
		{"a key that the ring holds, not this one's", both, changed(func(h *snapshot.Head) { h.Seal = "b" }), snapshot.ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.keys.Verify(tc.head); !errors.Is(err, tc.want) || (tc.want == nil) != (err == nil) {
				t.Errorf("Verify = %v, want %v", err, tc.want)
			}
		})
	}
}

func TestActivate(t *testing.T) {
	both := mustKeys(t, keyB+","+keyA)
	older, err := both.Activate("a")
	if err != nil {
		t.Fatal(err)
	}
	if older.Active() != "a" || both.Active() != "b" {
		t.Errorf("active %q, and %q of the original", older.Active(), both.Active())
	}
	if got := older.Seal("s", "f"); got != mustKeys(t, keyA).Seal("s", "f") {
		t.Error("the activated key does not seal")
	}
	if got, err := older.Open(both.Seal("s", "f"), "f"); got != "s" || err != nil {
		t.Errorf("the other key does not open any more: %v", err)
	}
	for _, tc := range []struct{ list, id string }{{keyA, "b"}, {keyA, ""}, {"", "a"}} {
		if _, err := mustKeys(t, tc.list).Activate(tc.id); !errors.Is(err, catalog.ErrSealed) {
			t.Errorf("Activate(%q) of %q: %v", tc.id, tc.list, err)
		}
	}
	if keys, err := mustKeys(t, "").Activate(""); keys != nil || err != nil {
		t.Errorf("no key is not held by no keys: %v", err)
	}
}

func TestHashFromManyGoroutines(t *testing.T) {
	keys := mustKeys(t, keyA)
	want := keys.Hash("keys", "k", []byte("doc"))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				if got := keys.Hash("keys", "k", []byte("doc")); got != want {
					t.Errorf("hash %s, want %s", got, want)
					return
				}
			}
		})
	}
	group.Wait()
}

func TestDigestProperties(t *testing.T) {
	digests := rapid.Custom(func(t *rapid.T) snapshot.Digest {
		return snapshot.Digest(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 127, 128, 254, 255}), 32, 32).Draw(t, "digest"))
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := digests.Draw(t, "a"), digests.Draw(t, "b"), digests.Draw(t, "c")
		switch {
		case a.Add(b).Sub(b) != a:
			t.Fatal("what was added is not removed")
		case a.Add(b) != b.Add(a) || a.Add(b).Add(c) != a.Add(b.Add(c)):
			t.Fatal("the order matters")
		}
		var read snapshot.Digest
		if err := read.UnmarshalText([]byte(a.String())); err != nil || read != a {
			t.Fatalf("read as %s, %v", read, err)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	keys, doc := mustKeys(b, keyA), []byte(strings.Repeat("x", 250))
	for b.Loop() {
		keys.Hash("keys", "5f8d", doc)
	}
}
