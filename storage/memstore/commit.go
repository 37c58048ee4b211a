package memstore

import (
	"context"
	"fmt"

	"github.com/ez-api/ez-api/catalog"
)

// Commit implements [catalog.Store].
func (s *Store) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	if err := s.alive(ctx); err != nil {
		return 0, err
	}
	if err := c.Check(); err != nil {
		return 0, fmt.Errorf("memstore: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Base != 0 && c.Base != s.head.Revision {
		return 0, fmt.Errorf("memstore: the catalog is at revision %d: %w", s.head.Revision, catalog.ErrConflict)
	}
	if len(c.Writes) == 0 && !c.Sync {
		return s.head.Revision, nil
	}
	revision := s.head.Revision + 1
	if err := s.apply(c, revision); err != nil {
		return 0, fmt.Errorf("memstore: %w", err)
	}
	s.head.Revision, s.head.Mark, s.head.Time = revision, newMark(), c.Time
	if c.Sync {
		s.head.Epoch = max(s.head.Epoch, c.Epoch)
	}
	s.commits = append(s.commits, commitMark{revision, s.head.Mark, c.Time, c.Machine})
	s.record(c, revision)
	s.collect()
	s.moved.Raise(revision)
	return revision, nil
}

// apply writes the versions of the revision, or none.
func (s *Store) apply(c catalog.Commit, revision catalog.Revision) (err error) {
	done := 0
	defer func() {
		if err != nil {
			for _, w := range c.Writes[:done] {
				s.tables[w.Entity.Kind].undo(w.Entity.ID, revision)
			}
		}
	}()
	for _, w := range c.Writes {
		if err := s.tables[w.Entity.Kind].checkRevision(w); err != nil {
			return err
		}
	}
	for _, w := range c.Writes {
		var e *catalog.Entity
		if !w.Delete {
			clone := w.Entity.Clone()
			if clone.Revision = revision; w.Quiet {
				clone.Revision = w.If
			}
			e = &clone
		}
		s.tables[w.Entity.Kind].put(w.Entity.ID, version{revision, e})
		done++
	}
	for _, w := range c.Writes {
		if err := s.tables[w.Entity.Kind].checkUnique(w); err != nil {
			return err
		}
	}
	if err := s.checkReferences(c); err != nil {
		return err
	}
	return s.checkCaps(c)
}

// checkCaps counts what the commit has bounds for, after its last write.
func (s *Store) checkCaps(c catalog.Commit) error {
	for _, limit := range c.Caps {
		t, n := s.tables[limit.Kind], int64(0)
		for _, id := range t.candidates(catalog.Query{RefUnder: limit.RefUnder}) {
			if e := t.newest(id); e != nil && (catalog.Query{RefUnder: limit.RefUnder}).Match(*e) {
				n++
			}
		}
		if n > limit.Max {
			return fmt.Errorf("there is no room for more %s: %w", limit.Kind, catalog.ErrConflict)
		}
	}
	return nil
}

// checkReferences looks at what a commit may have broken, after its last write.
func (s *Store) checkReferences(c catalog.Commit) error {
	for _, w := range c.Writes {
		kind, id := w.Entity.Kind, w.Entity.ID
		now, before := s.tables[kind].newest(id), s.tables[kind].at(id, s.head.Revision)
		if now != nil && now.Ref != "" && !s.isThere(kind, now.Ref) {
			return catalog.Dangling(kind)
		}
		if before == nil {
			continue
		}
		for _, k := range catalog.Kinds() {
			ref := k.RefTo(*before)
			// Another may have taken its place.
			if ref != "" && !s.isThere(k, ref) && s.tables[k].refersTo(ref) {
				return catalog.Referenced(kind)
			}
		}
	}
	return nil
}

// isThere reports whether what entities of a kind refer to by ref is there now.
func (s *Store) isThere(kind catalog.Kind, ref string) (ok bool) {
	t, _ := kind.Target(ref) // see catalog.Commit.Check
	if t.ID != 0 {
		return s.tables[t.Kind].newest(t.ID) != nil
	}
	_, ok = s.tables[t.Kind].holder(catalog.ByNaturalKey, t.NaturalKey)
	return ok
}

// record adds the commit's changes to the feed, and notes what became garbage.
func (s *Store) record(c catalog.Commit, revision catalog.Revision) {
	seq := 0
	add := func(change catalog.Change) {
		seq++
		change.Revision, change.Seq, change.Time, change.Actor, change.Reason = revision, seq, c.Time, c.Actor, c.Reason
		s.changes = append(s.changes, change)
	}
	for _, w := range c.Writes {
		add(w.Change.Clone())
		s.garbage = append(s.garbage, garbage{revision, w.Entity.Kind, w.Entity.ID})
		s.lastID = max(s.lastID, w.Entity.ID)
	}
	if c.Sync {
		add(c.SyncChange())
	}
}

// collect drops the versions that no read can see any more.
func (s *Store) collect() {
	oldest := s.head.Revision
	for revision := range s.readers {
		oldest = min(oldest, revision)
	}
	n := 0
	for n < len(s.garbage) && s.garbage[n].revision <= oldest {
		g := s.garbage[n]
		s.tables[g.kind].forget(g.id, g.revision)
		n++
	}
	if n > 0 {
		s.garbage = append(s.garbage[:0], s.garbage[n:]...)
	}
}
