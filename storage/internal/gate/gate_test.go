package gate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// So many are inside at once, some wait, and others are turned away.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(2)
		for range 2 {
			if err := g.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		results := make(chan error, waiting)
		for range waiting {
			go func() { results <- g.Enter(t.Context()) }()
		}
		synctest.Wait()
		if err := g.Enter(t.Context()); !errors.Is(err, logbuf.ErrUnavailable) {
			t.Errorf("one more than may wait: %v; want ErrUnavailable", err)
		}
		g.Leave()
		if err := <-results; err != nil {
			t.Errorf("who waited when one left: %v", err)
		}
		begin := time.Now()
		for range waiting - 1 {
			if err := <-results; !errors.Is(err, logbuf.ErrTooManyQueries) {
				t.Errorf("who waits for long: %v; want ErrTooManyQueries", err)
			}
		}
		if waited := time.Since(begin); waited != patient {
			t.Errorf("they waited %v; want %v", waited, patient)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { results <- g.Enter(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("whose context ends: %v; want its error", err)
		}
	})
}
