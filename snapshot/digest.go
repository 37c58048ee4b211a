package snapshot

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/ez-api/ez-api/catalog"
)

// Digest is a sum modulo 2^256, big-endian, of one hash per document. Adding
// and removing documents costs as much as those documents, in any order. See
// [Keys.Hash] for the hash.
type Digest [32]byte

// Add returns d plus the hash of a document.
func (d Digest) Add(h Digest) Digest {
	var carry uint64
	for i := len(d) - 8; i >= 0; i -= 8 {
		var sum uint64
		sum, carry = bits.Add64(binary.BigEndian.Uint64(d[i:]), binary.BigEndian.Uint64(h[i:]), carry)
		binary.BigEndian.PutUint64(d[i:], sum)
	}
	return d
}

// Sub returns d less the hash of a document.
func (d Digest) Sub(h Digest) Digest {
	var borrow uint64
	for i := len(d) - 8; i >= 0; i -= 8 {
		var diff uint64
		diff, borrow = bits.Sub64(binary.BigEndian.Uint64(d[i:]), binary.BigEndian.Uint64(h[i:]), borrow)
		binary.BigEndian.PutUint64(d[i:], diff)
	}
	return d
}

// String returns 64 lower-case hexadecimal characters.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText makes digests strings in JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what String writes.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("a digest is 64 hexadecimal characters: %w", catalog.ErrInvalid)
	}
	if _, err := hex.Decode(d[:], text); err != nil {
		return fmt.Errorf("a digest is 64 hexadecimal characters: %w", catalog.ErrInvalid)
	}
	return nil
}
