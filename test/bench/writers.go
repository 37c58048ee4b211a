package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// writers compares the log sink, usage and checkpoints included, with the raw
// COPY and with the historic writer; and the sink when what it is given may be
// there already.
func (w *world) writers(ctx context.Context) error {
	db, err := openHistoric(w.dsn)
	if err != nil {
		return err
	}
	few := w.set.entries[:min(len(w.set.entries), 10_000)] // it is slow
	var raw, sink, sinkCPU, historic, historicCPU series
	again := map[string]*series{"a third": {}, "all": {}}
	kinds := []string{"a third", "all"}
	for i := range w.Pairs {
		progress("writers: %d of %d", i+1, w.Pairs)
		rate, err := w.raw.measure(ctx)
		if err != nil {
			return err
		}
		raw = append(raw, rate)

		if err := w.empty(ctx); err != nil {
			return err
		}
		rate, cpu, err := timed(w.Rows, func() error { return w.write(ctx, w.set.entries, result{stored: w.Rows}) })
		if err != nil {
			return err
		}
		sink, sinkCPU = append(sink, rate), append(sinkCPU, micros(cpu))

		if err := w.exec(ctx, `truncate historic_logs`, `checkpoint`); err != nil {
			return err
		}
		rate, cpu, err = timed(len(few), func() error { return writeHistoric(ctx, db, few) })
		if err != nil {
			return err
		}
		historic, historicCPU = append(historic, rate), append(historicCPU, micros(cpu))

		for _, kind := range kinds {
			rate, err := w.replay(ctx, kind)
			if err != nil {
				return err
			}
			*again[kind] = append(*again[kind], rate)
		}
	}

	t := w.table("writing to PostgreSQL", "rows/s", "CPU µs/row", "÷ raw COPY", "÷ historic", "ratios of the pairs")
	t.row("raw COPY, one statement", raw.median(), "", 1., raw.over(historic).median(), "")
	t.row(fmt.Sprintf("log sink, %d a batch in %d groups of usage", batchSize, w.set.groups()),
		sink.median(), sinkCPU.median(), sink.over(raw).median(), sink.over(historic).median(), sink.over(raw))
	t.row(fmt.Sprintf("historic writer, GORM, %d a transaction", historicBatch),
		historic.median(), historicCPU.median(), historic.over(raw).median(), 1., historic.over(raw))
	for _, kind := range kinds {
		s := *again[kind]
		t.row("log sink, batches sent again, of which stored already: "+kind, s.median(), "", s.over(raw).median(), s.over(historic).median(), s.over(raw))
	}
	t.end()
	return nil
}

// result is what the sink has to say about all batches of a measurement.
type result struct{ stored, duplicate int }

// write gives entries to a new sink as a spool would.
func (w *world) write(ctx context.Context, entries []logbuf.Entry, want result) error {
	sink := pgstore.NewSink(w.pool, nil)
	segment, err := uuid.NewV7()
	if err != nil {
		return err
	}
	var got result
	var from int64
	for batch := range slices.Chunk(entries, batchSize) {
		to := from + int64(len(batch))
		r, err := sink.Write(ctx, logbuf.Batch{Segment: segment, From: from, To: to, Entries: batch})
		if err != nil {
			return err
		}
		got.stored, got.duplicate, from = got.stored+r.Stored, got.duplicate+r.Duplicate, to
	}
	if got != want {
		return fmt.Errorf("the sink says %+v, want %+v", got, want)
	}
	return nil
}

// replay measures the path for batches that may hold duplicates.
func (w *world) replay(ctx context.Context, stored string) (rate float64, err error) {
	if err := w.empty(ctx); err != nil {
		return 0, err
	}
	all := w.set.entries
	there := all
	if stored == "a third" {
		there = nil
		for i := 0; i < len(all); i += 3 {
			there = append(there, all[i])
		}
	}
	if err := w.write(ctx, there, result{stored: len(there)}); err != nil {
		return 0, err
	}
	if err := w.exec(ctx, `checkpoint`); err != nil {
		return 0, err
	}
	rate, _, err = timed(len(all), func() error {
		return w.write(ctx, all, result{len(all) - len(there), len(there)})
	})
	return rate, err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
