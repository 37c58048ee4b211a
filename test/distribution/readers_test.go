package distribution

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api/snapshot"
)

// reader is a data plane that checks each view before it is used.
type reader struct {
	*snapshot.Watcher
	views atomic.Int64
}

// newReader follows the publisher. In each view both twins must be there, with
// one number, that of a commit; views must come in order; and keys must be as many as there are.
func (w *world) newReader(t *testing.T, name string, keys int) *reader {
	r := &reader{}
	var last snapshot.Position
	r.Watcher = snapshot.NewWatcher(w.pub, &snapshot.WatcherOptions{
		Keys: w.keys, Name: name, Logger: w.log,
		OnApply: func(v *snapshot.View) {
			r.views.Add(1)
			if !v.Position().After(last) {
				t.Errorf("%s went from %s to %s", name, last, v.Position())
			}
			last = v.Position()
			if err := wholePair(v); err != nil {
				t.Errorf("%s at %s: %v", name, v.Position(), err)
			}
			if n := v.Head().Counts["keys"]; n != keys {
				t.Errorf("%s at %s: %d keys, want %d", name, v.Position(), n, keys)
			}
		},
	})
	background(t, r.Run)
	return r
}

func wholePair(v *snapshot.View) error {
	one, ok := v.Model("default", "twin0")
	two, also := v.Model("default", "twin1")
	switch {
	case !ok || !also:
		return fmt.Errorf("a model is missing")
	case one.ContextWindow != two.ContextWindow:
		return fmt.Errorf("torn: %d and %d", one.ContextWindow, two.ContextWindow)
	}
	return nil
}

// lagging is a publisher that is far away: what its relay reads is old when it publishes.
type lagging struct{ snapshot.Publisher }

func (l lagging) Head(ctx context.Context) (snapshot.Head, error) {
	h, err := l.Publisher.Head(ctx)
	time.Sleep(rand.N(20 * time.Millisecond))
	return h, err
}

// TestReadersSeeOnlyWholePublishes: four relays, one of them slow, and four
// readers, while the catalog changes all the time and is published anew now and then.
func TestReadersSeeOnlyWholePublishes(t *testing.T) {
	w := newWorld(t)
	keys, commits, replaces := scaled(2_000, 100_000), scaled(500, 10_000), scaled(4, 20)
	w.createKeys(t, keys)
	twins := w.createPair(t)
	relays := []*snapshot.Relay{
		w.newRelay(w.pub),
		w.newRelay(w.pub),
		w.newRelay(w.pub),
		w.newRelay(lagging{w.pub}),
	}
	_, err := relays[0].Sync(t.Context())
	must(t, err)
	for _, r := range relays {
		background(t, r.Run)
	}
	var readers []*reader
	for i := range 4 {
		readers = append(readers, w.newReader(t, fmt.Sprint("reader", i), keys))
	}
	for _, r := range readers {
		<-r.Ready()
	}

	stopWriting := background(t, func(ctx context.Context) error {
		for n := int64(2); ctx.Err() == nil; n++ {
			if err := w.changePair(ctx, twins, n); err != nil && ctx.Err() == nil {
				return err
			}
			time.Sleep(rand.N(2 * time.Millisecond))
		}
		return nil
	})
	start := time.Now()
	lost := 0
	for range replaces {
		within(t, time.Minute, "a re-synchronisation", func() bool {
			_, err := relays[rand.IntN(len(relays))].Resync(t.Context(), snapshot.ResyncOptions{})
			if errors.Is(err, snapshot.ErrWaiting) ||
				errors.Is(err, snapshot.ErrStale) { // lost every race; it would be tried again
				lost++
				return false
			}
			must(t, err)
			return true
		})
	}
	t.Logf("%d tries were overtaken", lost)
	t.Logf("%d Replaces of %d keys under constant writes took %s", replaces, keys, time.Since(start))
	from := publishes(relays)
	within(t, 5*time.Minute, "publishes", func() bool { return publishes(relays)-from >= int64(commits) })
	stopWriting()

	must(t, w.changePair(t.Context(), twins, 1<<40))
	within(t, 20*time.Second, "every reader has the last commit", func() bool {
		for _, r := range readers {
			if m, ok := r.View().Model("default", "twin1"); !ok || m.ContextWindow != 1<<40 {
				return false
			}
		}
		return true
	})
	head, err := w.pub.Head(t.Context())
	must(t, err)
	for i, r := range readers {
		s := r.Status()
		if s.Refused > 0 || !r.View().Head().Equal(head) {
			t.Errorf("reader %d: %+v", i, s)
		}
		t.Logf("reader %d: %d views, %d loads, %d deltas", i, r.views.Load(), s.Loads, s.Deltas)
	}
	if _, err := snapshot.LoadView(t.Context(), w.pub, w.keys); err != nil {
		t.Errorf("what is published: %v", err)
	}
}

func publishes(relays []*snapshot.Relay) (n int64) {
	for _, r := range relays {
		n += r.Status().Publishes
	}
	return n
}
