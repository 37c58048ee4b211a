package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// MirrorOptions are the settings of [NewMirror].
type MirrorOptions struct {
	// Keys verify heads, digests and beats before they are passed on. Defaults to none:
	// counts alone are checked then, and readers still verify all.
	Keys *Keys

	// Logger gets what an operator should know. Defaults to slog.Default().
	Logger *slog.Logger
}

// Mirror copies what a [Source] has to another [Publisher], unchanged: the same bytes at the same
// positions, with the same signatures. So a region needs one stream from the origin, whatever its
// number of data planes. The Mirror repairs what is damaged in the region. It passes the reports of
// the region's data planes on to the source, so that the origin knows what was applied everywhere,
// and the beats of the origin on to the region.
//
// It never goes back: while the source is before what the region has, it waits.
// A Mirror holds no secrets and needs no keys. It is safe for concurrent use.
type Mirror struct {
	src     Source
	dst     Publisher
	keys    *Keys
	log     *slog.Logger
	running atomic.Bool
	scrubs  chan struct{} // asks for a scrub at once
	writing sync.Mutex    // held while a delta or a repair is written
	untold  Position      // where it was not told of the delta after it, and has asked anew; for step alone
	misfit  Position      // where a delta could not be carried, so that the whole was; for step alone

	mu        sync.Mutex
	at        Head                    // that the region has by this mirror; the zero Head when it is not known
	held      *carried                // documents of at; nil when it is not known
	interrupt context.CancelCauseFunc // ends the Next under way
	beatCame  time.Time               // when the source's beat was last a new one
	doubted   doubt
	status    MirrorStatus
}

// MirrorStatus says how a mirror is doing.
type MirrorStatus struct {
	Position    Position  // that the region has; zero while it is not known
	HeardAt     time.Time // when the source last gave an answer
	BeatAt      time.Time // of the last beat that was passed on
	Wholes      int64     // published as a whole
	Deltas      int64     // published as deltas
	Repaired    int64     // documents of the region that were put right
	Nodes       int       // of the region that were heard of within Liveness
	Reports     int64     // that were passed on
	Error       string    // why the region is not up to date; empty when it is
	ReportError string    // why reports or beats are not passed on; empty when they are
}

// NewMirror returns a mirror from src to dst, which does nothing before Run. Nil
// opts are the defaults.
func NewMirror(src Source, dst Publisher, opts *MirrorOptions) *Mirror {
	if opts == nil {
		opts = &MirrorOptions{}
	}
	m := &Mirror{src: src, dst: dst, keys: opts.Keys, log: opts.Logger, scrubs: make(chan struct{}, 1)}
	if m.log == nil {
		m.log = slog.Default()
	}
	return m
}

// Status returns how the mirror is doing.
func (m *Mirror) Status() MirrorStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Position = m.at.Position
	return s
}

// Run carries until ctx ends, and returns nil then. Whatever goes wrong is
// logged, shown by Status, and tried again. Run must not run twice at once.
func (m *Mirror) Run(ctx context.Context) error {
	if !m.running.CompareAndSwap(false, true) {
		return fmt.Errorf("this mirror is running already: %w", catalog.ErrInvalid)
	}
	defer m.running.Store(false)
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { m.watch(ctx, errElsewhere, m.regionMoved) })
	others.Go(func() { m.watch(ctx, ErrUntold, m.sourceMoved) })
	others.Go(func() { m.scrubAlways(ctx) })
	others.Go(func() { m.passBeats(ctx) })
	others.Go(func() { m.passReports(ctx) })
	var pause pause
	for ctx.Err() == nil {
		err := m.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		m.note(ctx, err)
		if err != nil {
			rest(ctx, pause.after(time.Now(), awayBackoff))
		}
	}
	return nil
}

// note shows a problem, and logs when it begins, changes and ends.
func (m *Mirror) note(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = plainText(err.Error())
	}
	m.mu.Lock()
	before := m.status.Error
	m.status.Error = text
	if err == nil {
		m.status.HeardAt = time.Now()
	}
	at := m.at.Position
	m.mu.Unlock()
	switch {
	case text == before:
	case text == "":
		m.log.InfoContext(ctx, "the region is up to date again", "position", at.String())
	default:
		m.log.WarnContext(ctx, "the region is not up to date; it goes on with what it has", "error", err)
	}
}

