package storagetest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// healthShared takes all writers for one.
func healthShared(s *fakeSink) {
	keep := s.keep
	s.keep = func(ctx context.Context, before time.Time, notes ...logbuf.HealthNote) error {
		for i := range notes {
			notes[i].Writer = uuid.Nil
		}
		return keep(ctx, before, notes...)
	}
}

func healthKept(s *fakeSink) {
	keep := s.keep
	s.keep = func(ctx context.Context, _ time.Time, notes ...logbuf.HealthNote) error {
		return keep(ctx, time.Time{}, notes...)
	}
}

func healthOfAll(s *fakeSink) {
	notes := s.notes
	s.notes = func(ctx context.Context, _ time.Time) ([]logbuf.HealthNote, error) { return notes(ctx, time.Time{}) }
}

func healthBusy(s *fakeSink) {
	keep := s.keep
	var busy atomic.Bool
	s.keep = func(ctx context.Context, before time.Time, notes ...logbuf.HealthNote) error {
		if !busy.CompareAndSwap(false, true) {
			return errors.New("another writer is at it")
		}
		defer busy.Store(false)
		time.Sleep(time.Millisecond)
		return keep(ctx, before, notes...)
	}
}
