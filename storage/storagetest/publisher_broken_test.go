package storagetest

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// broken is a publisher in which single methods are replaced.
type broken struct {
	snapshot.Publisher
	swallow error // of Apply, Repair, Publish and Report: this error becomes success
	ageless bool  // reports do not grow old

	head      func(ctx context.Context) (snapshot.Head, error)
	load      func(ctx context.Context, into snapshot.Loader) error
	next      func(ctx context.Context, after snapshot.Position) (snapshot.Delta, error)
	lookup    func(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error)
	documents func(ctx context.Context, k catalog.Kind) iter.Seq2[snapshot.Document, error]
	setBeat   func(ctx context.Context, b snapshot.Beat) error
	apply     func(ctx context.Context, over snapshot.Base, d snapshot.Delta) error
	repair    func(ctx context.Context, over snapshot.Base, changes []snapshot.Change) error
	stage     func(ctx context.Context) (snapshot.Staging, error)
	report    func(ctx context.Context, n snapshot.Node) (snapshot.Answer, error)
	reportAll func(ctx context.Context, nodes []snapshot.Node) []error
	nodes     func(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error)
}

func (b *broken) filter(err error) error {
	if b.swallow != nil && errors.Is(err, b.swallow) {
		return nil
	}
	return err
}

func (b *broken) Head(ctx context.Context) (snapshot.Head, error) {
	if b.head != nil {
		return b.head(ctx)
	}
	return b.Publisher.Head(ctx)
}

func (b *broken) Load(ctx context.Context, into snapshot.Loader) error {
	if b.load != nil {
		return b.load(ctx, into)
	}
	return b.Publisher.Load(ctx, into)
}

func (b *broken) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	if b.next != nil {
		return b.next(ctx, after)
	}
	return b.Publisher.Next(ctx, after)
}

func (b *broken) Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
	if b.lookup != nil {
		return b.lookup(ctx, k, keys...)
	}
	return b.Publisher.Lookup(ctx, k, keys...)
}

func (b *broken) Documents(ctx context.Context, k catalog.Kind) iter.Seq2[snapshot.Document, error] {
	if b.documents != nil {
		return b.documents(ctx, k)
	}
	return b.Publisher.Documents(ctx, k)
}

func (b *broken) SetBeat(ctx context.Context, beat snapshot.Beat) error {
	if b.setBeat != nil {
		return b.setBeat(ctx, beat)
	}
	return b.Publisher.SetBeat(ctx, beat)
}

func (b *broken) Apply(ctx context.Context, over snapshot.Base, d snapshot.Delta) error {
	if b.apply != nil {
		return b.apply(ctx, over, d)
	}
	return b.filter(b.Publisher.Apply(ctx, over, d))
}

func (b *broken) Repair(ctx context.Context, over snapshot.Base, changes []snapshot.Change) error {
	if b.repair != nil {
		return b.repair(ctx, over, changes)
	}
	return b.filter(b.Publisher.Repair(ctx, over, changes))
}

func (b *broken) Stage(ctx context.Context) (snapshot.Staging, error) {
	if b.stage != nil {
		return b.stage(ctx)
	}
	s, err := b.Publisher.Stage(ctx)
	return &brokenStaging{Staging: s, filter: b.filter}, err
}

func (b *broken) Report(ctx context.Context, n snapshot.Node) (snapshot.Answer, error) {
	if b.report != nil {
		return b.report(ctx, n)
	}
	a, err := b.Publisher.Report(ctx, n)
	return a, b.filter(err)
}

func (b *broken) ReportAll(ctx context.Context, nodes []snapshot.Node) []error {
	if b.reportAll != nil {
		return b.reportAll(ctx, nodes)
	}
	return b.batch(ctx, nodes)
}

func (b *broken) Nodes(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
	if b.nodes != nil {
		return b.nodes(ctx, q)
	}
	return b.Publisher.Nodes(ctx, q)
}

// brokenStaging is a staging in which single methods are replaced.
type brokenStaging struct {
	snapshot.Staging
	filter  func(error) error
	add     func(ctx context.Context, changes []snapshot.Change) error
	publish func(ctx context.Context, over snapshot.Base, head snapshot.Head) error
}

func (s *brokenStaging) Add(ctx context.Context, changes []snapshot.Change) error {
	if s.add != nil {
		return s.add(ctx, changes)
	}
	return s.filter(s.Staging.Add(ctx, changes))
}

func (s *brokenStaging) Publish(ctx context.Context, over snapshot.Base, head snapshot.Head) error {
	if s.publish != nil {
		return s.publish(ctx, over, head)
	}
	return s.filter(s.Staging.Publish(ctx, over, head))
}

