package snapshot_test

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/snapshot"
)

func refuses(t *testing.T, w *snapshot.Watcher) {
	t.Helper()
	if _, err := w.View().Authenticate("first", netip.Addr{}, time.Now()); !errors.Is(err, snapshot.ErrOutdated) {
		t.Errorf("Authenticate: %v", err)
	}
	if _, ok := w.View().Key("first"); ok || !w.Status().Outdated {
		t.Errorf("a key is found; status %+v", w.Status())
	}
}

// Control planes are dead, and the source is well: what is served becomes outdated all the same.
func TestMaxStaleIsAboutControlPlanes(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		stop := s.beats()
		w := watch(t, s, snapshot.WatcherOptions{MaxStale: 15 * time.Second})
		<-w.Ready()
		for range 3600 { // nothing changes, but control planes confirm it
			time.Sleep(time.Second)
			serves(t, w, "first")
		}
		stop()
		died := time.Now()
		for w.View().Position() != (snapshot.Position{}) {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(died); took < 10*time.Second || took > 16*time.Second {
			t.Errorf("it refused after %s", took)
		}
		refuses(t, w)
		if got := w.Status(); got.Phase != snapshot.PhaseFollowing || got.Error != "" {
			t.Errorf("status %+v", got)
		}
		s.beats()
		time.Sleep(6 * time.Second)
		serves(t, w, "first")
	})
}

func TestABeatThatIsNotRightConfirmsNothing(t *testing.T) {
	later := snapshot.Position{Epoch: 1, Revision: 9}
	for _, tc := range []struct {
		name  string
		spoil func(*snapshot.Beat)
		keys  string
	}{
		{"of a later position", func(b *snapshot.Beat) { b.Position = later }, keyA},
		{"of another catalog", func(b *snapshot.Beat) { b.Store = "other" }, keyA},
		{"of another key", func(*snapshot.Beat) {}, keyB},
		{"of the past", func(b *snapshot.Beat) { b.At = b.At.Add(-time.Minute) }, keyA},
		{"of the future", func(b *snapshot.Beat) { b.At = b.At.Add(time.Minute) }, keyA},
		{"of nobody", func(*snapshot.Beat) {}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *stage) {
				b := snapshot.Beat{Store: "s", Position: s.now.head.Position, At: time.Now()}
				tc.spoil(&b)
				var keys *snapshot.Keys
				if tc.keys != "" {
					keys = mustKeys(t, tc.keys)
				}
				keys.SignBeat(&b)
				if err := s.SetBeat(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				w := watch(t, s, snapshot.WatcherOptions{MaxStale: 30 * time.Second})
				time.Sleep(10 * time.Second)
				select {
				case <-w.Ready():
					t.Error("a fresh watcher has taken it")
				default:
				}
				if got := w.Status(); got.Phase != snapshot.PhaseRefusing && got.Phase != snapshot.PhaseLoading ||
					got.Position != (snapshot.Position{}) {
					t.Errorf("status %+v", got)
				}
				s.beat(time.Now())
				time.Sleep(6 * time.Second)
				serves(t, w, "first")
			})
		})
	}
}

// A beat counts as soon as its position is reached, and not before.
func TestABeatWaitsForItsPosition(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		s.beat(time.Now())
		w := watch(t, s, snapshot.WatcherOptions{MaxStale: 15 * time.Second})
		<-w.Ready()
		s.set(func() { s.stuck = always })
		s.fail(nil) // the Next under way ends
		time.Sleep(time.Second)
		s.delta("second")
		s.beats()
		time.Sleep(3 * time.Second)
		serves(t, w, "first")
		s.set(func() { s.spoilLoad = func(c snapshot.Change) snapshot.Change { c.Doc = nil; return c } })
		time.Sleep(20 * time.Second)
		refuses(t, w)
		s.set(func() { s.stuck, s.spoilLoad = 0, nil })
		time.Sleep(6 * time.Second)
		serves(t, w, "first", "second")
	})
}

// An old dump, whose signatures are right, is not served by whoever starts with MaxStale, and by
// nobody who runs or has a file.
func TestReplayOfWhatWasSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, file := newStage(t), filepath.Join(t.TempDir(), "good")
		s.replace(1, 5, "first", "revoked")
		s.beat(time.Now())
		old := s.snap(1, 5, "first", "revoked")
		oldBeat, err := s.LastBeat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		runFor(t, s, file, func(w *snapshot.Watcher) {
			time.Sleep(time.Second)
			s.change(keyGone("revoked"))
			time.Sleep(time.Second)
			serves(t, w, "first")
		})

		time.Sleep(time.Hour)
		s.rewind()
		s.put(old)
		if err := s.SetBeat(t.Context(), oldBeat); err != nil {
			t.Fatal(err)
		}
		fresh := watch(t, s, snapshot.WatcherOptions{MaxStale: time.Minute})
		restarted := watch(t, s, snapshot.WatcherOptions{File: file})
		whoever := watch(t, s, snapshot.WatcherOptions{}) // takes whatever was once signed
		time.Sleep(time.Minute)
		if fresh.View().Position() != (snapshot.Position{}) {
			t.Errorf("a fresh watcher serves %s", fresh.View().Position())
		}
		serves(t, restarted, "first")
		serves(t, whoever, "first", "revoked")
		for _, n := range nodes(t, s) {
			if n.ID == fresh.Status().Node && n.Position != (snapshot.Position{}) {
				t.Errorf("it reports what it refuses: %+v", n)
			}
		}
	})
}

// Keys are rotated: heads, beats and secrets of either key are taken while both are held.
func TestWatcherFollowsARotation(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		both := mustKeys(t, keyA+","+keyB)
		model := snapshot.Change(doc(t, "default.m", snapshot.ModelDoc{Namespace: "default", Name: "m"}))
		s.change(model)
		w := watch(t, s, snapshot.WatcherOptions{Keys: both})
		old := watch(t, s, snapshot.WatcherOptions{Keys: mustKeys(t, keyA)})
		<-w.Ready()
		<-old.Ready()
		s.keys = mustKeys(t, keyB)
		next := s.snap(1, 9, "first", "second")
		next.put(model)
		next.sign()
		s.put(next)
		s.delta("third")
		time.Sleep(3 * time.Second)
		if _, ok := w.View().Model("default", "m"); !ok {
			t.Error("the model cannot be found under the new key")
		}
		serves(t, w, "first", "second", "third")
		serves(t, old, "first")
		if got := old.Status(); got.Phase == snapshot.PhaseFollowing || got.Error == "" {
			t.Errorf("status without the new key %+v", got)
		}
		for _, n := range nodes(t, s) {
			if n.ID == w.Status().Node {
				if err := mustKeys(t, keyB).VerifyNode(n); err != nil {
					t.Errorf("its report is not signed with the key of its head: %v", err)
				}
			}
		}
	})
}

func TestUnsignedHeadsAreRefusedWithKeys(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		s.keys = nil
		s.rewind()
		s.replace(1, 1, "first")
		w := watch(t, s, snapshot.WatcherOptions{Keys: mustKeys(t, keyA)})
		time.Sleep(10 * time.Second)
		if w.View().Position() != (snapshot.Position{}) {
			t.Error("it is served")
		}
		if got := w.Status().Error; got == "" {
			t.Errorf("status %+v", w.Status())
		}
	})
}
