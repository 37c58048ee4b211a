package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A waitingStore does every commit, and confirms it after a time, or at once when it is told to give up.
type waitingStore struct {
	catalog.Store
	wait   time.Duration
	failed error
	breaks bool
	log    bytes.Buffer // of the tables
}

func (s *waitingStore) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	if s.breaks {
		panic("a fault of the engine's")
	}
	if s.failed != nil {
		return 0, s.failed
	}
	select {
	case <-time.After(s.wait):
		return s.Store.Commit(ctx, c)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// waiting runs a test in time that does not pass by itself.
func waiting(t *testing.T, wait time.Duration, test func(*testing.T, *waitingStore, *catalog.Tables)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &waitingStore{Store: memstore.New(nil), wait: wait}
		logger := slog.New(slog.NewTextHandler(&s.log, nil))
		test(t, s, catalog.NewTables(s, catalog.NewRandomKeyRing(), &catalog.Options{Logger: logger}))
	})
}

// A commit that the store does not confirm is answered after a while, is counted for as long as the store works at
// it, and is not cancelled: it is done in the end.
func TestCommitNotConfirmed(t *testing.T) {
	waiting(t, time.Hour, func(t *testing.T, s *waitingStore, tables *catalog.Tables) {
		begun := time.Now()
		within, cancel := context.WithCancel(t.Context())
		_, err := tables.Models.Create(within, catalog.Model{Name: "m"})
		cancel() // as a request does once it is answered
		took := time.Since(begun)
		if !errors.Is(err, catalog.ErrUnconfirmed) || took < 25*time.Second || took > 26*time.Second {
			t.Errorf("after %s: %v; want ErrUnconfirmed after 25 s", took, err)
		}
		if age := tables.CommitStatus().Oldest; age != took {
			t.Errorf("the oldest commit is %s old, want %s", age, took)
		}
		if n, err := tables.Models.Count(t.Context(), catalog.Query{}); n != 0 || err != nil {
			t.Errorf("%d models, %v; it was not done yet", n, err)
		}
		if said := tables.CommitStatus().LastError; said != catalog.ErrUnconfirmed.Error() {
			t.Errorf("the last write met %q", said)
		}
		time.Sleep(time.Hour)
		if said := tables.CommitStatus().LastError; said != "" {
			t.Errorf("the last write met %q, and works", said)
		}
		if n, err := tables.Models.Count(t.Context(), catalog.Query{}); n != 1 || err != nil {
			t.Errorf("%d models, %v; the store goes on, and has done it now", n, err)
		}
		if age := tables.CommitStatus().Oldest; age != 0 {
			t.Errorf("the oldest commit is %s old, and there is none", age)
		}
		synctest.Wait()
		if said := s.log.String(); !strings.Contains(said, "is done") || !strings.Contains(said, "revision=1") {
			t.Errorf("the log says %q, want that the write is done as revision 1", said)
		}
	})
}

// What becomes of such a commit is in the log too where it fails in the end.
func TestCommitNotConfirmedFails(t *testing.T) {
	waiting(t, time.Hour, func(t *testing.T, s *waitingStore, tables *catalog.Tables) {
		if _, err := tables.Models.Create(t.Context(), catalog.Model{Name: "m"}); !errors.Is(err, catalog.ErrUnconfirmed) {
			t.Fatal(err)
		}
		other := catalog.NewTables(s.Store, catalog.NewRandomKeyRing(), nil)
		if _, err := other.Models.Create(t.Context(), catalog.Model{Name: "m"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if said := s.log.String(); !strings.Contains(said, "has failed") || !strings.Contains(said, "error=") {
			t.Errorf("the log says %q, want that the write has failed, and why", said)
		}
	})
}

// A large commit has more time.
func TestLargeCommitHasTime(t *testing.T) {
	waiting(t, 30*time.Second, func(t *testing.T, _ *waitingStore, tables *catalog.Tables) {
		c := catalog.Commit{Time: time.Now(), Sync: true}
		if _, err := tables.Commit(t.Context(), c); !errors.Is(err, catalog.ErrUnconfirmed) {
			t.Errorf("a small one: %v, want ErrUnconfirmed", err)
		}
		_, err := tables.Update(t.Context(), func(tx *catalog.Tx) error {
			for i := range 6000 {
				if _, err := tx.Models.Create(t.Context(), catalog.Model{Name: fmt.Sprint("m", i)}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("a large one: %v", err)
		}
	})
}

// Who goes away before that has the store give up, and meets the end of its own context, of whichever kind.
func TestCommitGivenUp(t *testing.T) {
	waiting(t, time.Hour, func(t *testing.T, _ *waitingStore, tables *catalog.Tables) {
		within, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if _, err := tables.Models.Create(within, catalog.Model{Name: "m"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the end of the context", err)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it took %s, want 1s", took)
		}
		left, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		if _, err := tables.Models.Create(left, catalog.Model{Name: "m"}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want the end of the context", err)
		}
		if age := tables.CommitStatus().Oldest; age != 0 {
			t.Errorf("the oldest commit is %s old, and there is none", age)
		}
	})
}

// What the store says, and how it fails, comes to whoever made the commit.
func TestCommitFails(t *testing.T) {
	waiting(t, 0, func(t *testing.T, s *waitingStore, tables *catalog.Tables) {
		s.failed = catalog.ErrUnavailable
		if _, err := tables.Models.Create(t.Context(), catalog.Model{Name: "m"}); !errors.Is(err, catalog.ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable", err)
		}
		if said := tables.CommitStatus().LastError; said != catalog.ErrUnavailable.Error() {
			t.Errorf("the last write met %q", said)
		}
		s.failed = catalog.ErrConflict // the store has judged
		if _, err := tables.Commit(t.Context(), catalog.Commit{}); !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("%v, want ErrConflict", err)
		}
		if said := tables.CommitStatus().LastError; said != "" {
			t.Errorf("the last write met %q, and was judged", said)
		}
		s.failed = catalog.ErrUnavailable
		if _, err := tables.Commit(t.Context(), catalog.Commit{}); err == nil {
			t.Error("no error")
		}
		time.Sleep(10 * time.Minute)
		if said := tables.CommitStatus().LastError; said != "" {
			t.Errorf("after ten minutes the last write met %q, and nobody knows", said)
		}
		s.breaks = true
		defer func() {
			if fault := recover(); fault == nil || tables.CommitStatus().Oldest != 0 {
				t.Errorf("the panic is %v, the oldest commit %s old", fault, tables.CommitStatus().Oldest)
			}
		}()
		_, err := tables.Models.Create(t.Context(), catalog.Model{Name: "m"})
		t.Errorf("no panic, and %v", err)
	})
}
