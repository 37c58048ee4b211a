package snapshot

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// TestDecide walks the table of what a relay does about what is published.
func TestDecide(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := catalog.Head{Store: "ours", Epoch: 1_700_000_000, Revision: 42, Mark: "m42"}
	good := Head{Format: 1, Store: "ours", Position: Position{at.Epoch, 42}, Mark: "m42", Renderer: Renderer}
	head := func(change func(*Head)) Head {
		h := good
		change(&h)
		return h
	}
	behind := head(func(h *Head) { h.Position.Revision = 40 })
	foreign := head(func(h *Head) { h.Store = "theirs" })
	newer := head(func(h *Head) { h.Renderer++ })
	late := oddPatience
	for _, tc := range []struct {
		name    string
		sight   sight
		lineage lineage
		want    action
		err     error // of doWait and doRefuse
	}{
		{"nothing", sight{keyed: true}, 0, doRestart, nil},
		{"a head that cannot be read, or verified", sight{keyed: true, trust: trustSpoilt, head: good}, 0, doRestart, nil},
		{"as it should be", sight{keyed: true, trust: trustGood, head: good}, lineageKnown, doNothing, nil},
		{"behind", sight{keyed: true, trust: trustGood, head: behind}, lineageKnown, doDelta, nil},
		{"behind, without keys", sight{trust: trustGood, head: behind}, lineageKnown, doDelta, nil},

		{"under a key that is not held", sight{keyed: true, trust: trustClaimed, head: good}, 0, doRefuse, ErrOutranked},
		{"and nobody has beaten there for long", sight{keyed: true, trust: trustClaimed, head: good, still: lifePatience},
			0, doRestart, nil},
		{"and it names another catalog", sight{keyed: true, trust: trustClaimed, head: foreign, still: time.Hour},
			lineageBroken, doRefuse, ErrForeign},
		{"and it names another catalog, which beats", sight{keyed: true, trust: trustClaimed, head: foreign,
			still: time.Hour, beatOf: "theirs"}, lineageBroken, doRefuse, ErrForeign},
		{"and it names another catalog, and ours has beaten last", sight{keyed: true, trust: trustClaimed, head: foreign,
			still: lifePatience, beatOf: "ours"}, lineageBroken, doRestart, nil},
		{"and it names another catalog, and ours has just beaten", sight{keyed: true, trust: trustClaimed, head: foreign,
			beatOf: "ours"}, lineageBroken, doRefuse, ErrOutranked},
		{"and it names another catalog, with our mark", sight{keyed: true, trust: trustClaimed, head: foreign,
			still: lifePatience}, lineageKnown, doRestart, nil},
		{"and it is what this relay renders", sight{trust: trustClaimed, head: good, ours: true}, 0, doRestart, nil},
		{"a damaged foreign head steers nothing", sight{keyed: true, trust: trustSpoilt, head: foreign}, 0, doRestart, nil},
		{"another catalog's", sight{keyed: true, trust: trustGood, head: foreign}, lineageBroken, doRefuse, ErrForeign},
		{"another catalog's, for ever", sight{keyed: true, trust: trustGood, head: foreign, still: time.Hour,
			odd: time.Hour}, lineageBroken, doRefuse, ErrForeign},
		{"another catalog's, with our mark", sight{keyed: true, trust: trustGood, head: foreign}, lineageKnown, doRefuse,
			ErrForeign},
		{"another catalog's, without keys", sight{trust: trustGood, head: foreign, still: time.Hour}, lineageBroken,
			doRefuse, ErrForeign},
		{"another catalog's, with our mark, without keys", sight{trust: trustGood, head: foreign}, lineageKnown,
			doRestart, nil},

		{"of a newer version", sight{keyed: true, trust: trustGood, head: newer, still: time.Hour}, lineageKnown,
			doRefuse, ErrOutranked},
		{"of a newer version, without keys", sight{trust: trustGood, head: newer}, lineageKnown, doRefuse, ErrOutranked},
		{"of a newer version, without keys or life", sight{trust: trustGood, head: newer, still: lifePatience},
			lineageKnown, doRestart, nil},
		{"of a newer version, without keys, and all ours", sight{trust: trustGood, head: newer, ours: true}, lineageKnown,
			doRestart, nil},
		{"of a newer version, and all ours", sight{keyed: true, trust: trustGood, head: newer, ours: true}, lineageKnown,
			doRefuse, ErrOutranked},
		{"of an older version", sight{keyed: true, trust: trustGood, head: head(func(h *Head) { h.Renderer-- })},
			lineageKnown, doRestart, nil},

		{"ahead of the catalog", sight{keyed: true, trust: trustGood, head: good}, lineageAhead, doWait, ErrWaiting},
		{"ahead of the catalog for long", sight{keyed: true, trust: trustGood, head: good, odd: late}, lineageAhead,
			doRestart, nil},
		{"of an old epoch", sight{keyed: true, trust: trustOver, head: good}, lineageKnown, doWait, ErrWaiting},
		{"of an old epoch for long", sight{keyed: true, trust: trustOver, head: good, odd: late}, lineageKnown,
			doRestart, nil},
		{"of an old epoch and a newer version", sight{keyed: true, trust: trustOver, head: newer, odd: late},
			lineageAhead, doRestart, nil},
		{"of an epoch that the catalog does not know",
			sight{keyed: true, trust: trustGood, head: head(
				func(h *Head) { h.Position.Epoch++ })}, lineageKnown, doRestart, nil},
		{"of an absurd epoch, without keys", sight{trust: trustGood,
			head: head(func(h *Head) { h.Position.Epoch = math.MaxInt64 })}, lineageAhead, doRestart, nil},
		{"another history", sight{keyed: true, trust: trustGood, head: behind}, lineageBroken, doRestart, nil},
		{"the history is pruned", sight{keyed: true, trust: trustGood, head: behind}, lineagePruned, doSucceed, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := decide(tc.sight, record{at, tc.lineage}, now)
			if d.action != tc.want {
				t.Fatalf("action %d, want %d: %+v", d.action, tc.want, d)
			}
			if publishes := d.action == doRestart || d.action == doSucceed; publishes == (d.cause == "") {
				t.Errorf("cause %q", d.cause)
			}
			if tc.err != nil && !errors.Is(d.err, tc.err) || (tc.err == nil) != (d.err == nil) {
				t.Errorf("error %v, want %v", d.err, tc.err)
			}
		})
	}
}

