package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A caller waits for its commit for confirmWithin, and confirmWrite more for each write. Then it is
// told that the outcome is not known. A database whose synchronous standby is gone, for example,
// confirms nothing until the standby is back.
const (
	confirmWithin = 25 * time.Second
	confirmWrite  = time.Millisecond
)

// commits are those that the store works at.
type commits struct {
	mu     sync.Mutex
	begun  map[*time.Time]struct{}
	failed error // what the last one met, where that is the store's fault
	at     time.Time
}

// begin notes a commit, until done is called.
func (c *commits) begin() (done func()) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun == nil {
		c.begun = make(map[*time.Time]struct{})
	}
	c.begun[&now] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.begun, &now)
	}
}

// oldest returns how long the store has worked at the oldest; 0 when there is none.
func (c *commits) oldest() (age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for begun := range c.begun {
		age = max(age, time.Since(*begun))
	}
	return age
}

// note keeps what the last commit met, which a store that has judged it is not to blame for.
func (c *commits) note(err error) {
	judged := false
	for _, verdict := range []error{ErrConflict, ErrExists, ErrReferenced, ErrInvalid, ErrNotFound} {
		judged = judged || errors.Is(err, verdict)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil || judged:
		c.failed = nil
	case !errors.Is(err, context.Canceled) && !errors.Is(err, ErrClosed):
		c.failed, c.at = err, time.Now()
	}
}

// failsFor is how long after a write that failed nobody knows whether another one would.
const failsFor = 10 * time.Minute

// CommitStatus says how the store gets on with what is written.
type CommitStatus struct {
	// Oldest is how long the store has worked on the oldest commit that is under way; 0 when there
	// is none. Commits whose callers got [ErrUnconfirmed] count, too.
	Oldest time.Duration
	// LastError is what the last commit failed with, where that was the store's fault, within the last ten
	// minutes. Empty once one works.
	LastError string
}

// CommitStatus returns how the store gets on with what is written through the tables.
func (t *Tables) CommitStatus() CommitStatus {
	c := &t.core.commits
	s := CommitStatus{Oldest: c.oldest()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil && time.Since(c.at) < failsFor {
		s.LastError = c.failed.Error()
	}
	return s
}

// A verdict is what the store says of a commit.
type verdict struct {
	revision Revision
	err      error
	panicked any
}

// Commit passes a commit to the store without the checks of the tables; see [Store]. When that
// takes longer than 25 seconds plus a millisecond for each write, it returns [ErrUnconfirmed] and
// lets the store go on: cancelling a commit that waits for a synchronous standby would leave it
// done, but not replicated.
func (t *Tables) Commit(ctx context.Context, c Commit) (Revision, error) {
	return t.core.confirm(ctx, c)
}

func (c *core) confirm(ctx context.Context, commit Commit) (Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	attached := context.AfterFunc(ctx, cancel)
	done := c.commits.begin()
	told := make(chan verdict, 1)
	go func() {
		var v verdict
		defer func() {
			// Whoever made the commit shall meet it, as if there were no goroutine.
			if v.panicked = recover(); v.panicked != nil {
				v.err = fmt.Errorf("the store has panicked: %v", v.panicked)
			}
			cancel()
			done()
			c.commits.note(v.err)
			told <- v
		}()
		v.revision, v.err = c.store.Commit(working, commit)
	}()
	late := time.NewTimer(confirmWithin + time.Duration(len(commit.Writes))*confirmWrite)
	defer late.Stop()
	select {
	case v := <-told:
		return v.of(ctx)
	case <-late.C:
	}
	if !attached() { // the store has been told to give up, and says what became of it
		return (<-told).of(ctx)
	}
	select {
	case v := <-told: // at the last moment
		return v.of(ctx)
	default:
	}
	c.commits.note(ErrUnconfirmed)
	go c.logOutcome(context.WithoutCancel(ctx), commit, told)
	return 0, ErrUnconfirmed
}

// logOutcome tells the log what became of a commit whose caller has gone without knowing.
func (c *core) logOutcome(ctx context.Context, commit Commit, told <-chan verdict) {
	v := <-told
	log := c.logger.With("actor", commit.Actor, "writes", len(commit.Writes), "begun", commit.Time)
	if v.err != nil {
		log.ErrorContext(ctx, "catalog: a write that was answered as unconfirmed has failed", "error", v.err)
		return
	}
	log.WarnContext(ctx, "catalog: a write that was answered as unconfirmed is done", "revision", v.revision)
}

// of returns what the store says, with the end of the caller's context in the place of that of its own.
func (v verdict) of(ctx context.Context) (Revision, error) {
	if v.panicked != nil {
		panic(v.panicked)
	}
	if ended := ctx.Err(); ended != nil && errors.Is(v.err, context.Canceled) {
		return 0, ended
	}
	return v.revision, v.err
}
