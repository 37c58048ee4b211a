package catalog

import (
	"context"
	"slices"
)

type reservedKey struct{}

// WithReservedTokens returns a context whose writes refuse a new token, with a [FieldError], when
// reserved returns true for its hash, see [HashToken]. Reserved tokens have rights elsewhere, such
// as those in the server's settings: a key or an operator with the same token would have these
// rights, too. reserved may be called several times for one token.
func WithReservedTokens(ctx context.Context, reserved func(hash string) bool) context.Context {
	return context.WithValue(ctx, reservedKey{}, reserved)
}

// checkReserved refuses to give anybody a token that is reserved.
func (tx *txn) checkReserved(ctx context.Context) error {
	reserved, ok := ctx.Value(reservedKey{}).(func(string) bool)
	if !ok {
		return nil
	}
	for _, w := range tx.writes {
		if w == nil {
			continue
		}
		h, ok := w.after.(holder)
		if !ok {
			continue
		}
		var before []string // it keeps what it had
		if had, ok := w.before.(holder); ok {
			before, _ = had.credential().index()
		}
		field := "token_hashes"
		if !h.credential().Token.isAbsent() {
			field = "token"
		}
		if slices.ContainsFunc(w.Entity.Hashes, func(hash string) bool {
			return !slices.Contains(before, hash) && reserved(hash)
		}) {
			return &FieldError{Field: tx.fieldOf(h, field),
				Message: "is one by which the server itself knows somebody; take another one, or leave it out to have one made"}
		}
	}
	return nil
}
