package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/catalog/alerts"
)

const (
	sqlRaiseAlert = `
insert into alerts (identity, lasting, kind, severity, subject, project, message, at, due_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (identity) do nothing`

	alertColumns = `id, identity, lasting, kind, severity, subject, project, message, at, delivered_at, tries, error`

	sqlAlerts = `
select ` + alertColumns + `
from alerts
where id < ?1 and (?2 = '' or kind = ?2)
    and (?3 = '' or project = ?3 or substr(project, 1, length(?3) + 1) = ?3 || '/')
order by id desc
limit ?4`

	sqlClaimAlerts = `
update alerts set due_at = ?3
where id in (select id from alerts where delivered_at is null and due_at <= ?1 and at > ?2 order by id limit ?4)
returning ` + alertColumns

	sqlSettleAlert = `
update alerts set delivered_at = coalesce(delivered_at, ?2), tries = tries + 1,
    error = case when delivered_at is null then ?3 else error end, due_at = coalesce(?4, due_at)
where id = ?1`

	sqlPruneAlerts = `delete from alerts where at < ? and not lasting`
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
	At          int64
	DeliveredAt *int64 `db:"delivered_at"`
	Tries       int
	Error       string
}

func (r *alertRow) alert() alerts.Alert {
	a := alerts.Alert{
		ID: r.ID, Kind: r.Kind, Severity: r.Severity, Subject: r.Subject, Project: r.Project, Message: r.Message,
		At: microseconds(r.At), Tries: r.Tries, Error: r.Error, Identity: r.Identity, Lasting: r.Lasting,
	}
	if r.DeliveredAt != nil {
		a.DeliveredAt = microseconds(*r.DeliveredAt)
	}
	return a
}

// RaiseAlerts implements [alerts.Outbox].
func (s *Store) RaiseAlerts(ctx context.Context, raised []alerts.Alert) (added int, err error) {
	for i := range raised {
		if err := raised[i].Check(); err != nil {
			return 0, fmt.Errorf("sqlitestore: raise alerts: %w", err)
		}
	}
	if err := s.alive(); err != nil || len(raised) == 0 {
		return 0, err
	}
	tx, err := s.write.BeginTxx(ctx, nil)
	if err != nil {
		return 0, s.fail(ctx, "raise alerts", err)
	}
	defer func() { _ = tx.Rollback() }() // no harm after the commit
	for i := range raised {
		a := &raised[i]
		at := a.At.UnixMicro()
		result, err := tx.ExecContext(ctx, sqlRaiseAlert, a.Identity, a.Lasting, a.Kind, a.Severity, a.Subject, a.Project,
			a.Message, at, at)
		if err != nil {
			return 0, s.fail(ctx, "raise alerts", err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, s.fail(ctx, "raise alerts", err)
		}
		added += int(n)
	}
	if err := tx.Commit(); err != nil {
		return 0, s.fail(ctx, "raise alerts", err)
	}
	return added, nil
}

// Alerts implements [alerts.Outbox].
func (s *Store) Alerts(ctx context.Context, q alerts.Query) ([]alerts.Alert, error) {
	if q.Before == 0 {
		q.Before = math.MaxInt64
	}
	return s.selectAlerts(ctx, s.read, "read alerts", sqlAlerts, q.Before, q.Kind, q.Project, q.Limit)
}

// ClaimAlerts implements [alerts.Outbox].
func (s *Store) ClaimAlerts(ctx context.Context, now, until time.Time, limit int) ([]alerts.Alert, error) {
	claimed, err := s.selectAlerts(ctx, s.write, "claim alerts", sqlClaimAlerts, now.UnixMicro(),
		now.Add(-alerts.Patience).UnixMicro(), until.UnixMicro(), limit)
	alerts.OldestFirst(claimed)
	return claimed, err
}

func (s *Store) selectAlerts(ctx context.Context, db *sqlx.DB, doing, query string, args ...any) (
	[]alerts.Alert, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	var rows []alertRow
	if err := db.SelectContext(ctx, &rows, query, args...); err != nil {
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
	if _, err := s.write.ExecContext(ctx, sqlSettleAlert, id, given(o.DeliveredAt), o.Error, given(o.Again)); err != nil {
		return s.fail(ctx, "settle an alert", err)
	}
	return nil
}

// PruneAlerts implements [alerts.Outbox].
func (s *Store) PruneAlerts(ctx context.Context, before time.Time) (int64, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	result, err := s.write.ExecContext(ctx, sqlPruneAlerts, before.UnixMicro())
	if err != nil {
		return 0, s.fail(ctx, "prune alerts", err)
	}
	return result.RowsAffected()
}

// given returns null for the zero time.
func given(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMicro(), Valid: !t.IsZero()}
}
