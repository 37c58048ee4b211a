// Package customstore shows an engine of one's own, in its smallest useful
// form: a catalog.Store that puts something in front of another. This one
// writes an audit trail of its own and counts what goes through.
//
// Whatever you build instead, a store over another database for one, has to pass
// storagetest.RunStore, as the test of this package does in one line.
package customstore

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
)

// Engine is what the control plane uses of a store. Embedding an interface hides what else a value can
// do, so the optional interfaces are named: without them, changes are never pruned and alerts not kept.
type Engine interface {
	catalog.Store
	catalog.Pruner
	alerts.Outbox
}

var _ Engine = (*Store)(nil)

// Store passes everything on to another store. It is safe for concurrent use.
type Store struct {
	Engine // all but Commit stays as it is

	trail   *slog.Logger
	commits atomic.Int64
	refused atomic.Int64
}

// New returns a store in front of inner that tells trail about every commit.
func New(inner Engine, trail *slog.Logger) *Store {
	return &Store{Engine: inner, trail: trail}
}

// Commit implements [catalog.Store]. Errors go through as they are, because
// callers match them.
func (s *Store) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	begin := time.Now()
	revision, err := s.Engine.Commit(ctx, c)
	took := slog.Duration("took", time.Since(begin))
	switch {
	case errors.Is(err, catalog.ErrConflict):
		s.refused.Add(1) // somebody was faster: the caller reads again and retries
		return revision, err
	case err != nil:
		s.refused.Add(1)
		s.trail.WarnContext(ctx, "commit refused", "actor", c.Actor, "writes", len(c.Writes), "error", err, took)
		return revision, err
	}
	s.commits.Add(1)
	for _, w := range c.Writes {
		// Kind and id, and no content: Before and After are redacted, but a
		// trail lives longer than what it is about.
		s.trail.InfoContext(ctx, string(w.Change.Action), "kind", w.Change.Kind, "id", w.Change.ID,
			"revision", revision, "actor", c.Actor, "reason", c.Reason, took)
	}
	return revision, nil
}

// Stats returns how many commits were made, and how many were refused.
func (s *Store) Stats() (commits, refused int64) { return s.commits.Load(), s.refused.Load() }
