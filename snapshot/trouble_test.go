package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// unplugged is a publisher that cannot be read while err is set.
type unplugged struct {
	*memstore.Publisher
	err error
}

func (u *unplugged) Head(ctx context.Context) (snapshot.Head, error) {
	if u.err != nil {
		return snapshot.Head{}, u.err
	}
	return u.Publisher.Head(ctx)
}

// A trouble is told once when it begins, however often it is met, and once when it
// is over; the status has its kind.
func TestTroubleIsToldOnce(t *testing.T) {
	w, ctx := newWorld(t, syncKey), t.Context()
	var log bytes.Buffer
	w.log = slog.New(slog.NewTextHandler(&log, nil))
	pub := &unplugged{Publisher: w.pub}
	relay := w.newRelayOver(pub)
	lines := func(with string) int {
		return strings.Count(log.String(), with)
	}
	ok[snapshot.Head](t)(relay.Sync(ctx))
	for i := range 5 {
		pub.err = errors.New("unplugged, for the time " + strings.Repeat("x", i)) // never the same words
		if _, err := relay.Sync(ctx); !errors.Is(err, pub.err) {
			t.Fatal(err)
		}
	}
	if s := relay.Status(); s.Trouble != snapshot.TroublePublish || !strings.Contains(s.LastError, "unplugged") {
		t.Errorf("status %+v", s)
	}
	pub.err = nil
	ok[snapshot.Head](t)(relay.Sync(ctx))
	ok[snapshot.Head](t)(relay.Sync(ctx))
	if lines("publishing does not work") != 1 || lines("publishing works again") != 1 {
		t.Errorf("the log:\n%s", log.String())
	}
	if s := relay.Status(); s.Trouble != snapshot.TroubleNone || s.LastError != "" {
		t.Errorf("status %+v", s)
	}
	// Another kind of trouble is another line.
	w.pub.Tamper(func(c *memstore.Contents) {
		other := newWorld(t, syncKey)
		head := ok[snapshot.Head](t)(other.relay.Sync(ctx))
		c.Head = head.Fields()
	})
	for range 3 {
		if _, err := relay.Sync(ctx); !errors.Is(err, snapshot.ErrForeign) {
			t.Fatalf("%v, want ErrForeign", err)
		}
	}
	if s := relay.Status(); s.Trouble != snapshot.TroubleForeign || lines("trouble=foreign") != 1 {
		t.Errorf("status %+v, the log:\n%s", s, log.String())
	}
}
