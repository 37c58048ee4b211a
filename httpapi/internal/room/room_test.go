package room_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/httpapi/internal/room"
)

const (
	each  = 8 << 20
	whole = 4 * each
)

func wakes(time.Time) error { return nil }

// A request gives way only to others that need the room, only when its client is too slow, and the one
// that has been out of patience for longest first.
func TestOnlySlowClientsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := room.New(whole)
		enter := func(bytes int64) (*room.Share, error) {
			s := r.Enter(wakes)
			s.Wait()
			s.Moved(bytes)
			return s, s.Take(bytes)
		}
		var all []*room.Share
		for range whole / each {
			s, err := enter(each - 1000)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
			time.Sleep(100 * time.Millisecond)
		}
		if s, err := enter(each); !errors.Is(err, room.ErrFull) {
			t.Errorf("beside clients that are fast: %v; want that there is no room", err)
		} else {
			s.Leave()
		}
		time.Sleep(room.Patience - 200*time.Millisecond) // the first two have been too slow
		for range 100 {
			all[1].Moved(10)
			if err := all[1].Take(10); err != nil {
				t.Fatalf("a slow client, while nobody needs its room: %v", err)
			}
		}
		time.Sleep(room.Patience / 2)
		fresh, err := enter(each)
		if err != nil {
			t.Errorf("beside a client that is too slow: %v", err)
		}
		for i, s := range all {
			s.Moved(1)
			if err := s.Take(1); errors.Is(err, room.ErrGaveWay) != (i == 0) {
				t.Errorf("client %d: %v; only the slowest gives way", i, err)
			}
		}
		fresh.Leave()
	})
}

// Who does not wait for a client, or cannot be woken up, does not give way. What is given back is
// there for others, and who is alone may have more than there is.
func TestWhoKeepsTheirRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := room.New(whole)
		take := func(s *room.Share, bytes int64, want error) {
			t.Helper()
			if err := s.Take(bytes); !errors.Is(err, want) {
				t.Fatalf("taking %d bytes: %v, want %v", bytes, err, want)
			}
		}
		settled, deaf := r.Enter(wakes), r.Enter(func(time.Time) error { return errors.ErrUnsupported })
		settled.Wait()
		deaf.Wait()
		take(settled, 2*whole, nil)
		settled.Give(2*whole - each)
		take(deaf, whole-each, nil)
		if err := settled.Settle(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * room.Patience)
		fresh := r.Enter(wakes)
		if err := fresh.Fits(1); !errors.Is(err, room.ErrFull) {
			t.Errorf("beside two that keep their room: %v, want that there is no room", err)
		}
		take(fresh, 1, room.ErrFull)
		fresh.Give(whole) // no more than it has
		settled.Leave()
		take(fresh, each, nil)
		take(fresh, 1, room.ErrFull)
	})
}
