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
type Secret struct{ text string }

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether s is empty.
func (s Secret) IsZero() bool { return s.text == "" }

// Equal compares two secrets in constant time.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.text), []byte(other.text)) == 1
}

// Hint returns the last four characters, enough for a person to tell secrets
// apart. It is empty for secrets under 12 characters.
func (s Secret) Hint() string {
	runes := []rune(s.text)
	if len(runes) < 12 || !utf8.ValidString(s.text) {
		return ""
	}
	return string(runes[len(runes)-4:])
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
