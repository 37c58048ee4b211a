package catalog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Cursor is a place in the change feed: after one change of a revision or, where
// Seq is 0, after the whole revision. The zero Cursor is the beginning.
type Cursor struct {
	Revision Revision
	Seq      int
}

// String returns "REV" or "REV.SEQ".
func (c Cursor) String() string {
	if c.Seq == 0 {
		return strconv.FormatInt(int64(c.Revision), 10)
	}
	return strconv.FormatInt(int64(c.Revision), 10) + "." + strconv.Itoa(c.Seq)
}

// ParseCursor reads what String writes. The error wraps [ErrInvalid].
func ParseCursor(text string) (Cursor, error) {
	revision, seq, within := strings.Cut(text, ".")
	n, err := strconv.ParseInt(revision, 10, 64)
	c := Cursor{Revision: Revision(n)}
	if err == nil && within {
		c.Seq, err = strconv.Atoi(seq)
		within = c.Seq < 1
	}
	if err != nil || n < 0 || within || c.String() != text {
		return Cursor{}, fmt.Errorf("must be a revision such as 7, or a place within one such as 7.3: %w", ErrInvalid)
	}
	return c, nil
}

// Before reports whether a change comes after the cursor, so that the feed after
// the cursor has it.
func (c Cursor) Before(change Change) bool {
	if change.Revision != c.Revision {
		return change.Revision > c.Revision
	}
	return c.Seq != 0 && change.Seq > c.Seq
}

// Cursor returns the place after the change.
func (c Change) Cursor() Cursor { return Cursor{c.Revision, c.Seq} }

// WholeRevisions reads the changes after a revision, in whole revisions only: about limit changes,
// but at least one revision, whatever its size. It is for followers that keep their place as a
// revision; the error wraps ErrCompacted when the feed does not have all changes after it, see
// [Head.Leads]. Kinds are as those of [Reader.Changes].
func WholeRevisions(ctx context.Context, r Reader, after Revision, limit int, kinds ...Kind) ([]Change, error) {
	if err := r.Head().Leads(after); err != nil {
		return nil, err
	}
	limit = max(limit, 1)
	all, err := r.Changes(ctx, Cursor{Revision: after}, limit, kinds...)
	page := all
	for err == nil && len(page) == limit {
		last := all[len(all)-1]
		if page, err = r.Changes(ctx, last.Cursor(), limit, kinds...); err != nil {
			return nil, err
		}
		if len(page) > 0 && !last.Cursor().Before(page[0]) {
			return nil, fmt.Errorf("the feed after %s begins at %s", last.Cursor(), page[0].Cursor())
		}
		same := 0
		for same < len(page) && page[same].Revision == last.Revision {
			same++
		}
		all = append(all, page[:same]...)
		page = page[:same]
	}
	return all, err
}
