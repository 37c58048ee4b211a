package catalog

import (
	"context"
	"fmt"
	"time"
)

// MaxGrace is the longest that a rotated token may live on.
const MaxGrace = 30 * 24 * time.Hour

// Keys is the table of client keys.
type Keys struct{ Table[Key] }

// Rotate gives the key with the id a new token, which is in the Token of what
// it returns and nowhere else. The tokens that were current stay valid for
// grace (0 to MaxGrace); those that an earlier rotation left end at once. If match is not 0, the
// key must be at that revision, else the error wraps ErrConflict.
func (k Keys) Rotate(ctx context.Context, id int64, grace time.Duration, match Revision) (Key, error) {
	if grace < 0 || grace > MaxGrace {
		return Key{}, &FieldError{Field: "grace_seconds", Message: fmt.Sprintf("must be 0 to %d",
			int64(MaxGrace/time.Second))}
	}
	return k.Edit(ctx, id, func(key *Key) error {
		if err := matches(match, key.Revision); err != nil {
			return err
		}
		key.rotate(k.core.now(), grace)
		return nil
	})
}

// Authenticate returns the key that a token belongs to now, whatever the key's
// own status, or ErrNotFound. It reads the store: balancers ask their snapshot instead.
func (k Keys) Authenticate(ctx context.Context, token Secret) (Key, error) {
	hash := HashToken(token.Reveal())
	key, err := k.Find(ctx, ByHash, hash)
	if err != nil {
		return Key{}, err
	}
	for _, t := range key.Tokens {
		if t.Hash == hash && (t.ExpiresAt.IsZero() || t.ExpiresAt.After(k.core.now())) {
			return key, nil
		}
	}
	return Key{}, fmt.Errorf("the token's grace is over: %w", ErrNotFound)
}
