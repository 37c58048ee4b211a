package storagetest

import (
	"context"
	"errors"
	"slices"

	"github.com/ez-api/ez-api/snapshot"
)

// batch records many reports at once as it should be done.
func (b *broken) batch(ctx context.Context, nodes []snapshot.Node) []error {
	return b.Publisher.(snapshot.BatchReporter).ReportAll(ctx, nodes)
}

func batchShort(b *broken) {
	b.reportAll = func(ctx context.Context, nodes []snapshot.Node) []error {
		errs := make([]error, len(nodes))
		copy(errs, b.batch(ctx, nodes[:min(len(nodes), 1000)]))
		return errs
	}
}

// batchChanged changes each report.
func (b *broken) batchChanged(change func(n *snapshot.Node)) {
	b.reportAll = func(ctx context.Context, nodes []snapshot.Node) []error {
		nodes = slices.Clone(nodes)
		for i := range nodes {
			change(&nodes[i])
		}
		return b.batch(ctx, nodes)
	}
}

func batchStays(b *broken) { b.batchChanged(func(n *snapshot.Node) { n.Leaving = false }) }

func batchNew(b *broken) { b.batchChanged(func(n *snapshot.Node) { n.Age = 0 }) }

// batchLast compares reports with what was kept before the call, and not with each other.
func batchLast(b *broken) {
	b.reportAll = func(ctx context.Context, nodes []snapshot.Node) []error {
		nodes = slices.Clone(nodes)
		first := map[string]int{}
		for i, n := range nodes {
			if at, twice := first[n.ID]; twice {
				nodes[at].Position = n.Position
			} else {
				first[n.ID] = i
			}
		}
		return b.batch(ctx, nodes)
	}
}

func batchStops(b *broken) {
	b.reportAll = func(ctx context.Context, nodes []snapshot.Node) []error {
		errs := make([]error, len(nodes))
		for i := range nodes {
			if errs[i] = b.batch(ctx, nodes[i:i+1])[0]; errs[i] != nil {
				break
			}
		}
		return errs
	}
}

func batchJoins(b *broken) {
	b.reportAll = func(ctx context.Context, nodes []snapshot.Node) []error {
		errs := b.batch(ctx, nodes)
		all := errors.Join(errs...)
		for i := range errs {
			errs[i] = all
		}
		return errs
	}
}

func batchErrors(b *broken) {
	b.reportAll = func(ctx context.Context, nodes []snapshot.Node) []error {
		return slices.DeleteFunc(b.batch(ctx, nodes), func(err error) bool { return err == nil })
	}
}

func batchOutlives(b *broken) {
	b.reportAll = func(_ context.Context, nodes []snapshot.Node) []error {
		return b.batch(context.Background(), nodes)
	}
}
