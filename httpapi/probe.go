package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// checkTimeout is how long a check may take.
const checkTimeout = 2 * time.Second

var errSlowCheck = errors.New("the check has no answer within " + checkTimeout.String())

// probe is a check, of which one call runs at a time: everybody may ask, and one that does not
// heed its context must not pile up. It is safe for concurrent use.
type probe struct {
	name  string
	check Check
	log   *slog.Logger

	mu      sync.Mutex
	running *probing // nil while no call is running
	failed  bool     // when it was asked last
}

// probing is one call of a check, and what came of it once done is closed.
type probing struct {
	done chan struct{}
	note string
	err  error
}

// ask calls the check, or waits for the call that is running, but never longer than a check may take.
func (p *probe) ask(ctx context.Context) condition {
	r := p.start(ctx)
	timeout := time.NewTimer(checkTimeout)
	defer timeout.Stop()
	note, err := "", errSlowCheck
	select {
	case <-r.done:
		note, err = r.note, r.err
	case <-timeout.C:
	case <-ctx.Done():
		return condition{Status: "failed"} // nobody is there to hear it
	}
	p.noted(ctx, err)
	if err != nil {
		return condition{Status: "failed", Note: note}
	}
	return condition{Status: "ok", Note: note}
}

// start returns the call that is running, or a new one. It does not end with the request that has
// begun it, because others may wait for it too.
func (p *probe) start(ctx context.Context) *probing {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		return p.running
	}
	r := &probing{done: make(chan struct{})}
	p.running = r
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
		defer cancel()
		r.note, r.err = p.call(ctx)
		p.mu.Lock()
		p.running = nil
		p.mu.Unlock()
		close(r.done)
	}()
	return r
}

// call calls the check. Its panic is a failure. The panic's value may be anything, a secret too:
// only its place is in the error.
func (p *probe) call(ctx context.Context) (note string, err error) {
	defer func() {
		if recover() != nil {
			note, err = "", fmt.Errorf("the check panicked: %s", stack())
		}
	}()
	return p.check(ctx)
}

// noted logs when something stops or starts to work.
func (p *probe) noted(ctx context.Context, err error) {
	p.mu.Lock()
	before := p.failed
	p.failed = err != nil
	p.mu.Unlock()
	switch {
	case err != nil && !before:
		p.log.WarnContext(ctx, "a readiness check fails", "check", p.name, "error", err)
	case err == nil && before:
		p.log.InfoContext(ctx, "a readiness check passes again", "check", p.name)
	}
}