// A catalog whose own epoch is far ahead (something once put it there) goes on.
func TestCatalogsOwnEpochIsNotHeldAgainstTheClock(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := catalog.Head{Store: "ours", Epoch: 1 << 60, Revision: 1}
	h := Head{Store: "ours", Position: Position{1 << 60, 1}, Renderer: Renderer}
	for _, keyed := range []bool{true, false} {
		if d := decide(sight{trust: trustGood, keyed: keyed, head: h}, record{at: at}, now); d.action != doNothing {
			t.Errorf("keyed %v: %+v", keyed, d)
		}
	}
}

func TestNextEpoch(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	clock := catalog.Epoch(now.Unix())
	head := func(epoch catalog.Epoch) Head { return Head{Position: Position{Epoch: epoch}} }
	for _, tc := range []struct {
		name     string
		catalog  catalog.Epoch
		sight    sight
		reported catalog.Epoch
		want     catalog.Epoch // 0 is an error
	}{
		{"the clock", 5, sight{}, 0, clock},
		{"after the catalog's", clock + 7, sight{}, 0, clock + 8},
		{"after the catalog's, wherever it is", 1 << 62, sight{}, 0, 1<<62 + 1},
		{"after a verified head's, wherever it is", 5, sight{trust: trustGood, keyed: true, head: head(1 << 60)}, 0,
			1<<60 + 1},
		{"not after a damaged head's", 5, sight{trust: trustSpoilt, keyed: true, head: head(clock + 9)}, 0, clock},
		{"not after a claimed head's", 5, sight{trust: trustClaimed, keyed: true, head: head(clock + 9)}, 0, clock},
		{"after a plausible head's, without keys", 5, sight{trust: trustGood, head: head(clock + 9)}, 0, clock + 10},
		{"not after an absurd head's, without keys", 5, sight{trust: trustGood, head: head(clock + 90_000)}, 0, clock},
		{"after a plausible report", 5, sight{}, clock + 80_000, clock + 80_001},
		{"not after an absurd report", 5, sight{}, clock + 90_000, clock},
		{"not after the most absurd report", 5, sight{}, math.MaxInt64, clock},
		{"the last one", math.MaxInt64 - 1, sight{}, 0, math.MaxInt64},
		{"none is left", math.MaxInt64, sight{}, 0, 0},
		{"no overflow by a verified head", 5, sight{trust: trustGood, keyed: true, head: head(math.MaxInt64)}, 0, clock},
	} {
		got, err := nextEpoch(now, record{at: catalog.Head{Epoch: tc.catalog}}, tc.sight, tc.reported)
		if got != tc.want || (err != nil) != (tc.want == 0) {
			t.Errorf("%s: %d, %v; want %d", tc.name, got, err, tc.want)
		}
	}
}

