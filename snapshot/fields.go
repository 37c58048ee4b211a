package snapshot

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// Fields are names with values, as text: the fields of the head's hash in
// Redis, of a beat, of a data plane's report.
//
// A signature covers the strings as they were read, whether or not the reader
// knows what they mean. So a field that a later version adds is signed and
// verified by every version, and nothing is ever encoded a second time.
type Fields map[string]string

const (
	maxFields     = 64
	maxFieldsSize = 64 << 10 // bytes, names and values together
)

var fieldName = regexp.MustCompile(`^[a-z_]{1,32}$`)

// check returns an error that wraps [catalog.ErrInvalid] when a name or a value
// could be taken for another one in the signed text, or when there are too many. It does
// not repeat values.
func (f Fields) check() error {
	if len(f) > maxFields {
		return fmt.Errorf("there are %d fields, at most %d are allowed: %w", len(f), maxFields, catalog.ErrInvalid)
	}
	size := 0
	for name, value := range f {
		size += len(name) + len(value)
		switch {
		case !fieldName.MatchString(name):
			return &catalog.FieldError{Field: "body", Message: "has a field whose name is not 1 to 32 of a to z and _"}
		case strings.ContainsFunc(value, isControl):
			return &catalog.FieldError{Field: name, Message: "must not hold control characters"}
		}
	}
	if size > maxFieldsSize {
		return fmt.Errorf("the fields are %d bytes, at most %d are allowed: %w", size, maxFieldsSize, catalog.ErrInvalid)
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// signedText returns the text under a signature: what is signed ("head",
// "beat" or "node") and a line feed, and then for every field but sig a line
// "name=value", in the bytewise order of the names. What an engine keeps beside
// the fields that were signed (stream_bytes of a head, seen_at of a report) is taken
// away where they are parsed, see [Fields.without].
func (f Fields) signedText(what string) []byte {
	text := append([]byte(what), '\n')
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if name == fieldSig {
			continue
		}
		text = append(text, name...)
		text = append(text, '=')
		text = append(text, f[name]...)
		text = append(text, '\n')
	}
	return text
}

// without returns a copy that lacks one field.
func (f Fields) without(name string) Fields {
	f = maps.Clone(f)
	delete(f, name)
	return f
}

const (
	fieldSig  = "sig"
	fieldSeal = "seal"

	// Engines keep these beside what was signed.
	fieldStreamBytes = "stream_bytes" // of the head's hash
	fieldSeenAt      = "seen_at"      // of a report
)
