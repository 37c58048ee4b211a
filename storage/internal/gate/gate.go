// Package gate keeps queries from taking all connections of a database.
package gate

import (
	"context"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	// At most so many queries wait, each at most so long.
	waiting = 64
	patient = 10 * time.Second
)

// A Gate lets some through at once, and lets some others wait.
type Gate struct {
	inside chan struct{}
	queue  chan struct{}
	wait   time.Duration
}

// New makes a gate for so many at once.
func New(size int) *Gate {
	return &Gate{inside: make(chan struct{}, max(1, size)), queue: make(chan struct{}, waiting), wait: patient}
}

// Enter returns once a query may begin, or an error that wraps [logbuf.ErrTooManyQueries] or is the context's.
// Call Leave when it has ended.
func (g *Gate) Enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case g.inside <- struct{}{}:
		return nil
	default:
	}
	select {
	case g.queue <- struct{}{}:
		defer func() { <-g.queue }()
	default:
		return logbuf.ErrTooManyQueries
	}
	late := time.NewTimer(g.wait)
	defer late.Stop()
	select {
	case g.inside <- struct{}{}:
		return nil
	case <-late.C:
		return logbuf.ErrTooManyQueries
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Leave lets the next in.
func (g *Gate) Leave() { <-g.inside }
