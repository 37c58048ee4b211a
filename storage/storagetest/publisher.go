package storagetest

import (
	"testing"
	"time"

	"github.com/ez-api/ez-api/snapshot"
)

// PublisherHarness is what [RunPublisher] needs of an engine.
type PublisherHarness struct {
	// Publisher is under test. Nothing was published on its data yet, and no
	// other test uses that.
	Publisher snapshot.Publisher

	// Second is another handle on the same data, as another process would
	// have. Nil when the engine has none: then Publisher takes its place.
	Second snapshot.Publisher

	// History is a number of deltas after which the oldest is gone for sure.
	// Zero says that the engine forgets none.
	History int

	// Age makes every report so far look older. Nil when that cannot be
	// done; then it is not tested that old nodes are forgotten.
	Age func(t testing.TB, by time.Duration)

	// Close ends Publisher, which then must refuse everything. Nil when it
	// cannot be closed.
	Close func(t testing.TB)
}

// RunPublisher tests everything that [snapshot.Source] and
// [snapshot.Publisher] demand. It calls open once for each test, and open
// uses its argument's Cleanup.
func RunPublisher(t *testing.T, open func(t testing.TB) PublisherHarness) {
	for _, c := range publisherCases {
		t.Run(c.name, func(t *testing.T) {
			h := open(t)
			if h.Second == nil {
				h.Second = h.Publisher
			}
			c.test(t, h)
		})
	}
}

// publisherCase is one test. It takes a testing.TB, so that the suite can be
// tested itself.
type publisherCase struct {
	name string
	test func(t testing.TB, h PublisherHarness)
}

var publisherCases = []publisherCase{
	{"nothing published", testNothingPublished},
	{"head", testHead},
	{"bytes", testBytes},
	{"lookup", testLookup},
	{"aliasing", testAliasing},
	{"two handles", testTwoHandles},
	{"nodes", testNodes},
	{"nodes are forgotten", testNodesForgotten},
	{"closed", testClosed},

	{"apply", testApply},
	{"apply without changes", testApplyWithoutChanges},
	{"apply refuses", testApplyRefuses},
	{"apply races", testApplyRaces},

	{"next follows", testNextFollows},
	{"next blocks", testNextBlocks},
	{"next ends with its context", testNextCancel},
	{"next finds gaps", testNextGaps},
	{"next after a replace", testNextAfterReplace},
	{"next after trimming", testNextTrimmed},

	{"replace", testReplace},
	{"replace refuses", testReplaceRefuses},
	{"replace of some kinds", testReplaceKinds},
	{"replace of some kinds refuses", testReplaceKindsRefuses},
	{"replace catches up", testReplaceCatchUp},
	{"replace and a failing catch-up", testReplaceCatchUpFails},
	{"replace hides its work", testReplaceHidden},
	{"replace loses no publish", testReplaceLosesNothing},
	{"replace races", testReplaceRaces},
	{"replace is big", testReplaceBig},

	{"load is never torn", testLoadTorn},
	{"model", testModel},
}
