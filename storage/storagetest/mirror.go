package storagetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// MirrorHarness is what [RunMirror] needs: an origin, and a region that a mirror carries to.
type MirrorHarness struct {
	// Catalog keeps the truth, and Origin is where it is published. Both are empty.
	Catalog catalog.Store
	Origin  snapshot.Publisher
	// Region is empty, and Meddler writes to its data.
	Region  snapshot.Publisher
	Meddler Meddler
}

// RunMirror tests that a mirror between two publishers mends whatever is spoilt in the region, and
// goes on, whether it holds the sync keys or not. It takes about half a minute.
func RunMirror(t *testing.T, open func(t testing.TB) MirrorHarness) {
	for _, keys := range []mirrorKeys{
		{"a mirror with keys", relayKeys, relayKeys}, {"a mirror without keys", relayKeys, ""}, {"no keys at all", "", ""},
	} {
		for i, part := range slices.Collect(slices.Chunk(spoiltFields, 18)) {
			if keys.origin == "" {
				break // such a mirror verifies nothing either, as the one without keys
			}
			t.Run(fmt.Sprintf("%s/spoilt heads %d", keys.name, i+1), func(t *testing.T) {
				t.Parallel()
				testSpoiltRegions(t, open, keys, part)
			})
		}
		for name, test := range map[string]func(*testing.T, *province){
			"documents": testMirrorDocuments, "keys of another type": testMirrorMistyped, "beats": testMirrorBeats,
		} {
			t.Run(keys.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				p := newProvince(t, open(t), keys)
				p.settle(t)
				test(t, p)
			})
		}
	}
}

type mirrorKeys struct{ name, origin, mirror string }

// province is a town whose relay publishes in the origin, and the region that a mirror carries to.
type province struct {
	*town
	region *town // of which only what reads is used: its relay does not run
	mirror *snapshot.Mirror
	spoilt spoiltField
}

func newProvince(t *testing.T, h MirrorHarness, keys mirrorKeys) *province {
	p := &province{town: newTown(t, RelayHarness{Catalog: h.Catalog, Publisher: h.Origin}, keys.origin)}
	p.region = &town{
		RelayHarness: RelayHarness{Catalog: h.Catalog, Publisher: h.Region, Meddler: h.Meddler},
		tables:       p.tables, keys: p.keys, relay: p.relay,
	}
	var own *snapshot.Keys
	if keys.mirror != "" {
		own = p.keys
	}
	p.mirror = snapshot.NewMirror(h.Origin, h.Region, &snapshot.MirrorOptions{
		Keys: own, Logger: slog.New(slog.DiscardHandler),
	})
	inBackground(t, p.mirror.Run)
	return p
}

// settle waits until the region has what the origin has at first, and a beat.
func (p *province) settle(t testing.TB) {
	t.Helper()
	p.sound(t, "at first")
	until(t, "a beat reaches the region", func() error { return p.beatReached(t) })
}

// sound waits until the region has what the origin has, and a change after that reaches it.
func (p *province) sound(t testing.TB, what string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the mirror: %+v", p.mirror.Status())
		}
	}()
	p.region.sound(t, what)
	origin, err := p.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	until(t, what+", and both are the same", func() error {
		got, err := p.region.look(t.Context())
		if err != nil {
			return err
		}
		if !maps.Equal(origin.docs, got.docs) || !origin.head.Equal(got.head) {
			return errors.New("the region is not as the origin")
		}
		return nil
	})
}

func (p *province) beatReached(t testing.TB) error {
	beat, err := p.region.Publisher.LastBeat(t.Context())
	if err != nil {
		return err
	}
	if p.keys.VerifyBeat(beat) != nil || beat.At.IsZero() {
		return fmt.Errorf("the last beat is %+v", beat)
	}
	return nil
}

// testSpoiltRegions spoils a field in each of some regions, and waits for them together: what they
// wait for is time.
func testSpoiltRegions(t *testing.T, open func(testing.TB) MirrorHarness, keys mirrorKeys, fields []spoiltField) {
	var all []*province
	for _, spoilt := range fields {
		p := newProvince(t, open(t), keys)
		p.spoilt = spoilt
		all = append(all, p)
	}
	for _, p := range all {
		p.settle(t)
	}
	for _, p := range all {
		f := p.region.Meddler.Head(t)
		p.spoilt.spoil(f)
		p.region.Meddler.SetHead(t, f)
	}
	for _, p := range all {
		p.sound(t, "after "+p.spoilt.name)
	}
}

func testMirrorDocuments(t *testing.T, p *province) {
	k := p.create(t, "spoilt")
	p.sound(t, "before")
	hash := catalog.HashToken(k.Token.Reveal())
	p.region.Meddler.SetDoc(t, catalog.KindKey, hash, []byte(`{"id":1}`))
	p.sound(t, "a spoilt document")
	p.region.Meddler.SetDoc(t, catalog.KindKey, hash, nil)
	p.sound(t, "a missing document")
	p.region.Meddler.SetDoc(t, catalog.KindKey, "\xff\xfe", []byte("\xff"))
	p.sound(t, "a surplus document")
	p.region.Meddler.Drop(t, catalog.KindKey)
	p.sound(t, "no documents of a kind")
	p.region.Meddler.Stray(t)
	p.sound(t, "a stray in the history")
	p.region.Meddler.SetHead(t, nil)
	p.sound(t, "no head")
}

func testMirrorMistyped(t *testing.T, p *province) {
	m, ok := p.region.Meddler.(Mistyper)
	if !ok {
		t.Log("the keys of this engine have no types")
		return
	}
	for name, spoil := range m.Mistyped(t) {
		spoil()
		p.sound(t, name+" is of another type")
	}
}

// testMirrorBeats: beats of the origin reach the region, whatever was forged there before.
func testMirrorBeats(t *testing.T, p *province) {
	at := p.revision(t)
	for _, forged := range []snapshot.Beat{
		{Store: at.Store, Position: snapshot.Position{Epoch: 9_000_000_000, Revision: 1}, At: time.Now()},
		{Store: "another", Position: snapshot.Position{Epoch: 1, Revision: 1}, At: time.Now()},
		{Store: at.Store, Position: snapshot.Position{Epoch: at.Epoch, Revision: 1}, At: time.Now().Add(time.Hour)},
	} {
		for start := time.Now(); time.Since(start) < 3*time.Second; time.Sleep(50 * time.Millisecond) {
			if err := p.Publisher.SetBeat(context.Background(), forged); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now().Add(-time.Second)
		until(t, "a beat reaches the region again", func() error {
			beat, err := p.region.Publisher.LastBeat(t.Context())
			if err == nil && (!beat.At.After(begun) || beat.At.After(time.Now().Add(time.Minute))) {
				err = fmt.Errorf("the last beat is %+v", beat)
			}
			return err
		})
	}
}
