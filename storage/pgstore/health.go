package pgstore

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	sqlKeepHealth = `
insert into log_health (slot, writer, body) values ($1::timestamptz, $2::uuid, $3::bytea)
on conflict (slot, writer) do update set body = excluded.body`

	// Another process may be at it: what it has locked is left to it.
	sqlForgetHealth = `
delete from log_health where ctid = any (array(
    select ctid from log_health where slot < $1::timestamptz for update skip locked))`

	sqlHealthNotes = `select slot, writer::text, body from log_health where slot >= $1::timestamptz`
)

// KeepHealth stores notes; see [logbuf.HealthKeeper].
func (s *Sink) KeepHealth(ctx context.Context, before time.Time, notes ...logbuf.HealthNote) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		for _, n := range notes {
			if _, err := affect(ctx, tx, sqlKeepHealth, n.Slot, n.Writer.String(), n.Body); err != nil {
				return err
			}
		}
		_, err := affect(ctx, tx, sqlForgetHealth, before)
		return err
	})
	if err != nil {
		return explainSink(ctx, "keep the health of providers", err)
	}
	return nil
}

// HealthNotes returns notes; see [logbuf.HealthKeeper]. It does not wait with the queries of users.
func (s *Sink) HealthNotes(ctx context.Context, since time.Time) (notes []logbuf.HealthNote, err error) {
	err = s.readNow(ctx, sqlReadBegin+sqlReadSettings, func(conn *pgx.Conn) error {
		rows, err := query(ctx, conn, sqlHealthNotes, since)
		if err != nil {
			return err
		}
		notes, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n logbuf.HealthNote, err error) {
			var writer string
			if err = row.Scan(&n.Slot, &writer, &n.Body); err == nil {
				n.Slot = n.Slot.UTC()
				n.Writer, err = uuid.Parse(writer)
			}
			return n, err
		})
		return err
	})
	if err != nil {
		return nil, explainSink(ctx, "read the health of providers", err)
	}
	return notes, nil
}
