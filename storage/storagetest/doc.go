// Package storagetest holds the tests that a storage engine must pass. Whoever writes an engine runs
// the suite of the seam that it implements, with the race detector:
//
//	func TestStore(t *testing.T) {
//		storagetest.RunStore(t, func(t testing.TB) storagetest.StoreHarness {
//			store := openEmptyStore(t) // a database of its own, closed by t.Cleanup
//			return storagetest.StoreHarness{Store: store}
//		})
//	}
//
// [RunStore] is for catalog.Store, [RunOutbox] for alerts.Outbox, [RunPublisher] and [RunSource]
// for the seams of package snapshot, and [RunSink] for those of package logbuf. The fields of each
// harness say what is needed, and which parts may be left out: a suite says aloud what it does not
// test then. The specification is in the doc comments of the seams; the names of the tests say which
// sentence of it was broken.
package storagetest
