package storagetest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// brokenStores are all ways in which the suite's own tests break a store.
var brokenStores = []struct {
	name   string // what is wrong
	caught string // by which test
	spoil  func(*fakeStore)
}{
	{"the store has no name", "an empty store", headEdited(func(h *catalog.Head) { h.Store = "" })},
	{"MarkAt makes up marks", "an empty store", markAtAnywhere},
	{"Commit forgets a field", "every field", entityEdited(func(e *catalog.Entity) { e.DueAt = time.Time{} })},
	{"Commit trims texts", "every field", entityEdited(func(e *catalog.Entity) { e.Name = strings.TrimSpace(e.Name) })},
	{"Commit sorts lists", "every field", entityEdited(func(e *catalog.Entity) { slices.Sort(e.Groups) })},
	{"Commit takes numbers for floats", "every field", entityEdited(specFloats)},
	{"Commit keeps milliseconds", "every field",
		entityEdited(func(e *catalog.Entity) { e.UpdatedAt = e.UpdatedAt.Truncate(time.Millisecond) })},
	{"Commit keeps times in a local zone", "every field",
		entityEdited(func(e *catalog.Entity) { e.CreatedAt = e.CreatedAt.In(time.FixedZone("", 3600)) })},
	{"an update merges", "every field", commitMerges},
	{"Commit sets revisions in what it is given", "what a commit leaves alone", commitScribbles},
	{"Commit touches all of the kind", "what a commit leaves alone", commitTouches},

	{"Commit updates whatever is there", "entities at their revision", commitAnywhere},
	{"Commit misses what it updates", "entities at their revision", errorEdited(catalog.ErrConflict, catalog.ErrNotFound)},
	{"Commit deletes what is gone", "entities at their revision", commitDeletesNothing},
	{"Commit is never quiet", "quiet changes", commitEdited(func(c *catalog.Commit) {
		for i := range c.Writes {
			c.Writes[i].Quiet = false
		}
	})},
	{"Commit ignores its base", "the catalog at its revision", commitEdited(func(c *catalog.Commit) { c.Base = 0 })},
	{"Commit ignores its base without writes", "the catalog at its revision", commitEdited(func(c *catalog.Commit) {
		if len(c.Writes) == 0 && !c.Sync {
			c.Base = 0
		}
	})},
	{"values are unique without case", "unique values",
		entityEdited(func(e *catalog.Entity) { e.NaturalKey = strings.ToLower(e.NaturalKey) })},
	{"values are unique across kinds", "unique values", commitUniqueAcross},
	{"Commit says nothing of what is taken", "unique values", errorEdited(catalog.ErrExists, nil)},
	{"values are looked at before the first write", "unique values change hands", commitUniqueBefore},
	{"values are looked at after each write", "unique values change hands", commitUniqueEach},
	{"Commit writes an entity twice", "unique values change hands", commitDropsSecond},
	{"values that were refused stay taken", "unique values change hands", commitRemembers},
	{"references are looked at after each write", "references", commitReferencesFirst},
	{"the clock stands still", "the clock of a view",
		readerEdited(func(r *fakeReader) { r.now = func() time.Time { return storeTime } })},
	{"the clock runs in a view", "the clock of a view",
		readerEdited(func(r *fakeReader) { r.now = func() time.Time { return time.Now().UTC() } })},
	{"the clock is a local one", "the clock of a view", readerEdited(func(r *fakeReader) {
		now := r.now
		r.now = func() time.Time { return now().In(time.FixedZone("", 3600)) }
	})},
	{"bindings alone are looked at for references", "references of every noun", entityEdited(func(e *catalog.Entity) {
		if e.Kind != catalog.KindBinding {
			e.Ref = ""
		}
	})},
	{"what is below a path is not found", "paths", listEdited(func(q *catalog.Query) {
		if q.RefUnder != "" {
			q.Refs, q.RefUnder = []string{q.RefUnder}, ""
		}
	})},
	{"any name will do for a reference", "references", commitRefersToAll},
	{"List ignores references", "referrers", listEdited(func(q *catalog.Query) { q.Refs = nil })},
	{"the two ends of a reference are mixed up", "references", commitMixesEnds},
	{"Commit knows no bounds", "bounds of a commit", commitEdited(func(c *catalog.Commit) { c.Caps = nil })},
	{"bounds are looked at before the first write", "bounds of a commit", commitBoundsFirst},
	{"bounds hold for the project alone", "bounds of a commit", commitBoundsShallow},
	{"bounds are looked at before the commit", "races for room", commitBoundsRacy},
	{"Commit leaves what came before the failure", "refused commits leave no trace", commitHalf},
	{"Commit takes a revision for nothing", "commits without writes",
		commitEdited(func(c *catalog.Commit) { c.Sync = c.Sync || len(c.Writes) == 0 })},
	{"the epoch is set, not raised", "sync commits", headEpochLast},
	{"every commit raises the epoch", "sync commits", commitRaises},
	{"Commit forgets the sync beside writes", "sync commits",
		commitEdited(func(c *catalog.Commit) { c.Sync = c.Sync && len(c.Writes) == 0 })},
	{"Commit goes in pieces", "large commits", commitPieces},
	{"Commit outlives its context", "commits that are canceled", commitOutlives},

	{"revisions have gaps", "revisions have no gaps", commitGaps},
	{"Commit returns the head as it then is", "revisions have no gaps", commitReadsBack},
	{"Commit looks first and writes later", "no update is lost", commitRacy},
	{"Commit tells losers that they won", "races for a value", errorEdited(catalog.ErrExists, nil)},
	{"Commit lets bindings and models pass each other", "races for a reference", errorEdited(catalog.ErrReferenced, nil)},
	{"NextIDs reserves one", "ids", nextIDsOne},
	{"NextIDs reserves none", "ids", nextIDsLenient},

	{"Read wraps the error", "the error of a read", readWraps},
	{"Find looks everywhere", "find", findEverywhere},
	{"Find takes nothing for a value", "find", findEmpty},
	{"Find ignores blanks", "find", findTrims},
	{"List ignores the status", "filters", listEdited(func(q *catalog.Query) { q.Status = "" })},
	{"List ignores labels that are empty", "filters", listEdited(listLabels)},
	{"List includes what is due right then", "filters", listEdited(func(q *catalog.Query) {
		if !q.DueBefore.IsZero() {
			q.DueBefore = q.DueBefore.Add(time.Microsecond)
		}
	})},
	{"List takes the first of the groups", "random queries",
		listEdited(func(q *catalog.Query) { q.Groups = q.Groups[:min(1, len(q.Groups))] })},
	{"a text ends at NUL", "texts that nothing has",
		findEdited(func(_ catalog.Kind, _ catalog.Index, value string) string {
			text, _, _ := strings.Cut(value, "\x00")
			return text
		})},
	{"Commit composes characters", "values as people have them", entityEdited(func(e *catalog.Entity) {
		e.ExternalID = strings.ReplaceAll(e.ExternalID, "e\u0301", "é")
	})},
	{"List ignores mentions", "filters", listEdited(func(q *catalog.Query) { q.Mentions = nil })},
	{"List counts what it does not select", "pages", listLimitsFirst},
	{"List searches with the case", "filters", listSearchesExactly},
	{"Count counts a page", "filters", countEdited(func(*catalog.Query) {})},
	{"Count ignores what is searched for", "random queries", countEdited(func(q *catalog.Query) {
		q.After, q.Limit, q.Text = 0, 0, ""
	})},
	{"List is in order of what was asked for", "filters", listAsAsked},
	{"a view moves on", "a view stays as it is", readNewest},
	{"Read is in the way of Commit", "a view stays as it is", readLocks},
	{"a view is made of two", "reads while others write", readNewest},
	{"what is read is kept", "aliasing", getShared},
	{"changes that are read are kept", "aliasing", changesShared},
	{"what is written is kept", "aliasing", commitShared},

	{"Changes finish the revision", "the feed", changesWhole},
	{"Changes begin the revision anew", "the feed", changesAnew},
	{"Changes forget their places", "the feed", changesEdited(func(c []catalog.Change, _ int) []catalog.Change {
		for i := range c {
			c[i].Seq = 0
		}
		return c
	})},
	{"Changes are one revision", "the feed", changesOne},
	{"Changes come sorted by id", "the feed", changesEdited(changesByID)},
	{"Changes say themselves who did it", "the feed", changesTrusted},
	{"Changes ignore the kinds", "kinds in the feed", changesOf(func([]catalog.Kind) []catalog.Kind { return nil })},
	{"Changes know one kind", "kinds in the feed", changesOf(func(k []catalog.Kind) []catalog.Kind {
		return k[:min(1, len(k))]
	})},
	{"Changes count other kinds", "kinds in the feed", changesOfKinds},
	{"a pruned kind is not missed", "pruning", changesLenientOfKinds},
	{"MarkAt knows the head", "marks", markAtHead},
	{"pruned changes are not missed", "pruning", changesLenient},
	{"pruning counts revisions", "pruning", pruneCounts},
	{"pruning includes the time", "pruning", pruneIncludes},
	{"a date ahead keeps what came after it", "pruning what is dated ahead", pruneStopsAhead},
	{"Commit has a clock of its own", "dates of commits",
		commitEdited(func(c *catalog.Commit) { c.Time = c.Time.Add(time.Hour) })},
	{"thinning forgets what people did", "thinning", commitEdited(func(c *catalog.Commit) { c.Machine = true })},
	{"thinning forgets nothing", "thinning", commitEdited(func(c *catalog.Commit) { c.Machine = false })},
	{"thinning forgets revisions whole", "thinning", func(s *fakeStore) { s.thin = s.memory.PruneChanges }},
	{"thinning includes the time", "thinning", thinIncludes},
	{"thinning is kept secret", "thinning", headEdited(func(h *catalog.Head) { h.Thinned = 0 })},
	{"thinning is announced late", "thinning", headEdited(func(h *catalog.Head) { h.Thinned = max(h.Thinned-1, 0) })},
	{"what was thinned seems pruned", "thinning", changesWithoutGaps},
	{"a view is thinned", "thinning", readNewest},

	{"Wait asks now and then", "wait", waitPolls},
	{"Wait returns the next revision", "wait", waitNextOnly},
	{"Wait wakes all of them by any revision", "wait", waitSpurious},
	{"Wait hears of nothing", "wait for other processes", waitDeaf},
	{"Wait gives up", "wait for nothing", waitGivesUp},
	{"Wait outlives its context", "wait ends with its context", waitOutlives},
	{"closing does nothing", "closed stores", func(s *fakeStore) { s.close = func() error { return nil } }},
	{"a closed store still answers what it knows", "closed stores", waitAfterClose},

	{"Commit misses what it is to delete", "model of a store", commitMissesAbsent},
	{"Commit does not do all", "owners at once", commitEdited(func(c *catalog.Commit) { c.Writes = c.Writes[:1] })},
	{"the feed forgets what was", "desired states", commitEdited(func(c *catalog.Commit) {
		for i := range c.Writes {
			c.Writes[i].Change.Before = nil
		}
	})},
}

