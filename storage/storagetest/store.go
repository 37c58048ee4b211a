package storagetest

import (
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// StoreHarness is what [RunStore] needs of an engine.
type StoreHarness struct {
	// Store is under test, and empty. No other test uses its data. Where it
	// is a catalog.Pruner too, it is tested as that.
	Store catalog.Store

	// Second is another handle on the same data, as another process would
	// have. Nil when the engine has none: then Store takes its place.
	Second catalog.Store

	// Close ends Store, which then must refuse everything, and leaves Second
	// as it is. Nil when it cannot be closed.
	Close func(t testing.TB)
}

// RunStore tests everything that [catalog.Store] and [catalog.Reader] demand,
// and [catalog.Pruner] where it is implemented. It calls open once for each
// test, for several at once, and open uses its argument's Cleanup.
func RunStore(t *testing.T, open func(t testing.TB) StoreHarness) {
	for _, c := range storeCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := open(t).withDefaults()
			if missing := c.needs(h); missing != "" {
				t.Logf("nothing to test: the engine %s", missing)
				return
			}
			c.test(t, h)
		})
	}
}

func (h StoreHarness) withDefaults() StoreHarness {
	if h.Second == nil {
		h.Second = h.Store
	}
	return h
}

// storeCase is one test. It takes a testing.TB, so that the suite can be
// tested itself.
type storeCase struct {
	name  string
	needs func(StoreHarness) (missing string)
	test  func(t testing.TB, h StoreHarness)
}

var storeCases = []storeCase{
	{"an empty store", aStore, testStoreEmpty},
	{"every field", aStore, testStoreFields},
	{"what a commit leaves alone", aStore, testStoreUnaltered},
	{"entities at their revision", aStore, testStoreIf},
	{"quiet changes", aStore, testStoreQuiet},
	{"the catalog at its revision", aStore, testStoreBase},
	{"unique values", aStore, testStoreUnique},
	{"unique values change hands", aStore, testStoreHandover},
	{"references", aStore, testStoreReferences},
	{"references of every noun", aStore, testStoreEveryReference},
	{"bounds of a commit", aStore, testStoreCaps},
	{"refused commits leave no trace", aStore, testStoreRollback},
	{"commits without writes", aStore, testStoreNothing},
	{"sync commits", aStore, testStoreSync},
	{"large commits", aStore, testStoreLarge},
	{"commits that are canceled", aStore, testStoreCanceled},

	{"revisions have no gaps", aStore, testStoreRevisions},
	{"no update is lost", aStore, testStoreLostUpdates},
	{"races for a value", aStore, testStoreRaceForValue},
	{"races for a reference", aStore, testStoreRaceForReference},
	{"races for room", aStore, testStoreRaceForRoom},
	{"ids", aStore, testIDs},

	{"the error of a read", aStore, testReadError},
	{"find", aStore, testReadFind},
	{"filters", aStore, testReadFilters},
	{"texts that nothing has", aStore, testReadUnstorable},
	{"values as people have them", aStore, testStoreValues},
	{"paths", aStore, testReadPaths},
	{"random queries", aStore, testReadQueries},
	{"pages", aStore, testReadPages},
	{"a view stays as it is", aStore, testReadView},
	{"the clock of a view", aStore, testReadClock},
	{"reads while others write", aStore, testReadWhileWriting},
	{"aliasing", aStore, testStoreAliasing},

	{"the feed", aStore, testFeed},
	{"kinds in the feed", aStore, testFeedOfKinds},
	{"marks", aStore, testMarks},
	{"pruning", aPruner, testPrune},
	{"pruning what is dated ahead", aPruner, testPruneAhead},
	{"thinning", aPruner, testThin},
	{"dates of commits", aStore, testDates},

	{"wait", aStore, testWait},
	{"wait for other processes", aStore, testWaitSecond},
	{"wait for nothing", aStore, testWaitQuiet},
	{"wait ends with its context", aStore, testWaitContext},
	{"closed stores", aStoreClose, testStoreClosed},

	{"model of a store", aStore, testStoreModel},
	{"desired states", aStore, testDesired},
	{"owners at once", aStore, testOwnersAtOnce},
	{"referrers", aStore, testReferrers},
}

func aStore(StoreHarness) string { return "" }
