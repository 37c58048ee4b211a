package catalog_test

import (
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

func TestNewToken(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		token := catalog.NewToken().Reveal()
		if len(token) != 52 || !strings.HasPrefix(token, "ez-") || !catalog.IsToken(token) {
			t.Fatalf("not a token: %d characters", len(token))
		}
		if seen[token] {
			t.Fatal("a token came twice")
		}
		seen[token] = true
	}
}

func TestIsTokenCatchesEveryWrongCharacter(t *testing.T) {
	token := catalog.NewToken().Reveal()
	for i := range token {
		for _, c := range "0Az-!" {
			wrong := token[:i] + string(c) + token[i+1:]
			if wrong != token && catalog.IsToken(wrong) {
				t.Fatalf("a wrong character at %d passes", i)
			}
		}
	}
	for _, s := range []string{"", "ez-", token + "0", token[:51], "sk-" + token[3:], strings.ToUpper(token)} {
		if catalog.IsToken(s) {
			t.Errorf("%d characters pass", len(s))
		}
	}
}

// The check characters, computed with another implementation:
//
//	python3 -c 'import zlib; print(zlib.crc32(b"0"*43))'
func TestTokenChecksumVector(t *testing.T) {
	const crc = 2018072207
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	check := ""
	for n := crc; len(check) < 6; n /= 62 {
		check = string(digits[n%62]) + check
	}
	if !catalog.IsToken("ez-" + strings.Repeat("0", 43) + check) {
		t.Errorf("%s is not what ends a token of zeros", check)
	}
}

func TestHashToken(t *testing.T) {
	// printf abc | sha256sum
	const want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if got := catalog.HashToken("abc"); got != want {
		t.Errorf("HashToken = %s, want %s", got, want)
	}
}

func FuzzIsToken(f *testing.F) {
	f.Add(catalog.NewToken().Reveal())
	f.Add("ez-")
	f.Fuzz(func(t *testing.T, s string) {
		if catalog.IsToken(s) && len(s) != 52 {
			t.Errorf("%q passes", s)
		}
	})
}
