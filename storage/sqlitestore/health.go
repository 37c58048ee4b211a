package sqlitestore

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	sqlKeepHealth = `
insert into log_health (slot, writer, body) values (?, ?, ?)
on conflict (slot, writer) do update set body = excluded.body`

	sqlForgetHealth = `delete from log_health where slot < ?`
	sqlHealthNotes  = `select slot, writer, body from log_health where slot >= ?`
)

// KeepHealth stores notes; see [logbuf.HealthKeeper].
func (s *Sink) KeepHealth(ctx context.Context, before time.Time, notes ...logbuf.HealthNote) error {
	return s.inTx(ctx, "keep the health of providers", func(tx *sqlx.Tx) error {
		for _, n := range notes {
			if _, err := tx.ExecContext(ctx, sqlKeepHealth, n.Slot.UnixMicro(), n.Writer[:], n.Body); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, sqlForgetHealth, before.UnixMicro())
		return err
	})
}

// HealthNotes returns notes; see [logbuf.HealthKeeper].
func (s *Sink) HealthNotes(ctx context.Context, since time.Time) (notes []logbuf.HealthNote, err error) {
	var rows []struct {
		Slot         int64
		Writer, Body []byte
	}
	err = s.store.read.SelectContext(ctx, &rows, sqlHealthNotes, since.UnixMicro())
	for i := 0; i < len(rows) && err == nil; i++ {
		n := logbuf.HealthNote{Slot: time.UnixMicro(rows[i].Slot).UTC(), Body: rows[i].Body}
		n.Writer, err = uuid.FromBytes(rows[i].Writer)
		notes = append(notes, n)
	}
	return notes, s.fail(ctx, "read the health of providers", err)
}
