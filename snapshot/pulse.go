package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

const (
	// beatAge is how old the last beat must be for another one. Relays look
	// every two seconds, so this makes one about every BeatInterval.
	beatAge = BeatInterval - relayInterval/2

	// clocks is how far two clocks may differ.
	clocks = 2 * time.Second

	heedInterval     = 2 * time.Second
	overtakeInterval = time.Minute // between two epochs that are begun because of what data planes report
)

// damagedPrefix begins what a data plane reports when documents, digest and
// signature do not fit.
const damagedPrefix = "damaged: "

// beat writes that this relay is alive, unless somebody has done so. What it
// says was found by the last pass.
func (r *Relay) beat(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-r.turn:
	}
	quiet := r.quiet
	r.turn <- struct{}{}
	if quiet.at.IsZero() {
		return
	}
	r.noteBeat(ctx, r.beatOnce(ctx, quiet))
}

// missBeat notes that there is nothing that a beat could say, because passes fail, once that has lasted.
func (r *Relay) missBeat(ctx context.Context, err error) {
	r.mu.Lock()
	since := r.clock().Sub(r.status.BeatAt)
	r.mu.Unlock()
	if since > 2*BeatInterval {
		r.noteBeat(ctx, fmt.Errorf("there is none while publishing fails: %w", err))
	}
}

func (r *Relay) noteBeat(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	r.mu.Lock()
	before := r.status.BeatError
	r.status.BeatError = text
	if err == nil {
		r.status.BeatAt = r.clock()
	}
	r.mu.Unlock()
	if text != "" && before == "" {
		r.log.WarnContext(ctx, "the beat cannot be written; data planes with MaxStale will refuse to serve", "error", text)
	}
}

func (r *Relay) beatOnce(ctx context.Context, quiet quietness) error {
	last, err := r.pub.LastBeat(ctx)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if err == nil && r.stands(last, quiet) {
		return nil
	}
	beat := Beat{Store: quiet.store, Position: quiet.position, At: quiet.at}
	quiet.keys.SignBeat(&beat)
	return r.pub.SetBeat(ctx, beat)
}

// stands reports whether a beat makes another one unnecessary.
func (r *Relay) stands(b Beat, quiet quietness) bool {
	age := quiet.at.Sub(b.At)
	return !b.At.IsZero() && age < beatAge && age > -clocks && b.Store == quiet.store && b.Seal == quiet.keys.Active() &&
		!b.Position.After(quiet.position) && b.Position.Epoch == quiet.position.Epoch && quiet.keys.VerifyBeat(b) == nil
}

// heedAlways looks at what data planes report, until ctx ends: that what they
// read is damaged, or that they are ahead.
func (r *Relay) heedAlways(ctx context.Context) {
	var heeded Position // complaints are heeded once at each position
	var overtook time.Time
	wereAhead := false // when it last looked
	for rest(ctx, heedInterval+rand.N(heedInterval/4)) {
		if err := r.fleet.Refresh(ctx); err != nil {
			r.noteFleet(ctx, err)
			continue
		}
		r.noteFleet(ctx, nil)
		live, head := r.fleet.vouching(), r.fleet.head()
		if head.Position == (Position{}) {
			continue
		}
		if heeded != head.Position && complaint(live, head.Position) {
			heeded = head.Position
			r.askScrub()
		}
		ahead := furthest(live, head)
		isAhead := ahead.After(head.Position) && plausible(ahead.Epoch, r.clock())
		if isAhead && wereAhead && time.Since(overtook) > overtakeInterval {
			overtook = time.Now()
			r.overtake(ctx, ahead)
		}
		wereAhead = isAhead
	}
}

// complaint reports whether a data plane that has what is published, or is
// before it, says that it is damaged.
func complaint(live []Node, at Position) bool {
	for _, n := range live {
		if strings.HasPrefix(n.Error, damagedPrefix) && !n.Position.After(at) {
			return true
		}
	}
	return false
}

func furthest(live []Node, head Head) (ahead Position) {
	for _, n := range live {
		if n.Store == head.Store && n.Position.After(ahead) {
			ahead = n.Position
		}
	}
	return ahead
}

// overtake publishes the catalog in an epoch that is after all that data
// planes have applied. They never go back, so it is needed when catalog and publisher have
// both been restored to an earlier state, and agree with each other.
func (r *Relay) overtake(ctx context.Context, ahead Position) {
	_, err := r.exclusively(ctx, func(ctx context.Context) (Head, error) {
		head, err := r.pass(ctx)
		if err != nil || !ahead.After(head.Position) {
			return head, err
		}
		s, err := r.look(ctx)
		if err != nil {
			return Head{}, err
		}
		p, err := r.planWhole(ctx, s)
		if err != nil {
			return Head{}, err
		}
		p.decision, r.reported = restart("data planes are ahead of what is published"), ahead
		return r.publishWhole(ctx, p, wholeOptions{})
	})
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "data planes are ahead of what is published, and could not be overtaken",
			"position", ahead.String(), "error", err)
	}
}

func (r *Relay) noteFleet(ctx context.Context, err error) {
	text := ""
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		text = err.Error()
	}
	r.mu.Lock()
	before := r.status.FleetError
	r.status.FleetError = text
	r.mu.Unlock()
	if text != "" && before == "" {
		r.log.WarnContext(ctx, "what data planes report cannot be read", "error", text)
	}
}
