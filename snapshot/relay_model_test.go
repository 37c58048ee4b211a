package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// faulty is a publisher whose writes sometimes fail, after they were done or before.
type faulty struct {
	*memstore.Publisher
	fail func() (before, after bool)
}

var errLost = errors.New("the connection is lost")

func (f *faulty) do(write func() error) error {
	before, after := f.fail()
	if before {
		return errLost
	}
	if err := write(); err != nil {
		return err
	}
	if after {
		return errLost
	}
	return nil
}

func (f *faulty) Apply(ctx context.Context, over snapshot.Base, d snapshot.Delta) error {
	return f.do(func() error { return f.Publisher.Apply(ctx, over, d) })
}

func (f *faulty) Repair(ctx context.Context, over snapshot.Base, changes []snapshot.Change) error {
	return f.do(func() error { return f.Publisher.Repair(ctx, over, changes) })
}

func (f *faulty) Stage(ctx context.Context) (snapshot.Staging, error) {
	s, err := f.Publisher.Stage(ctx)
	return &faultyStaging{s, f}, err
}

type faultyStaging struct {
	snapshot.Staging
	f *faulty
}

func (s *faultyStaging) Publish(ctx context.Context, over snapshot.Base, head snapshot.Head) error {
	return s.f.do(func() error { return s.Staging.Publish(ctx, over, head) })
}

func cloneContents(c *memstore.Contents) memstore.Contents {
	docs := map[catalog.Kind]map[string][]byte{}
	for kind, of := range c.Docs {
		docs[kind] = maps.Clone(of)
	}
	return memstore.Contents{Head: maps.Clone(c.Head), Docs: docs, Deltas: slices.Clone(c.Deltas), Stray: c.Stray,
		Beat: bytes.Clone(c.Beat)}
}

// Relays that race, fail, start anew and lose their answers publish nothing that
// the catalog never was; somebody who forges, replays and spoils what is published, and holds no
// key, brings no reader that verifies to take anything else; and once it is
// quiet, all is as it should be.
func TestRelaysUnderAttack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, ctx := newWorld(t, syncKey), context.Background()
		now := time.Now()
		w.clock = func() time.Time { return now }
		quiet := false
		pub := &faulty{w.pub, func() (bool, bool) {
			return !quiet && rapid.IntRange(0, 9).Draw(t, "fails before") == 0, !quiet &&
				rapid.IntRange(0, 9).Draw(t, "fails after") == 0
		}}
		relays := []*snapshot.Relay{w.newRelayOver(pub), w.newRelayOver(pub)}
		truth := map[catalog.Revision]map[string]string{}
		learn := func() {
			if rev := w.at(t).Revision; truth[rev] == nil {
				truth[rev] = w.afreshAt(t)
			}
		}
		look := func() {
			docs, head, err := read(w.pub, w.keys)
			if err != nil {
				return
			}
			want := truth[head.Position.Revision]
			if want == nil {
				t.Fatalf("a reader took %s, which the catalog never was at", head.Position)
			}
			if !maps.Equal(docs, want) {
				same(t, "a reader took what was never published", want, docs)
				t.FailNow()
			}
		}
		var saved []memstore.Contents
		learn()
		for range rapid.IntRange(5, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond)
			i := rapid.IntRange(0, 1).Draw(t, "relay")
			switch rapid.IntRange(0, 11).Draw(t, "step") {
			case 0, 1, 2:
				mutate(t, ctx, w.tables)
				learn()
			case 3, 4, 5:
				_, _ = relays[i].Sync(ctx)
			case 6:
				_ = relays[i].Scrub(ctx)
			case 7:
				relays[i] = w.newRelayOver(pub)
			case 8:
				_, _ = relays[i].Resync(ctx, snapshot.ResyncOptions{NewEpoch: rapid.Bool().Draw(t, "new epoch"),
					Force: rapid.Bool().Draw(t, "force")})
			case 9:
				w.pub.Tamper(func(c *memstore.Contents) { saved = append(saved, cloneContents(c)) })
			case 10:
				if len(saved) > 0 {
					w.pub.Tamper(func(c *memstore.Contents) {
						old := cloneContents(&saved[rapid.IntRange(0, len(saved)-1).Draw(t, "which")])
						switch rapid.IntRange(0, 2).Draw(t, "what") {
						case 0:
							*c = old
						case 1:
							c.Head = old.Head
						case 2:
							c.Docs = old.Docs
						}
					})
				}
			case 11:
				spoil(t, w.pub)
			}
			// A commit of a relay (a new epoch) changes no document, and is the catalog at one more revision.
			for rev := w.at(t).Revision; truth[rev] == nil; rev-- {
				truth[rev] = w.afreshAt(t)
			}
			look()
		}
		quiet = true
		for range 60 {
			now = now.Add(20 * time.Second)
			_, err1 := relays[0].Sync(ctx)
			err2 := relays[0].Scrub(ctx)
			_, err3 := relays[1].Sync(ctx)
			if errors.Join(err1, err2, err3) == nil && relays[0].Scrub(ctx) == nil {
				break
			}
		}
		learn()
		if _, err := relays[1].Sync(ctx); err != nil {
			t.Fatal(err)
		}
		same(t, "when it is quiet", w.afreshAt(t), published(t, w.pub, w.keys))
	})
}

