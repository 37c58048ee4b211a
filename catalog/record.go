package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Noun is one of the things a catalog holds.
type Noun interface {
	Provider | Model | Binding | Key
}

// record is what the tables ask of a pointer to a [Noun].
type record interface {
	kind() Kind
	meta() *Meta
	normalize()                    // fills in defaults
	check(rules) FieldErrors       // says what is not acceptable
	encode(Keeper) (Entity, error) // to storage form
	decode(Entity, Keeper) error   // and back
	touches() Touches              // what documents need to be rendered by
}

// rules are the server-wide settings that validation depends on.
type rules struct{ privateUpstreams bool }

var (
	_ record = (*Provider)(nil)
	_ record = (*Model)(nil)
	_ record = (*Binding)(nil)
	_ record = (*Key)(nil)
)

func asRecord[T Noun](v *T) record { return any(v).(record) }

// hidden returns the state of a record that its JSON form does not show.
func hidden(r record) any {
	switch r := r.(type) {
	case *Provider:
		return r.APIKey.Reveal()
	case *Key:
		text, _ := json.Marshal(r.Tokens) // strings and times always marshal
		return string(text)
	}
	return nil
}

// same reports whether storing b where a is would change nothing.
func same(a, b record) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y) && hidden(a) == hidden(b)
}

func (e Entity) withSpec(spec any) (Entity, error) {
	text, err := json.Marshal(spec)
	e.Spec = text
	return e, err
}

func (e Entity) spec(v any) error {
	dec := json.NewDecoder(bytes.NewReader(e.Spec))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%s %d: stored spec: %w", e.Kind.Noun(), e.ID, err)
	}
	return nil
}

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

// Match reports whether q selects e, paging aside: After counts, Limit does not.
func (q Query) Match(e Entity) bool {
	in := func(set []string, v string) bool { return len(set) == 0 || slices.Contains(set, v) }
	return e.ID > q.After &&
		(len(q.IDs) == 0 || slices.Contains(q.IDs, e.ID)) &&
		in(q.NaturalKeys, e.NaturalKey) && in(q.Refs, e.Ref) && in(q.Names, e.Name) && in(q.ExternalIDs, e.ExternalID) &&
		(q.Text == "" || strings.Contains(e.SearchText(), FoldCase(q.Text))) &&
		(q.Status == "" || q.Status == e.Status) &&
		(q.Namespace == "" || slices.Contains(e.Namespaces, q.Namespace)) &&
		(len(q.Groups) == 0 || slices.ContainsFunc(e.Groups, func(g string) bool { return slices.Contains(q.Groups, g) })) &&
		hasLabels(e.Labels, q.Labels) &&
		(q.DueBefore.IsZero() || !e.DueAt.IsZero() && e.DueAt.Before(q.DueBefore))
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
