package snapshot

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// errRefused says that what is published is not followed, though nothing is
	// wrong with it in itself.
	errRefused = errors.New("refused")

	// errUnchanged says that what is published is served already.
	errUnchanged = errors.New("unchanged")
)

// admit checks whether the whole under a head, whose signature was verified, may follow the view.
func (w *Watcher) admit(now *View, head Head) error {
	if now.refusal != "" {
		return w.beats.confirms(head)
	}
	switch at := now.head.Position; {
	case head.Equal(now.head):
		return errUnchanged
	case head.Store != now.head.Store && !head.Forced:
		return fmt.Errorf("what is published at %s is another catalog's, and nobody forced that: %w", head.Position,
			errRefused)
	case head.Position == at:
		return fmt.Errorf("what is published at %s is not what was published there before: %w", at, ErrCorrupt)
	case !head.Position.After(at):
		return fmt.Errorf("what is published is at %s, before what is served, %s: %w", head.Position, at, errRefused)
	case known(head.Counts) == 0 && known(now.head.Counts) > 0 && !head.Forced:
		return fmt.Errorf("what is published at %s is empty, and nobody forced that: %w", head.Position, errRefused)
	}
	return nil
}

// known returns the number of documents of kinds that this version reads.
func known(c Counts) (n int) {
	for _, kind := range Kinds() {
		n += c[kind]
	}
	return n
}

const (
	// never is before any time of a beat.
	never = -1 << 63

	// maxBeatsAhead bounds the beats that wait for their position: as many as come in
	// five minutes.
	maxBeatsAhead = 60
)

// beats keeps until when control planes have confirmed what a View shows: the
// greatest time of a verified beat whose position is not after the View's own.
type beats struct {
	keys     *Keys
	maxStale time.Duration // 0: never stale
	at       atomic.Int64  // unix nanoseconds of last, or never

	mu    sync.Mutex
	last  Beat   // that counts
	ahead []Beat // verified, of later positions, in the order in which they came
}

// learn takes a beat that was read. One that is not of the head's catalog, or not
// signed as it has to be, is ignored. The zero Head is that of a view that was not loaded yet.
func (b *beats) learn(beat Beat, own Head) {
	if beat.At.IsZero() || own.Store != "" && beat.Store != own.Store || b.keys.VerifyBeat(beat) != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if beat.Position.After(own.Position) {
		if n := len(b.ahead); n == maxBeatsAhead || n > 0 && b.ahead[n-1].Position == beat.Position {
			b.ahead = b.ahead[:n-1] // the newest is always kept
		}
		b.ahead = append(b.ahead, beat)
		return
	}
	b.count(beat)
}

// count is called with mu held.
func (b *beats) count(beat Beat) {
	if b.last.At.IsZero() || beat.At.After(b.last.At) {
		b.last = beat
		b.at.Store(beat.At.UnixNano())
	}
}

// reach is called before a head is served: beats of its position and before count from now on.
func (b *beats) reach(head Head) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.Store != head.Store {
		b.last = Beat{}
		b.at.Store(never)
	}
	var ahead []Beat
	for _, beat := range b.ahead {
		switch {
		case beat.Store != head.Store:
		case beat.Position.After(head.Position):
			ahead = append(ahead, beat)
		default:
			b.count(beat)
		}
	}
	b.ahead = ahead
}

// confirms returns an error that wraps errRefused when what is under the head is older than
// maxStale, as far as is known.
func (b *beats) confirms(head Head) error {
	if b.maxStale <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, beat := range append(b.ahead, b.last) {
		if beat.Store == head.Store && !beat.Position.After(head.Position) && !b.far(beat.At.UnixNano()) {
			return nil
		}
	}
	return fmt.Errorf("no control plane has confirmed within %s what is published at %s: %w", b.maxStale,
		head.Position, errRefused)
}

// stale reports whether too long ago control planes were last heard of.
func (b *beats) stale() bool { return b.maxStale > 0 && b.far(b.at.Load()) }

// far reports whether a time is further away than maxStale, either way.
func (b *beats) far(at int64) bool {
	now := time.Now().UnixNano()
	// Differences do not overflow: the first test keeps them small.
	return at == never || at < now-int64(b.maxStale) || at > now+int64(b.maxStale)
}

// time returns until when what is served was confirmed; zero when that is not known.
func (b *beats) time() time.Time {
	if at := b.at.Load(); at != never {
		return time.Unix(0, at).UTC()
	}
	return time.Time{}
}

// latest returns the beat that counts.
func (b *beats) latest() Beat {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}
