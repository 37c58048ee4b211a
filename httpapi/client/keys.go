package client

import (
	"context"
	"net/http"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Keys are the client keys.
type Keys struct{ Nouns[catalog.Key] }

// Rotate gives the key with the id a new token, which is in the Token of what it returns
// and nowhere else. The tokens that were current stay valid for grace, in whole seconds.
// A lost answer is not asked for again: the token in it would be lost all the same.
func (k Keys) Rotate(ctx context.Context, id int64, grace time.Duration, opts ...WriteOption) (catalog.Key, error) {
	v, _, err := k.rotate(ctx, id, grace, opts)
	return v.noun, err
}

// Operators are those who use the API.
type Operators struct{ Nouns[catalog.Operator] }

// Rotate gives the operator with the id a new token, as [Keys.Rotate] does for a key.
func (o Operators) Rotate(ctx context.Context, id int64, grace time.Duration,
	opts ...WriteOption) (catalog.Operator, error) {
	v, _, err := o.rotate(ctx, id, grace, opts)
	return v.noun, err
}

// Lookup returns the key that a token belongs to, or an error that matches
// catalog.ErrNotFound. Only the hash of the token is sent.
func (k Keys) Lookup(ctx context.Context, token catalog.Secret) (catalog.Key, error) {
	body := struct {
		Hash string `json:"hash"`
	}{catalog.HashToken(token.Reveal())}
	v, _, err := k.one(ctx, call{method: http.MethodPost, path: "keys/lookup", body: body, again: againAlways}, nil)
	return v.noun, err
}
