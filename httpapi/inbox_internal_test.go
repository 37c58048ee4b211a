package httpapi

import (
	"errors"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// deadlined is a writer whose reader can be woken up.
type deadlined struct{ *httptest.ResponseRecorder }

func (deadlined) SetReadDeadline(time.Time) error { return nil }

// A body gives way only to others that need the room, only when it comes too slowly, and the one that
// has been out of patience for longest first.
func TestOnlySlowBodiesGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var in inbox
		arrive := func(bytes int64) (*delivery, error) {
			d := in.begin(deadlined{httptest.NewRecorder()})
			return d, d.charge(bytes)
		}
		var all []*delivery
		for range maxHeld / logbuf.MaxBody {
			d, err := arrive(logbuf.MaxBody - 1000)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, d)
			time.Sleep(100 * time.Millisecond)
		}
		if d, err := arrive(logbuf.MaxBody); !errors.Is(err, errHeld) {
			t.Errorf("beside bodies that come fast: %v; want that there is no room", err)
		} else {
			d.end()
		}
		time.Sleep(patience - 200*time.Millisecond) // the first two have come too slowly
		for range 100 {
			if err := all[1].charge(10); err != nil {
				t.Fatalf("a slow body, while nobody needs its room: %v", err)
			}
		}
		time.Sleep(patience / 2)
		fresh, err := arrive(logbuf.MaxBody)
		if err != nil {
			t.Errorf("beside a body that came too slowly: %v", err)
		}
		for i, d := range all {
			if err := d.charge(1); errors.Is(err, errGaveWay) != (i == 0) {
				t.Errorf("body %d: %v; only the slowest gives way", i, err)
			}
		}
		fresh.end()
	})
}
