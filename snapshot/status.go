package snapshot

import (
	"context"
	"errors"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Trouble says in a word what keeps a relay from publishing, see [RelayStatus].
type Trouble string

// The troubles of a relay.
const (
	TroubleNone     Trouble = ""
	TroubleForeign  Trouble = "foreign"   // another catalog is published there, see ErrForeign
	TroubleOutrank  Trouble = "outranked" // a newer version, or other sync keys, are published there, see ErrOutranked
	TroubleShrinks  Trouble = "shrinks"   // publishing would lose most of a kind, see ErrShrinks
	TroubleWaiting  Trouble = "waiting"   // other control planes are given some seconds, see ErrWaiting
	TroubleBusy     Trouble = "busy"      // others publish all the time, or one has stopped in the middle
	TroubleDamaged  Trouble = "damaged"   // what is published does not add up, and is being mended
	TroubleRefused  Trouble = "refused"   // the publisher takes no writes, see ErrRefused
	TroubleCatalog  Trouble = "catalog"   // the catalog cannot be read, or written
	TroublePublish  Trouble = "publisher" // the publisher cannot be read, or written
	TroubleUnsealed Trouble = "sealed"    // entities cannot be read, and are not published
)

// RelayStatus says what a relay has done since it was made, and how it is.
type RelayStatus struct {
	Published Position         // as it was last seen or made
	Revision  catalog.Revision // of the catalog, as it was last read
	Publishes int64            // deltas applied
	Replaces  int64            // wholes published
	Documents int64            // documents published, by either
	Repairs   int64            // documents that were not as they should be, and were written again

	Trouble   Trouble   // why the last pass did not publish, or published less than all; empty when all is well
	LastError string    // of the last pass; empty when it went well
	UpdatedAt time.Time // when the last pass ended
	Failed    int       // entities that cannot be rendered

	ScrubError string    // of the last scrub; empty when it went well, and when another relay compares now
	ScrubbedAt time.Time // when this relay has last compared all that is published
	BeatError  string    // of the last beat; empty when it went well
	BeatAt     time.Time // when this relay has last found or written a beat
	FleetError string    // of reading the data planes' reports; empty when it went well
	HintError  string    // of the last message to those who listen, see Announcer; empty when it was sent
}

// Status returns what the relay has done.
func (r *Relay) Status() RelayStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := r.status
	if a, ok := r.pub.(Announcer); ok {
		if err := a.Announced(); err != nil {
			status.HintError = err.Error()
		}
	}
	return status
}

func (r *Relay) update(change func(*RelayStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// errCatalog marks an error of the catalog, as opposed to the publisher's.
type errCatalog struct{ error }

func (e errCatalog) Unwrap() error { return e.error }

func troubleOf(err error) Trouble {
	for _, known := range []struct {
		err     error
		trouble Trouble
	}{
		{ErrForeign, TroubleForeign}, {ErrOutranked, TroubleOutrank}, {ErrShrinks, TroubleShrinks}, {ErrWaiting,
			TroubleWaiting},
		{ErrStale, TroubleBusy}, {ErrCorrupt, TroubleDamaged}, {ErrRefused, TroubleRefused},
	} {
		if errors.Is(err, known.err) {
			return known.trouble
		}
	}
	if errors.As(err, new(errCatalog)) {
		return TroubleCatalog
	}
	return TroublePublish
}

// note keeps the outcome of a pass. It is told once when a kind of trouble
// begins, and once when it is over.
func (r *Relay) note(ctx context.Context, head Head, err error) {
	text, trouble, failed := "", TroubleNone, 0
	if r.rendering != nil {
		if failed = r.rendering.failures(); failed > 0 {
			trouble = TroubleUnsealed
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		text, trouble = err.Error(), troubleOf(err)
	}
	r.mu.Lock()
	before := r.status.Trouble
	r.status.LastError, r.status.Trouble, r.status.UpdatedAt, r.status.Failed = text, trouble, r.clock(), failed
	if err == nil {
		r.status.Published = head.Position
	}
	r.mu.Unlock()
	switch {
	case err == nil && before != TroubleNone && before != TroubleUnsealed:
		r.log.InfoContext(ctx, "publishing works again", "position", head.Position.String())
	case err != nil && trouble != before:
		r.log.WarnContext(ctx, "publishing does not work, and is tried again", "trouble", string(trouble), "error", text)
	}
}

// Kinds returns the kinds of the documents that a revision can have touched.
// Whoever waits until the revision is applied asks data planes for these.
func (r *Relay) Kinds(ctx context.Context, revision catalog.Revision) (kinds []catalog.Kind, err error) {
	var t touched
	err = r.tables.Store().Read(ctx, func(reader catalog.Reader) error {
		if err := reader.Head().Leads(revision - 1); err != nil {
			return err
		}
		for at := (catalog.Cursor{Revision: revision - 1}); ; {
			page, err := reader.Changes(ctx, at, queryChunk)
			if err != nil {
				return err
			}
			for _, c := range page {
				if c.Revision != revision {
					return nil
				}
				t.add(c)
				at = c.Cursor()
			}
			if len(page) == 0 {
				return nil
			}
			if t.size() > maxTouched {
				return errManyTouched
			}
		}
	})
	if errors.Is(err, catalog.ErrCompacted) || errors.Is(err, errManyTouched) {
		return Kinds(), nil
	}
	return t.kinds(), err
}
