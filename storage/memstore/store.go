package memstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/storage/internal/wake"
)

// Options change how a [Store] works. The zero value is fine, and so is nil.
type Options struct {
	// UUID names the store. Defaults to a random one.
	UUID string

	// Clock is the engine's clock, see [catalog.Reader]. Defaults to time.Now.
	Clock func() time.Time
}

// Store is a [catalog.Store] in memory. It is safe for concurrent use.
//
// Every entity is kept in versions, each valid from its revision on. A Read
// sees those of its revision, so it needs no copy and stops nobody; versions
// that no Read can see any more are dropped by the commits after.
type Store struct {
	moved  wake.Head
	clock  func() time.Time
	outbox outbox

	mu      sync.RWMutex
	head    catalog.Head
	lastID  int64
	tables  map[catalog.Kind]*table
	changes []catalog.Change // reads keep a part of these two: what is there is never overwritten
	commits []commitMark     // of every revision that was not pruned, in order
	readers map[catalog.Revision]int
	garbage []garbage // in order of revision

	close  sync.Once
	closed chan struct{}
}

// commitMark is what is known of a revision; the first of a store is that of
// revision 0, or of the last that was pruned.
type commitMark struct {
	revision catalog.Revision
	mark     catalog.Mark // empty once its changes were thinned out
	time     time.Time
	machine  bool
}

// garbage says that from the revision on, older versions of an entity are of use
// only to reads that began before.
type garbage struct {
	revision catalog.Revision
	kind     catalog.Kind
	id       int64
}

var (
	_ catalog.Store  = (*Store)(nil)
	_ catalog.Pruner = (*Store)(nil)
	_ alerts.Outbox  = (*Store)(nil)
)

// New returns an empty store.
func New(opts *Options) *Store {
	s := &Store{
		tables:  map[catalog.Kind]*table{},
		commits: []commitMark{{}},
		readers: map[catalog.Revision]int{},
		closed:  make(chan struct{}),
		clock:   time.Now,
		outbox:  outbox{known: map[string]bool{}},
	}
	if opts != nil {
		s.head.Store = opts.UUID
		if opts.Clock != nil {
			s.clock = opts.Clock
		}
	}
	if s.head.Store == "" {
		s.head.Store = uuid.NewString()
	}
	for _, k := range catalog.Kinds() {
		s.tables[k] = newTable()
	}
	return s
}

// Close ends the store; what it held is gone. Waits end with catalog.ErrClosed.
func (s *Store) Close() error {
	s.close.Do(func() { close(s.closed) })
	return nil
}

func (s *Store) alive(ctx context.Context) error {
	select {
	case <-s.closed:
		return fmt.Errorf("memstore: %w", catalog.ErrClosed)
	default:
		return ctx.Err()
	}
}

// Read implements [catalog.Store].
func (s *Store) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	now := s.clock().UTC() // before the view
	s.mu.Lock()
	r := &reader{store: s, head: s.head, now: now, changes: s.changes, commits: s.commits}
	s.readers[r.head.Revision]++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.readers[r.head.Revision]--; s.readers[r.head.Revision] == 0 {
			delete(s.readers, r.head.Revision)
		}
		r.over = true
	}()
	return fn(r)
}

// NextIDs implements [catalog.Store].
func (s *Store) NextIDs(ctx context.Context, n int) (int64, error) {
	if err := s.alive(ctx); err != nil {
		return 0, err
	}
	if n < 1 {
		return 0, fmt.Errorf("memstore: reserve %d ids: must be at least 1: %w", n, catalog.ErrInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.lastID + 1
	s.lastID += int64(n)
	return first, nil
}

// poll is how often Wait looks without being woken; every commit wakes it.
const poll = time.Hour

// Wait implements [catalog.Store].
func (s *Store) Wait(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
	if err := s.alive(ctx); err != nil {
		return 0, err
	}
	revision, err := s.moved.Wait(ctx, s.closed, after, poll, func(ctx context.Context) (catalog.Revision, error) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.head.Revision, s.alive(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("memstore: wait: %w", err)
	}
	return revision, nil
}

// PruneChanges implements [catalog.Pruner].
func (s *Store) PruneChanges(ctx context.Context, before time.Time) (int64, error) {
	if err := s.alive(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.lastBefore(before)
	if last == 0 {
		return 0, nil
	}
	s.commits = slices.Clone(s.commits[last:]) // the last stays as where the history begins
	n := sort.Search(len(s.changes), func(i int) bool { return s.changes[i].Revision > s.commits[0].revision })
	s.changes = slices.Clone(s.changes[n:])
	return int64(n), nil
}

// ThinChanges implements [catalog.Pruner].
func (s *Store) ThinChanges(ctx context.Context, before time.Time) (int64, error) {
	if err := s.alive(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.lastBefore(before)
	s.head.Thinned = max(s.head.Thinned, s.commits[last].revision)
	thinned := map[catalog.Revision]bool{}
	commits := slices.Clone(s.commits)
	for i := range commits[:last+1] {
		if c := &commits[i]; c.machine && c.mark != "" {
			c.mark, thinned[c.revision] = "", true
		}
	}
	if len(thinned) == 0 {
		return 0, nil
	}
	left := make([]catalog.Change, 0, len(s.changes))
	for _, c := range s.changes {
		if !thinned[c.Revision] {
			left = append(left, c)
		}
	}
	gone := len(s.changes) - len(left)
	s.changes, s.commits = left, commits
	return int64(gone), nil
}

// lastBefore returns the place of the last commit that is old enough to be forgotten; 0 for none.
func (s *Store) lastBefore(before time.Time) (last int) {
	latest := s.clock().Add(catalog.MaxSkew)
	for i := 1; i < len(s.commits)-1; i++ {
		if at := s.commits[i].time; !at.Before(before) && !at.After(latest) { // a later date is a wrong clock's
			break
		}
		last = i
	}
	return last
}

func newMark() catalog.Mark {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails: see crypto/rand.Read
	return catalog.Mark(hex.EncodeToString(random[:]))
}
