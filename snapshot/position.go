package snapshot

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// Compare returns -1 when p is before q, 1 when it is after, else 0.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Epoch, q.Epoch), cmp.Compare(p.Revision, q.Revision))
}

// After reports whether p is later than q.
func (p Position) After(q Position) bool { return p.Compare(q) > 0 }

// String returns "<epoch>-<revision>", which is also the id of the publish in
// a Redis stream.
func (p Position) String() string {
	return strconv.FormatInt(int64(p.Epoch), 10) + "-" + strconv.FormatInt(int64(p.Revision), 10)
}

// ParsePosition reads what [Position.String] writes.
func ParsePosition(s string) (Position, error) {
	epoch, revision, _ := strings.Cut(s, "-")
	e, ok1 := number(epoch)
	r, ok2 := number(revision)
	if !ok1 || !ok2 {
		return Position{}, fmt.Errorf("a position is <epoch>-<revision>, two numbers: %w", catalog.ErrInvalid)
	}
	return Position{catalog.Epoch(e), catalog.Revision(r)}, nil
}

// MarshalText makes positions strings in JSON.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (p *Position) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePosition(string(text))
	return err
}