// step carries one delta, or the whole where that is needed.
func (m *Mirror) step(ctx context.Context) error {
	at, known := m.own()
	if !known {
		return m.carryWhole(ctx)
	}
	d, err := m.next(ctx, at)
	switch {
	case errors.Is(err, ErrUntold) && m.untold != at.Position:
		m.untold = at.Position
		return nil
	case errors.Is(err, ErrUntold), errors.Is(err, errElsewhere), errors.Is(err, ErrGap):
		return m.carryWhole(ctx)
	case err != nil:
		return err
	}
	err = m.carry(ctx, at, d)
	moved := errors.Is(err, ErrStale) && !errors.Is(err, ErrBusy)
	if !moved && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
		return err
	}
	if m.misfit == at.Position { // the whole does not lead past that delta, unless the source has moved
		if head, headErr := m.src.Head(ctx); headErr != nil || head.Position == at.Position {
			return err
		}
	}
	m.misfit = at.Position
	m.log.DebugContext(ctx, "a delta could not be carried, so the whole is", "error", err)
	return m.carryWhole(ctx)
}

// errElsewhere says that the region's head is not what the mirror has put there.
var errElsewhere = errors.New("the region's head was changed")

// next waits for a delta, until it is interrupted, whose cause it returns then.
func (m *Mirror) next(ctx context.Context, at Head) (Delta, error) {
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m.setInterrupt(cancel)
	defer m.setInterrupt(nil)
	d, err := m.src.Next(waiting, at.Position)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return Delta{}, context.Cause(waiting)
	}
	return d, err
}

func (m *Mirror) setInterrupt(cancel context.CancelCauseFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.interrupt = cancel
}

// carry publishes a delta in the region.
func (m *Mirror) carry(ctx context.Context, at Head, d Delta) error {
	switch {
	case d.From != at.Position || d.Head.Store != at.Store || d.Head.Seal != at.Seal:
		return fmt.Errorf("the delta from %s does not continue %s: %w", d.From, at.Position, ErrCorrupt)
	case !d.Head.Position.After(d.From):
		return fmt.Errorf("the delta from %s leads to %s: %w", d.From, d.Head.Position, ErrCorrupt)
	}
	if err := m.verify(d.Head); err != nil {
		return err
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	if m.held == nil { // the scrub has found too much
		m.mu.Unlock()
		return ErrStale
	}
	m.held.take(d.Changes)
	err := m.held.fits(d.Head)
	m.mu.Unlock()
	if err == nil {
		err = m.dst.Apply(ctx, at.Base(), d)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.held = nil // what the region has is not known
		return err
	}
	m.at = d.Head
	m.status.Deltas++
	return nil
}

// verify checks what can be told of a head.
func (m *Mirror) verify(h Head) error {
	if err := checkFormat(h); err != nil {
		return err
	}
	if m.keys.Active() == "" {
		return nil // no keys: readers verify
	}
	return m.keys.VerifyHead(h)
}

// watchInterval is the time from one look at a head to the next.
const watchInterval = 2 * time.Second

// watch ends a Next under way with a cause when something has moved twice while the mirror has not.
func (m *Mirror) watch(ctx context.Context, cause error, moved func(context.Context) (from Head, yes bool)) {
	var missed Position // where the mirror was the first time
	for rest(ctx, between(watchInterval*9/10, watchInterval*11/10)) {
		from, yes := moved(ctx)
		switch {
		case !yes:
			missed = Position{}
		case missed != from.Position:
			missed = from.Position
		default:
			missed = Position{}
			m.mu.Lock()
			if m.interrupt != nil {
				m.interrupt(cause)
			}
			m.mu.Unlock()
		}
	}
}

// regionMoved reports whether the region's head is not the mirror's, which it returns.
func (m *Mirror) regionMoved(ctx context.Context) (own Head, moved bool) {
	head, err := m.dst.Head(ctx)
	own, known := m.own()
	unreachable := err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrCorrupt)
	return own, known && !unreachable && !(err == nil && head.Equal(own))
}

// sourceMoved reports whether the source's head is good and after the mirror's, which it returns. It is told of
// that by Next, unless what that waits on is dead.
func (m *Mirror) sourceMoved(ctx context.Context) (own Head, moved bool) {
	head, err := m.src.Head(ctx)
	own, known := m.own()
	return own, known && err == nil && head.Position.After(own.Position) && m.verify(head) == nil
}

// own returns the head that the mirror has put in the region, and whether it is known.
func (m *Mirror) own() (Head, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at, m.held != nil
}
