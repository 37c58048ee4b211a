package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// sqlPending makes so many rows of pending usage, each of another group, in a quarter of an hour.
const sqlPending = `
insert into usage_pending (starts, last_at, key_id, provider_id, requests, errors, unpriced, input_tokens, cache_read_tokens,
    cache_write_tokens, output_tokens, cost_nano_usd, project, namespace, model, route_group)
select $2::timestamptz, $2::timestamptz + interval '7 minutes', (g * 7919::bigint) % 100003, 1 + g % 3, 1, 0, 0, 1000, 0, 0, 200, 1000000,
    'acme/team-' || g % 50, 'default', 'vendor/model-' || g % 7, 'default'
from generate_series(1, $1::int) g`

// Fold measures how many distinct groups of usage are added up in a second, and in each second that PostgreSQL's
// process works: of a quarter of an hour that has none of them yet; the same once more, which updates each; and both
// for a quarter of a day that is closed, whose groups are the same each time, so that but for the first the day has
// them. It prints what each run has, and what a row takes.
func Fold(ctx context.Context, out io.Writer, dsn string, groups, runs int) (err error) {
	w := &world{Options: Options{DSN: dsn, Out: out}}
	drop, err := w.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	sink := pgstore.NewSink(w.pool, nil)
	now := time.Now().UTC().Truncate(logbuf.Quarter)
	type pace struct{ wall, cpu series }
	fold := func(starts time.Time, into *pace) error {
		if _, err := w.pool.Exec(ctx, sqlPending, groups, starts); err != nil {
			return err
		}
		for _, task := range sink.Tasks() {
			if task.Name != "fold" {
				continue
			}
			before, err := w.backendsCPU(ctx)
			if err != nil {
				return err
			}
			begin := time.Now()
			report, err := task.Run(ctx, logbuf.MaintenanceOptions{Now: now})
			if err != nil || report.Done != int64(groups) {
				return errors.Join(err, fmt.Errorf("%d of %d rows were folded", report.Done, groups))
			}
			into.wall = append(into.wall, float64(groups)/time.Since(begin).Seconds())
			after, err := w.backendsCPU(ctx)
			into.cpu = append(into.cpu, float64(groups)/(after-before).Seconds())
			return err
		}
		return errors.New("there is no task called fold")
	}
	// The days that have ended are closed from the one on that has the first usage.
	if _, err := w.pool.Exec(ctx, sqlPending, 1, now.AddDate(0, 0, -9)); err != nil {
		return err
	}
	results := logbuf.Maintain(ctx, sink, logbuf.MaintenanceOptions{Now: now})
	if err := logbuf.MaintenanceError(results); err != nil {
		return err
	}
	var fresh, again, late, lateAgain pace
	for run := range runs {
		progress("fold: %d of %d", run+1, runs)
		open := now.Add(-time.Duration(run) * logbuf.Quarter)
		closed := open.AddDate(0, 0, -3)
		for _, kind := range []struct {
			into   *pace
			starts time.Time
		}{{&fresh, open}, {&again, open}, {&late, closed}, {&lateAgain, closed}} {
			if err := fold(kind.starts, kind.into); err != nil {
				return err
			}
		}
	}
	t := w.table(fmt.Sprintf("folding %d distinct groups", groups), "groups/s", "a second of PostgreSQL's process")
	for _, kind := range []struct {
		name string
		pace pace
	}{
		{"of a new quarter of an hour", fresh}, {"of one that has them", again},
		{"of a new quarter of a closed day", late}, {"of one that has them", lateAgain},
	} {
		t.row(kind.name, kind.pace.wall, kind.pace.cpu)
	}
	t.end()
	sizes := w.table("usage, bytes a row with indexes", "rows", "table", "with indexes")
	defer sizes.end()
	for _, name := range []string{"usage_quarters", "usage_days", "usage_quarter_totals", "usage_day_totals"} {
		var rows, size, total float64
		err := w.pool.QueryRow(ctx, fmt.Sprintf(`select count(*)::float8, pg_relation_size('%[1]s')::float8,
			pg_total_relation_size('%[1]s')::float8 from %[1]s`, name)).Scan(&rows, &size, &total)
		if err != nil {
			return err
		}
		sizes.row(name, rows, size/max(1, rows), total/max(1, rows))
	}
	return nil
}
