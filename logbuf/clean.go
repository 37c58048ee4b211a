package logbuf

import (
	"strings"
	"unicode/utf8"
)

// defaultNamespace is the namespace of an entry that names none.
const defaultNamespace = "default"

// replacement stands for what PostgreSQL's text cannot hold.
const replacement = "\uFFFD"

// clean returns s as it can be stored: without NUL, valid UTF-8, at most limit
// bytes and cut between two runes.
func clean(s string, limit int) (out string, cut, replaced bool) {
	if !utf8.ValidString(s) {
		s, replaced = strings.ToValidUTF8(s, replacement), true
	}
	if strings.IndexByte(s, 0) >= 0 {
		s, replaced = strings.ReplaceAll(s, "\x00", replacement), true
	}
	if len(s) > limit {
		n := limit
		for !utf8.RuneStart(s[n]) {
			n--
		}
		s, cut = s[:n], true
	}
	return s, cut, replaced
}

// texts is how many strings an entry has, but for those in tags and failures.
const texts = 13

// text returns pointers to the strings of an entry, in the order of the spool's
// format.
func (e *Entry) text() [texts]*string {
	return [...]*string{
		&e.RequestID, &e.Balancer, &e.Namespace, &e.Model, &e.UpstreamModel, &e.Group, &e.Project,
		&e.Endpoint, &e.ClientIP, &e.UserAgent, &e.User, &e.Revision, &e.Error,
	}
}

// textFields are the fields of [Entry.text].
var textFields = [texts]field{
	fieldRequestID, fieldBalancer, fieldNamespace, fieldModel, fieldUpstreamModel, fieldGroup, fieldProject,
	fieldEndpoint, fieldClientIP, fieldUserAgent, fieldUser, fieldRevision, fieldError,
}

// limitOf returns how many bytes the string of a field may have.
func limitOf(f field) int {
	switch f {
	case fieldNamespace, fieldModel, fieldGroup, fieldProject:
		return MaxDimension
	case fieldError:
		return MaxError
	}
	return MaxString
}

// The path of a project: one to three parts of at most 63 characters.
const (
	maxProjectParts = 3
	maxProjectPart  = 63
)

// isProject reports whether s has the form of a project's path. Whether there is, or ever
// was, such a project only the catalog knows.
func isProject(s string) bool {
	part, parts := 0, 1
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', part > 0 && (c == '_' || c == '-'):
			if part++; part > maxProjectPart {
				return false
			}
		case c == '/' && part > 0:
			part = 0
			parts++
		default:
			return false
		}
	}
	return part > 0 && parts <= maxProjectParts
}
