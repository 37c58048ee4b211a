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
	return rotate(ctx, k.Table, id, grace, match)
}

// Authenticate returns the key that a token belongs to; ErrNotFound when there is none, or when the
// grace of the token is over. It checks neither the key's Status nor its ExpiresAt. It reads
// the store: balancers use their snapshot instead.
func (k Keys) Authenticate(ctx context.Context, token Secret) (Key, error) {
	return authenticate(ctx, k.Table, token)
}

// Operators is the table of those who use the API.
type Operators struct{ Table[Operator] }

// Rotate gives the operator with the id a new token, as [Keys.Rotate] does for a key.
func (o Operators) Rotate(ctx context.Context, id int64, grace time.Duration, match Revision) (Operator, error) {
	return rotate(ctx, o.Table, id, grace, match)
}

// Authenticate returns the operator that a token belongs to; ErrNotFound when there is none, or
// when the grace of the token is over. It checks neither the operator's Status nor its ExpiresAt.
// It reads the store; [OperatorList.Authenticate] checks both, and does not read the store.
func (o Operators) Authenticate(ctx context.Context, token Secret) (Operator, error) {
	return authenticate(ctx, o.Table, token)
}

func rotate[T Noun](ctx context.Context, t Table[T], id int64, grace time.Duration, match Revision) (T, error) {
	if grace < 0 || grace > MaxGrace {
		return *new(T), &FieldError{Field: "grace_seconds", Message: fmt.Sprintf("must be 0 to %d",
			int64(MaxGrace/time.Second))}
	}
	return t.Edit(ctx, id, func(v *T) error {
		h := any(v).(holder)
		if err := matches(match, h.meta().Revision); err != nil {
			return err
		}
		h.credential().rotate(h.newToken(), t.core.now(), grace)
		return nil
	})
}

func authenticate[T Noun](ctx context.Context, t Table[T], token Secret) (T, error) {
	hash := HashToken(token.Reveal())
	v, err := t.Find(ctx, ByHash, hash)
	if err != nil {
		return v, err
	}
	if t.Meta(v).Damaged {
		return *new(T), fmt.Errorf("the %s is damaged: %w", t.Kind().Noun(), ErrNotFound)
	}
	for _, known := range any(&v).(holder).credential().Tokens {
		if known.Hash == hash && known.Valid(t.core.now()) {
			return v, nil
		}
	}
	return *new(T), fmt.Errorf("the token's grace is over: %w", ErrNotFound)
}
