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

	// Interrupt leaves a publish unfinished, as a process that dies in the middle of it
	// does. Nil when that cannot happen.
	Interrupt func(t testing.TB)

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
	{"kinds", testKinds},
	{"lookup", testLookup},
	{"documents", testDocuments},
	{"aliasing", testAliasing},
	{"two handles", testTwoHandles},
	{"beat", testBeat},
	{"leases", testLeases},
	{"closed", testClosed},

	{"nodes", testNodes},
	{"nodes answer", testNodesAnswer},
	{"nodes asked for", testNodesQuery},
	{"nodes passed on", testNodesPassedOn},
	{"nodes refused", testNodesRefused},
	{"nodes are forgotten", testNodesForgotten},
	{"nodes at once", testBatch},
	{"nodes at once passed on", testBatchPassedOn},
	{"nodes at once refused", testBatchRefused},

	{"apply", testApply},
	{"apply without changes", testApplyWithoutChanges},
	{"apply refuses", testApplyRefuses},
	{"apply is large", testApplyLarge},
	{"apply is too large", testApplyTooLarge},
	{"apply races", testApplyRaces},
	{"apply after an interruption", testInterrupted},

	{"repair", testRepair},
	{"repair refuses", testRepairRefuses},

	{"next follows", testNextFollows},
	{"next blocks", testNextBlocks},
	{"next ends with its context", testNextCancel},
	{"next finds gaps", testNextGaps},
	{"next after a whole", testNextAfterWhole},
	{"next after trimming", testNextTrimmed},

	{"whole", testWhole},
	{"whole refuses", testWholeRefuses},
	{"whole is published once", testWholeOnce},
	{"whole catches up", testWholeCatchesUp},
	{"whole hides its work", testWholeHidden},
	{"whole is discarded", testWholeDiscarded},
	{"whole races", testWholeRaces},
	{"whole is big", testWholeBig},

	{"load and its loader", testLoader},
	{"load is never torn", testLoadTorn},
	{"model", testModel},
}
