//go:build !noRelay

package snapshot

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

const (
	scrubOften  = 1800 * time.Millisecond // between two passes over few documents
	scrubRarely = time.Minute             // or over many
	scrubFew    = 100_000

	// maxScrubPause bounds how the pause grows while every pass finds damage.
	// Where control planes disagree about a key, they find each other's work damaged.
	maxScrubPause = 5 * time.Minute

	liveNode = 15 * time.Second // since a node's last report
)

// damagedPrefix begins what a node reports when documents, digest and
// signature do not fit.
const damagedPrefix = "damaged: "

// scrubAlways scrubs until ctx ends: often while there are few documents, and out
// of turn when a data plane reports damage. It leads data planes on that are ahead.
func (r *Relay) scrubAlways(ctx context.Context) {
	var next time.Time
	var heeded Position // complaints are heeded once at each position
	repairs := 0        // in a row
	wereAhead := false  // when it last looked
	for {
		sleep(ctx, scrubOften+rand.N(scrubOften/8))
		if ctx.Err() != nil {
			return
		}
		nodes := r.liveNodes(ctx) // before the head, which they cannot be after then
		head, err := r.pub.Head(ctx)
		if err != nil {
			continue // a pass tells it
		}
		ahead := slices.ContainsFunc(nodes, func(n Node) bool { return n.Position.After(head.Position) })
		if ahead && wereAhead {
			r.overtake(ctx, nodes)
		}
		wereAhead = ahead
		complaint := repairs == 0 && heeded != head.Position && slices.ContainsFunc(nodes, complains)
		if complaint {
			heeded = head.Position
		}
		now := time.Now()
		if now.Before(next) && !complaint {
			continue
		}
		repaired, err := r.scrub(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			r.log.WarnContext(ctx, "what is published could not be checked", "error", err)
		case repaired:
			repairs = min(repairs+1, 10)
		default:
			repairs = 0
		}
		next = now
		if repairs > 0 {
			next = now.Add(min(scrubOften<<repairs, maxScrubPause))
		} else if head.Counts.total() > scrubFew {
			next = now.Add(scrubRarely)
		}
	}
}

// liveNodes returns the data planes that are alive, on the clock of their reports.
func (r *Relay) liveNodes(ctx context.Context) []Node {
	nodes, err := r.pub.Nodes(ctx)
	if err != nil {
		return nil // a pass tells what is wrong
	}
	newest := time.Time{}
	for _, n := range nodes {
		if n.SeenAt.After(newest) {
			newest = n.SeenAt
		}
	}
	return slices.DeleteFunc(nodes, func(n Node) bool { return newest.Sub(n.SeenAt) >= liveNode })
}

// complains reports whether a data plane says that what it read is damaged.
func complains(n Node) bool { return strings.HasPrefix(n.Error, damagedPrefix) }

// overtake publishes the catalog in an epoch that is after all that data
// planes have applied. They never go back, so it is needed when catalog and publisher have
// both been restored to an earlier state, and agree with each other.
func (r *Relay) overtake(ctx context.Context, nodes []Node) {
	furthest := slices.MaxFunc(nodes, func(a, b Node) int { return a.Position.Compare(b.Position) }).Position
	_, err := r.exclusively(ctx, func(ctx context.Context) (Head, error) {
		head, err := r.pub.Head(ctx)
		if err != nil || head.Position.After(furthest) {
			return head, err
		}
		keys, err := r.mayFollow(head)
		if err != nil {
			return Head{}, err
		}
		return r.replace(ctx, head, replacement{cause: "data planes are ahead of what is published", keys: keys, newEpoch: true, above: furthest.Epoch})
	})
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "data planes are ahead of what is published, and could not be overtaken", "position", furthest.String(), "error", err)
	}
}

// scrub rereads what is published. When that is damaged, twice, it publishes
// the catalog anew and returns true.
func (r *Relay) scrub(ctx context.Context) (repaired bool, err error) {
	for range 2 {
		s, loadErr := r.pub.Load(ctx)
		if loadErr == nil {
			loadErr = r.verify(s)
		}
		if err = loadErr; !errors.Is(err, ErrCorrupt) {
			if errors.Is(err, ErrNone) {
				return false, nil // a pass sees to it
			}
			return false, err
		}
	}
	r.log.WarnContext(ctx, "what is published is damaged and will be published anew", "error", err)
	_, err = r.exclusively(ctx, func(ctx context.Context) (Head, error) {
		head, err := r.pub.Head(ctx)
		if err != nil {
			return r.pass(ctx)
		}
		return r.repair(ctx, head, "the published digest was wrong")
	})
	return err == nil, err
}

// repair publishes the catalog anew over a head that does not fit its documents.
func (r *Relay) repair(ctx context.Context, head Head, cause string) (Head, error) {
	keys, err := r.mayFollow(head)
	if err != nil {
		return Head{}, err
	}
	whole, err := r.lineage(ctx, head)
	if err != nil {
		return Head{}, err
	}
	return r.replace(ctx, head, replacement{cause: cause, keys: keys, newEpoch: !whole})
}

// verify checks a snapshot, as far as the keys are held. One of another
// catalog is not ours to judge.
func (r *Relay) verify(s *Snapshot) error {
	err := r.keys.verify(s)
	if errors.Is(err, catalog.ErrSealed) || r.foreign(s.Head) {
		return nil
	}
	return err
}

// foreign reports whether a head is known to be of another catalog.
func (r *Relay) foreign(h Head) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.store != "" && r.store != h.Store
}
