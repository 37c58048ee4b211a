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

// refuser is a loader that refuses at one place.
type refuser struct {
	collector
	begin, add, end error
}

func (r *refuser) Begin(head snapshot.Head) ([]catalog.Kind, error) {
	if r.begin != nil {
		return nil, r.begin
	}
	return r.collector.Begin(head)
}

func (r *refuser) Add(changes []snapshot.Change) error {
	if r.add != nil {
		return r.add
	}
	return r.collector.Add(changes)
}

func (r *refuser) End(head snapshot.Head) error {
	if r.end != nil {
		return r.end
	}
	return r.collector.End(head)
}

// testLoader: the loader chooses the kinds, and its errors are those of Load.
func testLoader(t testing.TB, h PublisherHarness) {
	l := published(t, h)
	mustFollow(t, h.Publisher, l, put(catalog.KindKey, "k", `{}`))
	c := &collector{kinds: []catalog.Kind{catalog.KindProvider}}
	if err := h.Second.Load(t.Context(), c); err != nil {
		t.Fatalf("Load of one kind: %v", err)
	}
	if len(c.docs) != 2 || !c.ended {
		t.Fatalf("Load of one kind gave %v", c.docs)
	}
	none := &collector{kinds: []catalog.Kind{}}
	if err := h.Second.Load(t.Context(), none); err != nil || len(none.docs) > 0 || !none.ended {
		t.Fatalf("Load of no kinds gave %v, %v", none.docs, err)
	}
	mine := errors.New("the loader does not want it")
	for name, r := range map[string]*refuser{
		"begin": {begin: mine}, "add": {add: mine}, "end": {end: mine},
		"end, damaged": {end: fmt.Errorf("%w: %w", snapshot.ErrCorrupt, mine)},
	} {
		mustFail(t, "Load whose loader refuses at "+name, h.Second.Load(t.Context(), r), mine)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := load(ctx, h.Second)
	mustFail(t, "Load with a context that has ended", err, context.Canceled)
}

// testLoadTorn loads while others publish. Each publish writes its revision
// into fifty documents; a snapshot that holds two revisions is torn.
func testLoadTorn(t testing.TB, h PublisherHarness) {
	const publishes, generation, filler = 100, 50, 2000
	stamp := func(r catalog.Revision) []snapshot.Change {
		changes := make([]snapshot.Change, 0, generation+2)
		for i := range generation {
			kind := snapshot.Kinds()[i%len(snapshot.Kinds())]
			changes = append(changes, put(kind, fmt.Sprint("stamp-", i), fmt.Sprintf(`{"revision":%d}`, r)))
		}
		return append(
			changes,
			put(catalog.KindKey, fmt.Sprint("come-", r%7), `{}`),
			del(catalog.KindKey, fmt.Sprint("come-", (r+3)%7)),
		)
	}
	var docs []snapshot.Change
	for i := range filler {
		docs = append(docs, put(catalog.KindKey, fmt.Sprintf("%064x", i), `{"filler":true}`))
	}
	l := newLineage(at(10, 100), append(docs, stamp(100)...)...)
	mustPublish(t, h.Publisher, snapshot.Base{}, l)

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
				whole, err := load(t.Context(), s)
				if err != nil {
					t.Errorf("Load while others publish: %v", err)
					return
				}
				if torn := tear(whole); torn != "" {
					t.Errorf("Load at %s is torn: %s", whole.head.Position, torn)
					return
				}
				if last.After(whole.head.Position) {
					t.Errorf("Load went back from %s to %s", last, whole.head.Position)
					return
				}
				last = whole.head.Position
				loads[reader]++
				if _, err := s.Head(t.Context()); err != nil {
					t.Errorf("Head while others publish: %v", err)
					return
				}
			}
		})
	}
	for i := range publishes {
		over := l.base()
		r := l.head.Position.Revision + 1
		switch {
		case i%20 == 19:
			l.moveTo(at(l.head.Position.Epoch+1, r), stamp(r)...)
			mustPublish(t, h.Publisher, over, l)
		case i%20 == 10: // in many parts
			mustApply(
				t,
				h.Publisher,
				over,
				l.moveTo(at(l.head.Position.Epoch, r), append(stamp(r), manyKeys(1500, i)...)...),
			)
		default:
			mustApply(t, h.Publisher, over, l.moveTo(at(l.head.Position.Epoch, r), stamp(r)...))
		}
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

// tear says what is torn in what was loaded, "" when nothing is.
func tear(c *collector) string {
	want := fmt.Sprintf(`{"revision":%d}`, c.head.Position.Revision)
	for name, doc := range c.docs {
		if strings.HasPrefix(name.key, "stamp-") && string(doc) != want {
			return fmt.Sprintf("%s %s is %s", name.kind, name.key, doc)
		}
	}
	if err := c.End(c.head); err != nil {
		return err.Error()
	}
	return ""
}

// testModel does random things and compares with a lineage.
func testModel(t testing.TB, h PublisherHarness) {
	epoch := catalog.Epoch(0)
	changes := rapid.Custom(func(r *rapid.T) []snapshot.Change {
		return rapid.SliceOfNDistinct(rapid.Custom(func(r *rapid.T) snapshot.Change {
			c := snapshot.Change{
				Kind: rapid.SampledFrom(append(snapshot.Kinds(), "gizmos")).Draw(r, "kind"),
				Key:  rapid.SampledFrom([]string{"a", "b", "c", "d.e", "ü"}).Draw(r, "key"),
			}
			if rapid.Bool().Draw(r, "put") {
				c.Doc = fmt.Appendf(nil, `{"text":%q}`, rapid.StringN(0, 20, 40).Draw(r, "text"))
			}
			return c
		}), 0, 6, func(c snapshot.Change) docName { return docName{c.Kind, c.Key} }).Draw(r, "changes")
	})
	steps := rapid.IntRange(1, 3)
	last := snapshot.Base{}

	checkSome(t, 40, func(r *rapid.T) {
		in := inRapid{t, r}
		epoch += 100
		l := newLineage(at(epoch, 1), changes.Draw(r, "docs")...)
		mustPublish(in, h.Publisher, last, l)
		last = l.base()
		var history []snapshot.Delta // since the last whole
		r.Repeat(map[string]func(*rapid.T){
			"apply": func(r *rapid.T) {
				to := l.head.Position
				to.Revision += catalog.Revision(steps.Draw(r, "revisions"))
				d := l.moveTo(to, changes.Draw(r, "changes")...)
				mustApply(in, h.Publisher, last, d)
				last = l.base()
				history = append(history, d)
			},
			"apply stale": func(r *rapid.T) {
				off := l.clone()
				off.head.Position.Revision += catalog.Revision(rapid.SampledFrom([]int{-1, 1, 2}).Draw(r, "off"))
				over := snapshot.Head{Position: off.head.Position}.Base()
				mustFail(
					in,
					"Apply over another head",
					h.Second.Apply(t.Context(), over, off.next(changes.Draw(r, "changes")...)),
					snapshot.ErrStale,
				)
			},
			"repair": func(r *rapid.T) {
				spoilt := changes.Draw(r, "spoilt")
				for i, c := range spoilt {
					spoilt[i].Doc = l.docs[docName{c.Kind, c.Key}]
				}
				if err := h.Second.Repair(t.Context(), last, spoilt); err != nil {
					r.Fatalf("Repair: %v", err)
				}
			},
			"whole": func(r *rapid.T) {
				to := l.head.Position
				if rapid.Bool().Draw(r, "new epoch") {
					to = at(to.Epoch+1, catalog.Revision(steps.Draw(r, "revision")))
				} else {
					to.Revision++
				}
				l = newLineage(to, changes.Draw(r, "docs")...)
				mustPublish(in, h.Second, last, l)
				last = l.base()
				history = nil
			},
			"whole stale": func(r *rapid.T) {
				stale := newLineage(at(l.head.Position.Epoch+1, 1), changes.Draw(r, "docs")...)
				mustFail(
					in,
					"a whole over another head",
					publishWhole(t.Context(), h.Publisher, stale.base(), stale),
					snapshot.ErrStale,
				)
			},
			"next": func(r *rapid.T) {
				if len(history) == 0 {
					return
				}
				want := rapid.SampledFrom(history).Draw(r, "delta")
				sameDelta(in, mustNext(in, h.Second, want.From), want)
			},
			"look": func(*rapid.T) { mustHold(in, h.Publisher, l) },
		})
		mustHold(in, h.Publisher, l)
	})
}

// inRapid lets the helpers fail a rapid test, so that it shrinks.
type inRapid struct {
	testing.TB
	r *rapid.T
}

func (t inRapid) Helper()                           { t.r.Helper() }
func (t inRapid) Fatalf(format string, args ...any) { t.r.Fatalf(format, args...) }
func (t inRapid) Errorf(format string, args ...any) { t.r.Errorf(format, args...) }
