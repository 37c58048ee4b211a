package chstore

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// Tasks lists what there is to do; see [logbuf.Maintainer]. Several processes may do it at once.
func (s *Sink) Tasks() []logbuf.Task {
	return []logbuf.Task{
		s.task("drop", 5*time.Minute, s.drop),
		s.task("dead_letters", time.Minute, s.forgetDead),
		s.task("tidy", time.Minute, s.tidy),
		s.task("hours", 10*time.Minute, s.closeHours),
	}
}

func (s *Sink) task(
	name string,
	bound time.Duration,
	run func(context.Context, logbuf.MaintenanceOptions) (logbuf.TaskReport, error),
) logbuf.Task {
	return logbuf.Task{Name: name, Bound: bound, Run: func(
		ctx context.Context, o logbuf.MaintenanceOptions,
	) (report logbuf.TaskReport, err error) {
		if err = s.begin(ctx); err == nil {
			report, err = run(ctx, o)
		}
		return report, explain(ctx, "task "+name, err)
	}}
}

// forgetDead forgets dead letters from before a time.
func (s *Sink) forgetDead(ctx context.Context, o logbuf.MaintenanceOptions) (logbuf.TaskReport, error) {
	if o.Before.IsZero() {
		return logbuf.TaskReport{}, ctx.Err()
	}
	return s.deleteRows(ctx, "log_dead_letter", "at < "+micros(o.Before.UnixMicro()))
}

// tidy removes builds that have not counted for an hour, and notes of health that are forgotten.
func (s *Sink) tidy(ctx context.Context, _ logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	for _, d := range []struct{ from, where string }{
		{"usage_quarters", `made < now64(6) - INTERVAL 1 HOUR
AND build NOT IN (SELECT build FROM usage_builds FINAL)
AND toStartOfHour(starts) NOT IN (
    SELECT hour FROM usage_builds FINAL WHERE made > now64(6) - INTERVAL 1 HOUR)`},
		{"log_health", "slot < (SELECT max(slot) FROM log_health WHERE writer = " + bytes16(uuid.Max) + ")"},
	} {
		done, err := s.deleteRows(ctx, d.from, d.where)
		if err != nil {
			return report, err
		}
		report.Done += done.Done
	}
	return report, nil
}

// deleteRows deletes rows, if there are any: even a delete of nothing is work.
func (s *Sink) deleteRows(ctx context.Context, from, where string) (report logbuf.TaskReport, err error) {
	answer, err := s.ask(ctx, "SELECT toInt64(count()) FROM "+from+" WHERE "+where)
	if err != nil {
		return report, err
	}
	r := rowReader{rest: answer}
	if report.Done = r.int64(); report.Done == 0 || r.err != nil {
		return report, r.err
	}
	return report, s.do(ctx, "DELETE FROM "+from+" WHERE "+where)
}
