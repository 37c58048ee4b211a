package catalog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

func TestSecretIsNeverShown(t *testing.T) {
	const text = "sk-very-secret-0123456789"
	secret := catalog.NewSecret(text)
	holder := struct {
		S catalog.Secret
		P *catalog.Secret
	}{secret, &secret}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "secret", secret, "holder", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "secret", secret, "holder", holder)
	marshalled, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	key, err := json.Marshal(map[string]catalog.Secret{"a": secret})
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{
		fmt.Sprint(secret), fmt.Sprintf("%v %+v %#v %s %q %x %d", secret, secret, secret, secret, secret, secret, secret),
		fmt.Sprintf("%v %+v %#v", holder, holder, holder), log.String(), string(marshalled), string(key),
		fmt.Errorf("with %v", secret).Error(),
	}
	for _, s := range shown {
		if strings.Contains(s, "very") || strings.Contains(s, fmt.Sprintf("%x", "very")) {
			t.Errorf("the secret shows: %s", s)
		}
		if !strings.Contains(s, "[secret]") {
			t.Errorf("does not say [secret]: %s", s)
		}
	}
	if secret.Reveal() != text {
		t.Error("Reveal does not give it away")
	}
}

func TestSecretHint(t *testing.T) {
	for text, want := range map[string]string{"": "", "12345678901": "", "123456789012": "9012",
		"äöüäöüäöüäöü": "üäöü", "123456789012\xff": ""} {
		if got := catalog.NewSecret(text).Hint(); got != want {
			t.Errorf("Hint of %d characters = %q, want %q", len([]rune(text)), got, want)
		}
	}
}

func keyRing(t *testing.T, list string) *catalog.KeyRing {
	t.Helper()
	keys, err := catalog.ParseKeyList(list)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := catalog.NewKeyRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

const (
	keyA = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	keyB = "b:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
)

func TestKeyRing(t *testing.T) {
	old, both, other := keyRing(t, keyA), keyRing(t, keyB+", "+keyA), keyRing(t, keyB)
	sealed, err := old.Seal("upstream secret", "provider/7/api_key")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(sealed, "enc:v1:a:") || strings.Contains(sealed, "upstream") {
		t.Errorf("sealed = %q", sealed)
	}
	if again, _ := old.Seal("upstream secret", "provider/7/api_key"); again == sealed {
		t.Error("two seals are equal: the nonce is not random")
	}
	if got, err := both.Open(sealed, "provider/7/api_key"); err != nil || got != "upstream secret" {
		t.Errorf("after rotation: %q, %v", got, err)
	}
	if s, _ := both.Seal("x", ""); !strings.HasPrefix(s, "enc:v1:b:") {
		t.Errorf("the first key is not the active one: %q", s)
	}
	flipped := sealed[:len(sealed)-6] + "AAAAA="
	for name, open := range map[string]func() (string, error){
		"another record":  func() (string, error) { return old.Open(sealed, "provider/8/api_key") },
		"another field":   func() (string, error) { return old.Open(sealed, "provider/7/other") },
		"key not held":    func() (string, error) { return other.Open(sealed, "provider/7/api_key") },
		"clear text":      func() (string, error) { return old.Open("upstream secret", "provider/7/api_key") },
		"damaged":         func() (string, error) { return old.Open(flipped, "provider/7/api_key") },
		"no base64":       func() (string, error) { return old.Open("enc:v1:a:???", "provider/7/api_key") },
		"shorter than it": func() (string, error) { return old.Open("enc:v1:a:AAAA", "provider/7/api_key") },
	} {
		if got, err := open(); !errors.Is(err, catalog.ErrSealed) || got != "" {
			t.Errorf("%s: %q, %v; want ErrSealed", name, got, err)
		}
	}
}

func TestParseKeyListRefuses(t *testing.T) {
	for name, list := range map[string]string{
		"empty": "", "no id": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "bad id": "a b:AAEC",
		"short": "a:AAEC", "no base64": "a:§§§",
		"twice": keyA + "," + keyA, "trailing comma": keyA + ",",
	} {
		_, err := catalog.ParseKeyList(list)
		if !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		} else if strings.Contains(err.Error(), "AAEC") {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
	keys, _ := catalog.ParseKeyList(keyA)
	if s := fmt.Sprintf("%v %+v %#v", keys, keys, keys[0]); strings.Contains(s, "[0 1 2") ||
		strings.Contains(s, "0x1, 0x2") {
		t.Errorf("a key prints: %s", s)
	}
}
