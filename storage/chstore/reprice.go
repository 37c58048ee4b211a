package chstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const sqlReprices = `SELECT run, begun FROM log_reprices FINAL WHERE until > now64(6) ORDER BY begun, run`

// Reprice prices entries anew; see [logbuf.Repricer]. An entry gets another row, of a greater
// version, and usage follows from the entries, so both change at once and by the same. Where two
// servers begin a run in the same moment, the later one notices it at its next step; what both have
// priced has the price of one of them.
func (s *Sink) Reprice(ctx context.Context, b logbuf.RepriceBatch) (result logbuf.RepriceResult, err error) {
	r, err := b.Query.Resolve(time.Now())
	if err != nil {
		return result, fmt.Errorf("chstore: price anew: %w", err)
	}
	err = s.guarded(ctx, s.queries, "price anew", func(ctx context.Context) (err error) {
		result, err = s.reprice(ctx, &b, r)
		return err
	})
	return result, err
}

func (s *Sink) reprice(
	ctx context.Context, b *logbuf.RepriceBatch, r logbuf.LogRange,
) (result logbuf.RepriceResult, err error) {
	if !b.DryRun {
		if err := s.lease(ctx, b.Run, logbuf.RepriceLease); err != nil {
			return result, err
		}
	}
	now, err := s.now(ctx)
	if err != nil {
		return result, err
	}
	where := filters(&b.Query)
	where.add("toYYYYMMDD(ts) NOT IN (SELECT toYYYYMMDD(day) FROM forgotten_days)") // their usage stays
	if !b.Own {
		where.add("(cost_nano_usd IS NULL OR priced_revision != 0)")
	}
	versions := make(map[identity]uint64)
	var run rollup.Repricing
	if r.Before.After(maxTime()) {
		r.Before = maxTime()
	}
	if err := run.Walk(b, r, func(part logbuf.LogRange) ([]logbuf.Entry, error) {
		entries, all, err := s.entries(ctx, where, &part)
		for i := range entries {
			versions[identityOf(&entries[i])] = all[i]
		}
		return entries, err
	}); err != nil || b.DryRun {
		return run.Result, err
	}
	var rows []byte
	changed := make([]*logbuf.Entry, len(run.Changed))
	for i := range run.Changed {
		e := &run.Changed[i]
		version, err := nextVersion(versions[identityOf(e)], now)
		if err != nil {
			return result, err
		}
		if rows, err = appendLog(rows, e, version); err != nil {
			return result, err
		}
		changed[i] = e
	}
	if len(changed) > 0 {
		if err := s.marked(ctx, changed, func(time.Time) error {
			return s.insert(ctx, "access_logs ("+logColumns+")", rows, "")
		}); err != nil {
			return result, err
		}
	}
	if run.Result.Next == "" {
		return run.Result, s.claim(ctx, b.Run, now, 0)
	}
	return run.Result, nil
}

// identity is what an entry is known by.
type identity struct {
	micros int64
	id     uuid.UUID
}

func identityOf(e *logbuf.Entry) identity { return identity{e.Time.UnixMicro(), e.ID} }

// lease takes or renews the lease for a run, or returns an error that wraps [logbuf.ErrBusy]. Of
// the runs that claim it the one that began first has it.
func (s *Sink) lease(ctx context.Context, run uuid.UUID, length time.Duration) error {
	for try := range 2 {
		answer, err := s.ask(ctx, sqlReprices)
		if err != nil {
			return err
		}
		r := rowReader{rest: answer}
		var first uuid.UUID
		var mine time.Time
		for n := 0; r.more(); n++ {
			var other uuid.UUID
			copy(other[:], r.bytes(16))
			begun := time.UnixMicro(r.int64()).UTC()
			if n == 0 {
				first = other
			}
			if other == run {
				mine = begun
			}
		}
		switch {
		case r.err != nil:
			return r.err
		case first != uuid.Nil && first != run:
			if !mine.IsZero() {
				if err := s.claim(ctx, run, mine, 0); err != nil {
					return err
				}
			}
			return fmt.Errorf("entries are being priced anew by another run: %w", logbuf.ErrBusy)
		case try == 1:
			return nil
		case mine.IsZero():
			if mine, err = s.readClock(ctx); err != nil {
				return err
			}
		}
		if err := s.claim(ctx, run, mine, length); err != nil {
			return err
		}
	}
	return nil
}

// claim says that a run that has begun at a time goes on for so long.
func (s *Sink) claim(ctx context.Context, run uuid.UUID, begun time.Time, length time.Duration) error {
	return s.do(
		ctx,
		fmt.Sprintf(
			"INSERT INTO log_reprices (run, begun, until) SELECT %s, %s, now64(6) + INTERVAL %d SECOND",
			bytes16(run),
			micros(begun.UnixMicro()),
			int(length.Seconds()),
		),
	)
}