// TestStoreSuiteCatches runs single tests of the suite against stores that are
// broken in one way each: the test must fail. Every test of the suite has a store
// that it catches.
func TestStoreSuiteCatches(t *testing.T) {
	quickRapid(t)
	caught := make(map[string]bool)
	for _, c := range brokenStores {
		caught[c.caught] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for range 5 { // some ask at random, and miss what is wrong once in ten times
				s := newFakeStore(memstore.New(nil))
				c.spoil(s)
				if failsStoreTest(t, c.caught, s.harness()) {
					return
				}
			}
			t.Errorf("the test %q does not notice", c.caught)
		})
	}
	for _, c := range storeCases {
		if !caught[c.name] {
			t.Errorf("no broken store shows that the test %q can fail", c.name)
		}
	}
}

// TestStoreSuitePasses: what the broken stores are made of is sound.
func TestStoreSuitePasses(t *testing.T) {
	RunStore(t, func(testing.TB) StoreHarness { return newFakeStore(memstore.New(nil)).harness() })
}

// failsStoreTest runs one test of the suite, and reports whether it fails.
func failsStoreTest(t *testing.T, name string, h StoreHarness) bool {
	t.Helper()
	i := slices.IndexFunc(storeCases, func(c storeCase) bool { return c.name == name })
	if i < 0 {
		t.Fatalf("the suite has no test %q", name)
	}
	if missing := storeCases[i].needs(h); missing != "" {
		t.Fatalf("the test %q does not run: the engine %s", name, missing)
	}
	return failsAlone(t, func(tb testing.TB) { storeCases[i].test(tb, h) })
}

