package snapshot_test

import (
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// TestSyncKeysAreRotated follows a rotation as operators do it: the new key is
// deployed everywhere, then promoted, then a re-synchronisation re-seals, and then
// the old one is dropped. Data planes serve all the time.
func TestSyncKeysAreRotated(t *testing.T) {
	const older, newer = syncKey, "k2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
	parse := func(list string) *snapshot.Keys { return ok[*snapshot.Keys](t)(snapshot.ParseKeys(list)) }
	w, ctx := newWorld(t, older), t.Context()
	provider := ok[catalog.Provider](t)(w.tables.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "openai", APIKey: catalog.NewSecret("sk-rotated")}))
	ok[snapshot.Head](t)(w.relay.Sync(ctx))

	early := watch(t, w.pub, snapshot.WatcherOptions{Keys: parse(older + "," + newer)}) // deployed
	late := watch(t, w.pub, snapshot.WatcherOptions{Keys: parse(newer + "," + older)})  // promoted
	serve := func(seal string, at snapshot.Position) {
		t.Helper()
		for _, watcher := range []*snapshot.Watcher{early, late} {
			for deadline := time.Now().Add(10 * time.Second); watcher.View().Position() != at; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("a data plane is at %s, published is %s: %+v", watcher.View().Position(), at, watcher.Status())
				}
			}
			if p, found := watcher.View().Provider(provider.ID); !found || p.APIKey.Reveal() != "sk-rotated" ||
				watcher.View().Head().Seal != seal {
				t.Errorf("sealed by %q, want %q; the secret is %v", watcher.View().Head().Seal, seal, found)
			}
		}
	}
	change := func(relay *snapshot.Relay) snapshot.Position {
		t.Helper()
		ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
		return ok[snapshot.Head](t)(relay.Sync(ctx)).Position
	}
	relayWith := func(list string) *snapshot.Relay {
		w.keys = parse(list)
		return w.newRelay()
	}

	deployed, promoted := relayWith(older+","+newer), relayWith(newer+","+older)
	serve("k1", change(deployed))
	serve("k1", change(promoted)) // a mixed fleet goes on under the published key
	serve("k1", change(deployed))
	serve("k2", ok[snapshot.Head](t)(promoted.Resync(ctx, snapshot.ResyncOptions{})).Position)
	serve("k2", change(deployed))
	serve("k2", change(promoted))
	serve("k2", change(relayWith(newer))) // the old key is gone
}
