package storagetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// SinkRefuses checks that everything which a sink can do, except Clock, fails with an error that
// wraps want, also the tasks of its maintenance. It is for a sink whose database must not be
// touched, because it belongs to another catalog.
func SinkRefuses(t testing.TB, s logbuf.Sink, want error) {
	t.Helper()
	for name, do := range calls(s) {
		if err := do(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s: %v, want an error that wraps %q", name, err, want)
		}
	}
}

// calls lists by its name what a sink can do.
func calls(s logbuf.Sink) map[string]func(context.Context) error {
	now := time.Now().UTC()
	entry := logbuf.Entry{ID: uuid.New(), Time: now, Namespace: "default", Status: 200}
	batch := logbuf.Batch{Segment: uuid.New(), To: 1, Entries: []logbuf.Entry{entry}}
	all := map[string]func(context.Context) error{
		"Write": func(ctx context.Context) error { return failure(s.Write(ctx, batch)) },
	}
	if p, ok := s.(logbuf.Pipeliner); ok {
		all["WriteAfter"] = func(ctx context.Context) error {
			return failure(p.WriteAfter(ctx, batch, func(context.Context) error { return nil }))
		}
	}
	if c, ok := s.(logbuf.Checkpointer); ok {
		all["Checkpoint"] = func(ctx context.Context) error { return failure(c.Checkpoint(ctx, batch.Segment)) }
	}
	if a, ok := s.(logbuf.Archive); ok {
		all["Logs"] = func(ctx context.Context) error { return failure(a.Logs(ctx, logbuf.LogQuery{})) }
		all["Usage"] = func(ctx context.Context) error { return failure(a.Usage(ctx, logbuf.UsageQuery{})) }
		all["KeyUsage"] = func(ctx context.Context) error {
			return failure(a.KeyUsage(ctx, map[int64][]time.Time{7: {{}}}))
		}
	}
	if r, ok := s.(logbuf.Repricer); ok {
		all["Reprice"] = func(ctx context.Context) error {
			return failure(r.Reprice(ctx, logbuf.RepriceBatch{
				Run: uuid.New(), Price: func(*logbuf.Entry) {},
				Query: logbuf.LogQuery{Since: now.Add(-time.Hour), Until: now.Add(time.Hour), Limit: 10},
			}))
		}
	}
	if m, ok := s.(logbuf.Meter); ok {
		all["Fold"] = m.Fold
		all["Folds"] = func(ctx context.Context) error { return failure(m.Folds(ctx, logbuf.FoldMark{})) }
		all["Spent"] = func(ctx context.Context) error {
			return failure(m.Spent(ctx, logbuf.SpentQuery{Keys: []int64{7}}))
		}
	}
	if k, ok := s.(logbuf.HealthKeeper); ok {
		all["KeepHealth"] = func(ctx context.Context) error {
			return k.KeepHealth(ctx, now.Add(-time.Hour), logbuf.HealthNote{Writer: uuid.New(), Slot: now, Body: []byte("{}")})
		}
		all["HealthNotes"] = func(ctx context.Context) error { return failure(k.HealthNotes(ctx, now.Add(-time.Hour))) }
	}
	if m, ok := s.(logbuf.Maintainer); ok {
		for _, task := range m.Tasks() {
			all["task "+task.Name] = func(ctx context.Context) error {
				return failure(task.Run(ctx, logbuf.MaintenanceOptions{
					Now: now, Before: now.Add(-90 * 24 * time.Hour), UsageBefore: now.Add(-400 * 24 * time.Hour),
				}))
			}
		}
	}
	return all
}

// failure is the error of a call.
func failure[T any](_ T, err error) error { return err }
