package catalog

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Credential is what identifies the holder of a key, or an operator: tokens, of which the catalog
// keeps only the hashes.
type Credential struct {
	TokenHint string    `json:"token_hint,omitempty" readOnly:"true" doc:"The last four characters of the token. One that was imported by its hash has none."`
	RotatedAt time.Time `json:"rotated_at,omitzero" readOnly:"true" doc:"When the present token was made by rotation."`

	// Token is set in what Create and Rotate return, and may be given to
	// Create to import one. It is never stored.
	Token Secret `json:"-"`
	// Tokens are the hashes by which the holder is found. Given to Create, they are
	// imported; else they are the catalog's own business.
	Tokens []TokenHash `json:"-"`
}

// TokenHash is one of the tokens of a holder.
type TokenHash struct {
	Hash      string    `json:"hash"`                // see HashToken
	ExpiresAt time.Time `json:"expires_at,omitzero"` // end of the grace of a rotated token; zero is a current one
}

// Valid reports whether the token may be used at a time.
func (t TokenHash) Valid(now time.Time) bool { return t.ExpiresAt.IsZero() || t.ExpiresAt.After(now) }

const (
	maxTokenHashes = 4
	minToken       = 16 // characters of an imported token
	maxToken       = 256
)

// holder is a record that is known by tokens.
type holder interface {
	record
	credential() *Credential
	newToken() Secret
}

var (
	_ holder = (*Key)(nil)
	_ holder = (*Operator)(nil)
)

func (c *Credential) credential() *Credential { return c }

// begin gives a new holder its tokens: those that it brings, or a fresh one.
func (c *Credential) begin(fresh func() Secret) (errs FieldErrors) {
	c.RotatedAt = time.Time{}
	switch token := c.Token.Reveal(); {
	case token != "" && len(c.Tokens) > 0:
		errs.add("token_hashes", "must not come together with token")
	case token != "":
		if len(token) < minToken || len(token) > maxToken || strings.ContainsFunc(token,
			func(r rune) bool { return r <= ' ' || r > '~' }) {
			errs.add("token", "must be %d to %d printable ASCII characters without spaces", minToken, maxToken)
		}
		c.setToken(c.Token)
	case len(c.Tokens) > 0:
		c.TokenHint = ""
		checkTokenHashes(&errs, c.Tokens)
	default:
		c.setToken(fresh())
	}
	return errs
}

// keep gives a holder that is changed the credential that it has. Tokens that were sent and that
// it does not have are refused: whoever has them could not use them.
func (c *Credential) keep(stored Credential) (errs FieldErrors) {
	const remedy = "because the stored ones stay; rotate it to make a new one"
	if token := c.Token.Reveal(); token != "" && !slices.Contains(stored.Tokens, TokenHash{Hash: HashToken(token)}) {
		errs.add("token", "must be a current token or be left out, %s", remedy)
	}
	for i, t := range c.Tokens {
		if !slices.Contains(stored.Tokens, t) {
			errs.add(elementPath("token_hashes", i), "must be the hash of a current token or be left out, %s", remedy)
		}
	}
	*c, c.Token = stored, Secret{}
	return errs
}

func (c *Credential) setToken(token Secret) {
	c.Token, c.TokenHint = token, token.Hint()
	c.Tokens = append(c.Tokens, TokenHash{Hash: HashToken(token.Reveal())})
}

// rotate replaces the token. Current ones live on for grace; those that an earlier
// rotation had left end now.
func (c *Credential) rotate(token Secret, now time.Time, grace time.Duration) {
	var kept []TokenHash
	for _, t := range c.Tokens {
		if t.ExpiresAt.IsZero() && grace > 0 {
			t.ExpiresAt = micros(now.Add(grace))
			kept = append(kept, t)
		}
	}
	c.Tokens, c.RotatedAt = kept, now
	c.setToken(token)
}

// expire removes the tokens whose grace is over.
func (c *Credential) expire(now time.Time) {
	c.Tokens = slices.DeleteFunc(c.Tokens, func(t TokenHash) bool { return !t.Valid(now) })
}

// index returns the hashes of an entity, and when the first of them ends.
func (c *Credential) index() (hashes []string, due time.Time) {
	for _, t := range c.Tokens {
		hashes = append(hashes, t.Hash)
		if !t.ExpiresAt.IsZero() && (due.IsZero() || t.ExpiresAt.Before(due)) {
			due = t.ExpiresAt
		}
	}
	return hashes, due
}

// hashes returns the sorted hashes.
func (c *Credential) hashes() []string {
	hashes, _ := c.index()
	slices.Sort(hashes)
	return hashes
}

// state tells credentials apart that look the same.
func (c *Credential) state() string {
	text, _ := json.Marshal(c.Tokens) // strings and times always marshal
	return string(text)
}

// receiveTokens takes the members of an object with which a new holder imports tokens.
func (c *Credential) receiveTokens(errs *FieldErrors, object map[string]any) {
	if token, ok := object["token"]; ok {
		assign(errs, "token", reflect.ValueOf(&c.Token).Elem(), token)
		if token == "" {
			errs.add("token", "must not be empty; leave it out to have one made")
		}
		delete(object, "token")
	}
	if list, ok := object["token_hashes"]; ok {
		var hashes []string
		assign(errs, "token_hashes", reflect.ValueOf(&hashes).Elem(), list)
		for _, h := range hashes {
			c.Tokens = append(c.Tokens, TokenHash{Hash: h})
		}
		delete(object, "token_hashes")
	}
}

var hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func checkTokenHashes(errs *FieldErrors, tokens []TokenHash) {
	if len(tokens) > maxTokenHashes {
		errs.add("token_hashes", "must have at most %d elements", maxTokenHashes)
	}
	hashes := make([]string, len(tokens))
	for i, t := range tokens {
		hashes[i] = t.Hash
	}
	checkList(errs, "token_hashes", hashes, func(errs *FieldErrors, field, v string) {
		if !hashForm.MatchString(v) {
			errs.add(field, "must be a SHA-256 in 64 lower-case hexadecimal characters")
		}
	})
}
