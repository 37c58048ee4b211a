package logbuf

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// nested reads the value of a field that begins with '{' or '['.
func (s *state) nested(e *Entry, f field, kind jsontext.Kind, base int) error {
	switch {
	case f == fieldTags && kind == '{':
		return s.object(base, func(name, value []byte) { s.addTag(e, name, value) })
	case f == fieldFailures && kind == '[':
		return s.failures(e, base)
	}
	s.fail(BadType, f.name(), wanted(f))
	return s.skip(base)
}

// object reads an object and calls set for each name and value, both as they stand in the
// text. What is nested in it is skipped, and set gets nil.
func (s *state) object(base int, set func(name, value []byte)) error {
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	var kept []byte // ReadValue lets go of the name
	for s.dec.PeekKind() != '}' {
		name, err := s.dec.ReadValue()
		if err != nil {
			return err
		}
		kept = append(kept[:0], name...)
		if k := s.dec.PeekKind(); k == '{' || k == '[' {
			if err := s.skip(base); err != nil {
				return err
			}
			set(kept, nil)
			continue
		}
		value, err := s.dec.ReadValue()
		if err != nil {
			return err
		}
		set(kept, value)
	}
	_, err := s.dec.ReadToken()
	return err
}

// failures reads the array of failures.
func (s *state) failures(e *Entry, base int) error {
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	for n := 0; s.dec.PeekKind() != ']'; n++ {
		if s.dec.PeekKind() != '{' {
			s.fail(BadType, fieldFailures.name(), wanted(fieldFailures))
			if err := s.skip(base); err != nil {
				return err
			}
			continue
		}
		l := s.beginFailure(e, n)
		err := s.object(base, func(name, value []byte) { s.setFailure(l, name, value) })
		s.endFailure(l)
		if err != nil {
			return err
		}
	}
	_, err := s.dec.ReadToken()
	return err
}

// addTag adds a tag; name and value are as they stand in the text. A nil value is one that
// is nested.
func (s *state) addTag(e *Entry, name, value []byte) {
	if len(value) > 0 && value[0] == 'n' { // null is the same as absent
		return
	}
	if len(value) == 0 || value[0] != '"' {
		s.fail(BadType, fieldTags.name(), wanted(fieldTags))
		return
	}
	k, v := s.tagText(name, MaxTagName), s.tagText(value, MaxTagValue)
	if _, twice := e.Tags[k]; twice {
		s.fail(Twice, fieldTags.name(), "must not hold two tags whose names begin with the same 64 bytes")
		return
	}
	if k == "" {
		s.fail(BadValue, fieldTags.name(), "must not hold an empty name")
		return
	}
	if len(e.Tags) == maxTags {
		s.fail(BadValue, fieldTags.name(), fmt.Sprintf("must not hold more than %d tags", maxTags))
		return
	}
	if e.Tags == nil {
		e.Tags = make(map[string]string, 2)
	}
	e.Tags[k] = v
}

// tagText reads a quoted string that often comes again.
func (s *state) tagText(quoted []byte, limit int) string {
	raw := quoted[1 : len(quoted)-1]
	if len(raw) <= limit && !slices.Contains(raw, '\\') && utf8.Valid(raw) {
		return s.names.string(fieldTags, raw)
	}
	return s.unquote(quoted, limit)
}

// beginFailure starts failure n of an entry, that endFailure ends.
func (s *state) beginFailure(e *Entry, n int) *Failure {
	if n >= maxFailures {
		s.fail(BadValue, fieldFailures.name(), fmt.Sprintf("must not hold more than %d", maxFailures))
		return &Failure{}
	}
	s.within = failureNames[n]
	s.seenInside = 0
	e.Failures = append(e.Failures, Failure{})
	return &e.Failures[len(e.Failures)-1] // what is no object has a number, and is not kept
}

// failureNames are what the fields of each failure are in.
var failureNames = [maxFailures]string{
	"failures[0].", "failures[1].", "failures[2].", "failures[3].",
	"failures[4].", "failures[5].", "failures[6].", "failures[7].",
}

func (s *state) endFailure(l *Failure) {
	if s.within != "" && l.Class == "" {
		s.fail(BadValue, fieldClass.name(), classWanted)
	}
	s.within = ""
}

// classWanted lists the classes; see [FailureClasses].
const classWanted = "must be auth, billing, rate, overload, server, timeout, network, client or canceled, " +
	"or the name of a newer one: a letter, and up to 31 letters, digits or underscores, in lower case"

// setFailure stores one field of a failure, like addTag.
func (s *state) setFailure(l *Failure, name, value []byte) {
	f := s.fieldNamed(name)
	switch f {
	case fieldProviderID, fieldUpstreamModel, fieldStatus, fieldClass, fieldLatencyMS, fieldRetryAfterMS:
	default:
		s.out.Unknown++
		return
	}
	if s.seenInside&(1<<f) != 0 {
		s.fail(Twice, f.name(), "is given twice")
	}
	s.seenInside |= 1 << f
	if value == nil {
		s.fail(BadType, f.name(), wanted(f))
		return
	}
	v := jsontext.Value(value)
	if v.Kind() == 'n' { // null is the same as absent
		return
	}
	switch f {
	case fieldProviderID:
		l.ProviderID = s.integer(f, v, maxID)
	case fieldUpstreamModel:
		l.UpstreamModel = s.shared(f, v)
	case fieldStatus:
		l.Status = int(s.integer(f, v, MaxStatus))
	case fieldClass:
		l.Class = FailureClass(s.shared(f, v))
		switch {
		case l.Class == "" || l.Class.Known():
		case l.Class.wellFormed():
			s.out.Unknown++
		default:
			s.fail(BadValue, f.name(), classWanted)
		}
	case fieldLatencyMS:
		l.LatencyMS = s.integer(f, v, MaxMillis)
	case fieldRetryAfterMS:
		l.RetryAfterMS = s.integer(f, v, MaxMillis)
	}
}

// Known reports whether this version knows the class.
func (c FailureClass) Known() bool {
	switch c {
	case FailedAuth, FailedBilling, FailedRate, FailedOverload, FailedServer,
		FailedTimeout, FailedNetwork, FailedClient, FailedCanceled:
		return true
	}
	return false
}

// wellFormed reports whether a class may be one that a newer version knows.
func (c FailureClass) wellFormed() bool {
	for i := range len(c) {
		switch b := c[i]; {
		case b >= 'a' && b <= 'z', i > 0 && (b == '_' || b >= '0' && b <= '9'):
		default:
			return false
		}
	}
	return c != "" && len(c) <= maxClass
}