// fakeStore is a store in memory whose functions are there to be broken.
type fakeStore struct {
	memory  *memstore.Store
	commit  func(context.Context, catalog.Commit) (catalog.Revision, error)
	read    func(context.Context, func(catalog.Reader) error) error
	nextIDs func(context.Context, int) (int64, error)
	wait    func(context.Context, catalog.Revision) (catalog.Revision, error)
	prune   func(context.Context, time.Time) (int64, error)
	thin    func(context.Context, time.Time) (int64, error)
	close   func() error
}

func newFakeStore(memory *memstore.Store) *fakeStore {
	return &fakeStore{
		memory: memory, commit: memory.Commit, read: memory.Read, nextIDs: memory.NextIDs,
		wait: memory.Wait, prune: memory.PruneChanges, thin: memory.ThinChanges, close: memory.Close,
	}
}

func (s *fakeStore) harness() StoreHarness {
	return StoreHarness{Store: s, Second: s, Close: func(t testing.TB) {
		if err := s.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}}
}

func (s *fakeStore) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	return s.commit(ctx, c)
}

func (s *fakeStore) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	return s.read(ctx, fn)
}

func (s *fakeStore) NextIDs(ctx context.Context, n int) (int64, error) { return s.nextIDs(ctx, n) }

func (s *fakeStore) Wait(ctx context.Context, after catalog.Revision) (catalog.Revision, error) {
	return s.wait(ctx, after)
}

