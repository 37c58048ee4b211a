package sqlitestore

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	sqlForgetLogs = `
delete from access_logs
where ts < ?1 and (ts, id) in (select ts, id from access_logs where ts < ?1 order by ts, id limit ?2)`

	// A segment is gone long before its checkpoint, which is needed only while
	// somebody may still send the segment.
	sqlForgetCheckpoints = `
delete from log_checkpoints where segment in (select segment from log_checkpoints where updated_at < ?1 limit ?2)`

	sqlForgetDead = `
delete from log_dead_letter
where (id, micros) in (select id, micros from log_dead_letter where at < ?1 limit ?2)`

	sqlForgetQuarters = `
delete from usage_quarters where starts < ?1 and (starts, key_id, project, provider_id, namespace, model, route_group) in (
    select starts, key_id, project, provider_id, namespace, model, route_group from usage_quarters where starts < ?1 limit ?2)`

	forgetSize      = 5_000 // rows in one transaction: the catalog waits for it
	checkpointsKept = 365 * 24 * time.Hour
)

// Tasks lists what there is to do; see [logbuf.Maintainer].
func (s *Sink) Tasks() []logbuf.Task {
	return []logbuf.Task{
		{Name: "drop", Run: s.drop},
		{Name: "dead_letters", Run: s.forgetDead},
		{Name: "checkpoints", Run: s.forgetCheckpoints},
		{Name: "folds", Run: s.forgetFolds},
		{Name: "days", Run: s.closeDays},
		{Name: "prune", Run: s.pruneQuarters},
	}
}

// drop forgets entries of days that ended before a time.
func (s *Sink) drop(ctx context.Context, o logbuf.MaintenanceOptions) (logbuf.TaskReport, error) {
	if o.Before.IsZero() {
		return logbuf.TaskReport{}, ctx.Err()
	}
	return s.deleteSome(ctx, "forget logs", sqlForgetLogs, o.Before.UTC().Truncate(24*time.Hour))
}

func (s *Sink) forgetDead(ctx context.Context, o logbuf.MaintenanceOptions) (logbuf.TaskReport, error) {
	if o.Before.IsZero() {
		return logbuf.TaskReport{}, ctx.Err()
	}
	return s.deleteSome(ctx, "forget dead letters", sqlForgetDead, o.Before)
}

func (s *Sink) forgetCheckpoints(ctx context.Context, o logbuf.MaintenanceOptions) (logbuf.TaskReport, error) {
	return s.deleteSome(ctx, "forget checkpoints", sqlForgetCheckpoints, o.Now.Add(-checkpointsKept))
}

// deleteSome runs a statement, which deletes up to so many rows from before a time, until nothing is left.
func (s *Sink) deleteSome(ctx context.Context, doing, statement string,
	before time.Time) (r logbuf.TaskReport, err error) {
	for n := int64(forgetSize); n == forgetSize; r.Done += n {
		if err := s.inTx(ctx, doing, func(tx *sqlx.Tx) error {
			done, err := tx.ExecContext(ctx, statement, before.UnixMicro(), forgetSize)
			if err != nil {
				return err
			}
			n, err = done.RowsAffected()
			return err
		}); err != nil {
			return r, err
		}
	}
	return r, nil
}
