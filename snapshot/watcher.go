//go:build !noWatcher

package snapshot

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	randv2 "math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// WatcherOptions are the settings of [NewWatcher].
type WatcherOptions struct {
	// Keys open and verify what control planes published with the same keys.
	// A Watcher with keys refuses what is not signed. Defaults to none.
	Keys *Keys

	// Name tells this data plane from others where operators look; a random
	// part is added in each process. Defaults to the host name.
	Name string

	// Version of the program, for operators. Defaults to "".
	Version string

	// MaxStale is the longest without word from the source; after that the
	// View refuses everything with ErrOutdated, until there is word again. Defaults to
	// 0: what was loaded is served for ever.
	MaxStale time.Duration

	// File is where the last good snapshot is kept, so that a data plane
	// starts while the source is down. Secrets in it stay sealed. It belongs to one process at a time.
	// Defaults to none.
	File string

	// OnApply is called with each View as soon as it is served, in order, by
	// the goroutine that follows the source. Defaults to nothing.
	OnApply func(*View)

	// Rand draws numbers in [0, 1), for routing. It is called concurrently.
	// Defaults to math/rand/v2.Float64.
	Rand func() float64

	// Logger gets what an operator should know; never a secret. Defaults to
	// slog.Default().
	Logger *slog.Logger
}

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// Watcher follows a [Source] and keeps the latest good View of it. It goes on
// serving what it has while the source is down, damaged or empty: a missing
// head is never an empty catalog. A Watcher is safe for concurrent use.
type Watcher struct {
	src    Source
	opts   WatcherOptions
	log    *slog.Logger
	id     string
	period time.Duration // of heartbeats

	view     atomic.Pointer[View]
	outdated *View         // served instead when there was no word for too long
	start    time.Time     // what heard counts from
	heard    atomic.Int64  // nanoseconds; when the source last confirmed the view
	ready    chan struct{} // closed when there is a view
	applied  chan struct{} // asks for a report soon
	running  atomic.Bool
	keeper   *keeper // nil without a file

	mu        sync.Mutex
	status    WatcherStatus
	strikes   int
	interrupt context.CancelFunc // ends the Next under way
}

// WatcherStatus says how a watcher is doing.
type WatcherStatus struct {
	Node     string   // the id under which it reports
	Position Position // of the View; zero before the first
	Digest   Digest
	HeardAt  time.Time // when the source last confirmed that the View is current; zero for never
	Outdated bool      // MaxStale has passed since
	Loads    int64     // whole snapshots applied
	Deltas   int64     // deltas applied
	Refused  int64     // whole snapshots and deltas that were not good
	Error    string    // the last problem; empty when it is over
}

// NewWatcher returns a watcher of the source, which does nothing before Run.
// Nil opts are the defaults.
func NewWatcher(src Source, opts *WatcherOptions) *Watcher {
	if opts == nil {
		opts = &WatcherOptions{}
	}
	w := &Watcher{
		src: src, opts: *opts, log: opts.Logger, start: time.Now(),
		ready: make(chan struct{}), applied: make(chan struct{}, 1), outdated: emptyView(opts.Rand),
		period: heartbeat,
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	if w.opts.MaxStale > 0 {
		w.period = min(heartbeat, w.opts.MaxStale/3)
	}
	host, _ := os.Hostname()
	w.id = cmp.Or(opts.Name, host, "balancer") + "-" + randomHex()
	w.outdated.refusal = ErrOutdated
	w.heard.Store(never)
	w.view.Store(emptyView(opts.Rand))
	if opts.File != "" {
		w.keeper = newKeeper(opts.File, src, opts.Keys, w.log)
	}
	return w
}

// never is before anything that heard can be.
const never = -1 << 62

func randomHex() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand.Read
	return hex.EncodeToString(b[:])
}

// Ready returns a channel that is closed as soon as there is a View to serve
// from.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// View returns the current view. It takes no lock. It is never nil: before the
// first load, and when MaxStale has passed, it is one that refuses everything. A request
// should ask for it once, so that all it looks up is of one position.
func (w *Watcher) View() *View {
	v := w.view.Load()
	if w.stale() && v.refusal == "" {
		return w.outdated
	}
	return v
}

func (w *Watcher) stale() bool {
	return w.opts.MaxStale > 0 && time.Since(w.start)-time.Duration(w.heard.Load()) > w.opts.MaxStale
}

// Status returns how the watcher is doing.
func (w *Watcher) Status() WatcherStatus {
	v := w.view.Load()
	w.mu.Lock()
	s := w.status
	w.mu.Unlock()
	s.Node, s.Position, s.Digest, s.Outdated = w.id, v.head.Position, v.head.Digest, w.stale()
	if at := w.heard.Load(); at != never {
		s.HeardAt = w.start.Add(time.Duration(at))
	}
	return s
}

// Run follows the source until ctx ends, and returns nil then. Whatever goes
// wrong is logged, shown by Status, reported to the source, and tried again. Run must not run
// twice at once.
func (w *Watcher) Run(ctx context.Context) error {
	if !w.running.CompareAndSwap(false, true) {
		return fmt.Errorf("this watcher is running already: %w", catalog.ErrInvalid)
	}
	defer w.running.Store(false)
	ctx, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	defer others.Wait()
	defer stop()
	if w.keeper != nil {
		w.restore(ctx)
		others.Go(func() { w.keeper.run(ctx) })
	}
	others.Go(func() { w.beat(ctx) })
	w.follow(ctx)
	return nil
}

