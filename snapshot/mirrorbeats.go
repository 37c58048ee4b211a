package snapshot

import (
	"context"
	"slices"
	"time"
)

const (
	// passBeatInterval is the time from one look at the source's beat to the next.
	passBeatInterval = time.Second

	// maxBeatsWaiting is how many beats wait for the region to reach their positions.
	maxBeatsWaiting = 4
)

// passBeats passes the source's beats on, each when the region has reached its position.
func (m *Mirror) passBeats(ctx context.Context) {
	var seen Beat
	var waiting waitingBeats
	for rest(ctx, between(passBeatInterval/2, passBeatInterval*3/2)) {
		beat, err := m.src.LastBeat(ctx)
		m.mu.Lock()
		at := m.at
		m.mu.Unlock()
		if err == nil && !beat.At.IsZero() && !beat.Equal(seen) {
			seen = beat
			if m.keys.Active() == "" || m.keys.VerifyBeat(beat) == nil {
				m.noteBeat(time.Now())
				waiting.add(beat)
			}
		}
		reached, n := waiting.reached(at)
		if err == nil && n > 0 {
			if err = m.dst.SetBeat(ctx, reached); err == nil {
				waiting = waiting[n:]
				m.mu.Lock()
				m.status.BeatAt = reached.At
				m.mu.Unlock()
			}
		}
		if err != nil && ctx.Err() == nil {
			m.log.DebugContext(ctx, "the beat could not be passed on", "error", err)
		}
	}
}

// noteBeat notes that a control plane of the source is alive.
func (m *Mirror) noteBeat(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beatCame = now
}

// waitingBeats are the beats that the region has not reached, in the order in which they came.
type waitingBeats []Beat

// add adds one. Where there are too many, the one furthest ahead goes: it may be a forgery that
// nothing will ever reach.
func (w *waitingBeats) add(b Beat) {
	*w = append(*w, b)
	if len(*w) <= maxBeatsWaiting {
		return
	}
	furthest := 0
	for i, b := range *w {
		if b.Position.After((*w)[furthest].Position) {
			furthest = i
		}
	}
	*w = slices.Delete(*w, furthest, furthest+1)
}

// reached returns the last beat whose position a region at a head has reached, and how many are
// done with then; 0 for none. Beats of another catalog go.
func (w *waitingBeats) reached(at Head) (b Beat, n int) {
	if at.Store == "" {
		return Beat{}, 0
	}
	*w = slices.DeleteFunc(*w, func(b Beat) bool { return b.Store != at.Store })
	for i, beat := range *w {
		if !beat.Position.After(at.Position) {
			b, n = beat, i+1
		}
	}
	return b, n
}
