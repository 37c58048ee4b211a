package snapshot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

const (
	relayInterval = 2 * time.Second  // longest without a look, jitter aside; half of it after a failure
	maxRetrying   = 10 * time.Second // how long a pass is tried again because somebody else was faster
)

// RelayOptions are the settings of [NewRelay].
type RelayOptions struct {
	Keys   *Keys            // seal and sign; defaults to none
	Logger *slog.Logger     // defaults to slog.Default()
	Clock  func() time.Time // defaults to time.Now
}

// Relay publishes a catalog: it looks at what is published, verifies it, renders what has
// changed since, and applies that. What it signs comes from its own rendering of the catalog,
// which it keeps in memory; Redis tells it what to do next, and never what is true. Any
// number of relays may serve one catalog; where two race, one wins and the
// other looks again. A Relay is safe for concurrent use.
type Relay struct {
	tables *catalog.Tables
	pub    Publisher
	keys   *Keys
	log    *slog.Logger
	clock  func() time.Time
	fleet  *Fleet
	id     string        // of its leases
	scrubs chan struct{} // asks for a scrub now

	turn chan struct{} // holds a token while no pass is under way

	// Guarded by turn.
	rendering *rendering
	known     Head      // the last that was published or found good
	watched   watched   // of a head that does not fit
	limiter   limiter   // of new epochs
	reported  Position  // the furthest that live data planes vouch for, when it is ahead
	quiet     quietness // what a beat may say
	suspects  []docName // documents that are not as they should be
	refused   *Base     // the head in whose place the guard has refused to publish

	current atomic.Pointer[rendering] // the rendering, for those without the turn

	mu     sync.Mutex
	status RelayStatus
}

// NewRelay returns a relay from the tables to the publisher. Nil opts are the
// defaults.
func NewRelay(tables *catalog.Tables, pub Publisher, opts *RelayOptions) *Relay {
	if opts == nil {
		opts = &RelayOptions{}
	}
	r := &Relay{
		tables: tables, pub: pub, keys: opts.Keys, log: opts.Logger, clock: opts.Clock,
		id: rand.Text(), turn: make(chan struct{}, 1), scrubs: make(chan struct{}, 1),
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	if r.clock == nil {
		r.clock = time.Now
	}
	r.fleet = NewFleet(pub, opts.Keys)
	r.turn <- struct{}{}
	return r
}

// Fleet returns what is known of the data planes.
func (r *Relay) Fleet() *Fleet { return r.fleet }

// Run publishes every change until ctx ends, and returns nil then. A commit in
// this process wakes it at once; a jittered timer of 2 s makes certain that
// nothing is missed. What is published is reread all the time, and mended
// where it is damaged. Failures are logged and tried again.
func (r *Relay) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { r.scrubAlways(ctx) })
	background.Go(func() { r.heedAlways(ctx) })
	defer background.Wait()
	defer stop()
	for ctx.Err() == nil {
		head, err := r.Sync(ctx)
		if errors.Is(err, catalog.ErrClosed) && ctx.Err() == nil {
			return err
		}
		after, longest := head.Position.Revision, relayInterval
		if err != nil {
			after, longest = 1<<63-1, relayInterval/2 // nothing but time helps
			r.missBeat(ctx, err)
		} else {
			r.beat(ctx)
		}
		r.rest(ctx, after, longest)
	}
	return nil
}

// rest waits for a revision after the given one, or until about the longest time is over.
func (r *Relay) rest(ctx context.Context, after catalog.Revision, longest time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, between(longest*3/4, longest*5/4))
	defer cancel()
	if _, err := r.tables.Store().Wait(ctx, after); err != nil {
		<-ctx.Done()
	}
}

// Sync publishes now what the catalog holds and returns the published head.
func (r *Relay) Sync(ctx context.Context) (Head, error) {
	return r.exclusively(ctx, r.passes)
}

// passes makes a pass, and another one while somebody else was faster.
func (r *Relay) passes(ctx context.Context) (head Head, err error) {
	for start := time.Now(); ; {
		head, err = r.pass(ctx)
		if !errors.Is(err, ErrStale) || ctx.Err() != nil || time.Since(start) > maxRetrying {
			return head, err
		}
		pause := mathrand.N(5 * time.Millisecond) // whoever was faster deserves a moment
		if errors.Is(err, ErrBusy) {
			pause = 20*time.Millisecond + mathrand.N(40*time.Millisecond)
		}
		rest(ctx, pause)
	}
}

// explained asks the publisher why it refuses writes, because the error of the refused write may
// not name the right that is missing.
func (r *Relay) explained(ctx context.Context, err error) error {
	if c, ok := r.pub.(Checker); ok && errors.Is(err, ErrRefused) {
		if why := c.Check(ctx); errors.Is(why, ErrRefused) {
			return fmt.Errorf("publish: %w", why)
		}
	}
	return err
}

// exclusively runs one thing at a time, and notes what came of it.
func (r *Relay) exclusively(ctx context.Context, do func(context.Context) (Head, error)) (Head, error) {
	select {
	case <-ctx.Done():
		return Head{}, ctx.Err()
	case <-r.turn:
	}
	defer func() { r.turn <- struct{}{} }()
	head, err := do(ctx)
	err = r.explained(ctx, err)
	r.note(ctx, head, err)
	return head, err
}

// rest waits, and reports whether ctx goes on.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// lease reports whether this relay has a lease; where leases cannot be had, it does.
func (r *Relay) lease(ctx context.Context, name string, ttl time.Duration) bool {
	leaser, ok := r.pub.(Leaser)
	if !ok {
		return true
	}
	held, err := leaser.Lease(ctx, name, r.id, ttl)
	return held || err != nil
}
