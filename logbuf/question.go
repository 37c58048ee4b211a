package logbuf

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"time"
)

// A question is a digest of what a page is asked by, without the span of time and the size of
// pages. A cursor holds it, because it goes on with no other question than the one of its page.
type question [8]byte

func questionOf(v any) (q question) {
	text, _ := json.Marshal(v) // it holds nothing that could fail
	sum := sha256.Sum256(text)
	copy(q[:], sum[:])
	return q
}

// question returns the digest of the filters.
func (q LogQuery) question() question {
	q.Since, q.Until, q.Cursor, q.Limit = time.Time{}, time.Time{}, "", 0
	if len(q.Tags) == 0 {
		q.Tags = nil
	}
	return questionOf(q)
}

// question returns the digest of the filters and of what the rows are.
func (q *UsageQuery) question(groups []Dimension) question {
	filter := q.UsageFilter
	filter.KeyIDs = slices.Sorted(slices.Values(q.KeyIDs))
	return questionOf([]any{filter, groups, cmp.Or(q.Interval, Day), q.Zone.String()})
}
