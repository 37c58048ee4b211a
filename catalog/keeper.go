package catalog

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

// Keeper seals secrets before they reach a [Store]. Additional data binds the
// sealed text to one field of one record ("provider/7/api_key"): moved
// elsewhere, it does not open. Implementations are safe for concurrent use.
type Keeper interface {
	Seal(plaintext, additionalData string) (sealed string, err error)

	// Open returns the plaintext, or an error that wraps ErrSealed.
	Open(sealed, additionalData string) (plaintext string, err error)
}

// Hasher is implemented by a [Keeper] that can tell secrets apart without giving them away, so
// that plans of several processes with the same keys have the same [Plan.Hash]. Implementations
// are safe for concurrent use.
type Hasher interface {
	// Hash returns a keyed hash of a text, from which nobody without the key can find the text.
	Hash(text string) string
}

// NamedKey is a 256-bit key with the id that sealed texts name it by.
type NamedKey struct {
	ID  string
	Key [32]byte
}

// String returns the id; the key is never printed.
func (k NamedKey) String() string { return k.ID + ":" + redacted }

// Format writes what String returns, whatever the verb.
func (k NamedKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue returns what String returns.
func (k NamedKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText returns what String returns, in JSON too.
func (k NamedKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

var keyID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// ParseKeyList reads "id:base64(32 bytes)[,older…]": the first key is the
// active one. Errors hold no part of the keys.
func ParseKeyList(list string) ([]NamedKey, error) {
	var keys []NamedKey
	seen := map[string]bool{}
	for i, item := range strings.Split(list, ",") {
		id, text, ok := strings.Cut(strings.TrimSpace(item), ":")
		if !ok || !keyID.MatchString(id) {
			return nil, fmt.Errorf("key %d must be <id>:<base64 of 32 bytes>, the id 1 to 32 of A-Z a-z 0-9 _ -: %w",
				i+1, ErrInvalid)
		}
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("key %d: what follows the id must be base64 of exactly 32 bytes (openssl rand "+
				"-base64 32): %w", i+1, ErrInvalid)
		}
		if seen[id] {
			return nil, fmt.Errorf("key %d has the id of an earlier one: %w", i+1, ErrInvalid)
		}
		seen[id] = true
		keys = append(keys, NamedKey{ID: id, Key: [32]byte(raw)})
	}
	return keys, nil
}

// sealedPrefix begins every sealed text: "enc:v1:<key id>:<base64>".
const sealedPrefix = "enc:v1:"

// KeyRing is a [Keeper] that seals with AES-256-GCM under the first of its keys, and
// opens what any of them has sealed. The form is "enc:v1:<key id>:" and the
// padded standard base64 of nonce ‖ ciphertext ‖ tag, with a random nonce.
type KeyRing struct {
	active  string
	aeads   map[string]cipher.AEAD
	hashing []byte // key of Hash
}

var (
	_ Keeper  = (*KeyRing)(nil)
	_ Rotator = (*KeyRing)(nil)
	_ Hasher  = (*KeyRing)(nil)
)

// NewKeyRing makes a KeyRing; the first key is the active one.
func NewKeyRing(keys ...NamedKey) (*KeyRing, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("a key ring needs at least one key: %w", ErrInvalid)
	}
	hashing, err := hkdf.Key(sha256.New, keys[0].Key[:], nil, "ezapi plan", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", keys[0].ID, err)
	}
	ring := &KeyRing{active: keys[0].ID, aeads: make(map[string]cipher.AEAD, len(keys)), hashing: hashing}
	for _, k := range keys {
		block, err := aes.NewCipher(k.Key[:])
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		ring.aeads[k.ID] = aead
	}
	return ring, nil
}

// NewRandomKeyRing makes a KeyRing whose key nobody else has, for catalogs
// that do not outlive the process.
func NewRandomKeyRing() *KeyRing {
	key := NamedKey{ID: "ephemeral"}
	_, _ = rand.Read(key.Key[:]) // never fails: see crypto/rand.Read
	ring, err := NewKeyRing(key)
	if err != nil {
		panic(err) // unreachable: the key has the right length
	}
	return ring
}

// Seal implements [Keeper].
func (r *KeyRing) Seal(plaintext, additionalData string) (string, error) {
	sealed := r.aeads[r.active].Seal(nil, nil, []byte(plaintext), []byte(additionalData))
	return sealedPrefix + r.active + ":" + base64.StdEncoding.EncodeToString(sealed), nil
}

// Current implements [Rotator].
func (r *KeyRing) Current(sealed string) bool {
	return strings.HasPrefix(sealed, sealedPrefix+r.active+":")
}

// Hash implements [Hasher]: HMAC-SHA-256, in hex, under a key derived from the active one.
func (r *KeyRing) Hash(text string) string {
	mac := hmac.New(sha256.New, r.hashing)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// Open implements [Keeper].
func (r *KeyRing) Open(sealed, additionalData string) (string, error) {
	rest, ok := strings.CutPrefix(sealed, sealedPrefix)
	id, text, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return "", fmt.Errorf("%s: not a sealed text: %w", additionalData, ErrSealed)
	}
	aead, ok := r.aeads[id]
	if !ok {
		return "", fmt.Errorf("%s: sealed with key %q, which is not among the keys held; add it to the list: %w",
			additionalData, id, ErrSealed)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", fmt.Errorf("%s: sealed text is damaged: %w", additionalData, ErrSealed)
	}
	plain, err := aead.Open(nil, nil, raw, []byte(additionalData))
	if err != nil {
		return "", fmt.Errorf("%s: key %q does not open it, or the text belongs to another record: %w",
			additionalData, id, errors.Join(ErrSealed, err))
	}
	return string(plain), nil
}
