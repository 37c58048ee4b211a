package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// again says when an operation may be sent again.
type again int

const (
	// againUndone: only when it was surely not done. It creates something, or has a
	// precondition that does not hold any more once it was done.
	againUndone again = iota
	// againAlways: doing it twice is as good as once.
	againAlways
	// againOrGone: as againAlways, and the second time there may be nothing left.
	againOrGone
	// againAndGone: the second time of againOrGone. That nothing is left is fine.
	againAndGone
)

const maxPause = 30 * time.Second

// pause says how long to wait before the next try, and whether there is one.
func (c *Client) pause(op call, err error, try int) (time.Duration, bool) {
	if try >= c.opts.Tries || !c.mayTryAgain(op, err) {
		return 0, false
	}
	longest := c.opts.Backoff << min(try-1, 10)
	wait := longest/2 + rand.N(longest/2+1)
	if e, ok := errors.AsType[*Error](err); ok {
		wait = max(wait, e.RetryAfter)
	}
	return min(wait, maxPause), true
}

func (c *Client) mayTryAgain(op call, err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if errors.Is(err, catalog.ErrUnconfirmed) { // it may be under way, and another try would only meet it
		return false
	}
	e, answered := errors.AsType[*Error](err)
	switch {
	case answered && e.Status == http.StatusTooManyRequests: // it was refused before it was looked at
		return true
	case answered:
		return op.again != againUndone && (e.Status == http.StatusServiceUnavailable || e.Status == http.StatusBadGateway ||
			e.Status == http.StatusGatewayTimeout)
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" { // it was never sent
		return true
	}
	return op.again != againUndone
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
