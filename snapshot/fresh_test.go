package snapshot_test

import (
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A relay that has just started, and knows nothing of what was published before,
// mends at once what was changed by hand.
func TestFreshRelayMendsTheHead(t *testing.T) {
	for _, tc := range []struct {
		name, keys, field, value string
		moved                    bool // the catalog has changed since
	}{
		{"counts, without keys", "", "counts", `{"bindings":0,"keys":9,"models":0,"providers":0}`, false},
		{"digest, without keys", "", "digest", "", false},
		{"updated_at, without keys", "", "updated_at", "2999-01-01T00:00:00Z", false},
		{"renderer, without keys", "", "renderer", "99", false},
		{"seal, without keys", "", "seal", "zz", false},
		{"store, without keys", "", "store", "somebody", false},
		{"store, without keys, and the catalog has moved", "", "store", "somebody", true},
		{"a field more, without keys", "", "more", "x", false},
		{"seal", syncKey, "seal", "zz", false},
		{"seal, and the catalog has moved", syncKey, "seal", "zz", true},
		{"renderer, and the catalog has moved", syncKey, "renderer", "99", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, ctx := newWorld(t, tc.keys), t.Context()
			createKeys(t, w, 3)
			ok[snapshot.Head](t)(w.relay.Sync(ctx))
			w.pub.Tamper(func(c *memstore.Contents) {
				if tc.value == "" {
					tc.value = strings.TrimSuffix(c.Head[tc.field], `0"}`) // of no documents: zeros
					tc.value += `1"}`
				}
				c.Head[tc.field] = tc.value
			})
			if tc.moved {
				ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "moved"}))
			}
			ok[snapshot.Head](t)(w.newRelay().Sync(ctx))
			same(t, "afterwards", w.afreshAt(t), published(t, w.pub, w.keys))
			_, head, err := read(w.pub, w.keys)
			if f := head.Fields(); err != nil || f[tc.field] == tc.value {
				t.Errorf("field %s is still %q: %v", tc.field, f[tc.field], err)
			}
		})
	}
}
