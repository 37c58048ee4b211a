package catalog

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const maxAPIKey = 16 << 10 // bytes; a service account's JSON fits

// documentTypes lists the provider types whose credential may be a document, from which the
// balancer makes what it sends: a service account, or what a login left behind. All others
// send the credential itself, in a header.
func documentTypes() []string {
	return []string{"vertex", "gemini-cli", "antigravity", "codex", "claude-code", "bedrock", "custom"}
}

// checkAPIKey accepts what an upstream of the type can be sent. The value is never shown, only
// which character is wrong.
func checkAPIKey(errs *FieldErrors, typ string, secret Secret) {
	k := secret.Reveal()
	if len(k) > maxAPIKey || !utf8.ValidString(k) {
		errs.add("api_key", "must be at most %d bytes of UTF-8", maxAPIKey)
		return
	}
	if i := strings.IndexByte(k, 0); i >= 0 {
		errs.add("api_key", "must not hold NUL, as byte %d is", i+1)
		return
	}
	if strings.HasPrefix(k, sealedPrefix) { // balancers without sync keys would take it for a sealed text
		errs.add("api_key", "must not begin with enc:v1:, which marks a sealed text; send the credential itself")
		return
	}
	wrong := unsendable(k)
	switch {
	case wrong == "":
	case !slices.Contains(documentTypes(), typ):
		errs.add("api_key", "must hold printable ASCII only, because it is sent in a header (%s)", wrong)
	case !isJSONObject(k) && !isPEM(k):
		errs.add("api_key", "must hold printable ASCII only (%s), unless it is one JSON object, or whole blocks of PEM "+
			"without headers", wrong)
	}
}

// unsendable says which character of a text is the first that no header can carry, and where.
func unsendable(k string) string {
	n := 0
	for _, r := range k {
		n++
		if r < ' ' || r > '~' {
			return fmt.Sprintf("U+%04X, character %d", r, n)
		}
	}
	return ""
}

func isJSONObject(k string) bool { return strings.HasPrefix(k, "{") && json.Valid([]byte(k)) }

// isPEM reports whether a text is PEM blocks from the first to the last character.
func isPEM(k string) bool {
	rest := []byte(k)
	for strings.HasPrefix(string(rest), "-----BEGIN ") {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || len(block.Headers) > 0 {
			return false
		}
		rest = []byte(strings.TrimSpace(string(rest)))
	}
	return len(k) > 0 && len(rest) == 0
}