func (s *fakeStore) PruneChanges(ctx context.Context, before time.Time) (int64, error) {
	return s.prune(ctx, before)
}

func (s *fakeStore) ThinChanges(ctx context.Context, before time.Time) (int64, error) {
	return s.thin(ctx, before)
}

// feedQuery is what Changes is asked for.
type feedQuery struct {
	after catalog.Cursor
	limit int
	kinds []catalog.Kind
}

// fakeReader is a reader whose functions are there to be broken.
type fakeReader struct {
	head    func() catalog.Head
	now     func() time.Time
	get     func(context.Context, catalog.Kind, int64) (catalog.Entity, error)
	find    func(context.Context, catalog.Kind, catalog.Index, string) (catalog.Entity, error)
	list    func(context.Context, catalog.Kind, catalog.Query) ([]catalog.Entity, error)
	count   func(context.Context, catalog.Kind, catalog.Query) (int64, error)
	changes func(context.Context, feedQuery) ([]catalog.Change, error)
	markAt  func(context.Context, catalog.Revision) (catalog.Mark, error)
}

// spoilReader breaks every reader of a store.
func (s *fakeStore) spoilReader(spoil func(*fakeReader)) {
	read := s.read
	s.read = func(ctx context.Context, fn func(catalog.Reader) error) error {
		return read(ctx, func(r catalog.Reader) error {
			f := &fakeReader{head: r.Head, now: r.Now, get: r.Get, find: r.Find, list: r.List, count: r.Count,
				markAt: r.MarkAt}
			f.changes = func(ctx context.Context, q feedQuery) ([]catalog.Change, error) {
				return r.Changes(ctx, q.after, q.limit, q.kinds...)
			}
			spoil(f)
			return fn(f)
		})
	}
}

func (r *fakeReader) Head() catalog.Head { return r.head() }

func (r *fakeReader) Now() time.Time { return r.now() }

func (r *fakeReader) Get(ctx context.Context, k catalog.Kind, id int64) (catalog.Entity, error) {
	return r.get(ctx, k, id)
}

func (r *fakeReader) Find(ctx context.Context, k catalog.Kind, by catalog.Index, value string) (catalog.Entity, error) {
	return r.find(ctx, k, by, value)
}

func (r *fakeReader) List(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
	return r.list(ctx, k, q)
}

func (r *fakeReader) Count(ctx context.Context, k catalog.Kind, q catalog.Query) (int64, error) {
	return r.count(ctx, k, q)
}

func (r *fakeReader) Changes(
	ctx context.Context, after catalog.Cursor, limit int, kinds ...catalog.Kind,
) ([]catalog.Change, error) {
	return r.changes(ctx, feedQuery{after, limit, kinds})
}

func (r *fakeReader) MarkAt(ctx context.Context, rev catalog.Revision) (catalog.Mark, error) {
	return r.markAt(ctx, rev)
}
