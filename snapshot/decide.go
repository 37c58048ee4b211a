package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// The errors with which a relay refuses, matched with errors.Is.
var (
	// ErrForeign says that what is published comes from another catalog. It
	// is overwritten only by a forced re-synchronisation.
	ErrForeign = errors.New("published by another catalog")

	// ErrShrinks says that a publish of the whole would lose more than half of
	// the documents of a kind; it has to be forced.
	ErrShrinks = errors.New("would lose more than half of the documents")

	// ErrOutranked says that what is published was rendered by a newer
	// version of this code, or under a sync key that is not held.
	ErrOutranked = errors.New("published by a control plane that this one must not overwrite")

	// ErrWaiting says that a relay leaves it to others for some seconds to mend
	// what is published.
	ErrWaiting = errors.New("waiting for other control planes")
)

const (
	// oddPatience is how long a head may be of an epoch that is over, or ahead of the
	// catalog, before it is replaced: whoever has begun a new epoch may be at work.
	oddPatience = 5 * time.Second

	// lifePatience is how long a head that this relay must respect, but cannot
	// verify, may stand still, with its beat, until it is replaced.
	lifePatience = 3 * BeatInterval

	// maxAhead bounds how far epochs that nobody vouches for may be ahead of the clock.
	maxAhead = 24 * time.Hour
)

// trust is what a relay thinks of a head that it has read.
type trust int

const (
	trustNone    trust = iota // there is no head
	trustSpoilt               // damaged: none of its fields steers anything
	trustClaimed              // names a sync key that is not held, or none although there are keys; or the other way round
	trustOver                 // good, but of an epoch of this catalog that is over: none of its fields steers anything
	trustGood                 // verified; or there are no keys, and nothing speaks against it
)

// sight is what is published, as a relay sees it.
type sight struct {
	head  Head
	base  Base // what it is found again by; zero when there is none
	trust trust
	keyed bool   // the relay has sync keys, so a good head is a verified one
	fault string // why it is not good

	// ours says that the documents are those that this relay renders at the same
	// revision, as far as the head tells: nobody else has published them, then.
	ours bool

	// beatOf is the catalog of the last beat, when that is good. Whoever publishes beats.
	beatOf string

	// For how long head and beat have been what they are. Whoever publishes
	// changes the beat, if nothing else.
	still time.Duration
	// For how long the head's position has not fitted the catalog.
	odd time.Duration
}

// record is where the catalog stands, and what it knows of the head.
type record struct {
	at      catalog.Head
	lineage lineage
}

// lineage says how a head's revision and mark fit the catalog's history.
type lineage int

const (
	lineageKnown  lineage = iota // the mark is the catalog's at that revision
	lineageBroken                // it is not
	lineagePruned                // the catalog does not know any more
	lineageAhead                 // the catalog is not there yet
)

// action is what a relay does about what is published.
type action int

const (
	doNothing action = iota // it is as it should be
	doDelta                 // publish what has changed since
	doSucceed               // publish the whole at the catalog's position, which is later in the same epoch
	doRestart               // publish the whole under a new epoch
	doWait                  // leave it to others for a while
	doRefuse                // only an operator may go on
)

// decision is an action with its cause. Actions that publish the whole
// have a cause that is told; those that do not publish have an error.
type decision struct {
	action action
	cause  string
	err    error
}

func restart(cause string) decision { return decision{action: doRestart, cause: cause} }
func succeed(cause string) decision { return decision{action: doSucceed, cause: cause} }

func wait(format string, args ...any) decision {
	return decision{action: doWait, err: fmt.Errorf(format+": %w", append(args, ErrWaiting)...)}
}

func refuse(err error, format string, args ...any) decision {
	return decision{action: doRefuse, err: fmt.Errorf(format+": %w", append(args, err)...)}
}

// hasMark reports whether a head has the mark that the catalog has at that revision. Nobody else's has it.
func (c record) hasMark(head Head) bool { return c.lineage == lineageKnown && head.Mark != "" }