// staging replaces methods of every staging.
func (b *broken) staging(spoil func(s *brokenStaging)) {
	b.stage = func(ctx context.Context) (snapshot.Staging, error) {
		inner, err := b.Publisher.Stage(ctx)
		s := &brokenStaging{Staging: inner, filter: b.filter}
		spoil(s)
		return s, err
	}
}

func headForgets(b *broken) {
	b.head = func(ctx context.Context) (snapshot.Head, error) {
		h, err := b.Publisher.Head(ctx)
		if err != nil {
			return h, err
		}
		fields := h.Fields()
		for name := range fields {
			if strings.HasSuffix(name, "_later") {
				delete(fields, name)
			}
		}
		return snapshot.ParseHead(fields)
	}
}

func headUnsigned(b *broken) {
	b.head = func(ctx context.Context) (snapshot.Head, error) {
		h, err := b.Publisher.Head(ctx)
		if err != nil {
			return h, err
		}
		fields := h.Fields()
		fields["sig"] = ""
		return snapshot.ParseHead(fields)
	}
}

// passing is a loader that changes what passes.
type passing struct {
	snapshot.Loader
	begin func(snapshot.Head) ([]catalog.Kind, error)
	add   func([]snapshot.Change) error
	end   func(snapshot.Head) error
}

func (p passing) Begin(h snapshot.Head) ([]catalog.Kind, error) {
	if p.begin != nil {
		return p.begin(h)
	}
	return p.Loader.Begin(h)
}

func (p passing) Add(c []snapshot.Change) error {
	if p.add != nil {
		return p.add(c)
	}
	return p.Loader.Add(c)
}

func (p passing) End(h snapshot.Head) error {
	if p.end != nil {
		return p.end(h)
	}
	return p.Loader.End(h)
}

func loadTorn(b *broken) {
	b.load = func(ctx context.Context, into snapshot.Loader) error {
		head, err := b.Head(ctx)
		if err != nil {
			return err
		}
		return b.Publisher.Load(
			ctx,
			passing{Loader: into, end: func(snapshot.Head) error { return into.End(head) }},
		)
	}
}

func loadSpaces(b *broken) {
	b.load = func(ctx context.Context, into snapshot.Loader) error {
		return b.Publisher.Load(ctx, passing{Loader: into, add: func(changes []snapshot.Change) error {
			for i := range changes {
				changes[i].Doc = bytes.TrimSpace(changes[i].Doc)
			}
			return into.Add(changes)
		}})
	}
}

func loadAll(b *broken) {
	b.load = func(ctx context.Context, into snapshot.Loader) error {
		return b.Publisher.Load(ctx, passing{Loader: into, begin: func(h snapshot.Head) ([]catalog.Kind, error) {
			_, err := into.Begin(h)
			return snapshot.Kinds(), err
		}})
	}
}

func loadDeaf(b *broken) {
	b.load = func(ctx context.Context, into snapshot.Loader) error {
		return b.Publisher.Load(ctx, passing{Loader: into, add: func(changes []snapshot.Change) error {
			_ = into.Add(changes)
			return nil
		}})
	}
}

func loadShared(b *broken) {
	var shared []snapshot.Change
	b.load = func(ctx context.Context, into snapshot.Loader) error {
		return b.Publisher.Load(ctx, passing{Loader: into, add: func(changes []snapshot.Change) error {
			for i, c := range changes {
				at := slices.IndexFunc(shared, func(s snapshot.Change) bool { return s.Kind == c.Kind && s.Key == c.Key })
				if at < 0 {
					shared = append(shared, c)
				} else {
					changes[i].Doc = shared[at].Doc
				}
			}
			return into.Add(changes)
		}})
	}
}

func nextShared(b *broken) {
	var deltas sync.Map
	b.next = func(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
		d, err := b.Publisher.Next(ctx, after)
		if err != nil {
			return d, err
		}
		shared, _ := deltas.LoadOrStore(after, d)
		return shared.(snapshot.Delta), nil
	}
}

func nextNewest(b *broken) {
	b.next = func(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
		d, err := b.Publisher.Next(ctx, after)
		for err == nil {
			head, headErr := b.Head(ctx)
			if headErr != nil || d.Head.Position == head.Position {
				break
			}
			d, err = b.Publisher.Next(ctx, d.Head.Position)
		}
		return d, err
	}
}

func nextNever(b *broken) {
	b.next = func(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
		head, err := b.Head(ctx)
		if err == nil && head.Position == after {
			return snapshot.Delta{From: after, Head: head}, nil
		}
		return b.Publisher.Next(ctx, after)
	}
}

