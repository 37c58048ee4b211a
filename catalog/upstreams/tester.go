package upstreams

import (
	"context"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// A Directory reads providers, with their secrets; see [catalog.Table].
type Directory interface {
	Get(ctx context.Context, id int64) (catalog.Provider, error)
}

// A Tester asks providers on demand: each five times at once and once more each 6 s, and at most four at the
// same time. It is safe for concurrent use.
type Tester struct {
	providers Directory
	privacy   catalog.Privacy
	limit     limit
}

// NewTester returns a tester of some providers, which may be at the addresses that privacy says.
func NewTester(providers Directory, privacy catalog.Privacy) *Tester {
	return &Tester{providers: providers, privacy: privacy}
}

// Test asks the provider with the id for its models, or for one token of chat, as [Ask] does. The error wraps
// catalog.ErrNotFound, ErrUntestable or ErrTooSoon; that the provider fails is no error.
func (t *Tester) Test(ctx context.Context, id int64, kind Kind, model string) (Result, error) {
	provider, err := t.providers.Get(ctx, id)
	if err != nil {
		return Result{}, err
	}
	leave, err := t.limit.enter(id, time.Now())
	if err != nil {
		return Result{}, err
	}
	defer leave()
	return Ask(ctx, &provider, kind, model, t.privacy)
}
