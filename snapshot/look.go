package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// watched is since when something about the published head is as it is.
type watched struct {
	life  Fields    // head and beat, when they last changed
	still time.Time // since when they have not
	epoch catalog.Epoch
	odd   time.Time // since when a head of that epoch has not fitted the catalog; zero: it fits
}

// look reads the published head and says what it is worth.
func (r *Relay) look(ctx context.Context) (sight, error) {
	head, err := r.pub.Head(ctx)
	s := sight{head: head, keyed: r.keys.Active() != ""}
	if errors.Is(err, ErrNone) {
		return s, nil
	}
	s.base = head.Base()
	switch {
	case errors.Is(err, ErrCorrupt):
		s.trust, s.fault = trustSpoilt, err.Error()
		return s, nil
	case err != nil:
		return s, fmt.Errorf("read the published head: %w", err)
	}
	s.trust, s.fault = r.judge(head)
	s.ours = r.isOurs(head)
	if s.trust == trustClaimed || head.Renderer > Renderer {
		err = r.observe(ctx, &s)
	}
	return s, err
}

// judge says what a head that can be read is worth.
func (r *Relay) judge(head Head) (t trust, fault string) {
	err := r.keys.VerifyHead(head)
	switch {
	case err == nil && r.keys.Active() == "" && r.changed(head):
		return trustSpoilt, "it is not what was published at " + head.Position.String()
	case err == nil:
		return trustGood, ""
	case !errors.Is(err, catalog.ErrSealed):
		return trustSpoilt, err.Error()
	}
	// Its key is not held. So it is somebody else's, or its field was changed.
	switch {
	case head.Seal == "":
		return trustSpoilt, "it is not signed"
	case !isHex(head.Sig, 64):
		return trustSpoilt, "it names a sync key, and is not signed"
	case r.changed(head), r.keys.wouldVerify(head):
		return trustSpoilt, "its sync key is not the one that signed it"
	}
	return trustClaimed, fmt.Sprintf("what is published is signed with sync key %.64q, which is not held here", head.Seal)
}

// wouldVerify reports whether one of the keys has signed the head, were it not
// for the name of the key.
func (k *Keys) wouldVerify(head Head) bool {
	if k == nil {
		return false
	}
	for _, key := range k.ring {
		f := head.Fields()
		f[fieldSeal] = key.id
		if sameSig(head.Sig, key.sign(signedHead, f)) {
			return true
		}
	}
	return false
}

// changed reports whether a head differs from the one that this relay knows
// at the same position. Nothing is ever published twice at a position and differs.
func (r *Relay) changed(head Head) bool {
	return r.known.Position == head.Position && r.known.Position != Position{} && !r.known.Equal(head)
}

// isOurs reports whether counts and digests of a head are those of this relay's
// rendering at the same revision.
func (r *Relay) isOurs(head Head) bool {
	return r.rendering != nil && r.rendering.at().Revision == head.Position.Revision && r.rendering.fits(head)
}

// observe finds out for how long head and beat have not changed, and whose beat it is.
func (r *Relay) observe(ctx context.Context, s *sight) error {
	beat, err := r.pub.LastBeat(ctx)
	if err != nil {
		return fmt.Errorf("read the last beat: %w", err)
	}
	if r.keys.VerifyBeat(beat) == nil {
		s.beatOf = beat.Store
	}
	life, now := s.head.Fields(), r.clock()
	life["beat"] = string(beat.Encode())
	if !maps.Equal(life, r.watched.life) {
		r.watched.life, r.watched.still = life, now
	}
	s.still = now.Sub(r.watched.still)
	return nil
}

// oddness returns for how long the head has not fitted the catalog.
func (r *Relay) oddness(head Head, c record) time.Duration {
	odd := head.Position.Epoch < c.at.Epoch || c.lineage == lineageAhead
	now := r.clock()
	switch {
	case !odd:
		r.watched.odd = time.Time{}
		return 0
	case r.watched.odd.IsZero() || r.watched.epoch != head.Position.Epoch:
		r.watched.odd, r.watched.epoch = now, head.Position.Epoch
	}
	return now.Sub(r.watched.odd)
}

// weigh reads where the catalog stands, and what it knows of the head that is in sight. A good head
// may turn out to be of an epoch that is over.
func (r *Relay) weigh(ctx context.Context, reader catalog.Reader, s *sight) (record, error) {
	c, err := recordOf(ctx, reader, *s)
	if err != nil || s.trust != trustGood {
		return c, err
	}
	s.odd = r.oddness(s.head, c)
	if s.head.Store == c.at.Store && s.head.Position.Epoch < c.at.Epoch {
		s.trust = trustOver
	}
	return c, nil
}

func recordOf(ctx context.Context, reader catalog.Reader, s sight) (record, error) {
	c := record{at: reader.Head()}
	if s.trust != trustGood && s.trust != trustClaimed {
		return c, nil
	}
	if s.head.Position.Revision > c.at.Revision {
		c.lineage = lineageAhead
		return c, nil
	}
	mark, err := reader.MarkAt(ctx, s.head.Position.Revision)
	switch {
	case errors.Is(err, catalog.ErrCompacted):
		c.lineage = lineagePruned
	case err != nil:
		return c, err
	case mark != s.head.Mark:
		c.lineage = lineageBroken
	}
	return c, nil
}