// decide says what to do about what is published, at a time. It does nothing itself.
//
// With sync keys, everything that it relies on was verified. Without sync keys, the fields of a
// head count only within bounds, and a head that would stop publishing for good is respected only
// while somebody still publishes there. The head of another catalog is the exception: only an
// operator may overwrite it, unless its mark shows that it is this catalog's own. With sync keys,
// the same holds for a head under a key that is not held. If such a head names another catalog, a
// good beat of this one shows that it was put there by somebody who does not publish.
func decide(s sight, c record, now time.Time) decision {
	switch s.trust {
	case trustNone:
		return restart("nothing was published")
	case trustSpoilt:
		return restart("the published head is damaged: " + s.fault)
	case trustClaimed:
		if s.ours {
			return restart("the published head was changed: " + s.fault)
		}
		if s.head.Store != c.at.Store && s.beatOf != c.at.Store && !c.hasMark(s.head) {
			return refuse(ErrForeign, "%s, and it comes from catalog %.64q, this is %s; re-synchronise with force to "+
				"overwrite it", s.fault, s.head.Store, c.at.Store)
		}
		if s.still < lifePatience {
			return refuse(ErrOutranked, "%s; set the same sync keys in all control planes, or re-synchronise", s.fault)
		}
		return restart(s.fault + ", and nobody publishes there any more")
	case trustOver:
		if s.odd < oddPatience {
			return wait("what is published is of an epoch that is over")
		}
		return restart("what is published was of an epoch that is over")
	}
	at, head := c.at, s.head
	ahead := c.lineage == lineageAhead
	switch {
	case head.Store != at.Store && !s.keyed && c.hasMark(head):
		return restart("the published head names another catalog, and has this one's mark")
	case head.Store != at.Store:
		return refuse(ErrForeign, "what is published comes from catalog %.64q, this is %s; re-synchronise with "+
			"force to overwrite it",
			head.Store, at.Store)
	case head.Renderer > Renderer && !s.keyed && s.ours:
		return restart("the published head names a newer version, and its documents are those of this one")
	case head.Renderer > Renderer && (s.keyed || s.still < lifePatience):
		return refuse(ErrOutranked, "what is published was rendered by version %d, this is version %d; "+
			"upgrade this control plane",
			head.Renderer, Renderer)
	case head.Renderer > Renderer:
		return restart("a newer version had rendered it, and nobody publishes there any more")
	case !s.keyed && head.Position.Epoch > at.Epoch && !plausible(head.Position.Epoch, now):
		return restart("the published epoch is in the future")
	case ahead && s.odd < oddPatience:
		return wait("what is published is ahead of the catalog")
	case ahead:
		return restart("what is published was ahead of the catalog")
	case head.Position.Epoch > at.Epoch:
		return restart("the catalog does not know the published epoch")
	case c.lineage == lineageBroken:
		return restart("the catalog has another history than what is published")
	case head.Renderer < Renderer:
		return restart("an older version had rendered it")
	case c.lineage == lineagePruned:
		return succeed("the history since was pruned")
	case head.Position.Revision == at.Revision:
		return decision{action: doNothing}
	}
	return decision{action: doDelta}
}

// plausible reports whether an epoch that nobody vouches for may be believed:
// epochs are unix seconds, or one more than another.
func plausible(epoch catalog.Epoch, now time.Time) bool {
	return int64(epoch) <= now.Add(maxAhead).Unix()
}

// nextEpoch returns an epoch that is after all that was published: after the
// catalog's own, after a good head's, and after those that data planes report, as
// far as they are plausible. It fails when there is none.
func nextEpoch(now time.Time, c record, s sight, reported catalog.Epoch) (catalog.Epoch, error) {
	epoch := max(catalog.Epoch(now.Unix()), 1)
	after := func(e catalog.Epoch) {
		if e >= epoch && e < math.MaxInt64 {
			epoch = e + 1
		}
	}
	after(c.at.Epoch)
	if s.trust == trustGood && (s.keyed || plausible(s.head.Position.Epoch, now)) {
		after(s.head.Position.Epoch)
	}
	if plausible(reported, now) {
		after(reported)
	}
	if epoch <= c.at.Epoch {
		return 0, fmt.Errorf("there is no epoch after %d, which the catalog has recorded: %w", c.at.Epoch, catalog.ErrInvalid)
	}
	return epoch, nil
}

// minLost is how many documents of a kind a whole may always lose.
const minLost = 10

// guard refuses to lose most of a kind by accident, of the kinds that are
// rendered. Holds end by themselves, and what the feed explains is meant.
func guard(before, after, explained Counts) error {
	for _, kind := range slices.Sorted(maps.Keys(after)) {
		if kind == catalog.KindHold {
			continue
		}
		lost := before[kind] - after[kind] - explained[kind]
		if lost > minLost && lost > before[kind]/2 {
			return fmt.Errorf("%d of %d %s would go; re-synchronise with force if that is right: %w", lost, before[kind],
				kind, ErrShrinks)
		}
	}
	return nil
}
