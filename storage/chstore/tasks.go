package chstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
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

const sqlPartitions = `SELECT DISTINCT partition FROM system.parts
WHERE database = currentDatabase() AND table = 'access_logs' AND active AND partition < '%s'
ORDER BY partition
FORMAT TabSeparated`

// drop forgets the days that ended before a time, once the usage of all their hours is summed.
func (s *Sink) drop(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	if o.Before.IsZero() {
		return report, ctx.Err()
	}
	end := o.Before.UTC().Truncate(24 * time.Hour)
	answer, err := s.client.run(ctx, statement{text: fmt.Sprintf(sqlPartitions, end.Format(partition))})
	if err != nil {
		return report, err
	}
	for text := range strings.FieldsSeq(string(answer)) {
		day, err := time.Parse(partition, text)
		if err != nil {
			return report, fmt.Errorf("access_logs has the partition %.20q, which is no day: "+
				"was the table made by somebody else? %w", text, logbuf.ErrPaused)
		}
		kept, err := s.summed(ctx, rollup.Span{From: day, Until: day.AddDate(0, 0, 1)})
		if err != nil {
			return report, err
		}
		if !kept {
			report.Behind = max(report.Behind, o.Before.Sub(day.AddDate(0, 0, 1))-s.settle)
			continue
		}
		err = s.do(ctx, "ALTER TABLE access_logs DROP PARTITION "+text+
			" SETTINGS max_partition_size_to_drop = 0")
		if err != nil {
			return report, err
		}
		report.Done++
	}
	return report, nil
}

// partition is how the partitions of access_logs are called: by their day.
const partition = "20060102"

// summed reports whether all usage of a day is in usage_quarters, for so long that nobody reads it
// from the entries any more. It builds what is missing, hours without entries too.
func (s *Sink) summed(ctx context.Context, day rollup.Span) (bool, error) {
	closed, err := s.closedSpans(ctx, day.From, day.Until)
	if err != nil {
		return false, err
	}
	_, open := split(closed, day)
	for _, hours := range open {
		if err := s.build(ctx, hours); err != nil {
			return false, err
		}
	}
	now, err := s.readClock(ctx)
	if err != nil {
		return false, err
	}
	settled, err := s.closedBefore(ctx, day.From, day.Until, now.Add(-s.settle))
	_, open = split(settled, day)
	return len(open) == 0, err
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
