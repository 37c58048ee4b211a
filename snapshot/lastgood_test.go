//go:build !noWatcher

package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// runFor runs a watcher with a file, in a bubble, until test returns.
func runFor(t *testing.T, s *stage, file string, test func(w *snapshot.Watcher)) {
	t.Helper()
	w := snapshot.NewWatcher(s, &snapshot.WatcherOptions{Keys: s.keys, File: file, Logger: slog.New(slog.DiscardHandler)})
	run(t, w, func() { test(w) })
}

// run runs a watcher, in a bubble, until test returns and all is still.
func run(t *testing.T, w *snapshot.Watcher, test func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	synctest.Wait()
	test()
	synctest.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestWatcherStartsFromItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, file := newStage(t), filepath.Join(t.TempDir(), "good")
		runFor(t, s, file, func(*snapshot.Watcher) {
			s.delta("second", nil)
			s.delta("third", nil)
		})
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("file: %v, %v", info, err)
		}

		s.fail(errors.New("down"))
		runFor(t, s, file, func(w *snapshot.Watcher) {
			serves(t, w, "first", "second", "third")
			if got := w.Status(); got.Position != s.head.Position || got.HeardAt.IsZero() {
				t.Errorf("status %+v", got)
			}
			s.fail(nil)
			s.delta("fourth", nil)
			time.Sleep(6 * time.Second)
			serves(t, w, "first", "second", "third", "fourth")
			if got := w.Status(); got.Loads != 0 || got.Deltas != 1 {
				t.Errorf("it did not go on from its file: %+v", got)
			}
		})
		runFor(t, s, file, func(w *snapshot.Watcher) { // and what it went on with is in the file again
			serves(t, w, "first", "second", "third", "fourth")
		})
		if v, err := snapshot.ReadLastGood(file, s.keys); err != nil || v.Position() != s.head.Position {
			t.Errorf("file: %v", err)
		}
	})
}

// A watcher that is stopped in a heartbeat dates its file while it closes it.
func TestWatcherIsStoppedInAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, file := newStage(t), filepath.Join(t.TempDir(), "good")
		for range 10 {
			ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
			w := snapshot.NewWatcher(s, &snapshot.WatcherOptions{Keys: s.keys, File: file})
			if err := w.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
			stop()
			serves(t, w, "first")
		}
	})
}

func TestAFileFromLongAgoIsOutdated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, file := newStage(t), filepath.Join(t.TempDir(), "good")
		runFor(t, s, file, func(*snapshot.Watcher) {})
		then := time.Date(1999, 12, 31, 23, 0, 0, 0, time.UTC) // an hour before time begins in a bubble
		if err := os.Chtimes(file, then, then); err != nil {
			t.Fatal(err)
		}
		s.fail(errors.New("down"))
		w := watch(t, s, snapshot.WatcherOptions{File: file, MaxStale: time.Minute})
		synctest.Wait()
		if _, ok := w.View().Key("first"); ok || !w.Status().Outdated {
			t.Errorf("it is served: %+v", w.Status())
		}
	})
}

// What cannot be used is not served, the log says why, and the source's is put in its place.
func TestFilesOfNoUseAreReplaced(t *testing.T) {
	kept := func(keys *snapshot.Keys, format int) string {
		file := filepath.Join(t.TempDir(), "good")
		p := newPast(t, keys)
		p.head.Format = format
		l := snapshot.NewLastGood(file, 1<<20)
		if err := errors.Join(l.Replace(p.whole()), l.Close()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, c := range []struct{ name, content, reason string }{
		{"empty", "", "ends too early"},
		{"no line of ours", "?\n", "line at byte 0"},
		{"a line without a checksum", `{"format":1,"counts":{}}` + "\n", "line at byte 0"},
		{"a head alone", strings.SplitAfter(kept(mustKeys(t, keyA), 1), "\n")[0], "ends too early"},
		{"another sync key", kept(mustKeys(t, keyB), 1), `sync key "b", which is not among the keys held`},
		{"no sync key", kept(nil, 1), "neither sealed nor signed"},
		{"another format", kept(mustKeys(t, keyA), 2), "format 2, this reads 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, file := newStage(t), filepath.Join(t.TempDir(), "good")
				if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
				var log strings.Builder
				s.fail(errors.New("down"))
				w := snapshot.NewWatcher(s, &snapshot.WatcherOptions{Keys: s.keys, File: file, Logger: slog.New(slog.NewTextHandler(&log, nil))})
				run(t, w, func() {
					synctest.Wait()
					serves(t, w)
					s.fail(nil)
					time.Sleep(6 * time.Second)
					serves(t, w, "first")
				})
				if !strings.Contains(strings.ReplaceAll(log.String(), `\"`, `"`), c.reason) {
					t.Errorf("the log does not say %q:\n%s", c.reason, log.String())
				}
				if v, err := snapshot.ReadLastGood(file, s.keys); err != nil || v.Position() != s.head.Position {
					t.Errorf("the file is not good now: %v", err)
				}
			})
		})
	}
}

