package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
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
	w := newWatcher(s, file, func(*snapshot.WatcherOptions) {})
	run(t, w, func() {
		if s.err == nil {
			<-w.Ready()
			synctest.Wait()
		}
		test(w)
	})
}

func newWatcher(s *stage, file string, with func(*snapshot.WatcherOptions)) *snapshot.Watcher {
	opts := &snapshot.WatcherOptions{Keys: s.keys, File: file, Logger: slog.New(slog.DiscardHandler)}
	with(opts)
	return snapshot.NewWatcher(s, opts)
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
			s.delta("second")
			s.delta("third")
		})
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("file: %v, %v", info, err)
		}

		s.fail(errors.New("down"))
		runFor(t, s, file, func(w *snapshot.Watcher) {
			serves(t, w, "first", "second", "third")
			if got := w.Status(); got.Position != s.now.head.Position || !got.HeardAt.IsZero() {
				t.Errorf("status %+v", got)
			}
			s.fail(nil)
			s.delta("fourth")
			time.Sleep(6 * time.Second)
			serves(t, w, "first", "second", "third", "fourth")
			if got := w.Status(); got.Loads != 0 || got.Deltas != 1 {
				t.Errorf("it did not go on from its file: %+v", got)
			}
		})
		runFor(t, s, file, func(w *snapshot.Watcher) { // and what it went on with is in the file again
			serves(t, w, "first", "second", "third", "fourth")
		})
		if v, err := snapshot.ReadLastGood(file, s.keys); err != nil || v.Position() != s.now.head.Position {
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

// The file keeps until when control planes have confirmed it.
func TestAFileFromLongAgoIsOutdated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, file := newStage(t), filepath.Join(t.TempDir(), "good")
		stop := s.beats()
		runFor(t, s, file, func(*snapshot.Watcher) { time.Sleep(time.Minute) })
		stop()
		s.fail(errors.New("down"))
		maxStale := func(w *snapshot.WatcherOptions) { w.MaxStale = time.Minute }
		time.Sleep(30 * time.Second)
		w := newWatcher(s, file, maxStale)
		run(t, w, func() {
			serves(t, w, "first")
			time.Sleep(41 * time.Second)
			refuses(t, w)
		})
		w = newWatcher(s, file, maxStale)
		run(t, w, func() { refuses(t, w) })
		w = newWatcher(s, file, func(*snapshot.WatcherOptions) {})
		run(t, w, func() { serves(t, w, "first") })
	})
}

// A file of a program that did not know a kind is not used by one that does.
func TestAFileThatLacksAKindIsNotUsed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		lacked string // by the program that wrote the file
		loads  int64
	}{{"which is published", "models", 1}, {"which is not", "teams", 0}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, file := newStage(t), filepath.Join(t.TempDir(), "good")
				runFor(t, s, file, func(*snapshot.Watcher) {})
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				first, rest, _ := strings.Cut(string(text), "\n")
				first = strings.Replace(first[9:], fmt.Sprintf(",%q", tc.lacked), "", 1) + "\n"
				sum := crc32.Checksum([]byte(first), crc32.MakeTable(crc32.Castagnoli))
				if err := os.WriteFile(file, fmt.Appendf(nil, "%08x %s%s", sum, first, rest), 0o600); err != nil {
					t.Fatal(err)
				}
				runFor(t, s, file, func(w *snapshot.Watcher) {
					time.Sleep(time.Second)
					serves(t, w, "first")
					if got := w.Status(); got.Loads != tc.loads {
						t.Errorf("status %+v", got)
					}
				})
			})
		})
	}
}

