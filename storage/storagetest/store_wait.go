package storagetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// woken is what Wait returned.
type woken struct {
	revision catalog.Revision
	err      error
}

// waiting calls Wait in the background, and returns when that probably blocks.
func waiting(t testing.TB, ctx context.Context, s catalog.Store, after catalog.Revision) <-chan woken {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	t.Cleanup(cancel)
	done := make(chan woken, 1)
	go func() {
		rev, err := s.Wait(ctx, after)
		done <- woken{rev, err}
	}()
	select {
	case w := <-done:
		t.Fatalf("Wait(%d): %d, %v; want it to block", after, w.revision, w.err)
	case <-time.After(quiet):
	}
	return done
}

// mustWake checks that a Wait returns a revision, within a time.
func mustWake(t testing.TB, done <-chan woken, within time.Duration, want catalog.Revision) {
	t.Helper()
	select {
	case w := <-done:
		if w.err != nil || w.revision != want {
			t.Fatalf("Wait: %d, %v; want %d", w.revision, w.err, want)
		}
	case <-time.After(within):
		t.Fatalf("Wait does not notice revision %d within %v", want, within)
	}
}

// mustSync makes a revision without touching any entity.
func mustSync(t testing.TB, s catalog.Store) catalog.Revision {
	t.Helper()
	rev, err := s.Commit(t.Context(), catalog.Commit{Sync: true, Time: storeTime})
	if err != nil {
		t.Fatalf("Commit of a sync: %v", err)
	}
	return rev
}

// soon is how quickly Wait must notice commits of its own process: at once,
// on a machine that may be busy.
const soon = 500 * time.Millisecond

// testWait: whoever waits is woken by the commit that comes, or goes on at
// once when it has come already.
func testWait(t testing.TB, h StoreHarness) {
	now := func(after, want catalog.Revision) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if got, err := h.Store.Wait(ctx, after); err != nil || got != want {
			t.Fatalf("Wait(%d): %d, %v; want %d", after, got, err, want)
		}
	}
	now(-1, 0)
	for i := range catalog.Revision(3) {
		var waits []<-chan woken
		for range 2 {
			waits = append(waits, waiting(t, t.Context(), h.Store, i))
		}
		start := time.Now()
		if rev := mustSync(t, h.Store); rev != i+1 {
			t.Fatalf("the sync has revision %d; want %d", rev, i+1)
		}
		committed := time.Since(start)
		for _, w := range waits {
			mustWake(t, w, soon, i+1)
		}
		if took := time.Since(start) - committed; took > soon {
			t.Errorf("Wait took %v to notice", took)
		}
		for after := range i + 1 {
			now(after, i+1)
		}
	}

	// One that waits for more is not woken by less.
	far := waiting(t, t.Context(), h.Store, 4)
	mustSync(t, h.Store)
	select {
	case w := <-far:
		t.Fatalf("Wait(4) at revision 4: %d, %v", w.revision, w.err)
	case <-time.After(quiet):
	}
	mustSync(t, h.Store)
	mustWake(t, far, soon, 5)
}

// testWaitSecond: commits of another process are noticed in time, either way.
func testWaitSecond(t testing.TB, h StoreHarness) {
	const inTime = 5 * time.Second
	for i, s := range []struct{ from, to catalog.Store }{{h.Second, h.Store}, {h.Store, h.Second}} {
		w := waiting(t, t.Context(), s.to, catalog.Revision(i))
		mustWake(t, w, inTime, mustSync(t, s.from))
		mustRead(t, s.to, func(r catalog.Reader) {
			if head := r.Head(); head.Revision != catalog.Revision(i+1) {
				t.Errorf("woken by revision %d, and the next Read is at %d", i+1, head.Revision)
			}
		})
	}
}

