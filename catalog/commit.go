package catalog

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Check says what no store takes, so that all refuse the same: an unknown kind,
// an entity that is written twice, a token that an entity has twice, a token or a
// reference of a kind that has none, a bound of nothing, and a text that is not UTF-8 or holds NUL,
// which not every database keeps. Stores MUST call it before they do anything. The error wraps [ErrInvalid].
func (c Commit) Check() error {
	kinds, seen := Kinds(), make(map[place]bool, len(c.Writes))
	for i := range c.Writes {
		w := &c.Writes[i]
		e := &w.Entity
		at := place{e.Kind, e.ID}
		switch {
		case !slices.Contains(kinds, e.Kind):
			return fmt.Errorf("write %d is of an unknown kind: %w", i+1, ErrInvalid)
		case seen[at]:
			return fmt.Errorf("write %d is of an entity that the commit writes already: %w", i+1, ErrInvalid)
		case w.Quiet && (w.Delete || w.If == 0):
			return fmt.Errorf("write %d cannot be quiet, because it creates or deletes: %w", i+1, ErrInvalid)
		case len(e.Hashes) > 0 && !e.Kind.HasTokens():
			return fmt.Errorf("write %d: a %s has no token: %w", i+1, e.Kind.Noun(), ErrInvalid)
		case !e.refers():
			return fmt.Errorf("write %d: a %s cannot refer to that: %w", i+1, e.Kind.Noun(), ErrInvalid)
		}
		seen[at] = true
		if slices.ContainsFunc(e.Hashes, func(h string) bool { return countIn(e.Hashes, h) > 1 }) {
			return fmt.Errorf("write %d has a token twice: %w", i+1, ErrInvalid)
		}
		if !e.storable() || !w.Change.storable() {
			return fmt.Errorf("write %d holds a text that is not UTF-8, or NUL: %w", i+1, ErrInvalid)
		}
	}
	for _, limit := range c.Caps {
		if !slices.Contains(kinds, limit.Kind) || limit.RefUnder == "" || !storable(limit.RefUnder) {
			return fmt.Errorf("a bound is of an unknown kind, or of no path: %w", ErrInvalid)
		}
	}
	if !storable(c.Actor, c.Reason) {
		return fmt.Errorf("actor or reason is not UTF-8, or holds NUL: %w", ErrInvalid)
	}
	return nil
}

// refers reports whether a Ref, if there is one, has the form that it must have.
func (e *Entity) refers() bool {
	_, ok := e.Kind.Target(e.Ref)
	return ok || e.Ref == ""
}

func (e *Entity) storable() bool {
	for name, value := range e.Labels {
		if !storable(name, value) {
			return false
		}
	}
	return storable(e.NaturalKey, e.ExternalID, e.Ref, e.Name, e.Status, string(e.Spec)) &&
		storable(e.Hashes...) && storable(e.Namespaces...) && storable(e.Groups...) && storable(e.Mentions...)
}

func (c *Change) storable() bool {
	t := &c.Touches
	return storable(string(c.Before), string(c.After)) && storable(t.NaturalKeys...) && storable(t.Refs...) &&
		storable(t.Hashes...) && storable(t.Groups...) && storable(t.Models...)
}

func storable(texts ...string) bool {
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return false
		}
	}
	return true
}

func countIn(list []string, v string) (n int) {
	for _, e := range list {
		if e == v {
			n++
		}
	}
	return n
}