// What cannot be used is not served, the log says why, and the source's is put in its place.
func TestFilesOfNoUseAreReplaced(t *testing.T) {
	kept := func(keys *snapshot.Keys, format int) string {
		file := filepath.Join(t.TempDir(), "good")
		l := snapshot.NewLastGood(file, 1<<20)
		if err := errors.Join(l.Replace(keys, newPast(t, keys).give), l.Close()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, rest, _ := strings.Cut(string(text), "\n")
		first = strings.Replace(first[9:], `"file":1`, fmt.Sprintf(`"file":%d`, format), 1) + "\n"
		return fmt.Sprintf("%08x %s%s", crc32.Checksum([]byte(first), crc32.MakeTable(crc32.Castagnoli)), first, rest)
	}
	for _, c := range []struct{ name, content, reason string }{
		{"empty", "", "ends too early"},
		{"no line of ours", "?\n", "line at byte 0"},
		{"a line without a checksum", `{"format":1,"counts":{}}` + "\n", "line at byte 0"},
		{"a head alone", strings.Join(strings.SplitAfter(kept(mustKeys(t, keyA), 1), "\n")[:2], ""), "ends too early"},
		{"another sync key", kept(mustKeys(t, keyB), 1), `sync key "b", which is not among the keys held`},
		{"no sync key", kept(nil, 1), "neither sealed nor signed"},
		{"another format", kept(mustKeys(t, keyA), 2), "format 2, this program reads 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, file := newStage(t), filepath.Join(t.TempDir(), "good")
				if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
				var log strings.Builder
				s.fail(errors.New("down"))
				w := snapshot.NewWatcher(s, &snapshot.WatcherOptions{Keys: s.keys, File: file,
					Logger: slog.New(slog.NewTextHandler(&log, nil))})
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
				if v, err := snapshot.ReadLastGood(file, s.keys); err != nil || v.Position() != s.now.head.Position {
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
				runFor(t, s, file, func(*snapshot.Watcher) { s.delta("second") })
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(os.WriteFile(file, c.torn(text), 0o600),
					os.WriteFile(file+".new", []byte("half"), 0o600)); err != nil {
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
	if err := l.Replace(nil, p.give); err != nil {
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
				s.change(snapshot.Change(keyDoc(t, "first", func(k *snapshot.KeyDoc) { k.Name = fmt.Sprint(i, big) })))
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
		if k, ok := v.Key("first"); !ok || v.Position() != s.now.head.Position || !strings.HasPrefix(k.Name, "11x") {
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
			s.delta("second")
			synctest.Wait()
			serves(t, w, "first", "second")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
			s.delta("third")
		})
		if v, err := snapshot.ReadLastGood(file, s.keys); err != nil || v.Position() != s.now.head.Position {
			t.Errorf("the file was not made when the disk was well again: %v", err)
		}
	})
}

// What a watcher refuses to serve does not get into its file either, when that has to be made anew.
func TestTheFileIsNotMadeOfWhatIsRefused(t *testing.T) {
	for name, bad := range map[string]func(s *stage) *edition{
		"before what is served": func(s *stage) *edition { return s.snap(2, 3, "first") },
		"of another catalog": func(s *stage) *edition {
			e := s.snap(3, 1, "first")
			e.head.Store = "another"
			e.sign()
			return e
		},
		"empty": func(s *stage) *edition { return s.snap(3, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, file := newStage(t), filepath.Join(t.TempDir(), "good")
				holds := func(want snapshot.Position) {
					t.Helper()
					v, err := snapshot.ReadLastGood(file, s.keys)
					if err != nil || v.Position() != want {
						t.Errorf("the file is not of %s: %v", want, err)
					}
				}
				runFor(t, s, file, func(w *snapshot.Watcher) {
					old := s.now.head.Position
					if err := os.Mkdir(file+".new", 0o700); err != nil { // no whole can be written
						t.Fatal(err)
					}
					s.replace(2, 5, "first", "second")
					time.Sleep(5 * time.Second)
					serves(t, w, "first", "second")
					s.rewind()
					s.put(bad(s))
					if err := os.Remove(file + ".new"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Minute)
					holds(old)
					if w.Status().FileError == "" {
						t.Error("nobody is told that the file is old")
					}
					s.replace(4, 1, "third")
					time.Sleep(2 * time.Minute)
					holds(s.now.head.Position)
					if got := w.Status().FileError; got != "" {
						t.Errorf("the file is new, and the status says %q", got)
					}
				})
			})
		})
	}
}

func TestSecretsInTheFileStaySealed(t *testing.T) {
	keys, file := mustKeys(t, keyA), filepath.Join(t.TempDir(), "good")
	e := newEdition(keys, sealedProvider(t, keys, sealedFor(7, "openai", "", "", ""),
		snapshot.ProviderDoc{ID: 7, Name: "p", Type: "openai", Weight: 1}))
	t.Run("", func(t *testing.T) {
		watcher := watch(t, e.published(t), snapshot.WatcherOptions{Keys: keys, File: file})
		<-watcher.Ready()
		if p, found := watcher.View().Provider(7); !found || p.APIKey.Reveal() != "secret" {
			t.Error("the secret is not opened in the view")
		}
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("enc:v1:a:")) || bytes.Contains(text, []byte(`"secret`)) {
		t.Errorf("file: %s", text)
	}
}

// A disk that hangs holds up neither loading nor following.
func TestADiskThatIsSlowDelaysLoadsShortly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "good")
		k := snapshot.NewIdleKeeper(file)
		begun := time.Now()
		k.Begin(newEdition(nil).head)
		big := make([]byte, 1<<20)
		for range 100 {
			k.Add([]snapshot.Change{{Kind: catalog.KindKey, Key: "k", Doc: big}})
		}
		if took := time.Since(begun); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("a load of 100 MiB waited %s for a disk that hangs", took)
		}
		if n := k.Pending(); n > 64<<20 {
			t.Errorf("%d bytes are kept", n)
		}
	})
}
