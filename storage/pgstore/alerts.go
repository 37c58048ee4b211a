package pgstore

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/catalog/alerts"
)

const (
	sqlRaiseAlerts = `
insert into alerts (identity, lasting, kind, severity, subject, project, message, at, due_at)
select a.identity, a.lasting, a.kind, a.severity, a.subject, a.project, a.message, a.at, a.at
from unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])
    with ordinality as a (identity, lasting, kind, severity, subject, project, message, at, place)
order by a.place
on conflict (identity) do nothing`

	alertColumns = `id, identity, lasting, kind, severity, subject, project, message, at, delivered_at, tries, error`

	sqlAlerts = `
select ` + alertColumns + `
from alerts
where id < $1 and ($2 = '' or kind = $2)
    and ($3 = '' or project = $3 or left(project, length($3) + 1) = $3 || '/')
order by id desc
limit $4`

	sqlClaimAlerts = `
with due as (
    select id from alerts
    where delivered_at is null and due_at <= $1 and at > $2
    order by id
    limit $4
    for update skip locked)
update alerts set due_at = $3 from due where alerts.id = due.id
returning alerts.id, identity, lasting, kind, severity, subject, project, message, at, delivered_at, tries, error`

	sqlSettleAlert = `
update alerts set delivered_at = coalesce(delivered_at, $2), tries = tries + 1,
    error = case when delivered_at is null then $3 else error end, due_at = coalesce($4, due_at)
where id = $1`

	sqlPruneAlerts = `delete from alerts where at < $1 and not lasting`
)

type alertRow struct {
	ID          int64
	Identity    string
	Lasting     bool
	Kind        alerts.Kind
	Severity    alerts.Severity
	Subject     string
	Project     string
	Message     string
	At          time.Time
	DeliveredAt *time.Time `db:"delivered_at"`
	Tries       int
	Error       string
}

func (r *alertRow) alert() alerts.Alert {
	a := alerts.Alert{
		ID: r.ID, Kind: r.Kind, Severity: r.Severity, Subject: r.Subject, Project: r.Project, Message: r.Message,
		At: r.At.UTC(), Tries: r.Tries, Error: r.Error, Identity: r.Identity, Lasting: r.Lasting,
	}
	if r.DeliveredAt != nil {
		a.DeliveredAt = r.DeliveredAt.UTC()
	}
	return a
}

// RaiseAlerts implements [alerts.Outbox].
func (s *Store) RaiseAlerts(ctx context.Context, raised []alerts.Alert) (int, error) {
	n := len(raised)
	identity, lasting, at := make([]string, n), make([]bool, n), make([]time.Time, n)
	kind, severity, subject := make([]string, n), make([]string, n), make([]string, n)
	project, message := make([]string, n), make([]string, n)
	for i := range raised {
		a := &raised[i]
		if err := a.Check(); err != nil {
			return 0, fmt.Errorf("pgstore: raise alerts: %w", err)
		}
		identity[i], lasting[i], at[i], kind[i], severity[i] = a.Identity, a.Lasting, a.At, string(a.Kind), string(a.Severity)
		subject[i], project[i], message[i] = a.Subject, a.Project, a.Message
	}
	if err := s.alive(); err != nil || n == 0 {
		return 0, err
	}
	added, err := s.change(ctx, sqlRaiseAlerts, identity, lasting, kind, severity, subject, project, message, at)
	if err != nil {
		return 0, s.fail(ctx, "raise alerts", err)
	}
	return int(added), nil
}

// Alerts implements [alerts.Outbox].
func (s *Store) Alerts(ctx context.Context, q alerts.Query) ([]alerts.Alert, error) {
	if q.Before == 0 {
		q.Before = math.MaxInt64
	}
	return s.selectAlerts(ctx, "read alerts", func(rows *[]alertRow) error {
		return s.db.SelectContext(ctx, rows, sqlAlerts, q.Before, string(q.Kind), q.Project, q.Limit)
	})
}

// ClaimAlerts implements [alerts.Outbox].
func (s *Store) ClaimAlerts(ctx context.Context, now, until time.Time, limit int) ([]alerts.Alert, error) {
	claimed, err := s.selectAlerts(ctx, "claim alerts", func(rows *[]alertRow) error {
		return s.inTx(ctx, func(tx *sqlx.Tx) error {
			return tx.SelectContext(ctx, rows, sqlClaimAlerts, now, now.Add(-alerts.Patience), until, limit)
		})
	})
	alerts.OldestFirst(claimed)
	return claimed, err
}

func (s *Store) selectAlerts(ctx context.Context, doing string, read func(*[]alertRow) error) ([]alerts.Alert, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	var rows []alertRow
	if err := read(&rows); err != nil {
		return nil, s.fail(ctx, doing, err)
	}
	found := make([]alerts.Alert, len(rows))
	for i := range rows {
		found[i] = rows[i].alert()
	}
	return found, nil
}

// SettleAlert implements [alerts.Outbox].
func (s *Store) SettleAlert(ctx context.Context, id int64, o alerts.Outcome) error {
	if err := s.alive(); err != nil {
		return err
	}
	_, err := s.change(ctx, sqlSettleAlert, id, given(o.DeliveredAt), o.Error, given(o.Again))
	if err != nil {
		return s.fail(ctx, "settle an alert", err)
	}
	return nil
}

// PruneAlerts implements [alerts.Outbox].
func (s *Store) PruneAlerts(ctx context.Context, before time.Time) (int64, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	pruned, err := s.change(ctx, sqlPruneAlerts, before)
	if err != nil {
		return 0, s.fail(ctx, "prune alerts", err)
	}
	return pruned, nil
}

// given returns nil for the zero time.
func given(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
