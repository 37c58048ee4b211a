package catalog

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"log/slog"
	"unicode/utf8"
)

const redacted = "[secret]"

// Secret is a string that must not be seen. However it is printed, logged or
// marshalled, it says "[secret]"; only [Secret.Reveal] gives it away. The
// zero Secret is empty.
type Secret struct {
	text   string
	closed *closedSecret // set when it is stored and cannot be opened; text is empty then

	// storedFor is where a secret that was read from the store may be sent; nil for one that
	// somebody has sent just now.
	storedFor *Destination
}

// closedSecret is a sealed text, with the additional data that it was sealed with.
type closedSecret struct{ text, data string }

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret { return Secret{text: text} }

// Reveal returns the text.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether s is empty, or cannot be opened.
func (s Secret) IsZero() bool { return s.text == "" }

// isAbsent reports whether there is no secret at all.
func (s Secret) isAbsent() bool { return s.text == "" && s.closed == nil }

// identity tells two secrets apart. It is a secret itself.
func (s Secret) identity() string {
	if s.closed != nil {
		return "\x00" + s.closed.text
	}
	return s.text
}

// Equal compares two secrets in constant time.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.identity()), []byte(other.identity())) == 1
}

// Hint returns the last four characters, enough for a person to tell secrets
// apart. It is empty for secrets under 12 characters, and where one of the four
// cannot be seen.
func (s Secret) Hint() string {
	runes := []rune(s.text)
	if len(runes) < 12 || !utf8.ValidString(s.text) {
		return ""
	}
	hint := string(runes[len(runes)-4:])
	if badRune(hint) != "" || indexSpace(hint) >= 0 {
		return ""
	}
	return hint
}

// String returns "[secret]".
func (s Secret) String() string { return redacted }

// Format writes "[secret]" whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "[secret]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[secret]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalJSON takes the string as it is.
func (s *Secret) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &s.text) }
