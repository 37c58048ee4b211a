package storagetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// rotatedKeys are held while k1 is given up for k2.
const rotatedKeys = "k2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=," + relayKeys

// testOldSyncKey: what was published under a sync key that was rotated out is put back. The key does not come
// back with it, though it is still held.
func testOldSyncKey(t *testing.T, w *town) {
	w.stop()
	first, err := snapshot.ParseKeys(relayKeys + "," + rotatedKeys[:len(rotatedKeys)-len(relayKeys)-1])
	if err != nil {
		t.Fatal(err)
	}
	resync := func(keys *snapshot.Keys) snapshot.Head {
		relay := snapshot.NewRelay(w.tables, w.Publisher, &snapshot.RelayOptions{Keys: keys, Logger: w.log})
		head, err := relay.Resync(t.Context(), snapshot.ResyncOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return head
	}
	if head := resync(first); head.Seal != "k1" {
		t.Fatalf("published under %q", head.Seal)
	}
	restore := w.Meddler.Save(t)
	rotated := resync(w.keys)
	for _, who := range []string{"a relay that has published under the new key", "one that starts"} {
		relay := w.newRelay()
		if who != "one that starts" {
			relay = w.relay
			w.sync(t)
		}
		restore()
		stop := inBackground(t, relay.Run)
		w.sound(t, "under "+who)
		stop()
	}
	w.everTaken(func(set takenSet) {
		if set.head.Position.After(rotated.Position) && set.head.Seal != "k2" {
			t.Errorf("at %s sync key %q is back", set.head.Position, set.head.Seal)
		}
	})
}

// testOldRenderer: what a newer version had published, before it was rolled back by force, is put back. It does not
// keep this version from publishing.
func testOldRenderer(t *testing.T, w *town) {
	w.stop()
	fields := w.sync(t).Fields()
	fields["renderer"] = "99"
	newer, err := snapshot.ParseHead(fields)
	if err != nil {
		t.Fatal(err)
	}
	w.keys.SignHead(&newer)
	w.Meddler.SetHead(t, newer.Fields())
	w.create(t, "for a newer version")
	if _, err := w.relay.Sync(t.Context()); w.keys != nil && !errors.Is(err, snapshot.ErrOutranked) {
		t.Fatalf("published over a newer version: %v", err)
	}
	restore := w.Meddler.Save(t)
	if _, err := w.relay.Resync(t.Context(), snapshot.ResyncOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	restore()
	inBackground(t, w.relay.Run)
	w.sound(t, "after a newer version's publish was put back")
}

// testOldAbundance: what is put back is of an epoch that is over, and has many more documents than the catalog
// has now. That is no loss which somebody has to force.
func testOldAbundance(t *testing.T, w *town) {
	var many []catalog.Key
	for i := range 40 {
		many = append(many, w.create(t, fmt.Sprint("one of many ", i)))
	}
	fields := w.sync(t).Fields()
	fields["mark"] = "00000000000000000000000000000000" // so the feed explains nothing
	broken, err := snapshot.ParseHead(fields)
	if err != nil {
		t.Fatal(err)
	}
	w.keys.SignHead(&broken)
	w.stop()
	w.Meddler.SetHead(t, broken.Fields())
	restore := w.Meddler.Save(t)
	for _, k := range many {
		if _, err := w.tables.Keys.Delete(t.Context(), k.ID, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.relay.Sync(t.Context()); !errors.Is(err, snapshot.ErrShrinks) {
		t.Fatalf("most keys went of a history that is broken: %v", err)
	}
	if _, err := w.relay.Resync(t.Context(), snapshot.ResyncOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	restore()
	inBackground(t, w.relay.Run)
	w.sound(t, "after an old epoch with many more documents was put back")
}

// testAnotherCatalog: a catalog with sync keys of its own, which publishes to the wrong place, does
// not take it over while nobody of the right one is there. And what is only made to look
// like another catalog's is replaced.
func testAnotherCatalog(t *testing.T, w *town) {
	before := w.sync(t)
	w.stop()
	their, err := snapshot.ParseKeys("k9:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	if err != nil {
		t.Fatal(err)
	}
	f := before.Fields()
	f["store"], f["mark"] = "somebody's", "11111111111111111111111111111111"
	theirs, err := snapshot.ParseHead(f)
	if err != nil {
		t.Fatal(err)
	}
	their.SignHead(&theirs)
	beat := snapshot.Beat{Store: theirs.Store, Position: theirs.Position, At: time.Now()}
	their.SignBeat(&beat)

	// They publish here, and beat.
	mine := snapshot.Beat{Store: before.Store, Position: before.Position, At: time.Now()}
	w.keys.SignBeat(&mine)
	w.Meddler.SetHead(t, theirs.Fields())
	if err := w.Publisher.SetBeat(t.Context(), beat); err != nil {
		t.Fatal(err)
	}
	later := &clock{}
	relay := snapshot.NewRelay(w.tables, w.Publisher,
		&snapshot.RelayOptions{Keys: w.keys, Logger: w.log, Clock: later.now})
	for range 3 {
		if _, err := relay.Sync(t.Context()); !errors.Is(err, snapshot.ErrForeign) {
			t.Fatalf("what another catalog has published, under its own sync key: %v", err)
		}
		later.pass(time.Hour)
	}
	if _, err := relay.Resync(t.Context(), snapshot.ResyncOptions{}); !errors.Is(err, snapshot.ErrForeign) {
		t.Fatalf("a re-synchronisation over another catalog without force: %v", err)
	}
	if head, err := w.Publisher.Head(t.Context()); err != nil || head.Store != theirs.Store {
		t.Fatalf("it was overwritten: %s, %v", head.Store, err)
	}

	// Nobody but this catalog has ever beaten here, so the head was put there by somebody who does not publish.
	if err := w.Publisher.SetBeat(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	if _, err := relay.Sync(t.Context()); !errors.Is(err, snapshot.ErrOutranked) {
		t.Fatalf("a head that has just come: %v", err)
	}
	later.pass(20 * time.Second)
	if head, err := relay.Sync(t.Context()); err != nil || head.Store != before.Store {
		t.Fatalf("a head that only looks like another catalog's was left alone: %v", err)
	}
	inBackground(t, relay.Run)
	w.sound(t, "after another catalog's head")
}

// clock is a clock that a test moves.
type clock struct{ ahead time.Duration }

func (c *clock) now() time.Time       { return time.Now().Add(c.ahead) }
func (c *clock) pass(d time.Duration) { c.ahead += d }