// afreshAt renders the catalog without touching it: publishing for the first
// time would commit.
func (w *world) afreshAt(t tb) map[string]string {
	t.Helper()
	docs, err := snapshot.RenderForTest(context.Background(), w.tables, w.keys)
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// spoil changes something of what is published.
func spoil(t *rapid.T, pub *memstore.Publisher) {
	pub.Tamper(func(c *memstore.Contents) {
		kind := rapid.SampledFrom(snapshot.Kinds()).Draw(t, "kind")
		keys := slices.Sorted(maps.Keys(c.Docs[kind]))
		switch rapid.IntRange(0, 6).Draw(t, "spoilt") {
		case 0:
			if c.Head != nil {
				c.Head[rapid.SampledFrom([]string{"epoch", "revision", "mark", "counts", "digest", "seal", "store", "renderer",
					"sig", "more"}).Draw(t, "field")] =
					rapid.SampledFrom([]string{"", "1", "zz", "9223372036854775807", "{}"}).Draw(t, "value")
			}
		case 1:
			if len(keys) > 0 {
				delete(c.Docs[kind], keys[0])
			}
		case 2:
			if len(keys) > 0 {
				c.Docs[kind][keys[0]] = []byte(`{"id":1}`)
			}
		case 3:
			if len(keys) > 1 {
				c.Docs[kind][keys[0]], c.Docs[kind][keys[1]] = c.Docs[kind][keys[1]], c.Docs[kind][keys[0]]
			}
		case 4:
			if c.Docs[kind] == nil {
				c.Docs[kind] = map[string][]byte{}
			}
			c.Docs[kind]["surplus"] = []byte(`{}`)
		case 5:
			c.Head = nil
		case 6:
			c.Stray = rapid.StringN(0, 3, -1).Draw(t, "stray")
		}
	})
}

func TestRelayBeats(t *testing.T) {
	w, ctx := newWorld(t, syncKey), t.Context()
	ok[snapshot.Head](t)(w.relay.Sync(ctx))
	head := ok[snapshot.Head](t)(w.relay.Sync(ctx))
	w.relay.Beat(ctx)
	first := ok[snapshot.Beat](t)(w.pub.LastBeat(ctx))
	if err := w.keys.VerifyBeat(first); err != nil || first.Position != head.Position ||
		time.Since(first.At) > time.Minute {
		t.Errorf("beat %+v: %v", first, err)
	}
	other := w.newRelay()
	ok[snapshot.Head](t)(other.Sync(ctx))
	other.Beat(ctx)
	if again := ok[snapshot.Beat](t)(w.pub.LastBeat(ctx)); !again.Equal(first) {
		t.Error("the second relay beats although the first has done so")
	}
	parsed, err := snapshot.ParseBeat(snapshot.Beat{Store: first.Store, Position: first.Position, At: time.Now(),
		Seal: "k1", Sig: "0"}.Encode())
	if err := errors.Join(err, w.pub.SetBeat(ctx, parsed)); err != nil {
		t.Fatal(err)
	}
	ok[snapshot.Head](t)(other.Sync(ctx))
	other.Beat(ctx)
	if b := ok[snapshot.Beat](t)(w.pub.LastBeat(ctx)); w.keys.VerifyBeat(b) != nil {
		t.Error("a forged beat makes a true one unnecessary")
	}
}
