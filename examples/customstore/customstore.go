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
)

var (
	_ catalog.Store  = (*Store)(nil)
	_ catalog.Pruner = (*Store)(nil)
)

// Store passes everything on to another store. It is safe for concurrent use.
type Store struct {
	catalog.Store // Read, NextIDs and Wait stay as they are

	trail   *slog.Logger
	commits atomic.Int64
	refused atomic.Int64
}

// New returns a store in front of inner that tells trail about every commit.
func New(inner catalog.Store, trail *slog.Logger) *Store {
	return &Store{Store: inner, trail: trail}
}

// Commit implements [catalog.Store]. Errors go through as they are, because
// callers match them.
func (s *Store) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	begin := time.Now()
	revision, err := s.Store.Commit(ctx, c)
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

// PruneChanges implements [catalog.Pruner]. Embedding an interface hides what
// else a store can do; optional interfaces have to be passed on by hand.
func (s *Store) PruneChanges(ctx context.Context, before time.Time) (int64, error) {
	if p, ok := s.Store.(catalog.Pruner); ok {
		return p.PruneChanges(ctx, before)
	}
	return 0, nil
}

// ThinChanges implements [catalog.Pruner].
func (s *Store) ThinChanges(ctx context.Context, before time.Time) (int64, error) {
	if p, ok := s.Store.(catalog.Pruner); ok {
		return p.ThinChanges(ctx, before)
	}
	return 0, nil
}

// Stats returns how many commits were made, and how many were refused.
func (s *Store) Stats() (commits, refused int64) { return s.commits.Load(), s.refused.Load() }
