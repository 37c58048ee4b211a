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
	Hashes           []string                         `json:"hashes"`
	HashesWithoutKey []string                         `json:"hashes_without_key"`
	Digest           map[catalog.Kind]snapshot.Digest `json:"digest"`
	DigestWithoutKey map[catalog.Kind]snapshot.Digest `json:"digest_without_key"`
	Heads            []signedVector                   `json:"heads"`
	Beats            []signedVector                   `json:"beats"`
	Nodes            []signedVector                   `json:"nodes"`
}

// signedVector is a signed text that a reader takes, or has to refuse.
type signedVector struct {
	About  string          `json:"about"`
	Fields snapshot.Fields `json:"fields"`
	Good   bool            `json:"good"`
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Secrets) == 0 || len(v.Documents) == 0 || len(v.Heads) == 0 || len(v.Beats) == 0 || len(v.Nodes) == 0 {
		t.Fatal("the vectors are incomplete")
	}
	return v
}

func TestVectors(t *testing.T) {
	v := readVectors(t)
	keys := mustKeys(t, v.SyncKeys)
	for _, s := range v.Secrets {
		if got := keys.Seal(s.Plaintext, s.AdditionalData); got != s.Sealed {
			t.Errorf("Seal for %q = %s, want %s", s.AdditionalData, got, s.Sealed)
		}
		if got, err := keys.Open(s.Sealed, s.AdditionalData); err != nil || got != s.Plaintext {
			t.Errorf("Open for %q: %v", s.AdditionalData, err)
		}
	}
	sums, plainSums := map[catalog.Kind]snapshot.Digest{}, map[catalog.Kind]snapshot.Digest{}
	none := (*snapshot.Keys)(nil)
	for i, d := range v.Documents {
		h, p := keys.Hash(d.Kind, d.Key, []byte(d.Doc)), none.Hash(d.Kind, d.Key, []byte(d.Doc))
		if h.String() != v.Hashes[i] || p.String() != v.HashesWithoutKey[i] {
			t.Errorf("Hash of %s/%s = %s and %s without a key", d.Kind, d.Key, h, p)
		}
		sums[d.Kind], plainSums[d.Kind] = sums[d.Kind].Add(h), plainSums[d.Kind].Add(p)
	}
	for kind, want := range v.Digest {
		if got, plain := keys.Digest(kind, sums[kind]), none.Digest(kind, plainSums[kind]); got != want ||
			plain != v.DigestWithoutKey[kind] {
			t.Errorf("digest of %s = %s and %s without a key", kind, got, plain)
		}
	}
}

func TestSignedVectors(t *testing.T) {
	v := readVectors(t)
	keys := mustKeys(t, v.SyncKeys)
	head := func(f snapshot.Fields) error {
		h, err := snapshot.ParseHead(f)
		return errors.Join(err, keys.VerifyHead(h))
	}
	beat := func(f snapshot.Fields) error {
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := snapshot.ParseBeat(text)
		return errors.Join(err, keys.VerifyBeat(b))
	}
	node := func(f snapshot.Fields) error {
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		n, err := snapshot.ParseNode(text)
		return errors.Join(err, keys.VerifyNode(n))
	}
	for _, tc := range []struct {
		what   string
		all    []signedVector
		verify func(snapshot.Fields) error
	}{{"head", v.Heads, head}, {"beat", v.Beats, beat}, {"node", v.Nodes, node}} {
		for _, vector := range tc.all {
			if err := tc.verify(vector.Fields); (err == nil) != vector.Good {
				t.Errorf("%s, %s: %v", tc.what, vector.About, err)
			}
		}
	}
	// What is put together anew is signed alike.
	read, err := snapshot.ParseHead(v.Heads[0].Fields)
	if err != nil {
		t.Fatal(err)
	}
	made := snapshot.Head{
		Format: read.Format, Store: read.Store, Position: read.Position, Mark: read.Mark, Counts: read.Counts,
		Digest: read.Digest, Renderer: read.Renderer, UpdatedAt: read.UpdatedAt,
	}
	keys.SignHead(&made)
	if !made.Equal(read) || made.Base() != read.Base() {
		t.Errorf("made %v, read %v", made.Fields(), read.Fields())
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

func TestVerifyHead(t *testing.T) {
	a, b, both, none := mustKeys(t, keyA), mustKeys(t, keyB), mustKeys(t, keyB+","+keyA), mustKeys(t, "")
	head := snapshot.Head{Format: 1, Position: snapshot.Position{Epoch: 7, Revision: 3}, Mark: "m"}
	byA, clear := head, head
	a.SignHead(&byA)
	none.SignHead(&clear)
	spoilt := func(name, value string) snapshot.Head {
		f := byA.Fields()
		f[name] = value
		h, _ := snapshot.ParseHead(f)
		return h
	}
	type verdict struct {
		name string
		keys *snapshot.Keys
		head snapshot.Head
		want error
	}
	cases := []verdict{
		{"signed", a, byA, nil},
		{"signed with an older key", both, byA, nil},
		{"signed with a key that is not held", b, byA, catalog.ErrSealed},
		{"signed, and there are no keys", none, byA, catalog.ErrSealed},
		{"not signed, without keys", none, clear, nil},
		{"not signed, although there are keys", a, clear, catalog.ErrSealed},
		{"a field more", a, spoilt("more", "1"), snapshot.ErrCorrupt},
		{"a key that the ring holds, not this one's", both, spoilt("seal", "b"), snapshot.ErrCorrupt},
	}
	for name := range byA.Fields() {
		if name != "seal" {
			cases = append(cases, verdict{"another " + name, a, spoilt(name, "77"), snapshot.ErrCorrupt})
		}
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.keys.VerifyHead(tc.head); !errors.Is(err, tc.want) || (tc.want == nil) != (err == nil) {
				t.Errorf("VerifyHead = %v, want %v", err, tc.want)
			}
		})
	}
}

// What could be taken for other fields is verified under no signature, even one that was made for it.
func TestAmbiguousFieldsAreNotVerified(t *testing.T) {
	keys := mustKeys(t, keyA)
	head := snapshot.Head{Format: 1, Store: "s\nsxyz=1", Position: snapshot.Position{Epoch: 7, Revision: 3}}
	keys.SignHead(&head)
	if err := keys.VerifyHead(head); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Errorf("VerifyHead = %v, want ErrCorrupt", err)
	}
	beat := snapshot.Beat{Store: "s\nsxyz=1", Position: head.Position}
	keys.SignBeat(&beat)
	if err := keys.VerifyBeat(beat); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Errorf("VerifyBeat = %v, want ErrCorrupt", err)
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
