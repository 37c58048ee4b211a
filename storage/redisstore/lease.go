package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

var _ snapshot.Leaser = (*Publisher)(nil)

// keyLease begins the names of leases, which are strings with a TTL: the holder's name.
const keyLease = "lease:"

// Lease implements [snapshot.Leaser].
func (p *Publisher) Lease(
	ctx context.Context,
	name, holder string,
	ttl time.Duration,
) (held bool, err error) {
	if name == "" || holder == "" || len(holder) > 255 || ttl < 0 || ttl > time.Minute {
		return false, fmt.Errorf(
			"redisstore: lease: it needs a name, a holder, and up to a minute: %w",
			catalog.ErrInvalid,
		)
	}
	n, err := leaseScript.Run(ctx, p.client, p.keys(keyLease+name), holder, ttl.Milliseconds()).Int()
	return n == 1, wrap("lease", err)
}
