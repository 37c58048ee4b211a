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

// CheckChanges returns an error that wraps [catalog.ErrInvalid] when a kind is
// none, see [CheckKind], or a document is not UTF-8 and so cannot be carried byte for
// byte. It names no key, which may be a token's hash.
func CheckChanges(changes []Change) error {
	for _, c := range changes {
		if err := CheckKind(c.Kind); err != nil {
			return err
		}
		if !utf8.ValidString(c.Key) || !utf8.Valid(c.Doc) {
			return fmt.Errorf("a document among the %s is not UTF-8: %w", c.Kind, catalog.ErrInvalid)
		}
	}
	return nil
}

// CheckRepairs is [CheckChanges] for [Publisher.Repair]. A document may be taken away whatever its name is, because
// no entry of the stream has to carry that.
func CheckRepairs(changes []Change) error {
	for _, c := range changes {
		if c.Doc == nil {
			c.Key = ""
		}
		if err := CheckChanges([]Change{c}); err != nil {
			return err
		}
	}
	return nil
}

// Parts cuts changes, in their order, into what one entry of the stream or one command
// carries, see [MaxPartDocs] and [MaxPartBytes]. Without changes there is one empty part.
func Parts(changes []Change) [][]Change {
	var parts [][]Change
	first, size := 0, 0
	for i, c := range changes {
		n := len(c.Key) + len(c.Doc)
		if i > first && (i-first == MaxPartDocs || size+n > MaxPartBytes) {
			parts = append(parts, changes[first:i:i])
			first, size = i, 0
		}
		size += n
	}
	return append(parts, changes[first:])
}

// Parts cuts a delta that is to be published over a head, see [Parts]. It returns an error
// that wraps [catalog.ErrInvalid] for one that no engine can publish: it does not
// start where that head is, does not lead on, has a head that nobody could read, or
// changes of which [CheckChanges] complains; and one that wraps [ErrTooLarge] when it is
// beyond [MaxParts] or [MaxChainBytes].
func (d Delta) Parts(over Base) ([][]Change, error) {
	if from := (Head{Position: d.From}).Base(); from.Epoch != over.Epoch || from.Revision != over.Revision {
		return nil, fmt.Errorf(
			"the delta starts at %s, and the head that it is over is elsewhere: %w",
			d.From,
			catalog.ErrInvalid,
		)
	}
	if !d.Head.Position.After(d.From) {
		return nil, fmt.Errorf(
			"a delta from %s to %s leads nowhere: %w",
			d.From,
			d.Head.Position,
			catalog.ErrInvalid,
		)
	}
	if err := d.Head.Publishable(); err != nil {
		return nil, err
	}
	if err := CheckChanges(d.Changes); err != nil {
		return nil, err
	}
	parts, size := Parts(d.Changes), 0
	for _, c := range d.Changes {
		size += len(c.Key) + len(c.Doc)
	}
	if len(parts) > MaxParts || size > MaxChainBytes {
		return nil, fmt.Errorf(
			"%d documents are %d bytes in %d parts, at most %d bytes in %d parts are allowed: %w",
			len(d.Changes),
			size,
			len(parts),
			MaxChainBytes,
			MaxParts,
			ErrTooLarge,
		)
	}
	return parts, nil
}

// Publishable returns an error that wraps [catalog.ErrInvalid] for a head that nobody could
// read, or whose revision is above [MaxRevision].
func (h Head) Publishable() error {
	if h.Position.Revision > MaxRevision {
		return fmt.Errorf(
			"the revision is %d, at most %d is published: %w",
			h.Position.Revision,
			MaxRevision,
			catalog.ErrInvalid,
		)
	}
	if _, err := ParseHead(h.Fields()); err != nil {
		return fmt.Errorf("the head cannot be published: %w: %w", err, catalog.ErrInvalid)
	}
	return nil
}
