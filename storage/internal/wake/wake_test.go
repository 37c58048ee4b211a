package wake_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/internal/wake"
)

// store is a head that others move: only read sees it.
type store struct{ revision, reads atomic.Int64 }

func (s *store) read(context.Context) (catalog.Revision, error) {
	s.reads.Add(1)
	return catalog.Revision(s.revision.Load()), nil
}

func TestWait(t *testing.T) {
	const poll = 2 * time.Second
	failed := errors.New("no connection")
	for name, tt := range map[string]struct {
		during func(h *wake.Head, s *store, end context.CancelFunc, closed chan struct{})
		fail   error
		want   catalog.Revision
		err    error
		atMost time.Duration
	}{
		"raised": {during: func(h *wake.Head, _ *store, _ context.CancelFunc,
			_ chan struct{}) {
			h.Raise(6)
		}, want: 6},
		"raised too little": {during: func(h *wake.Head, s *store, _ context.CancelFunc,
			_ chan struct{}) {
			h.Raise(5)
			s.revision.Store(7)
		}, want: 7, atMost: poll * 5 / 4},
		"moved by others": {during: func(_ *wake.Head, s *store, _ context.CancelFunc,
			_ chan struct{}) {
			s.revision.Store(9)
		}, want: 9, atMost: poll * 5 / 4},
		"context ended": {during: func(_ *wake.Head, _ *store, end context.CancelFunc,
			_ chan struct{}) {
			end()
		}, err: context.Canceled},
		"store closed": {during: func(_ *wake.Head, _ *store, _ context.CancelFunc,
			c chan struct{}) {
			close(c)
		}, err: catalog.ErrClosed},
		"store out of reach": {fail: failed, err: failed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var h wake.Head
				var s store
				s.revision.Store(5)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				closed := make(chan struct{})
				if tt.during != nil {
					go func() {
						synctest.Wait() // until Wait has looked once, and blocks
						tt.during(&h, &s, cancel, closed)
					}()
				}

				start := time.Now()
				got, err := h.Wait(ctx, closed, 5, poll, func(ctx context.Context) (catalog.Revision, error) {
					if tt.fail != nil {
						return 0, tt.fail
					}
					return s.read(ctx)
				})
				if got != tt.want || !errors.Is(err, tt.err) {
					t.Errorf("got %d, %v; want %d, %v", got, err, tt.want, tt.err)
				}
				if took := time.Since(start); took > tt.atMost {
					t.Errorf("took %v; want at most %v", took, tt.atMost)
				}
			})
		})
	}
}

// What is known needs no read; what is not known yet needs one, and no timer.
func TestWaitLooksFirst(t *testing.T) {
	var h wake.Head
	var s store
	s.revision.Store(3)
	for after, reads := range []int64{1, 1, 1} {
		got, err := h.Wait(t.Context(), nil, catalog.Revision(after), time.Hour, s.read)
		if err != nil || got != 3 {
			t.Errorf("after %d: %d, %v; want 3", after, got, err)
		}
		if n := s.reads.Load(); n != reads {
			t.Errorf("after %d: %d reads so far; want %d", after, n, reads)
		}
	}
}

func TestSeen(t *testing.T) {
	for name, tt := range map[string]struct {
		raised, known, seen, want catalog.Revision
	}{
		"newer":                          {raised: 5, known: 5, seen: 6, want: 6},
		"the same":                       {raised: 5, known: 5, seen: 5, want: 5},
		"older: the store went back":     {raised: 5, known: 5, seen: 2, want: 2},
		"older than what came meanwhile": {raised: 7, known: 5, seen: 6, want: 7},
		"went back, but moved meanwhile": {raised: 7, known: 5, seen: 2, want: 7},
	} {
		t.Run(name, func(t *testing.T) {
			var h wake.Head
			h.Raise(tt.raised)
			h.Seen(tt.seen, tt.known)
			if got := h.Revision(); got != tt.want {
				t.Errorf("known is %d; want %d", got, tt.want)
			}
		})
	}
}