// What a crash leaves at the end of the file, or beside it, is written anew.
func TestATornFileGoesOn(t *testing.T) {
	for _, c := range []struct {
		name string
		torn func(text []byte) []byte
	}{
		{"a line cut", func(text []byte) []byte { return text[:len(text)-5] }},
		{"more than was written", func(text []byte) []byte { return append(bytes.Clone(text), make([]byte, 4096)...) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, file := newStage(t), filepath.Join(t.TempDir(), "good")
				runFor(t, s, file, func(*snapshot.Watcher) { s.delta("second", nil) })
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(os.WriteFile(file, c.torn(text), 0o600), os.WriteFile(file+".new", []byte("half"), 0o600)); err != nil {
					t.Fatal(err)
				}
				runFor(t, s, file, func(w *snapshot.Watcher) { serves(t, w, "first", "second") })
				after, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(text), string(after)); diff != "" {
					t.Errorf("the file is not what it was (-before +after):\n%s", diff)
				}
			})
		})
	}
}

func TestTheFileHasNoGaps(t *testing.T) {
	file := filepath.Join(t.TempDir(), "good")
	p, l := newPast(t, nil), snapshot.NewLastGood(file, 0)
	if err := l.Replace(p.whole()); err != nil {
		t.Fatal(err)
	}
	p.move(1, "lost", "k")
	if err := l.Append(p.move(1, "second", "k")); !errors.Is(err, snapshot.ErrGap) {
		t.Errorf("append: %v, want a gap", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if v, err := snapshot.ReadLastGood(file, nil); err != nil || v.Head().Counts[catalog.KindKey] != 1 {
		t.Errorf("read: %v", err)
	}
}

func TestTheFileIsCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, file := newStage(t), filepath.Join(t.TempDir(), "good")
		big := strings.Repeat("x", 200_000)
		runFor(t, s, file, func(w *snapshot.Watcher) {
			for i := range 12 {
				d := keyDoc(t, "first", func(k *snapshot.KeyDoc) { k.Name = fmt.Sprint(i, big) })
				next := s.head
				next.Position.Revision++
				old, err := s.pub.Lookup(t.Context(), d.Kind, d.Key)
				if err != nil {
					t.Fatal(err)
				}
				next.Digest = next.Digest.Sub(s.keys.Hash(d.Kind, d.Key, old[0].Doc)).Add(s.keys.Hash(d.Kind, d.Key, d.Doc))
				s.keys.Sign(&next)
				if err := s.pub.Apply(t.Context(), snapshot.Delta{From: s.head.Position, Head: next, Changes: []snapshot.Change{snapshot.Change(d)}}); err != nil {
					t.Fatal(err)
				}
				s.head = next
				synctest.Wait()
			}
			serves(t, w, "first")
		})
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 3<<19 {
			t.Errorf("%d bytes for one document of 200,000", info.Size())
		}
		v, err := snapshot.ReadLastGood(file, s.keys)
		if err != nil {
			t.Fatal(err)
		}
		if k, ok := v.Key("first"); !ok || v.Position() != s.head.Position || !strings.HasPrefix(k.Name, "11x") {
			t.Errorf("the file is at %s", v.Position())
		}
	})
}

func TestADiskThatFailsDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "missing")
		s, file := newStage(t), filepath.Join(dir, "good")
		runFor(t, s, file, func(w *snapshot.Watcher) {
			serves(t, w, "first")
			s.delta("second", nil)
			synctest.Wait()
			serves(t, w, "first", "second")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
			s.delta("third", nil)
		})
		if v, err := snapshot.ReadLastGood(file, s.keys); err != nil || v.Position() != s.head.Position {
			t.Errorf("the file was not made when the disk was well again: %v", err)
		}
	})
}

func TestSecretsInTheFileStaySealed(t *testing.T) {
	w, file := newWorld(t, syncKey), filepath.Join(t.TempDir(), "good")
	ok[catalog.Provider](t)(w.tables.Providers.Create(t.Context(), catalog.Provider{Name: "p", Type: "openai", APIKey: catalog.NewSecret("sk-very-secret-indeed")}))
	ok[snapshot.Head](t)(w.relay.Sync(t.Context()))
	t.Run("", func(t *testing.T) {
		watcher := watch(t, w.pub, snapshot.WatcherOptions{Keys: w.keys, File: file})
		<-watcher.Ready()
		if p, found := first(watcher.View()); !found || p.APIKey.Reveal() != "sk-very-secret-indeed" {
			t.Error("the secret is not opened in the view")
		}
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("enc:v1:k1:")) || bytes.Contains(text, []byte("very-secret")) {
		t.Errorf("file: %s", text)
	}
}

func first(v *snapshot.View) (*snapshot.Provider, bool) {
	for p := range v.Providers() {
		return p, true
	}
	return nil, false
}
