package distribution

import (
	"testing"
	"time"

	"github.com/ez-api/ez-api/snapshot"
)

// TestDamageIsRepaired: whatever is lost or changed in Redis is whole again
// within 10 s, though nobody has changed the catalog, and data planes never serve anything else. Where only
// documents were spoilt, they are written again and no reader loads anew.
func TestDamageIsRepaired(t *testing.T) {
	w := newWorld(t)
	keys := scaled(3_000, 99_996) // and two models with their bindings
	w.createKeys(t, keys)
	w.createPair(t)
	relay := w.newRelay(w.pub)
	_, err := relay.Sync(t.Context())
	must(t, err)
	background(t, relay.Run)
	reader := w.newReader(t, "reader", keys)
	<-reader.Ready()

	if *long {
		before := w.cpu(t)
		time.Sleep(20 * time.Second)
		t.Logf("the scrub of %d documents costs Redis %.1f %% of a core", keys+4, (w.cpu(t)-before)/20*100)
	}

	for _, damage := range []struct {
		name  string
		mends bool // at the same position
		do    func(t *testing.T)
	}{
		{"everything is gone", false, w.destroy},
		{"a hash is gone", true, func(t *testing.T) { must(t, w.rdb.Unlink(t.Context(), w.key("keys")).Err()) }},
		{"the head is gone", false, func(t *testing.T) { must(t, w.rdb.Unlink(t.Context(), w.key("head")).Err()) }},
		{"the head is forged", false, func(t *testing.T) {
			must(t,
				w.rdb.HSet(t.Context(), w.key("head"), "renderer", "99").Err())
		}},
		{"a document is gone", true, func(t *testing.T) {
			must(t,
				w.rdb.HDel(t.Context(), w.key("models"), "default.twin0").Err())
		}},
		{"a byte has changed", true, w.flip},
		{"a document too many", true, func(t *testing.T) {
			must(t,
				w.rdb.HSet(t.Context(), w.key("keys"), "00", "{}").Err())
		}},
	} {
		t.Run(damage.name, func(t *testing.T) {
			before, loads := relay.Status(), reader.Status().Loads
			damage.do(t)
			took := within(t, 30*time.Second, "published or mended", func() bool {
				now := relay.Status()
				return (now.Replaces > before.Replaces || damage.mends && now.Repairs > before.Repairs) && w.intact(t)
			})
			t.Logf("repaired after %s", took)
			if took > 10*time.Second && !raceEnabled {
				t.Errorf("repaired after %s, want 10s at most", took)
			}
			if now := reader.Status().Loads; damage.mends && now != loads {
				t.Errorf("the reader has loaded %d times more", now-loads)
			}
			within(t, 20*time.Second, "the reader follows", func() bool {
				head, err := w.pub.Head(t.Context())
				return err == nil && reader.View().Position() == head.Position
			})
			if err := wholePair(reader.View()); err != nil {
				t.Error(err)
			}
		})
	}
}

// flip changes one byte of one document.
func (w *world) flip(t *testing.T) {
	t.Helper()
	doc, err := w.rdb.HGet(t.Context(), w.key("models"), "default.twin1").Bytes()
	must(t, err)
	doc[len(doc)/2] ^= 1
	must(t, w.rdb.HSet(t.Context(), w.key("models"), "default.twin1", doc).Err())
}

// intact reports whether what is published verifies.
func (w *world) intact(t *testing.T) bool {
	t.Helper()
	_, err := snapshot.LoadView(t.Context(), w.pub, w.keys)
	return err == nil
}
