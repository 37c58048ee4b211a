package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

const (
	scrubOften  = 4 * time.Second // between two passes over few documents
	scrubRarely = time.Minute     // or over many
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
// of turn when a data plane reports damage.
func (r *Relay) scrubAlways(ctx context.Context) {
	var next time.Time
	var heeded Position // complaints are heeded once at each position
	repairs := 0        // in a row
	for {
		sleep(ctx, scrubOften+rand.N(scrubOften/8))
		if ctx.Err() != nil {
			return
		}
		head, err := r.pub.Head(ctx)
		if err != nil {
			continue // a pass tells it
		}
		complaint := repairs == 0 && heeded != head.Position && r.complaint(ctx)
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

// complaint reports whether a data plane that is alive says that what it read
// is damaged.
func (r *Relay) complaint(ctx context.Context) bool {
	nodes, err := r.pub.Nodes(ctx)
	if err != nil {
		return false
	}
	newest := time.Time{} // on the clock of the nodes' reports
	for _, n := range nodes {
		if n.SeenAt.After(newest) {
			newest = n.SeenAt
		}
	}
	for _, n := range nodes {
		if strings.HasPrefix(n.Error, damagedPrefix) && newest.Sub(n.SeenAt) < liveNode {
			return true
		}
	}
	return false
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

// verify checks counts, digest and signature, as far as the keys are held. A
// snapshot of another catalog is not ours to judge.
func (r *Relay) verify(s *Snapshot) error {
	keys, err := r.keys.Activate(s.Head.Seal)
	if err != nil || r.foreign(s.Head) {
		return nil
	}
	var digest Digest
	counts := Counts{}
	for _, d := range s.Docs {
		digest = digest.Add(keys.Hash(d.Kind, d.Key, d.Doc))
		counts.add(d.Kind, 1)
	}
	known := s.Head.Counts.clone()
	maps.DeleteFunc(known, func(_ catalog.Kind, n int) bool { return n == 0 })
	if digest != s.Head.Digest || !maps.Equal(counts, known) {
		return fmt.Errorf("the documents at %s are not those of the head: %w", s.Head.Position, ErrCorrupt)
	}
	return keys.Verify(s.Head)
}

// foreign reports whether a head is known to be of another catalog.
func (r *Relay) foreign(h Head) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.store != "" && r.store != h.Store
}
