package memstore

import (
	"context"
	"fmt"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

var _ snapshot.Leaser = (*Publisher)(nil)

// lease is who has one, and until when.
type lease struct {
	holder string
	until  time.Time
}

// Lease implements [snapshot.Leaser].
func (p *Publisher) Lease(
	ctx context.Context,
	name, holder string,
	ttl time.Duration,
) (held bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if name == "" || holder == "" || ttl < 0 || ttl > time.Minute {
		return false, fmt.Errorf(
			"memstore: lease: it needs a name, a holder, and up to a minute: %w",
			catalog.ErrInvalid,
		)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	l, there := p.leases[name]
	if ttl == 0 {
		if l.holder == holder {
			delete(p.leases, name)
		}
		return false, nil
	}
	if there && l.holder != holder && l.until.After(now) && !l.until.After(now.Add(ttl)) {
		return false, nil
	}
	p.leases[name] = lease{holder, now.Add(ttl)}
	return true, nil
}
