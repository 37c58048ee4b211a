package memstore

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// KeepHealth stores notes; see [logbuf.HealthKeeper].
func (s *Sink) KeepHealth(ctx context.Context, before time.Time, notes ...logbuf.HealthNote) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health = slices.DeleteFunc(s.health, func(n logbuf.HealthNote) bool { return n.Slot.Before(before) })
	for _, n := range notes {
		if n.Slot.Before(before) {
			continue
		}
		n.Slot, n.Body = n.Slot.UTC(), bytes.Clone(n.Body)
		if i := slices.IndexFunc(s.health, func(kept logbuf.HealthNote) bool {
			return kept.Writer == n.Writer && kept.Slot.Equal(n.Slot)
		}); i >= 0 {
			s.health[i] = n
		} else {
			s.health = append(s.health, n)
		}
	}
	return nil
}

// HealthNotes returns notes; see [logbuf.HealthKeeper].
func (s *Sink) HealthNotes(ctx context.Context, since time.Time) (notes []logbuf.HealthNote, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, n := range s.health {
		if !n.Slot.Before(since) {
			n.Body = bytes.Clone(n.Body)
			notes = append(notes, n)
		}
	}
	return notes, ctx.Err()
}
