package catalog

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// ModelList is what a provider lists, prepared for selectors to pick from it. It does not depend on the
// order of the list, nor on what stands in it twice. A ModelList is not safe for concurrent use.
type ModelList struct {
	literal    []string       // sorted
	beginnings []string       // of those that end in *, sorted
	normal     map[string]hit // the literal ones by their normalised names; nil until somebody asks
}

// hit is a model that a selector hits, and how many it hits.
type hit struct {
	model string
	hits  int
}

// NewModelList prepares a list of models.
func NewModelList(models []string) *ModelList {
	l := &ModelList{}
	for _, m := range models {
		if head, star := strings.CutSuffix(m, "*"); star {
			l.beginnings = append(l.beginnings, head)
		} else {
			l.literal = append(l.literal, m)
		}
	}
	slices.Sort(l.literal)
	slices.Sort(l.beginnings)
	l.literal, l.beginnings = slices.Compact(l.literal), slices.Compact(l.beginnings)
	return l
}

// ListID is the same for lists that have the same in them, and for no others.
type ListID [sha256.Size]byte

// ID returns the identity of the list.
func (l *ModelList) ID() ListID {
	h := sha256.New()
	for _, part := range [][]string{l.literal, l.beginnings} {
		for _, m := range part {
			fmt.Fprintf(h, "%d %s", len(m), m)
		}
		_, _ = h.Write([]byte{0})
	}
	return ListID(h.Sum(nil))
}

// has reports whether an exact selector of the value hits.
func (l *ModelList) has(value string) bool {
	if _, found := slices.BinarySearch(l.literal, value); found {
		return true
	}
	if len(l.beginnings) == 0 {
		return false
	}
	begins := strings.TrimSuffix(value, "*")
	for end := range len(begins) + 1 {
		if _, found := slices.BinarySearch(l.beginnings, begins[:end]); found {
			return true
		}
	}
	return false
}

// normalized returns what a normalised name hits.
func (l *ModelList) normalized(name string) (model string, hits int) {
	if l.normal == nil {
		l.normal = make(map[string]hit, len(l.literal))
		for _, m := range l.literal {
			as := normalizeModel(m)
			l.normal[as] = hit{m, l.normal[as].hits + 1}
		}
	}
	h := l.normal[name]
	return h.model, h.hits
}

// lookEvery is how many models are matched between two looks at the context.
const lookEvery = 64

// matching returns what a regular expression hits.
func (l *ModelList) matching(ctx context.Context, s *Selector) (model string, hits int, err error) {
	for i, m := range l.literal {
		if i%lookEvery == 0 && ctx.Err() != nil {
			return "", 0, ctx.Err()
		}
		if s.re.MatchString(m) {
			model, hits = m, hits+1
		}
	}
	return model, hits, nil
}
