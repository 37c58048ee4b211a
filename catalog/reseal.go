package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Rotator is implemented by a [Keeper] whose active key may change, so that what
// older keys have sealed is sealed anew, see [Tables.Reseal].
type Rotator interface {
	// Current reports whether the active key has sealed a text.
	Current(sealed string) bool
}

// SealStatus says with which keys the provider secrets in the store are sealed, as
// the last [Tables.Reseal] left it.
type SealStatus struct {
	Current    int64     // with the active key
	Older      int64     // with an older one: they are to be sealed anew
	Unopenable int64     // with none that is held; see Provider.Sealed
	Resealed   int64     // since the start
	At         time.Time // when the last round ended; zero before the first
	LastError  string    // empty when the last round worked
}

// sealCounts is what Tables remember of it.
type sealCounts struct {
	status   atomic.Pointer[SealStatus]
	resealed atomic.Int64
}

// SealStatus returns how far re-sealing has come.
func (t *Tables) SealStatus() SealStatus {
	if s := t.core.seals.status.Load(); s != nil {
		return *s
	}
	return SealStatus{}
}

// resealBatch is how many secrets a commit seals anew, so that it is an ordinary one.
const resealBatch = 20

// Reseal seals provider secrets again with the keeper's active key where an older key has sealed
// them: at most so many secrets as most says. Only the stored text changes. The providers keep
// their revisions and times, so that nobody's precondition fails; the feed gets an [ActionReseal]
// with equal Before and After. A provider that somebody changes meanwhile is sealed by that change,
// or in the next round. With a keeper that is no [Rotator], Reseal does nothing.
func (t *Tables) Reseal(ctx context.Context, most int) (SealStatus, error) {
	rotator, ok := t.core.keeper.(Rotator)
	if !ok {
		return SealStatus{}, nil
	}
	ctx = WithMachine(ctx, "maintenance", "sealed with the active key")
	var status SealStatus
	var pending []*Provider
	var errs []error
	commit := func() {
		n := len(pending)
		err := t.core.reseal(ctx, pending)
		pending = pending[:0]
		switch {
		case err == nil:
			status.Current += int64(n)
			t.core.seals.resealed.Add(int64(n))
		case errors.Is(err, ErrConflict):
			status.Older += int64(n) // somebody was faster; the next round looks again
		default:
			status.Older += int64(n)
			errs = append(errs, err)
		}
	}
	q := Query{Limit: pageSize}
	for done := false; !done && len(errs) < maxErrors; {
		page, err := t.storedProviders(ctx, q)
		if err != nil {
			errs = append(errs, err)
			break
		}
		for _, e := range page {
			q.After = e.ID
			switch p, state := t.core.sealState(e, rotator); state {
			case sealCurrent:
				status.Current++
			case sealUnopenable:
				status.Unopenable++
			case sealOlder:
				if most <= 0 {
					status.Older++
					continue
				}
				most--
				if pending = append(pending, p); len(pending) == resealBatch {
					commit()
				}
			}
		}
		done = len(page) < pageSize
	}
	if len(pending) > 0 {
		commit()
	}
	err := errors.Join(errs...)
	status.Resealed, status.At = t.core.seals.resealed.Load(), t.core.now()
	if err != nil {
		err = fmt.Errorf("seal provider secrets with the active key: %w", err)
		status.LastError = err.Error()
	}
	t.core.seals.status.Store(&status)
	return status, err
}

func (t *Tables) storedProviders(ctx context.Context, q Query) (page []Entity, err error) {
	err = t.core.store.Read(ctx, func(r Reader) error {
		page, err = r.List(ctx, KindProvider, q)
		return err
	})
	return page, err
}

type sealState int

const (
	sealNone sealState = iota
	sealCurrent
	sealOlder
	sealUnopenable
)

// sealState looks at the secret of a stored provider. The provider comes along
// when it is to be sealed anew.
func (c *core) sealState(e Entity, rotator Rotator) (*Provider, sealState) {
	var stored struct {
		APIKey string `json:"api_key"`
	}
	switch err := e.spec(&stored); {
	case err != nil:
		return nil, sealUnopenable
	case stored.APIKey == "":
		return nil, sealNone
	}
	var p Provider // opened, because another key may have the id of the active one
	if err := p.decode(e, c.keeper); err != nil || p.Sealed {
		return nil, sealUnopenable
	}
	if rotator.Current(stored.APIKey) {
		return nil, sealCurrent
	}
	return &p, sealOlder
}

// reseal commits providers as they are, sealed with the active key.
func (c *core) reseal(ctx context.Context, providers []*Provider) error {
	tx := &txn{core: c, now: c.now()}
	for _, p := range providers {
		e, err := encode(p, c.keeper)
		if err != nil {
			return err
		}
		text, err := plainJSON(p)
		if err != nil {
			return err
		}
		tx.record(&pendingWrite{Write{Entity: e, If: e.Revision, Quiet: true, Change: Change{
			Action: ActionReseal, Kind: KindProvider, ID: p.ID, Before: text, After: text, Touches: p.touches(),
		}}, p, p})
	}
	_, err := c.commit(ctx, tx, 0)
	return err
}
