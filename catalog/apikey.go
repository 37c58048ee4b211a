package catalog

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

const maxAPIKey = 16 << 10 // bytes; a service account's JSON fits

// checkAPIKey accepts what an upstream can be sent. Control characters are for
// service accounts, which are JSON or PEM; anywhere else they break the header that
// carries the secret. The value is never shown, only which character is wrong.
func checkAPIKey(errs *FieldErrors, secret Secret) {
	k := secret.Reveal()
	if len(k) > maxAPIKey || !utf8.ValidString(k) {
		errs.add("api_key", "must be at most %d bytes of UTF-8", maxAPIKey)
		return
	}
	n, control := 0, ""
	for _, r := range k {
		n++
		if r == 0 {
			errs.add("api_key", "must not hold NUL, as character %d is", n)
			return
		}
		if control == "" && (r < ' ' || r >= 0x7F && r < 0xA0) {
			control = fmt.Sprintf("U+%04X, character %d", r, n)
		}
	}
	if control != "" && !isPEM(k) && !(strings.HasPrefix(k, "{") && json.Valid([]byte(k))) {
		errs.add("api_key", "must not hold a control character (%s), unless it is a JSON object or in PEM form", control)
	}
}

// isPEM reports whether a text is armoured lines, one after the other.
func isPEM(k string) bool {
	if !strings.HasPrefix(k, "-----BEGIN ") {
		return false
	}
	return !strings.ContainsFunc(k, func(r rune) bool { return r != '\n' && r != '\r' && (r < ' ' || r > '~') })
}
