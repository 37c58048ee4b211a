package httpapi

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/snapshot"
)

// follow waits until a commit is published, or applied by every live balancer,
// and returns what the headers EZ-Sync and EZ-Sync-Nodes say. The commit has
// been made: nothing that goes wrong here is an error.
func (h *Handler) follow(ctx context.Context, until string, limit time.Duration, revision catalog.Revision) request.Progress {
	if until == "" {
		return request.Progress{}
	}
	ctx, cancel := h.waiting(ctx, limit)
	defer cancel()
	at, ok := h.published(ctx, revision)
	if !ok {
		return request.Progress{Sync: "pending"}
	}
	if until == "published" {
		return request.Progress{Sync: "published"}
	}
	// What this process keeps in memory, the prices above all, is applied here.
	if err := h.plane.CatchUp(ctx, revision); err != nil {
		return request.Progress{Sync: "pending"}
	}
	return h.applied(ctx, at)
}

// published waits until a revision is published, and returns the position.
func (h *Handler) published(ctx context.Context, revision catalog.Revision) (at snapshot.Position, ok bool) {
	ok = h.heads.await(ctx, func(head snapshot.Head, err error) bool {
		at = head.Position
		return err == nil && at.Revision >= revision
	})
	return at, ok
}

// applied waits until every live balancer has a position.
func (h *Handler) applied(ctx context.Context, at snapshot.Position) request.Progress {
	last := request.Progress{Sync: "published"}
	h.fleet.await(ctx, func(f *fleet, err error) bool {
		if err != nil {
			if ctx.Err() == nil {
				last.Sync = "pending"
			}
			return false
		}
		t := f.tally(at)
		last = request.Progress{Sync: t.sync(), Nodes: t.String()}
		return t.lagging == 0
	})
	return last
}

// fleet is what all balancers have reported, at one time.
type fleet struct {
	nodes []snapshot.Node
	now   time.Time

	mu      sync.Mutex
	tallies map[snapshot.Position]tally // of the positions that were asked for
}

// readFleet asks for all reports.
func (h *Handler) readFleet(ctx context.Context) (*fleet, error) {
	nodes, err := h.plane.Publisher().Nodes(ctx)
	return &fleet{nodes: nodes, now: time.Now(), tallies: map[snapshot.Position]tally{}}, err
}

// tally counts how far the balancers are on the way to a position. Those that wait for
// the same position share one count.
func (f *fleet) tally(at snapshot.Position) tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, known := f.tallies[at]
	if known {
		return t
	}
	for _, n := range f.nodes {
		switch n.State(at, f.now) {
		case snapshot.NodeApplied:
			t.applied++
		case snapshot.NodeLagging:
			t.lagging++
		case snapshot.NodeLost:
			t.lost++
		}
	}
	f.tallies[at] = t
	return t
}

// tally counts balancers by how far they are.
type tally struct{ applied, lagging, lost int }

// String writes the tally as the header EZ-Sync-Nodes has it.
func (t tally) String() string {
	return fmt.Sprintf("applied=%d lagging=%d lost=%d", t.applied, t.lagging, t.lost)
}

// sync says how far a write is that waits to be applied.
func (t tally) sync() string {
	switch {
	case t.lagging > 0:
		return "pending"
	case t.applied > 0:
		return "applied"
	}
	return "published"
}
