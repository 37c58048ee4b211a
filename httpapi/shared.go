package httpapi

import (
	"context"
	"sync"
	"time"
)

const (
	pollEvery   = 20 * time.Millisecond // at the most, while somebody waits
	pollTimeout = 10 * time.Second      // of one reading
)

// shared reads something again and again for everybody who waits for it, and does
// nothing while nobody does: fifty that wait cost as many readings as one. It is safe for
// concurrent use.
type shared[T any] struct {
	read func(context.Context) (T, error)
	life context.Context // ends readings when the server shuts down

	mu       sync.Mutex
	waiting  int
	stop     context.CancelFunc // of the run; nil while nobody waits
	upcoming *round[T]          // the reading that has not begun
}

// round is one reading, and what came of it once done is closed.
type round[T any] struct {
	done  chan struct{}
	value T
	err   error
}

func newShared[T any](life context.Context, read func(context.Context) (T, error)) *shared[T] {
	return &shared[T]{read: read, life: life}
}

// await calls accept with one reading after the other until it returns true, and reports
// whether it did before ctx ended. Readings begin after await was called. A slow reading
// makes the pauses between readings longer.
func (s *shared[T]) await(ctx context.Context, accept func(T, error) bool) bool {
	if ctx.Err() != nil {
		return false
	}
	r := s.enter()
	defer s.leave()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-r.done:
			if accept(r.value, r.err) {
				return true
			}
		}
		r = s.next()
	}
}

// enter begins the run with the first who waits, and returns the next reading.
func (s *shared[T]) enter() *round[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting++
	if s.stop == nil {
		var ctx context.Context
		ctx, s.stop = context.WithCancel(s.life)
		s.upcoming = newRound[T]()
		go s.run(ctx)
	}
	return s.upcoming
}

// leave ends the run with the last who waits.
func (s *shared[T]) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting--; s.waiting == 0 {
		s.stop()
		s.stop = nil
	}
}

func (s *shared[T]) next() *round[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upcoming
}

func newRound[T any]() *round[T] { return &round[T]{done: make(chan struct{})} }

// begin returns the reading that is to be made now, and lets those who come wait for the
// one after it. It returns nil when the run is over: another may have begun.
func (s *shared[T]) begin(ctx context.Context) *round[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	r := s.upcoming
	s.upcoming = newRound[T]()
	return r
}

func (s *shared[T]) run(ctx context.Context) {
	for r := s.begin(ctx); r != nil; r = s.begin(ctx) {
		start := time.Now()
		reading, cancel := context.WithTimeout(ctx, pollTimeout)
		r.value, r.err = s.read(reading)
		cancel()
		close(r.done)
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(pollEvery, 4*time.Since(start))):
		}
	}
}
