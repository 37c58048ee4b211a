package snapshot

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ez-api/ez-api/catalog"
)

const (
	// Liveness is how long a data plane counts as live after its last report.
	Liveness = 15 * time.Second

	// Remembered is how long a data plane that reports no more is shown as lost.
	Remembered = 24 * time.Hour

	// MaxNodes bounds the reports that are kept; the longest unseen goes first.
	MaxNodes = 100_000

	// maxNodeText bounds what a report says in one field, in bytes.
	maxNodeText = 1024
)

// Node is what one data plane reports about itself.
type Node struct {
	ID       string         // name and a random part, new in each process; 1 to 200 bytes
	Position Position       // that it serves; zero before the first load
	Head     string         // signature of the head that it serves; empty without a sync key
	Version  string         // of the program
	Error    string         // last problem, cleared when it is over
	Kinds    []catalog.Kind // kinds of documents that it serves
	Store    string         // catalog that it serves
	Leaving  bool           // it stops in good order: its report is taken away
	Sig      string         // hex, by the sync key with which its head was signed; empty without

	// SeenAt is when the engine heard of it, on the engine's clock. Source and
	// Publisher set it; it is not part of the report.
	SeenAt time.Time

	// Age is how long ago the report reached whoever passes it on, such as a [Mirror]. It is not
	// part of the report.
	Age time.Duration

	fields Fields // as read, or as signed; nil before
}

// Encode returns the report as a JSON object of strings.
func (n Node) Encode() []byte {
	text, err := json.Marshal(n.text())
	if err != nil {
		panic(err) // strings
	}
	return text
}

// text returns the fields as they were read, or as they are to be written.
// Texts that are too long are cut, control characters become spaces.
func (n Node) text() Fields {
	if n.fields != nil {
		return n.fields
	}
	kinds := make([]string, len(n.Kinds))
	for i, k := range n.Kinds {
		kinds[i] = string(k)
	}
	slices.Sort(kinds)
	f := Fields{
		"id": plainText(n.ID), "position": n.Position.String(), "head": n.Head, "version": plainText(n.Version),
		"error": plainText(n.Error), "kinds": strings.Join(kinds, ","), "store": plainText(n.Store), fieldSig: n.Sig,
	}
	if n.Leaving {
		f["leaving"] = "1"
	}
	return f
}

// Equal reports whether two reports have the same fields and were seen at the same time.
func (n Node) Equal(other Node) bool {
	return maps.Equal(n.text(), other.text()) && n.SeenAt.Equal(other.SeenAt) && n.Age == other.Age
}

// ParseNode reads what [Node.Encode] writes. A field seen_at, which an engine
// keeps beside the report, is left out. The error wraps
// [catalog.ErrInvalid], and is a [catalog.FieldError] where a field is wrong. The
// signature is not verified here.
func ParseNode(text []byte) (Node, error) {
	var n Node
	if len(text) > maxFieldsSize || json.Unmarshal(text, &n.fields) != nil {
		return Node{}, notStrings(text)
	}
	f := n.fields
	delete(f, fieldSeenAt)
	for name, value := range f {
		switch {
		case !fieldName.MatchString(name):
			return Node{}, &catalog.FieldError{Field: "name of a field", Message: "must be 1 to 32 of a to z and _"}
		case len(value) > maxNodeText:
			return Node{}, &catalog.FieldError{Field: name, Message: fmt.Sprintf("must be at most %d bytes", maxNodeText)}
		case strings.ContainsFunc(value, isControl):
			return Node{}, &catalog.FieldError{Field: name, Message: "must not hold control characters"}
		}
	}
	if err := f.check(); err != nil {
		return Node{}, err
	}
	if f["id"] == "" || len(f["id"]) > 200 {
		return Node{}, &catalog.FieldError{Field: "id", Message: "must be 1 to 200 bytes"}
	}
	var err error
	if n.Position, err = ParsePosition(f["position"]); err != nil {
		return Node{}, &catalog.FieldError{Field: "position", Message: "must be <epoch>-<revision>, two numbers"}
	}
	n.ID, n.Head, n.Version, n.Error, n.Store = f["id"], f["head"], f["version"], f["error"], f["store"]
	n.Leaving, n.Sig = f["leaving"] == "1", f[fieldSig]
	if f["kinds"] != "" {
		for kind := range strings.SplitSeq(f["kinds"], ",") {
			if CheckKind(catalog.Kind(kind)) != nil {
				return Node{}, &catalog.FieldError{Field: "kinds", Message: "must be kinds of documents, separated by commas"}
			}
			n.Kinds = append(n.Kinds, catalog.Kind(kind))
		}
	}
	return n, nil
}

// notStrings returns why a text is no JSON object of strings.
func notStrings(text []byte) error {
	var values map[string]json.RawMessage
	if json.Unmarshal(text, &values) == nil {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if !strings.HasPrefix(string(values[name]), `"`) && fieldName.MatchString(name) {
				return &catalog.FieldError{Field: name, Message: "must be a string"}
			}
		}
	}
	return fmt.Errorf("a report is a JSON object of strings: %w", catalog.ErrInvalid)
}

// plainText returns what may stand in a signed text.
func plainText(s string) string {
	s = strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	for len(s) > maxNodeText {
		_, size := utf8.DecodeLastRuneInString(s[:maxNodeText])
		s = s[:maxNodeText-size]
	}
	return s
}

// Answer is what a data plane gets for its report.
type Answer struct {
	Head Base // of what is published; the zero Base when nothing is
	Beat Beat // the last that was written, not verified; its zero value is none
	Live int  // nodes that were seen within Liveness, this one included
}

// NodeList is an answer of [Publisher.Nodes].
type NodeList struct {
	Nodes []Node    // in order of SeenAt
	Now   time.Time // on the engine's clock
	Total int       // reports that are kept, whether asked for or not

	// Left are the last reports of data planes that have left within Liveness, as far as these
	// reports are kept; their Leaving is set. Like other reports they are not verified.
	Left []Node

	// Crowded says that the report of a live node had to go, because there are
	// too many: nobody knows then what was applied everywhere.
	Crowded bool
}
