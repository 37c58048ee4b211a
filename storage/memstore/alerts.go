package memstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
)

// outbox holds alerts, oldest first.
type outbox struct {
	mu     sync.Mutex
	lastID int64
	kept   []keptAlert
	known  map[string]bool // the identities
}

type keptAlert struct {
	alerts.Alert
	due time.Time
}

// RaiseAlerts implements [alerts.Outbox].
func (s *Store) RaiseAlerts(ctx context.Context, raised []alerts.Alert) (added int, err error) {
	for i := range raised {
		if err := raised[i].Check(); err != nil {
			return 0, fmt.Errorf("memstore: raise alerts: %w", err)
		}
	}
	if err := s.alive(ctx); err != nil {
		return 0, err
	}
	b := &s.outbox
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range raised {
		if b.known[a.Identity] {
			continue
		}
		b.known[a.Identity] = true
		b.lastID++
		a = alerts.Alert{
			ID: b.lastID, Kind: a.Kind, Severity: a.Severity, Subject: a.Subject, Project: a.Project, Message: a.Message,
			At: a.At.UTC().Truncate(time.Microsecond), Identity: a.Identity, Lasting: a.Lasting,
		}
		b.kept = append(b.kept, keptAlert{a, a.At})
		added++
	}
	return added, nil
}

// Alerts implements [alerts.Outbox].
func (s *Store) Alerts(ctx context.Context, q alerts.Query) (found []alerts.Alert, err error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	b := &s.outbox
	b.mu.Lock()
	defer b.mu.Unlock()
	found = []alerts.Alert{}
	for i := len(b.kept) - 1; i >= 0 && len(found) < q.Limit; i-- {
		a := b.kept[i].Alert
		if (q.Before == 0 || a.ID < q.Before) && (q.Kind == "" || a.Kind == q.Kind) &&
			(q.Project == "" || catalog.InProject(a.Project, q.Project)) {
			found = append(found, a)
		}
	}
	return found, nil
}

// ClaimAlerts implements [alerts.Outbox].
func (s *Store) ClaimAlerts(ctx context.Context, now, until time.Time, limit int) (due []alerts.Alert, err error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	b := &s.outbox
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.kept {
		k := &b.kept[i]
		if len(due) < limit && k.DeliveredAt.IsZero() && !k.due.After(now) && k.At.After(now.Add(-alerts.Patience)) {
			k.due = until
			due = append(due, k.Alert)
		}
	}
	return due, nil
}

// SettleAlert implements [alerts.Outbox].
func (s *Store) SettleAlert(ctx context.Context, id int64, o alerts.Outcome) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	b := &s.outbox
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.kept, func(k keptAlert) bool { return k.ID == id })
	if i < 0 {
		return nil
	}
	k := &b.kept[i]
	k.Tries++
	if k.DeliveredAt.IsZero() {
		k.Error = o.Error
		if !o.DeliveredAt.IsZero() {
			k.DeliveredAt = o.DeliveredAt.UTC().Truncate(time.Microsecond)
		}
	}
	if !o.Again.IsZero() {
		k.due = o.Again
	}
	return nil
}

// PruneAlerts implements [alerts.Outbox].
func (s *Store) PruneAlerts(ctx context.Context, before time.Time) (int64, error) {
	if err := s.alive(ctx); err != nil {
		return 0, err
	}
	b := &s.outbox
	b.mu.Lock()
	defer b.mu.Unlock()
	was := len(b.kept)
	b.kept = slices.DeleteFunc(b.kept, func(k keptAlert) bool {
		old := !k.Lasting && k.At.Before(before)
		if old {
			delete(b.known, k.Identity)
		}
		return old
	})
	return int64(was - len(b.kept)), nil
}
