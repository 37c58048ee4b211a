// Package claim makes sure that a log store belongs to the catalog whose logs come.
package claim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// lasts is how long an answer is taken for true. The store may be handed over to another catalog meanwhile.
const lasts = time.Minute

var errNameless = errors.New("the catalog that owns the logs has no name")

// A Claim is that of one process. It is safe for concurrent use.
type Claim struct {
	owner func(context.Context) (string, error)

	mu    sync.Mutex
	name  string // of the catalog, once it is known
	until time.Time
}

// New returns a claim for the catalog that owner names. With nil the store is anybody's.
func New(owner func(context.Context) (string, error)) *Claim { return &Claim{owner: owner} }

// Check returns nil where the store is this catalog's. It asks now and then: ask makes it the catalog's where
// it is nobody's, and returns whose it is.
//
// An error wraps logbuf.ErrForeign and logbuf.ErrPaused where it is another's, and logbuf.ErrUnavailable where it is
// not known which catalog this is.
func (c *Claim) Check(ctx context.Context, ask func(ctx context.Context, catalog string) (string, error)) error {
	if c.owner == nil {
		return nil
	}
	c.mu.Lock()
	name, until := c.name, c.until
	c.mu.Unlock()
	now := time.Now()
	if now.Before(until) {
		return nil
	}
	if name == "" {
		var err error
		if name, err = c.owner(ctx); err != nil {
			return fmt.Errorf("%w: it is not known yet which catalog this is: %w", logbuf.ErrUnavailable, err)
		}
		if name == "" {
			return errNameless
		}
		c.mu.Lock()
		c.name = name
		c.mu.Unlock()
	}
	theirs, err := ask(ctx, name)
	if err != nil {
		return err
	}
	if theirs == "" { // what was just written is not read yet
		return fmt.Errorf("%w: the log store does not say whose it is", logbuf.ErrUnavailable)
	}
	if theirs != name {
		return fmt.Errorf("%w: %w: it is that of the catalog %.64q, and this is %s; name another log store, or hand this "+
			"one over: stop the servers of that catalog, and empty its table log_owner",
			logbuf.ErrPaused, logbuf.ErrForeign, theirs, name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = now.Add(lasts)
	return nil
}
