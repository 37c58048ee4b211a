package httpapi

import (
	"context"
	"fmt"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/snapshot"
)

// followEvery is how often balancers are asked how far they have come.
const followEvery = 20 * time.Millisecond

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
	sync, nodes := h.applied(ctx, at)
	return request.Progress{Sync: sync, Nodes: nodes}
}

// published waits until a revision is published, and returns the position.
func (h *Handler) published(ctx context.Context, revision catalog.Revision) (snapshot.Position, bool) {
	for {
		head, err := h.plane.Sync(ctx)
		if err == nil && head.Position.Revision >= revision {
			return head.Position, true
		}
		if !sleep(ctx, followEvery) {
			return snapshot.Position{}, false
		}
	}
}

// applied waits until every live balancer has a position.
func (h *Handler) applied(ctx context.Context, at snapshot.Position) (sync, nodes string) {
	sync = "published"
	for {
		list, err := h.plane.Publisher().Nodes(ctx)
		if err == nil {
			count := map[snapshot.NodeState]int{}
			for _, n := range list {
				count[n.State(at, time.Now())]++
			}
			nodes = fmt.Sprintf("applied=%d lagging=%d lost=%d", count[snapshot.NodeApplied], count[snapshot.NodeLagging], count[snapshot.NodeLost])
			switch {
			case count[snapshot.NodeLagging] > 0:
				sync = "pending"
			case count[snapshot.NodeApplied] > 0:
				return "applied", nodes
			default:
				return "published", nodes
			}
		} else if ctx.Err() == nil {
			sync = "pending"
		}
		if !sleep(ctx, followEvery) {
			return sync, nodes
		}
	}
}

// sleep waits, and reports whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
