package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// faultySource is a source that gives wrong answers as a test draws them: of all that was ever
// published, or spoilt.
type faultySource struct {
	mu     sync.Mutex
	now    *edition
	past   []*edition // as they were published
	deltas []snapshot.Delta
	moved  chan struct{}
	draw   func(n int) int // 0 is no fault
	beat   snapshot.Beat
}

var errFault = errors.New("connection reset")

func (f *faultySource) fault(n int) int {
	if f.draw == nil {
		return 0
	}
	return f.draw(n)
}

func (f *faultySource) Head(context.Context) (snapshot.Head, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.fault(4) {
	case 1:
		return snapshot.Head{}, errFault
	case 2:
		return snapshot.Head{}, snapshot.ErrNone
	case 3:
		return f.past[f.draw(len(f.past))].head, nil
	}
	return f.now.head, nil
}

// Load gives a whole, an old one, half of one, or one with something in the wrong place.
func (f *faultySource) Load(_ context.Context, into snapshot.Loader) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, fault := f.now, f.fault(9)
	switch fault {
	case 1:
		return errFault
	case 2:
		return snapshot.ErrNone
	case 3, 4:
		e = f.past[f.draw(len(f.past))]
	}
	kinds, err := into.Begin(e.head)
	if err != nil {
		return err
	}
	all := e.all(kinds...)
	switch {
	case fault == 5 && len(all) > 0:
		all = all[1:]
	case fault == 6:
		all = append(all, f.past[f.draw(len(f.past))].all(kinds...)...)
	case fault == 7 && len(all) > 0:
		all[0].Doc = append(slices.Clone(all[0].Doc), ' ')
	}
	if err := into.Add(all); err != nil {
		return err
	}
	head := e.head
	if fault == 8 {
		head = f.past[f.draw(len(f.past))].head
	}
	return into.End(head)
}

// Next gives the right delta, or any other.
func (f *faultySource) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	for {
		f.mu.Lock()
		i := slices.IndexFunc(f.deltas, func(d snapshot.Delta) bool { return d.From == after })
		at, moved, fault := f.now.head.Position, f.moved, f.fault(9)
		var d snapshot.Delta
		if len(f.deltas) > 0 && i >= 0 {
			d = f.deltas[i]
		}
		if fault > 3 && len(f.deltas) > 0 {
			other := f.deltas[f.draw(len(f.deltas))]
			switch fault {
			case 4:
				d = other
			case 5:
				d.Changes = other.Changes
			case 6:
				d.Head = other.Head
			case 7:
				d.From, d.Head, d.Changes = after, other.Head, other.Changes
			case 8:
				d.Changes = append(slices.Clone(d.Changes), other.Changes...)
			}
			f.mu.Unlock()
			return d, nil
		}
		f.mu.Unlock()
		switch {
		case fault == 1:
			return snapshot.Delta{}, errFault
		case fault == 2:
			return snapshot.Delta{}, snapshot.ErrGap
		case fault == 3:
			return snapshot.Delta{}, snapshot.ErrCorrupt
		case i >= 0:
			return d, nil
		case at != after:
			return snapshot.Delta{}, snapshot.ErrGap
		}
		select {
		case <-ctx.Done():
			return snapshot.Delta{}, ctx.Err()
		case <-moved:
		}
	}
}

func (f *faultySource) LastBeat(context.Context) (snapshot.Beat, error) { return f.beat, nil }

func (f *faultySource) Lookup(context.Context, catalog.Kind, ...string) ([]snapshot.Document, error) {
	return nil, errFault
}

func (f *faultySource) Report(context.Context, snapshot.Node) (snapshot.Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault(3) == 1 {
		return snapshot.Answer{}, errFault
	}
	return snapshot.Answer{Head: f.now.head.Base(), Live: f.fault(200_000)}, nil
}

