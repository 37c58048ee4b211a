package snapshot

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
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

	// MaxStale is the longest that no control plane has confirmed what is served; after
	// that the View refuses everything with ErrOutdated, until one does again. It is
	// measured between this machine's clock and the last [Beat] whose position
	// the View has reached, see there. A watcher that starts without a file
	// takes nothing that is older. It should exceed the failover time of Redis by 15 s, because
	// beats are written every 5 s and asked for every 5 s.
	// Defaults to 0: what was loaded is served for ever.
	MaxStale time.Duration

	// File is where the last good snapshot is kept, so that a data plane
	// starts while the source is down, and never goes back to what is older than
	// that. Secrets in it stay sealed. It belongs to one process at a time.
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

// Watcher follows a [Source] and keeps the latest good View of it. It goes on
// serving what it has while the source is down, damaged or empty: a missing
// head is never an empty catalog. It never goes back: what it serves only moves
// on to later positions. A Watcher is safe for concurrent use.
//
// What it does at a time is its [Phase].
type Watcher struct {
	src    Source
	opts   WatcherOptions
	log    *slog.Logger
	id     string
	phases phases
	keeper *keeper // nil without a file

	view     atomic.Pointer[View]
	outdated *View // served instead when no control plane was heard of for too long
	beats    beats
	ready    chan struct{} // closed when there is a view
	news     chan struct{} // asks for a report soon
	running  atomic.Bool

	mu        sync.Mutex
	status    WatcherStatus
	strikes   int    // how often in turn something was damaged
	live      int    // nodes, as the last answer to a report said
	interrupt func() // ends the Next under way with the cause ErrUntold
}

// WatcherStatus says how a watcher is doing.
type WatcherStatus struct {
	Node        string    // the id under which it reports
	Phase       Phase     // what it is doing
	Position    Position  // of the View; zero before the first
	HeardAt     time.Time // when the source last confirmed that the View is current; zero for never
	BeatAt      time.Time // until when the View has all that was committed, see [Beat]; zero when not known
	Outdated    bool      // BeatAt is further away than MaxStale: everything is refused
	Loads       int64     // whole snapshots applied
	Deltas      int64     // deltas applied
	Refused     int64     // whole snapshots and deltas that were not taken
	Error       string    // the last problem; empty when it is over
	ReportError string    // why the last report did not arrive; empty when it did
	FileError   string    // why the file is not up to date; empty when it is
}

// NewWatcher returns a watcher of the source, which does nothing before Run.
// Nil opts are the defaults.
func NewWatcher(src Source, opts *WatcherOptions) *Watcher {
	if opts == nil {
		opts = &WatcherOptions{}
	}
	w := &Watcher{
		src: src, opts: *opts, log: opts.Logger, phases: newPhases(),
		ready: make(chan struct{}), news: make(chan struct{}, 1), outdated: emptyView(opts.Rand),
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	host, _ := os.Hostname()
	w.id = plainText(cmp.Or(opts.Name, host, "balancer"))
	w.id = w.id[:min(len(w.id), maxNodeName)] + "-" + randomHex()
	w.outdated.refusal = ErrOutdated
	w.status.Phase = PhaseStarting
	w.beats.keys, w.beats.maxStale = opts.Keys, opts.MaxStale
	w.beats.at.Store(never)
	w.view.Store(emptyView(opts.Rand))
	if opts.File != "" {
		w.keeper = newKeeper(opts.File, src, opts.Keys, w.log)
		w.keeper.serving, w.keeper.admit = w.view.Load, w.admit
	}
	return w
}

// maxNodeName leaves room for the random part of an id.
const maxNodeName = 180

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
	if v.refusal == "" && w.beats.stale() {
		return w.outdated
	}
	return v
}

// Status returns how the watcher is doing.
func (w *Watcher) Status() WatcherStatus {
	v := w.view.Load()
	w.mu.Lock()
	s := w.status
	w.mu.Unlock()
	s.Node, s.Position = w.id, v.head.Position
	s.Outdated, s.BeatAt = w.beats.stale(), w.beats.time()
	if w.keeper != nil {
		s.FileError = w.keeper.problem()
	}
	return s
}

// Run follows the source until ctx ends, and returns nil then. Whatever goes
// wrong is logged, shown by Status, reported to the source, and tried again. At
// its end it takes its report away. Run must not run twice at once.
func (w *Watcher) Run(ctx context.Context) error {
	if !w.running.CompareAndSwap(false, true) {
		return fmt.Errorf("this watcher is running already: %w", catalog.ErrInvalid)
	}
	defer w.running.Store(false)
	ctx, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	defer others.Wait()
	defer stop()
	w.setPhase(PhaseStarting)
	if w.keeper != nil {
		w.restore(ctx)
		others.Go(func() { w.keeper.run(ctx) })
	}
	others.Go(func() { w.report(ctx) })
	w.follow(ctx)
	return nil
}

func (w *Watcher) setPhase(p Phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Phase = p
}

// restore serves what is in the file, until the source has something newer.
func (w *Watcher) restore(ctx context.Context) {
	now := w.view.Load()
	v, beat, err := w.keeper.restore(now)
	if err != nil {
		w.log.WarnContext(ctx, "the last known good snapshot cannot be used", "error", err)
	}
	if v == nil || now.refusal == "" && !v.head.Position.After(now.head.Position) {
		return
	}
	w.beats.learn(beat, v.head)
	w.log.InfoContext(ctx, "serving the last known good snapshot",
		"position", v.head.Position.String(), "confirmed", w.beats.time())
	w.serve(v, func(*WatcherStatus) {})
}

// serve makes v the current view.
func (w *Watcher) serve(v *View, count func(*WatcherStatus)) {
	w.beats.reach(v.head)
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
	w.reportSoon()
}

func (w *Watcher) reportSoon() {
	select {
	case w.news <- struct{}{}:
	default: // asked for already
	}
}

// current notes that the source has confirmed a position just now.
func (w *Watcher) current(at Position) {
	w.mu.Lock()
	before := w.status.Error
	w.status.Error, w.strikes, w.status.HeardAt = "", 0, time.Now()
	w.mu.Unlock()
	if before != "" {
		w.log.Info("snapshot is followed again", "position", at.String())
	}
}

// fail notes a problem. Once is not worth a report when something is damaged:
// it may have been caught half-way.
func (w *Watcher) fail(ctx context.Context, err error) {
	text := plainText(err.Error())
	if errors.Is(err, ErrCorrupt) {
		text = damagedPrefix + text
	}
	w.mu.Lock()
	before := w.status.Error
	w.status.Error = text
	if refused(err) {
		w.status.Refused++
		w.strikes++
	}
	strikes := w.strikes
	w.mu.Unlock()
	if text != before {
		w.log.WarnContext(ctx, "snapshot is not followed; what was loaded goes on being served", "error", err)
	}
	if strikes == 2 {
		w.reportSoon()
	}
}

// problem returns what to report as this node's error.
func (w *Watcher) problem() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.strikes == 1 {
		return ""
	}
	return w.status.Error
}