func nextOutlives(b *broken) {
	b.next = func(_ context.Context, after snapshot.Position) (snapshot.Delta, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		return b.Publisher.Next(ctx, after)
	}
}

// nextGapless waits instead of telling of a gap.
func nextGapless(b *broken) {
	b.next = func(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
		d, err := b.Publisher.Next(ctx, after)
		if errors.Is(err, snapshot.ErrGap) {
			select {
			case <-ctx.Done():
				return d, ctx.Err()
			case <-time.After(time.Second):
				return d, errors.New("nothing came")
			}
		}
		return d, err
	}
}

func nextShort(b *broken) {
	b.next = func(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
		d, err := b.Publisher.Next(ctx, after)
		d.Changes = d.Changes[:min(len(d.Changes), snapshot.MaxPartDocs)]
		return d, err
	}
}

func lookupSorted(b *broken) {
	b.lookup = func(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
		docs, err := b.Publisher.Lookup(ctx, k, keys...)
		slices.SortFunc(docs, func(a, b snapshot.Document) int { return strings.Compare(a.Key, b.Key) })
		return docs, err
	}
}

func lookupFills(b *broken) {
	b.lookup = func(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
		var all []snapshot.Document
		for _, key := range keys {
			docs, err := b.Publisher.Lookup(ctx, k, key)
			if err != nil {
				return nil, err
			}
			if len(docs) == 0 {
				docs = []snapshot.Document{{Kind: k, Key: key}}
			}
			all = append(all, docs...)
		}
		return all, nil
	}
}

func lookupAnyKind(b *broken) {
	b.lookup = func(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
		docs, err := b.Publisher.Lookup(ctx, k, keys...)
		if errors.Is(err, catalog.ErrInvalid) {
			return nil, nil
		}
		return docs, err
	}
}

// lookupRemembers keeps documents that were found once.
func lookupRemembers(b *broken) {
	var seen sync.Map
	b.lookup = func(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
		docs, err := b.Publisher.Lookup(ctx, k, keys...)
		if len(docs) > 0 {
			seen.Store(k, docs)
		} else if kept, ok := seen.Load(k); ok && err == nil {
			docs = kept.([]snapshot.Document)
		}
		return docs, err
	}
}

func documentsShort(b *broken) {
	b.documents = func(ctx context.Context, k catalog.Kind) iter.Seq2[snapshot.Document, error] {
		return func(yield func(snapshot.Document, error) bool) {
			n := 0
			for d, err := range b.Publisher.Documents(ctx, k) {
				if n++; n > 1000 || !yield(d, err) {
					return
				}
			}
		}
	}
}

func documentsOutlive(b *broken) {
	b.documents = func(_ context.Context, k catalog.Kind) iter.Seq2[snapshot.Document, error] {
		return b.Publisher.Documents(context.Background(), k)
	}
}

func beatJudged(b *broken) {
	b.setBeat = func(ctx context.Context, beat snapshot.Beat) error {
		if last, err := b.LastBeat(ctx); err == nil && last.At.After(beat.At) {
			return nil
		}
		return b.Publisher.SetBeat(ctx, beat)
	}
}

func (b *broken) base(ctx context.Context) snapshot.Base {
	head, err := b.Head(ctx)
	if err != nil {
		return snapshot.Base{}
	}
	return head.Base()
}

func applyAnywhere(b *broken) {
	b.apply = func(ctx context.Context, _ snapshot.Base, d snapshot.Delta) error {
		head, _ := b.Head(ctx)
		d.From = head.Position
		return b.Publisher.Apply(ctx, b.base(ctx), d)
	}
}

func applyUnsigned(b *broken) {
	b.apply = func(ctx context.Context, over snapshot.Base, d snapshot.Delta) error {
		over.Sig = b.base(ctx).Sig
		return b.Publisher.Apply(ctx, over, d)
	}
}

func applyNotEmpty(b *broken) {
	b.apply = func(ctx context.Context, over snapshot.Base, d snapshot.Delta) error {
		if len(d.Changes) == 0 {
			return nil
		}
		return b.Publisher.Apply(ctx, over, d)
	}
}

func applyNothing(b *broken) {
	b.apply = func(context.Context, snapshot.Base, snapshot.Delta) error { return nil }
}

func repairNothing(b *broken) {
	b.repair = func(context.Context, snapshot.Base, []snapshot.Change) error { return nil }
}

func repairAnywhere(b *broken) {
	b.repair = func(ctx context.Context, _ snapshot.Base, changes []snapshot.Change) error {
		return b.Publisher.Repair(ctx, b.base(ctx), changes)
	}
}

