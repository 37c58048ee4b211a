package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// testLoadTorn loads while others publish. Each publish writes its revision
// into fifty documents; a snapshot that holds two revisions is torn.
func testLoadTorn(t testing.TB, h PublisherHarness) {
	const publishes, generation, filler = 100, 50, 2000
	stamp := func(r catalog.Revision) []snapshot.Change {
		changes := make([]snapshot.Change, 0, generation+2)
		for i := range generation {
			kind := catalog.Kinds()[i%len(catalog.Kinds())]
			changes = append(changes, put(kind, fmt.Sprint("stamp-", i), fmt.Sprintf(`{"revision":%d}`, r)))
		}
		return append(changes, put(catalog.KindKey, fmt.Sprint("come-", r%7), `{}`), del(catalog.KindKey, fmt.Sprint("come-", (r+3)%7)))
	}
	var docs []snapshot.Change
	for i := range filler {
		docs = append(docs, put(catalog.KindKey, fmt.Sprintf("%064x", i), `{"filler":true}`))
	}
	l := newLineage(at(10, 100), append(docs, stamp(100)...)...)
	mustReplace(t, h.Publisher, l)

	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	loads := make([]int, 3)
	for reader := range loads {
		s := h.Publisher
		if reader%2 == 1 {
			s = h.Second
		}
		readers.Go(func() {
			var last snapshot.Position
			for ctx.Err() == nil {
				whole, err := s.Load(t.Context())
				if err != nil {
					t.Errorf("Load while others publish: %v", err)
					return
				}
				if torn := tear(whole); torn != "" {
					t.Errorf("Load at %s is torn: %s", whole.Head.Position, torn)
					return
				}
				if last.After(whole.Head.Position) {
					t.Errorf("Load went back from %s to %s", last, whole.Head.Position)
					return
				}
				last = whole.Head.Position
				loads[reader]++
				if _, err := s.Head(t.Context()); err != nil {
					t.Errorf("Head while others publish: %v", err)
					return
				}
			}
		})
	}
	for i := range publishes {
		r := l.head.Position.Revision + 1
		if i%20 != 19 {
			mustApply(t, h.Publisher, l.moveTo(at(l.head.Position.Epoch, r), stamp(r)...))
			continue
		}
		l.moveTo(at(l.head.Position.Epoch+1, r), stamp(r)...)
		mustReplace(t, h.Publisher, l)
	}
	stop()
	readers.Wait()
	for _, n := range loads {
		if n == 0 && !t.Failed() {
			t.Error("a reader came to no Load while others published")
		}
	}
	mustHold(t, h.Publisher, l)
}

// tear says what is torn in a snapshot, "" when nothing is.
func tear(s *snapshot.Snapshot) string {
	want := fmt.Sprintf(`{"revision":%d}`, s.Head.Position.Revision)
	counts := make(snapshot.Counts)
	for _, d := range s.Docs {
		counts[d.Kind]++
		if strings.HasPrefix(d.Key, "stamp-") && string(d.Doc) != want {
			return fmt.Sprintf("%s %s is %s", d.Kind, d.Key, d.Doc)
		}
	}
	for k, n := range s.Head.Counts {
		if counts[k] != n {
			return fmt.Sprintf("%d %s, the head says %d", counts[k], k, n)
		}
	}
	if plainDigest(s.Docs) != s.Head.Digest {
		return "the digest is wrong"
	}
	return ""
}

// testModel does random things and compares with a lineage.
func testModel(t testing.TB, h PublisherHarness) {
	epoch := catalog.Epoch(0)
	changes := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) snapshot.Change {
		c := snapshot.Change{
			Kind: rapid.SampledFrom(catalog.Kinds()).Draw(r, "kind"),
			Key:  rapid.SampledFrom([]string{"a", "b", "c", "d.e", "ü"}).Draw(r, "key"),
		}
		if rapid.Bool().Draw(r, "put") {
			c.Doc = fmt.Appendf(nil, `{"text":%q}`, rapid.StringN(0, 20, 40).Draw(r, "text"))
		}
		return c
	}), 0, 6)
	steps := rapid.IntRange(1, 3)

	rapid.Check(t, func(r *rapid.T) {
		epoch += 100
		l := newLineage(at(epoch, 1), changes.Draw(r, "docs")...)
		mustReplaceIn(r, h.Publisher, l)
		var history []snapshot.Delta // since the last Replace
		r.Repeat(map[string]func(*rapid.T){
			"apply": func(r *rapid.T) {
				to := l.head.Position
				to.Revision += catalog.Revision(steps.Draw(r, "revisions"))
				d := l.moveTo(to, changes.Draw(r, "changes")...)
				if err := h.Publisher.Apply(t.Context(), d); err != nil {
					r.Fatalf("Apply: %v", err)
				}
				history = append(history, d)
			},
			"apply stale": func(r *rapid.T) {
				d := l.clone().next(changes.Draw(r, "changes")...)
				d.From.Revision += catalog.Revision(rapid.SampledFrom([]int{-2, -1, 1, 2}).Draw(r, "off"))
				if err := h.Second.Apply(t.Context(), d); !errors.Is(err, snapshot.ErrStale) {
					r.Fatalf("Apply from elsewhere: %v", err)
				}
			},
			"replace": func(r *rapid.T) {
				to := l.head.Position
				if rapid.Bool().Draw(r, "new epoch") {
					to = at(to.Epoch+1, catalog.Revision(steps.Draw(r, "revision")))
				} else {
					to.Revision++
				}
				l = newLineage(to, changes.Draw(r, "docs")...)
				mustReplaceIn(r, h.Second, l)
				history = nil
			},
			"replace stale": func(r *rapid.T) {
				stale := newLineage(l.head.Position, changes.Draw(r, "docs")...)
				if err := h.Publisher.Replace(t.Context(), stale.snapshot(), nil); !errors.Is(err, snapshot.ErrStale) {
					r.Fatalf("Replace to where the head is: %v", err)
				}
			},
			"next": func(r *rapid.T) {
				if len(history) == 0 {
					return
				}
				want := rapid.SampledFrom(history).Draw(r, "delta")
				sameDelta(inRapid{t, r}, mustNext(inRapid{t, r}, h.Second, want.From), want)
			},
			"look": func(r *rapid.T) { mustHold(inRapid{t, r}, h.Publisher, l) },
		})
		mustHold(inRapid{t, r}, h.Publisher, l)
	})
}

func mustReplaceIn(r *rapid.T, p snapshot.Publisher, l *lineage) {
	if err := p.Replace(context.Background(), l.snapshot(), nil); err != nil {
		r.Fatalf("Replace by %s: %v", l.head.Position, err)
	}
}

// inRapid lets the helpers fail a rapid test, so that it shrinks.
type inRapid struct {
	testing.TB
	r *rapid.T
}

func (t inRapid) Helper()                           { t.r.Helper() }
func (t inRapid) Fatalf(format string, args ...any) { t.r.Fatalf(format, args...) }
func (t inRapid) Errorf(format string, args ...any) { t.r.Errorf(format, args...) }
