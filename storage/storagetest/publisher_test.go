package storagetest

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// TestPublisherSuiteCatches runs single tests of the suite against publishers
// that are broken in one way each: the test must fail.
func TestPublisherSuiteCatches(t *testing.T) {
	for _, c := range []struct {
		name   string // what is wrong
		caught string // by which test
		spoil  func(b *broken)
	}{
		{"Head forgets fields that it does not know", "head", headForgets},
		{"Head has a base of its own", "apply refuses", headUnsigned},
		{"Load mixes two publishes", "load is never torn", loadTorn},
		{"Load serialises anew", "bytes", loadSpaces},
		{"Load gives what was not asked for", "load and its loader", loadAll},
		{"Load swallows its loader's errors", "load and its loader", loadDeaf},
		{"Load shares memory", "aliasing", loadShared},
		{"Next shares memory", "aliasing", nextShared},
		{"Next returns the newest", "next follows", nextNewest},
		{"Next does not block", "next blocks", nextNever},
		{"Next outlives its context", "next ends with its context", nextOutlives},
		{"Next conceals gaps", "next finds gaps", nextGapless},
		{"Next conceals a whole", "next after a whole", nextGapless},
		{"Next finds ends in old positions", "nothing published", nextGapless},
		{"Next cuts what is large", "apply is large", nextShort},
		{"Lookup sorts", "lookup", lookupSorted},
		{"Lookup fills in absent documents", "lookup", lookupFills},
		{"Lookup takes any kind", "kinds", lookupAnyKind},
		{"Documents end early", "documents", documentsShort},
		{"Documents go on after their context", "documents", documentsOutlive},
		{"the beat is judged", "beat", beatJudged},
		{"Apply does not compare", "apply refuses", applyAnywhere},
		{"Apply does not compare signatures", "apply refuses", applyUnsigned},
		{"Apply does not count", "apply refuses", func(b *broken) { b.swallow = snapshot.ErrCorrupt }},
		{"Apply tells losers that they won", "apply races", func(b *broken) { b.swallow = snapshot.ErrStale }},
		{"Apply skips empty deltas", "apply without changes", applyNotEmpty},
		{"Apply only acknowledges", "apply", applyNothing},
		{"Apply takes any size", "apply is too large", func(b *broken) { b.swallow = snapshot.ErrTooLarge }},
		{"Apply never waits for others", "apply after an interruption", func(b *broken) { b.swallow = snapshot.ErrBusy }},
		{"Repair is a publish", "repair", repairPublishes},
		{"Repair only acknowledges", "repair", repairNothing},
		{"Repair does not compare", "repair refuses", repairAnywhere},
		{"a whole goes over anything", "whole refuses", wholeAnywhere},
		{"a whole is not counted", "whole refuses", func(b *broken) { b.swallow = snapshot.ErrCorrupt }},
		{"a whole only acknowledges", "whole", wholeNothing},
		{"a whole shows itself before it is done", "whole hides its work", wholeEarly},
		{"a whole cannot be changed", "whole catches up", wholeDeaf},
		{"a whole can be published twice", "whole is published once", func(b *broken) { b.swallow = catalog.ErrInvalid }},
		{"racing wholes all win", "whole races", func(b *broken) { b.swallow = snapshot.ErrStale }},
		{"big wholes are cut short", "whole is big", wholeShort},
		{"kinds that are not counted stay", "kinds", lookupRemembers},
		{"nodes lose their signature", "nodes", nodesUnsigned},
		{"nodes say themselves when they were seen", "nodes", nodesTrusted},
		{"nodes that leave stay", "nodes", nodesStay},
		{"nodes come in any order", "nodes asked for", nodesReversed},
		{"nodes come all", "nodes asked for", nodesAll},
		{"nodes that are passed on are new", "nodes passed on", nodesNew},
		{"nodes are taken as they are", "nodes refused", func(b *broken) { b.swallow = catalog.ErrInvalid }},
		{"nodes are answered with nothing", "nodes answer", nodesMute},
		{"of nodes at once some are lost", "nodes at once", batchShort},
		{"of nodes at once those that leave stay", "nodes at once", batchStays},
		{"nodes at once are new", "nodes at once passed on", batchNew},
		{"of nodes at once the last counts", "nodes at once passed on", batchLast},
		{"nodes at once end at one that is refused", "nodes at once refused", batchStops},
		{"nodes at once are refused together", "nodes at once refused", batchJoins},
		{"nodes at once tell of errors alone", "nodes at once refused", batchErrors},
		{"nodes at once outlive their context", "nodes at once refused", batchOutlives},
		{"nodes are never forgotten", "nodes are forgotten", func(b *broken) { b.ageless = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := memstore.NewPublisher()
			b := &broken{Publisher: p}
			c.spoil(b)
			h := PublisherHarness{
				Publisher: b, Second: b, History: 1000,
				Interrupt: func(testing.TB) { p.Tamper(func(c *memstore.Contents) { c.Stray = "x" }) },
			}
			if b.ageless {
				h.Age = func(testing.TB, time.Duration) {}
			}
			if !failsPublisherTest(t, c.caught, h) {
				t.Errorf("the test %q does not notice", c.caught)
			}
		})
	}
}

// TestPublisherSuiteCatchesHarness: broken in what is not a method.
func TestPublisherSuiteCatchesHarness(t *testing.T) {
	for _, c := range []struct {
		name, caught string
		spoil        func(*PublisherHarness)
	}{
		{"handles do not share data", "two handles", func(h *PublisherHarness) { h.Second = memstore.NewPublisher() }},
		{"deltas are kept for ever", "next after trimming", func(h *PublisherHarness) { h.History = 10 }},
		{"closing does nothing", "closed", func(h *PublisherHarness) { h.Close = func(testing.TB) {} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := memstore.NewPublisher()
			h := PublisherHarness{Publisher: p, Second: p}
			c.spoil(&h)
			if !failsPublisherTest(t, c.caught, h) {
				t.Errorf("the test %q does not notice", c.caught)
			}
		})
	}
}

// failsPublisherTest runs one test of the suite, and reports whether it fails.
func failsPublisherTest(t *testing.T, name string, h PublisherHarness) bool {
	t.Helper()
	i := slices.IndexFunc(publisherCases, func(c publisherCase) bool { return c.name == name })
	if i < 0 {
		t.Fatalf("the suite has no test %q", name)
	}
	return failsAlone(t, func(tb testing.TB) { publisherCases[i].test(tb, h) })
}

// failsAlone runs a test and reports whether it fails, without failing the one that asks.
func failsAlone(t *testing.T, test func(testing.TB)) bool {
	r := &failureRecorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.cleanUp()
		test(r)
	}()
	<-done
	return r.Failed()
}

// failureRecorder is a testing.TB that may fail without harm.
type failureRecorder struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	cleanups []func()
}

func (r *failureRecorder) Fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *failureRecorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *failureRecorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *failureRecorder) cleanUp() {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
}

func (r *failureRecorder) FailNow()              { r.Fail(); runtime.Goexit() }
func (r *failureRecorder) Error(...any)          { r.Fail() }
func (r *failureRecorder) Errorf(string, ...any) { r.Fail() }
func (r *failureRecorder) Fatal(...any)          { r.FailNow() }
func (r *failureRecorder) Fatalf(string, ...any) { r.FailNow() }
func (r *failureRecorder) Log(...any)            {}
func (r *failureRecorder) Logf(string, ...any)   {}