func repairPublishes(b *broken) {
	b.repair = func(ctx context.Context, over snapshot.Base, changes []snapshot.Change) error {
		head, err := b.Head(ctx)
		if err != nil {
			return err
		}
		if err := b.Publisher.Repair(ctx, over, changes); err != nil {
			return err
		}
		fields := head.Fields()
		d := snapshot.Delta{From: head.Position, Head: head}
		fields["revision"] = at(0, head.Position.Revision+1).String()[2:]
		if d.Head, err = snapshot.ParseHead(fields); err != nil {
			return err
		}
		return b.filter(b.Publisher.Apply(ctx, over, d))
	}
}

func wholeAnywhere(b *broken) {
	b.staging(func(s *brokenStaging) {
		s.publish = func(ctx context.Context, _ snapshot.Base, head snapshot.Head) error {
			return s.Staging.Publish(ctx, b.base(ctx), head)
		}
	})
}

// wholeNothing lets the first through.
func wholeNothing(b *broken) {
	b.staging(func(s *brokenStaging) {
		s.publish = func(ctx context.Context, over snapshot.Base, head snapshot.Head) error {
			if _, err := b.Head(ctx); err == nil {
				return nil
			}
			return s.Staging.Publish(ctx, over, head)
		}
	})
}

func wholeEarly(b *broken) {
	b.staging(func(s *brokenStaging) {
		s.add = func(ctx context.Context, changes []snapshot.Change) error {
			if head, err := b.Head(ctx); err == nil {
				_ = b.Publisher.Repair(ctx, head.Base(), changes)
			}
			return s.Staging.Add(ctx, changes)
		}
	})
}

func wholeDeaf(b *broken) {
	b.staging(func(s *brokenStaging) {
		seen := false
		s.add = func(ctx context.Context, changes []snapshot.Change) error {
			if seen {
				return nil
			}
			seen = true
			return s.Staging.Add(ctx, changes)
		}
	})
}

func wholeShort(b *broken) {
	b.staging(func(s *brokenStaging) {
		n := 0
		s.add = func(ctx context.Context, changes []snapshot.Change) error {
			if n += len(changes); n > 10_000 {
				return nil
			}
			return s.Staging.Add(ctx, changes)
		}
		s.publish = func(ctx context.Context, over snapshot.Base, head snapshot.Head) error {
			err := s.Staging.Publish(ctx, over, head)
			if errors.Is(err, snapshot.ErrCorrupt) {
				return nil
			}
			return err
		}
	})
}

func (b *broken) listed(change func(q snapshot.NodeQuery, l *snapshot.NodeList)) {
	b.nodes = func(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
		l, err := b.Publisher.Nodes(ctx, q)
		change(q, &l)
		return l, err
	}
}

func nodesReversed(b *broken) {
	b.listed(func(_ snapshot.NodeQuery, l *snapshot.NodeList) { slices.Reverse(l.Nodes) })
}

func nodesTrusted(b *broken) {
	b.listed(func(_ snapshot.NodeQuery, l *snapshot.NodeList) {
		for i := range l.Nodes {
			l.Nodes[i].SeenAt = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
		}
	})
}

func nodesUnsigned(b *broken) {
	b.listed(func(_ snapshot.NodeQuery, l *snapshot.NodeList) {
		for i, n := range l.Nodes {
			l.Nodes[i] = snapshot.Node{ID: n.ID, Position: n.Position, Kinds: n.Kinds, SeenAt: n.SeenAt}
		}
	})
}

func nodesAll(b *broken) {
	b.nodes = func(ctx context.Context, _ snapshot.NodeQuery) (snapshot.NodeList, error) {
		return b.Publisher.Nodes(ctx, snapshot.NodeQuery{})
	}
}

func (b *broken) reported(change func(n *snapshot.Node, a *snapshot.Answer)) {
	b.report = func(ctx context.Context, n snapshot.Node) (snapshot.Answer, error) {
		change(&n, nil)
		a, err := b.Publisher.Report(ctx, n)
		change(&n, &a)
		return a, err
	}
}

func nodesStay(b *broken) {
	b.reported(func(n *snapshot.Node, _ *snapshot.Answer) { n.Leaving = false })
}

func nodesNew(b *broken) {
	b.reported(func(n *snapshot.Node, _ *snapshot.Answer) { n.Age = 0 })
}

func nodesMute(b *broken) {
	b.reported(func(_ *snapshot.Node, a *snapshot.Answer) {
		if a != nil {
			*a = snapshot.Answer{}
		}
	})
}