// step is a publish.
type step struct {
	pause time.Duration
	token string
	gone  bool // the token's key, else it is put
	whole bool // published as a whole, with which the deltas begin anew
}

func drawSteps(rt *rapid.T) (steps []step) {
	for range rapid.IntRange(0, 12).Draw(rt, "publishes") {
		steps = append(steps, step{
			pause: time.Duration(rapid.IntRange(0, 3000).Draw(rt, "ms")) * time.Millisecond,
			token: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "token"),
			gone:  rapid.Bool().Draw(rt, "gone"),
			whole: rapid.IntRange(0, 5).Draw(rt, "whole") == 0,
		})
	}
	return steps
}

func (f *faultySource) publish(t testing.TB, s step) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := snapshot.Change(keyDoc(t, s.token, func(k *snapshot.KeyDoc) { k.Name = fmt.Sprint(len(f.past)) }))
	if s.gone {
		c.Doc = nil
	}
	f.now.head.Forced = true // it may become empty
	d := f.now.next(c)
	if s.whole {
		f.deltas = nil
	} else {
		f.deltas = append(f.deltas, d)
	}
	f.keep()
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *faultySource) keep() {
	was := *f.now
	was.docs = map[catalog.Kind]map[string][]byte{}
	for kind, docs := range f.now.docs {
		was.docs[kind] = maps.Clone(docs)
	}
	f.past = append(f.past, &was)
}

// Whatever a source answers: what is served was published, whole, and never goes back; and when the
// source is well, it is what is published.
func TestWatcherOfAFaultySource(t *testing.T) {
	for name, keys := range map[string]*snapshot.Keys{"signed": mustKeys(t, keyA), "unsigned": nil} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				seed, steps := rapid.Uint64().Draw(rt, "seed"), drawSteps(rt)
				var err error
				synctest.Test(t, func(t *testing.T) { err = followFaulty(t, keys, seed, steps) })
				if err != nil {
					rt.Fatal(err)
				}
			})
		})
	}
}

func followFaulty(t *testing.T, keys *snapshot.Keys, seed uint64, steps []step) error {
	f := &faultySource{now: newEdition(keys, keyDoc(t, "a", nil)), moved: make(chan struct{})}
	f.keep()
	var wrong error
	last := snapshot.Position{}
	check := func(v *snapshot.View) {
		f.mu.Lock()
		defer f.mu.Unlock()
		i := slices.IndexFunc(f.past, func(e *edition) bool { return e.head.Position == v.Position() })
		switch {
		case i < 0:
			wrong = fmt.Errorf("%s was never published", v.Position())
		case !v.Position().After(last):
			wrong = fmt.Errorf("it went from %s to %s", last, v.Position())
		default:
			for _, token := range []string{"a", "b", "c", "d"} {
				k, served := v.Key(token)
				text, published := f.past[i].docs[catalog.KindKey][catalog.HashToken(token)]
				if served != published || served && string(
					must(snapshot.Encode(catalog.HashToken(token), k.KeyDoc)).Doc) != string(text) {
					wrong = fmt.Errorf("%q at %s is served as %v, published as %s", token, v.Position(), k, text)
				}
			}
		}
		last = v.Position()
	}
	w := snapshot.NewWatcher(f, &snapshot.WatcherOptions{Keys: keys, OnApply: check, Logger: quiet()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	f.draw = newDraw(seed)
	go func() { done <- w.Run(ctx) }()
	for _, s := range steps {
		time.Sleep(s.pause)
		f.publish(t, s)
	}
	time.Sleep(time.Second)
	f.mu.Lock()
	f.draw = nil
	f.mu.Unlock()
	time.Sleep(30 * time.Second)
	if v := w.View(); v.Position() != f.now.head.Position {
		wrong = cmpOr(wrong, fmt.Errorf("it serves %s, published is %s: %+v", v.Position(), f.now.head.Position, w.Status()))
	}
	cancel()
	return errors.Join(<-done, wrong)
}
