package httpapi

import (
	"context"
	"fmt"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/snapshot"
)

// follow waits until a commit is published, or applied by every live balancer
// and by what every control plane keeps in memory, and returns what the headers EZ-Sync and
// EZ-Sync-Nodes say. The commit has been made: nothing that goes wrong here is an error.
func (h *Handler) follow(ctx context.Context, until string, limit time.Duration,
	revision catalog.Revision) request.Progress {
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
	return h.applied(ctx, at, revision)
}

// published waits until a revision is published, and returns the head.
func (h *Handler) published(ctx context.Context, revision catalog.Revision) (at snapshot.Head, ok bool) {
	ok = h.heads.await(ctx, func(head snapshot.Head, err error) bool {
		at = head
		return err == nil && at.Position.Revision >= revision
	})
	return at, ok
}

// applied waits until a revision, which is published at a head, is applied.
func (h *Handler) applied(ctx context.Context, at snapshot.Head, revision catalog.Revision) request.Progress {
	kinds, err := h.plane.Relay().Kinds(ctx, revision)
	if err != nil {
		return request.Progress{Sync: "pending"}
	}
	copied, err := catalog.Copied(ctx, h.plane.Store(), revision)
	if err == nil && copied {
		err = h.plane.Settle(ctx, revision)
	}
	if err != nil {
		return request.Progress{Sync: "pending"}
	}
	s, err := h.plane.Relay().Fleet().Applied(ctx, at, kinds...)
	if err != nil {
		return request.Progress{Sync: "pending"}
	}
	progress := request.Progress{Nodes: fmt.Sprintf("applied=%d lagging=%d lost=%d", s.Applied, s.Lagging, s.Lost)}
	switch {
	case s.Lagging > 0 || s.Crowded:
		progress.Sync = "pending"
	case s.Applied > 0:
		progress.Sync = "applied"
	default:
		progress.Sync = "published"
	}
	return progress
}
