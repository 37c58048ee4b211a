package logbuf

import (
	"strings"
	"unicode/utf8"
)

// Strings longer than these are cut, so that one entry cannot fill a batch.
const (
	maxString = 1 << 10 // bytes, every string but the error
	maxError  = 8 << 10 // bytes, the error
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

// text returns pointers to the strings of an entry, in the order of the spool's
// format. The error, which may be longer, is the last.
func (e *Entry) text() [11]*string {
	return [...]*string{
		&e.RequestID, &e.Balancer, &e.Namespace, &e.Model, &e.UpstreamModel, &e.Group,
		&e.Endpoint, &e.ClientIP, &e.UserAgent, &e.Revision, &e.Error,
	}
}

// limitOf returns how long the string at index i of [Entry.text] may be.
func limitOf(i int) int {
	if i == 10 {
		return maxError
	}
	return maxString
}
