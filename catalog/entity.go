package catalog

import (
	"maps"
	"slices"
	"strings"
	"unicode"
)

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

func last(s []string) string { return first(s[max(len(s)-1, 0):]) }

func (t Touches) union(o Touches) Touches {
	merge := func(a, b []string) []string { return sortedSet(slices.Concat(a, b)...) }
	return Touches{
		NaturalKeys: merge(t.NaturalKeys, o.NaturalKeys), Refs: merge(t.Refs, o.Refs), Hashes: merge(t.Hashes, o.Hashes),
		Groups: merge(t.Groups, o.Groups), Models: merge(t.Models, o.Models),
	}
}

// Match reports whether q selects e. It heeds After, and ignores Limit.
func (q Query) Match(e Entity) bool {
	in := func(set []string, v string) bool { return len(set) == 0 || slices.Contains(set, v) }
	return e.ID > q.After &&
		(len(q.IDs) == 0 || slices.Contains(q.IDs, e.ID)) &&
		in(q.NaturalKeys, e.NaturalKey) && in(q.Refs, e.Ref) &&
		under(e.Ref, q.RefUnder) && under(e.NaturalKey, q.KeyUnder) && in(q.Names, e.Name) &&
		in(q.ExternalIDs, e.ExternalID) &&
		(q.Text == "" || strings.Contains(e.SearchText(), FoldCase(q.Text))) &&
		(q.Status == "" || q.Status == e.Status) &&
		(q.Namespace == "" || slices.Contains(e.Namespaces, q.Namespace)) &&
		(len(q.Groups) == 0 || slices.ContainsFunc(e.Groups, func(g string) bool { return slices.Contains(q.Groups, g) })) &&
		(len(q.Mentions) == 0 || slices.ContainsFunc(e.Mentions,
			func(m string) bool { return slices.Contains(q.Mentions, m) })) &&
		hasLabels(e.Labels, q.Labels) &&
		(q.DueBefore.IsZero() || !e.DueAt.IsZero() && e.DueAt.Before(q.DueBefore))
}

// under reports whether a path is at or below another; everything is below "".
func under(path, of string) bool {
	rest, below := strings.CutPrefix(path, of)
	return of == "" || below && (rest == "" || rest[0] == '/')
}

// SearchText returns the text in which Query.Text, folded by [FoldCase], is looked
// for: the folded name and external id, with a line feed between them, which neither
// of them holds. A store that cannot fold as Go does keeps it in a column.
func (e Entity) SearchText() string { return FoldCase(e.Name + "\n" + e.ExternalID) }

// FoldCase returns s with every letter replaced by the first of those that differ
// from it only in case, so that two strings that strings.EqualFold calls equal fold to
// the same. Bytes that are not UTF-8 become U+FFFD.
func FoldCase(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, s)
}

func hasLabels(have, want map[string]string) bool {
	for name, value := range want {
		if v, ok := have[name]; !ok || v != value {
			return false
		}
	}
	return true
}

// Clone returns a copy that shares no memory with e.
func (e Entity) Clone() Entity {
	e.Hashes, e.Namespaces, e.Groups = slices.Clone(e.Hashes), slices.Clone(e.Namespaces), slices.Clone(e.Groups)
	e.Mentions = slices.Clone(e.Mentions)
	e.Labels, e.Spec = maps.Clone(e.Labels), slices.Clone(e.Spec)
	return e
}

// Clone returns a copy that shares no memory with c.
func (c Change) Clone() Change {
	c.Before, c.After = slices.Clone(c.Before), slices.Clone(c.After)
	t := &c.Touches
	for _, s := range []*[]string{&t.NaturalKeys, &t.Refs, &t.Hashes, &t.Groups, &t.Models} {
		*s = slices.Clone(*s)
	}
	return c
}
