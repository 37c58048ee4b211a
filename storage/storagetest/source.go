package storagetest

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// SourceHarness is what [RunSource] needs of a source.
type SourceHarness struct {
	// Source is under test.
	Source snapshot.Source

	// Publisher publishes what Source reads. Nothing was published yet.
	Publisher snapshot.Publisher

	// History is a number of deltas after which the oldest is gone for sure.
	// Zero says that none is ever forgotten.
	History int

	// Age makes every report so far look older. Nil when that cannot be done.
	Age func(t testing.TB, by time.Duration)
}

// RunSource tests everything that [snapshot.Source] demands, on a source that
// reads what another engine publishes. It calls open once for each test, and open
// uses its argument's Cleanup.
func RunSource(t *testing.T, open func(t testing.TB) SourceHarness) {
	RunPublisher(t, func(t testing.TB) PublisherHarness {
		h := open(t)
		p := through{h.Source, h.Publisher}
		return PublisherHarness{Publisher: p, Second: p, History: h.History, Age: h.Age}
	})
}

// through is a publisher that is read through a source.
type through struct {
	snapshot.Source
	publisher snapshot.Publisher
}

func (p through) Apply(ctx context.Context, over snapshot.Base, d snapshot.Delta) error {
	return p.publisher.Apply(ctx, over, d)
}

func (p through) Repair(ctx context.Context, over snapshot.Base, changes []snapshot.Change) error {
	return p.publisher.Repair(ctx, over, changes)
}

func (p through) Stage(ctx context.Context) (snapshot.Staging, error) { return p.publisher.Stage(ctx) }

func (p through) Documents(ctx context.Context, k catalog.Kind) iter.Seq2[snapshot.Document, error] {
	return p.publisher.Documents(ctx, k)
}

func (p through) SetBeat(ctx context.Context, b snapshot.Beat) error {
	return p.publisher.SetBeat(ctx, b)
}

func (p through) Nodes(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
	return p.publisher.Nodes(ctx, q)
}