func TestGuard(t *testing.T) {
	for _, tc := range []struct {
		name                     string
		before, after, explained Counts
		refused                  bool
	}{
		{"nothing lost", Counts{"keys": 100}, Counts{"keys": 100}, nil, false},
		{"half", Counts{"keys": 100}, Counts{"keys": 50}, nil, false},
		{"more than half", Counts{"keys": 100}, Counts{"keys": 49}, nil, true},
		{"more than half, of few", Counts{"keys": 11}, Counts{"keys": 1}, nil, false},
		{"of one kind", Counts{"keys": 1000, "providers": 12}, Counts{"keys": 1000, "providers": 0}, nil, true},
		{"as the feed explains", Counts{"keys": 100}, Counts{"keys": 0}, Counts{"keys": 90}, false},
		{"more than the feed explains", Counts{"keys": 100}, Counts{"keys": 0}, Counts{"keys": 49}, true},
		{"holds end by themselves", Counts{"holds": 100}, Counts{"holds": 0}, nil, false},
		{"a kind that nobody knows", Counts{"sockets": 100}, Counts{}, nil, false},
	} {
		err := guard(tc.before, tc.after, tc.explained)
		if errors.Is(err, ErrShrinks) != tc.refused {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "force") {
			t.Errorf("%s: no remedy: %v", tc.name, err)
		}
	}
}

func TestLimiter(t *testing.T) {
	var l limiter
	now := time.Unix(1_800_000_000, 0)
	starts := 0
	for range 600 { // ten minutes of somebody who spoils the head every second
		if l.check(now) == nil {
			l.note(now)
			starts++
		}
		now = now.Add(time.Second)
	}
	if starts < 10 || starts > 20 {
		t.Errorf("%d new epochs in ten minutes", starts)
	}
	cause := errors.New("a right is missing")
	if l.failed = cause; !errors.Is(l.check(now), cause) || errors.Is(l.check(now), ErrWaiting) {
		t.Errorf("the error hides why wholes are not published: %v", l.check(now))
	}
	l.failed = nil
	if err := l.check(now); !errors.Is(err, ErrWaiting) {
		t.Errorf("while wholes are published, and spoilt: %v", err)
	}
	now = now.Add(11 * time.Minute)
	if err := l.check(now); err != nil {
		t.Errorf("after a quiet time: %v", err)
	}
}

// TestOrder: what takes rights away comes early, and a document comes after those that it refers to.
func TestOrder(t *testing.T) {
	doc := []byte("{}")
	changes := []Change{
		{Kind: "models", Key: "a"}, {Kind: "bindings", Key: "a"}, {Kind: "providers", Key: "1"}, {Kind: "sockets",
			Key: "a", Doc: doc},
		{Kind: "bindings", Key: "b", Doc: doc}, {Kind: "models", Key: "b", Doc: doc}, {Kind: "providers", Key: "2", Doc: doc},
		{Kind: "keys", Key: "k", Doc: doc}, {Kind: "keys", Key: "l"}, {Kind: "holds", Key: "key/1", Doc: doc},
		{Kind: "holds", Key: "key/2"}, {Kind: "projects", Key: "gone"}, {Kind: "projects", Key: "p", Doc: doc},
	}
	want := "projects/p holds/key/1 holds/key/2 keys/k keys/l projects/gone providers/2 models/b bindings/b " +
		"bindings/a models/a providers/1 sockets/a"
	var got []string
	for _, c := range inOrder(changes) {
		got = append(got, string(c.Kind)+"/"+c.Key)
	}
	if strings.Join(got, " ") != want {
		t.Errorf("%s\nwant %s", strings.Join(got, " "), want)
	}
}
