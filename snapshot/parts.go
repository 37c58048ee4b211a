package snapshot

import (
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/ez-api/ez-api/catalog"
)

// MaxRevision is the highest revision that is published: an id in a stream is
// a revision and three digits more, and stays below 2^63.
const MaxRevision = catalog.Revision(math.MaxInt64 / 1000)

// Parts cuts changes into what one entry of the stream carries each, in their
// order, see [MaxPartDocs] and [MaxPartBytes]. Without changes it returns one empty part.
//
// An error wraps [ErrTooLarge] when they are beyond [MaxParts] or
// [MaxChainBytes], and [catalog.ErrInvalid] when a kind is none, see [CheckKind], or a
// document is not UTF-8 and so cannot be carried byte for byte. It names no
// key, which may be a token's hash.
func Parts(changes []Change) ([][]Change, error) {
	parts := [][]Change{}
	first, size, total := 0, 0, 0
	for i, c := range changes {
		if err := CheckKind(c.Kind); err != nil {
			return nil, err
		}
		if !utf8.ValidString(c.Key) || !utf8.Valid(c.Doc) {
			return nil, fmt.Errorf("a document among the %s is not UTF-8: %w", c.Kind, catalog.ErrInvalid)
		}
		n := len(c.Key) + len(c.Doc)
		if i > first && (i-first == MaxPartDocs || size+n > MaxPartBytes) {
			parts = append(parts, changes[first:i:i])
			first, size = i, 0
		}
		size += n
		total += n
	}
	parts = append(parts, changes[first:])
	if len(parts) > MaxParts || total > MaxChainBytes {
		return nil, fmt.Errorf("%d documents are %d bytes in %d parts, at most %d bytes in %d parts are allowed: %w",
			len(changes), total, len(parts), MaxChainBytes, MaxParts, ErrTooLarge)
	}
	return parts, nil
}