// testWaitQuiet: what takes no revision wakes nobody.
func testWaitQuiet(t testing.TB, h StoreHarness) {
	e := entity(catalog.KindKey, mustIDs(t, h.Store, 1))
	rev := mustCommit(t, h.Store, create(e))
	w := waiting(t, t.Context(), h.Store, rev)
	for range 3 {
		if _, err := h.Store.Commit(t.Context(), commitOf(create(e))); !errors.Is(err, catalog.ErrConflict) {
			t.Fatalf("Commit: %v; want a conflict", err)
		}
		if _, err := h.Store.Commit(t.Context(), commitOf()); err != nil {
			t.Fatalf("a commit without writes: %v", err)
		}
		mustIDs(t, h.Store, 1)
		mustContents(t, h.Store)
	}
	select {
	case got := <-w:
		t.Fatalf("Wait(%d): %d, %v; want it to block", rev, got.revision, got.err)
	case <-time.After(quiet):
	}
	mustWake(t, w, soon, mustSync(t, h.Store))
}

// testWaitContext: Wait ends with its context, and only that one.
func testWaitContext(t testing.TB, h StoreHarness) {
	ctx, cancel := context.WithCancel(t.Context())
	ended, other := waiting(t, ctx, h.Store, 0), waiting(t, t.Context(), h.Store, 0)
	cancel()
	select {
	case w := <-ended:
		mustFail(t, "Wait whose context is canceled", w.err, context.Canceled)
	case <-time.After(delay):
		t.Fatal("Wait outlives its context")
	}
	_, err := h.Store.Wait(ctx, 0)
	mustFail(t, "Wait with a context that has ended", err, context.Canceled)

	late, cancel := context.WithTimeout(t.Context(), quiet/2)
	defer cancel()
	_, err = h.Store.Wait(late, 0)
	mustFail(t, "Wait with a deadline", err, context.DeadlineExceeded)
	mustWake(t, other, soon, mustSync(t, h.Store))
}

func aStoreClose(h StoreHarness) string {
	if h.Close == nil {
		return "cannot be closed"
	}
	return ""
}

// testStoreClosed: a closed store refuses everything, ends what waits, and is
// no concern of the other handles.
func testStoreClosed(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 3)
	rev := mustCommit(t, h.Store, create(entity(catalog.KindKey, id)))
	w := waiting(t, t.Context(), h.Store, rev)
	h.Close(t)
	select {
	case got := <-w:
		mustFail(t, "Wait while the store closes", got.err, catalog.ErrClosed)
	case <-time.After(delay):
		t.Fatal("Wait outlives the store")
	}

	e := entity(catalog.KindKey, id+1)
	pruning := func(forget func(catalog.Pruner, context.Context, time.Time) (int64, error)) func() error {
		return func() error {
			p, ok := h.Store.(catalog.Pruner)
			if !ok {
				return catalog.ErrClosed // a store need not be one, and then has nothing to refuse
			}
			_, err := forget(p, t.Context(), storeTime)
			return err
		}
	}
	for name, call := range map[string]func() error{
		"Read": func() error {
			return h.Store.Read(t.Context(), func(catalog.Reader) error {
				t.Error("Read of a closed store calls fn")
				return nil
			})
		},
		"Commit": func() error { _, err := h.Store.Commit(t.Context(), commitOf(create(e))); return err },
		"Commit of several": func() error {
			_, err := h.Store.Commit(t.Context(), commitOf(create(e), create(entity(catalog.KindKey, id+2))))
			return err
		},
		"Commit of nothing": func() error { _, err := h.Store.Commit(t.Context(), commitOf()); return err },
		"Commit of a sync": func() error {
			_, err := h.Store.Commit(t.Context(),
				catalog.Commit{Sync: true})
			return err
		},
		"NextIDs":                        func() error { _, err := h.Store.NextIDs(t.Context(), 1); return err },
		"Wait":                           func() error { _, err := h.Store.Wait(t.Context(), rev); return err },
		"Wait for what had already come": func() error { _, err := h.Store.Wait(t.Context(), 0); return err },
		"PruneChanges":                   pruning(catalog.Pruner.PruneChanges),
		"ThinChanges":                    pruning(catalog.Pruner.ThinChanges),
	} {
		mustFail(t, name+" after Close", call(), catalog.ErrClosed)
	}

	if h.Second == h.Store {
		return
	}
	if got := mustCommit(t, h.Second, create(e)); got != rev+1 {
		t.Errorf("the next commit of the other handle has revision %d; want %d", got, rev+1)
	}
	mustEntities(t, h.Second, catalog.KindKey, written(entity(catalog.KindKey, id), rev), written(e, rev+1))
}
