// Package room shares a bounded amount of memory among requests. Those that wait for a slow client
// give way when others need the memory.
package room

import (
	"errors"
	"sync"
	"time"
)

// A request that waits for its client keeps its memory for patience after it began to wait. Each
// byte that moves buys the time that it takes at slowest, up to patience again. A request that has
// no time left gives way when others need the memory.
const (
	Patience = 5 * time.Second
	slowest  = 64 << 10 // bytes a second
)

var (
	// ErrFull says that there is no memory left, and nobody who gives way.
	ErrFull = errors.New("no room is left")

	// ErrGaveWay says that the request was given up, because its client was slow and others needed
	// the memory.
	ErrGaveWay = errors.New("the client was slow, and others needed the room")
)

// Room is the memory. It is safe for concurrent use.
type Room struct {
	size int64 // in bytes

	// mu guards what follows, and the fields of each share that say so: any request may make
	// another give way.
	mu      sync.Mutex
	held    int64               // bytes of all shares
	waiting map[*Share]struct{} // those that wait for their clients
}

// New returns a room of so many bytes.
func New(size int64) *Room { return &Room{size: size, waiting: map[*Share]struct{}{}} }

// A Share is what one request holds. Its methods are for one goroutine.
type Share struct {
	room     *Room
	deadline func(time.Time) error

	held    int64     // guarded by Room.mu
	until   time.Time // until when it need not give way; guarded by Room.mu
	gaveWay bool      // guarded by Room.mu
}

// Enter begins a share. deadline sets the time after which reading from the client, or writing to
// it, fails: a share gives way when it is set to the present. Where it returns an error, the share
// never gives way. Leave has to be called.
func (r *Room) Enter(deadline func(time.Time) error) *Share {
	return &Share{room: r, deadline: deadline}
}

// Leave gives everything back.
func (s *Share) Leave() {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.room.held -= s.held
	s.held = 0
	delete(s.room.waiting, s)
}

// Wait says that the request waits for its client from now on.
func (s *Share) Wait() {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.until = time.Now().Add(Patience)
	s.room.waiting[s] = struct{}{}
}

// Settle says that the request waits for its client no more: it does not give way from now on. It
// returns [ErrGaveWay] where it has done so.
func (s *Share) Settle() error {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	delete(s.room.waiting, s)
	return s.standing()
}

// Take takes so many bytes more. It takes them with [ErrFull], too: whoever gives up has to leave.
func (s *Share) Take(n int64) error {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if err := s.standing(); err != nil {
		return err
	}
	s.room.held += n
	s.held += n
	return s.room.fit(0, s, time.Now())
}

// Moved says that so many bytes have come from the client, or have gone to it.
func (s *Share) Moved(n int64) {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.until = s.until.Add(time.Duration(n) * time.Second / slowest)
	if latest := time.Now().Add(Patience); s.until.After(latest) {
		s.until = latest
	}
}

// Give gives so many bytes back, or what it holds if that is less.
func (s *Share) Give(n int64) {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	n = min(n, s.held)
	s.room.held -= n
	s.held -= n
}

// Extend lets reading or writing go on until then, or returns [ErrGaveWay].
func (s *Share) Extend(until time.Time) error {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if err := s.standing(); err != nil {
		return err
	}
	_ = s.deadline(until) // where that cannot be set, nothing ends it
	return nil
}

// Fits makes others give way until so many bytes more would fit, and returns [ErrFull] if they do not.
func (s *Share) Fits(n int64) error {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	return s.room.fit(n, s, time.Now())
}

// standing needs the lock.
func (s *Share) standing() error {
	if s.gaveWay {
		return ErrGaveWay
	}
	return nil
}

// fit makes shares give way until as many more bytes fit. A share that is alone always fits. It
// needs the lock.
func (r *Room) fit(more int64, except *Share, now time.Time) error {
	for r.held+more > r.size {
		if r.held == except.held {
			return nil
		}
		slow := r.slowest(except, now)
		if slow == nil {
			return ErrFull
		}
		delete(r.waiting, slow)
		// Its reader or writer wakes up. Where that cannot be done, it keeps what it holds.
		if slow.deadline(now) == nil {
			slow.gaveWay = true
			r.held -= slow.held
			slow.held = 0
		}
	}
	return nil
}

// slowest returns who has been out of time for longest, or nil. It needs the lock.
func (r *Room) slowest(except *Share, now time.Time) (slow *Share) {
	for s := range r.waiting {
		if s != except && s.held > 0 && s.until.Before(now) && (slow == nil || s.until.Before(slow.until)) {
			slow = s
		}
	}
	return slow
}