// restore serves what is in the file, until the source has something newer.
func (w *Watcher) restore(ctx context.Context) {
	now := w.view.Load()
	v, confirmed := w.keeper.restore(ctx, now)
	if v == nil || now.refusal == "" && !v.head.Position.After(now.head.Position) {
		return
	}
	w.heard.Store(max(w.heard.Load(), int64(confirmed.Sub(w.start))))
	w.log.InfoContext(ctx, "serving the last known good snapshot", "position", v.head.Position.String(), "confirmed", confirmed)
	w.serve(v, func(*WatcherStatus) {})
}

// follow loads, and then applies delta by delta.
func (w *Watcher) follow(ctx context.Context) {
	whole := w.view.Load().refusal != ""
	failures, lastFailure := 0, time.Time{}
	for {
		step := w.next
		if whole {
			step = w.load
		}
		err := step(ctx)
		gap := errors.Is(err, ErrGap)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			whole = false
			continue
		case gap: // happens, and loading cures it
			whole = true
		default:
			w.fail(ctx, err)
			whole = whole && !w.blank(err) || damaged(err)
		}
		if time.Since(lastFailure) > 2*maxBackoff {
			failures = 0
		}
		if lastFailure = time.Now(); failures > 0 || !gap {
			sleep(ctx, backoff(failures))
		}
		failures++
	}
}

// blank reports whether nothing was ever published: then Next waits for it.
func (w *Watcher) blank(err error) bool {
	return errors.Is(err, ErrNone) && w.view.Load().refusal != ""
}

// damaged reports whether an error lies in what is published and not in
// reaching it.
func damaged(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, catalog.ErrSealed)
}

// errRefused says that what is published is not followed, though nothing is
// wrong with it in itself.
var errRefused = errors.New("refused")

// load replaces the view by the whole snapshot.
func (w *Watcher) load(ctx context.Context) error {
	now := w.view.Load()
	head, err := w.src.Head(ctx)
	if err != nil {
		return err
	}
	if head.Position == now.head.Position && head.Digest == now.head.Digest && now.refusal == "" {
		w.current(head.Position)
		return nil
	}
	// Before the whole is fetched for nothing:
	if err := w.admit(now, head); err != nil {
		return err
	}
	s, err := w.src.Load(ctx)
	if err != nil {
		return err
	}
	if err := w.admit(now, s.Head); err != nil {
		return err
	}
	v, err := now.load(s, w.opts.Keys)
	if err != nil {
		return err
	}
	w.current(v.head.Position)
	w.serve(v, func(s *WatcherStatus) { s.Loads++ })
	if w.keeper != nil {
		w.keeper.applied(s, nil)
	}
	return nil
}

// admit checks whether a whole snapshot may follow the view.
func (w *Watcher) admit(now *View, head Head) error {
	if err := w.opts.Keys.Verify(head); err != nil {
		return err
	}
	if now.refusal != "" {
		return nil
	}
	switch at := now.head.Position; {
	case head.Position == at:
		return fmt.Errorf("what is published at %s is not what was published there before: %w", at, ErrCorrupt)
	case !head.Position.After(at):
		return fmt.Errorf("what is published is at %s, before what is served, %s: %w", head.Position, at, errRefused)
	case head.Counts.total() == 0 && now.head.Counts.total() > 0 && !head.Forced:
		return fmt.Errorf("what is published at %s is empty, and nobody forced that: %w", head.Position, errRefused)
	}
	return nil
}

// next waits for a delta and applies it.
func (w *Watcher) next(ctx context.Context) error {
	now := w.view.Load()
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	w.interrupt = cancel
	w.mu.Unlock()

	d, err := w.src.Next(waiting, now.head.Position)
	switch {
	case err != nil && waiting.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("the source is elsewhere and sends nothing: %w", ErrGap)
	case err != nil:
		return err
	case now.refusal != "":
		return fmt.Errorf("something was published: %w", ErrGap)
	}
	v, err := now.apply(d, w.opts.Keys)
	if err != nil {
		return err
	}
	w.current(v.head.Position)
	w.serve(v, func(s *WatcherStatus) { s.Deltas++ })
	if w.keeper != nil {
		w.keeper.applied(nil, &d)
	}
	return nil
}

// serve makes v the current view.
func (w *Watcher) serve(v *View, count func(*WatcherStatus)) {
	first := w.view.Swap(v).refusal != ""
	w.mu.Lock()
	count(&w.status)
	w.mu.Unlock()
	if first {
		close(w.ready)
	}
	if w.opts.OnApply != nil {
		w.opts.OnApply(v)
	}
	select {
	case w.applied <- struct{}{}:
	default: // asked for already
	}
}

// current notes that the source has confirmed a position just now.
func (w *Watcher) current(at Position) {
	w.heard.Store(int64(time.Since(w.start)))
	w.mu.Lock()
	before := w.status.Error
	w.status.Error, w.strikes = "", 0
	w.mu.Unlock()
	if before != "" {
		w.log.Info("snapshot is followed again", "position", at.String())
	}
}

// fail notes a problem. Once is not worth a report when something is damaged:
// it may have been caught half-way.
func (w *Watcher) fail(ctx context.Context, err error) {
	text := err.Error()
	if errors.Is(err, ErrCorrupt) {
		text = damagedPrefix + text
	}
	w.mu.Lock()
	before := w.status.Error
	w.status.Error = text
	if damaged(err) {
		w.status.Refused++
		w.strikes++
	}
	strikes := w.strikes
	w.mu.Unlock()
	if text != before {
		w.log.WarnContext(ctx, "snapshot is not followed; what was loaded goes on being served", "error", err)
	}
	if strikes == 2 {
		select {
		case w.applied <- struct{}{}:
		default:
		}
	}
}

// backoff returns how long to wait after so many failures, with jitter.
func backoff(failures int) time.Duration {
	d := min(minBackoff<<min(failures, 10), maxBackoff)
	return d/2 + randv2.N(d/2)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
