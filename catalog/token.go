package catalog

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
	"math/big"
	"strings"
)

const (
	tokenPrefix    = "ez-"  // of client keys
	operatorPrefix = "ezo-" // of operators
	tokenRandom    = 43     // base62 characters that hold 256 bits
	tokenChecksum  = 6      // base62 characters that hold 32 bits
	base62         = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewToken makes a client token: "ez-", 43 base62 characters that hold 256
// random bits, and 6 base62 characters of the CRC-32 (IEEE) of those 43, so
// that a scanner tells a token from other text without asking anyone.
func NewToken() Secret { return newToken(tokenPrefix) }

// NewOperatorToken makes a token of the same form that begins with "ezo-".
func NewOperatorToken() Secret { return newToken(operatorPrefix) }

func newToken(prefix string) Secret {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails: see crypto/rand.Read
	body := encode62(new(big.Int).SetBytes(random[:]), tokenRandom)
	return NewSecret(prefix + body + checksum62(body))
}

// IsToken reports whether s has the form that [NewToken] makes, its check
// characters included. Imported tokens need not have it.
func IsToken(s string) bool { return hasTokenForm(s, tokenPrefix) }

// IsOperatorToken reports whether s has the form that [NewOperatorToken] makes.
func IsOperatorToken(s string) bool { return hasTokenForm(s, operatorPrefix) }

func hasTokenForm(s, prefix string) bool {
	body, ok := strings.CutPrefix(s, prefix)
	return ok && len(body) == tokenRandom+tokenChecksum &&
		strings.Trim(body, base62) == "" &&
		checksum62(body[:tokenRandom]) == body[tokenRandom:]
}

// HashToken returns the lower-case hexadecimal SHA-256 of a whole token, by
// which keys are stored and found.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func checksum62(body string) string {
	return encode62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(body)))), tokenChecksum)
}

// encode62 writes n in base 62, padded to width.
func encode62(n *big.Int, width int) string {
	out := make([]byte, width)
	radix, digit := big.NewInt(62), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, radix, digit)
		out[i] = base62[digit.Int64()]
	}
	return string(out)
}
