package snapshot

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"

	"github.com/ez-api/ez-api/catalog"
)

// Keys are the sync keys that control planes and data planes share: they seal
// the secrets in documents, and key the digest and the signature of what is
// published. The first is active, it seals and signs; the others open
// and verify what they sealed and signed before.
//
// A nil *Keys is no key: secrets are published in clear text, hashes are plain
// SHA-256, and heads are not signed. Keys are safe for concurrent use.
type Keys struct {
	ring []*syncKey // the first is active; empty is no key
}

// syncKey is one sync key's four subkeys at work.
type syncKey struct {
	id      string
	aead    cipher.AEAD
	nonce   []byte
	sig     []byte
	hashers sync.Pool // of *hasher
}

// hasher is a keyed hash that is used again and again, with room for its input.
type hasher struct {
	mac hash.Hash
	buf []byte
}

const sealedPrefix = "enc:v1:"

// ParseKeys reads "id:base64(32 bytes)[,older…]", the first key being the
// active one. An empty list is no key: nil.
func ParseKeys(list string) (*Keys, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	named, err := catalog.ParseKeyList(list)
	if err != nil {
		return nil, fmt.Errorf("sync keys: %w", err)
	}
	return NewKeys(named...)
}

// NewKeys makes Keys; the first is the active one. Without any the result is nil.
func NewKeys(named ...catalog.NamedKey) (*Keys, error) {
	if len(named) == 0 {
		return nil, nil
	}
	k := &Keys{}
	for _, n := range named {
		key, err := newSyncKey(n)
		if err != nil {
			return nil, fmt.Errorf("sync key %q: %w", n.ID, err)
		}
		k.ring = append(k.ring, key)
	}
	return k, nil
}

// newSyncKey derives the subkeys by HKDF-SHA-256 (RFC 5869) without salt.
func newSyncKey(n catalog.NamedKey) (*syncKey, error) {
	subkeys := make(map[string][]byte)
	for _, use := range []string{"seal", "nonce", "digest", "sig"} {
		subkey, err := hkdf.Key(sha256.New, n.Key[:], nil, "ezapi "+use, 32)
		if err != nil {
			return nil, err
		}
		subkeys[use] = subkey
	}
	block, err := aes.NewCipher(subkeys["seal"])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	key := &syncKey{id: n.ID, aead: aead, nonce: subkeys["nonce"], sig: subkeys["sig"]}
	key.hashers.New = func() any { return &hasher{mac: hmac.New(sha256.New, subkeys["digest"])} }
	return key, nil
}

// Active returns the id of the key that seals and signs; "" without a key.
func (k *Keys) Active() string {
	if key := k.active(); key != nil {
		return key.id
	}
	return ""
}

func (k *Keys) active() *syncKey {
	if k == nil || len(k.ring) == 0 {
		return nil
	}
	return k.ring[0]
}

// Activate returns the same keys with another active one. Control planes use
// it to go on with the key that the published head names in Head.Seal. The
// error wraps [catalog.ErrSealed] when the key is not among those held; ""
// is held by no keys alone.
func (k *Keys) Activate(id string) (*Keys, error) {
	if id == k.Active() {
		return k, nil
	}
	var i int
	if k != nil {
		i = slices.IndexFunc(k.ring, func(key *syncKey) bool { return key.id == id })
	}
	switch {
	case id == "":
		return nil, fmt.Errorf("what is published is neither sealed nor signed, but sync keys are set: %w", catalog.ErrSealed)
	case k == nil || i < 0:
		return nil, fmt.Errorf("what is published is sealed with sync key %q, which is not among the keys held: %w", id,
			catalog.ErrSealed)
	}
	ring := slices.Concat(k.ring[i:i+1], k.ring[:i], k.ring[i+1:])
	return &Keys{ring: ring}, nil
}

// Seal encrypts with AES-256-GCM under the active key. Additional data binds
// the result to one field of one document and to what else must not change
// under it. The nonce is made from additional data and plaintext, so that equal content is equal bytes:
// all that the result gives away is whether two are equal.
func (k *Keys) Seal(plaintext, additionalData string) string {
	key := k.active()
	if key == nil || plaintext == "" {
		return plaintext
	}
	mac := hmac.New(sha256.New, key.nonce)
	mac.Write([]byte(additionalData))
	mac.Write([]byte{0})
	mac.Write([]byte(plaintext))
	nonce := mac.Sum(nil)[:key.aead.NonceSize()]
	sealed := key.aead.Seal(nonce, nonce, []byte(plaintext), []byte(additionalData))
	return sealedPrefix + key.id + ":" + base64.StdEncoding.EncodeToString(sealed)
}

// Open decrypts what Seal made, under whichever of its keys sealed it. The
// error wraps [catalog.ErrSealed]. Keys never take clear text for sealed
// text, nor the other way around.
func (k *Keys) Open(sealed, additionalData string) (string, error) {
	rest, isSealed := strings.CutPrefix(sealed, sealedPrefix)
	if k.active() == nil {
		if isSealed {
			return "", fmt.Errorf("it is sealed, and there are no sync keys to open it: %w", catalog.ErrSealed)
		}
		return sealed, nil
	}
	if sealed == "" {
		return "", nil
	}
	id, text, ok := strings.Cut(rest, ":")
	if !isSealed || !ok {
		return "", fmt.Errorf("it is not sealed, although there are sync keys: %w", catalog.ErrSealed)
	}
	keys, err := k.Activate(id)
	if err != nil {
		return "", err
	}
	aead := keys.active().aead
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) < aead.NonceSize() {
		return "", fmt.Errorf("the sealed text is damaged: %w", catalog.ErrSealed)
	}
	plain, err := aead.Open(nil, raw[:aead.NonceSize()], raw[aead.NonceSize():], []byte(additionalData))
	if err != nil {
		return "", fmt.Errorf("key %q does not open it, or it belongs elsewhere: %w", id, catalog.ErrSealed)
	}
	return string(plain), nil
}

// Hash returns what a document adds to the digest: HMAC-SHA-256 under the
// active key, or SHA-256 without, of the kind, a zero byte, the key, a zero byte, and the
// document's bytes.
func (k *Keys) Hash(kind catalog.Kind, key string, doc []byte) Digest {
	active := k.active()
	if active == nil {
		return sha256.Sum256(slices.Concat([]byte(kind), []byte{0}, []byte(key), []byte{0}, doc))
	}
	h := active.hashers.Get().(*hasher)
	defer active.hashers.Put(h)
	h.buf = append(append(h.buf[:0], kind...), 0)
	h.buf = append(append(h.buf, key...), 0)
	h.mac.Reset()
	h.mac.Write(h.buf)
	h.mac.Write(doc)
	return Digest(h.mac.Sum(h.buf[:0]))
}

// Digest returns what is published of the sum over a kind's documents: the
// HMAC-SHA-256 under the active key of "sum", a zero byte, the kind, a zero
// byte and the sum. Published sums would give away what single documents add to
// them. Without a key it is the sum.
func (k *Keys) Digest(kind catalog.Kind, sum Digest) Digest {
	active := k.active()
	if active == nil {
		return sum
	}
	h := active.hashers.Get().(*hasher)
	defer active.hashers.Put(h)
	h.buf = append(append(h.buf[:0], "sum\x00"...), kind...)
	h.buf = append(append(h.buf, 0), sum[:]...)
	h.mac.Reset()
	h.mac.Write(h.buf)
	return Digest(h.mac.Sum(h.buf[:0]))
}
