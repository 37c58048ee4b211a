package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

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
	var raw, sink, sinkCPU, single, singleCPU, historic, historicCPU series
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
		rate, cpu, err := timed(w.Rows, func() error { return w.write(ctx, w.set.entries, 2, result{stored: w.Rows}) })
		if err != nil {
			return err
		}
		sink, sinkCPU = append(sink, rate), append(sinkCPU, micros(cpu))

		if err := w.empty(ctx); err != nil {
			return err
		}
		rate, cpu, err = timed(w.Rows, func() error { return w.write(ctx, w.set.entries, 1, result{stored: w.Rows}) })
		if err != nil {
			return err
		}
		single, singleCPU = append(single, rate), append(singleCPU, micros(cpu))

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
	t.row("log sink, one batch at a time",
		single.median(), singleCPU.median(), single.over(raw).median(), single.over(historic).median(), single.over(raw))
	t.row(fmt.Sprintf("historic writer, GORM, %d a transaction", historicBatch),
		historic.median(), historicCPU.median(), historic.over(raw).median(), 1., historic.over(raw))
	for _, kind := range kinds {
		s := *again[kind]
		t.row("log sink, batches sent again, of which stored already: "+kind, s.median(), "", s.over(raw).median(),
			s.over(historic).median(), s.over(raw))
	}
	t.end()
	return nil
}

// result is what the sink has to say about all batches of a measurement.
type result struct{ stored, duplicate int }

// write gives entries to a new sink as a queue with a backlog in its spool does:
// at most so many batches at once, which are stored one after the other.
func (w *world) write(ctx context.Context, entries []logbuf.Entry, atOnce int, want result) error {
	sink := pgstore.NewSink(w.pool, nil)
	segment, err := uuid.NewV7()
	if err != nil {
		return err
	}
	var got result // changed in turn
	var from int64
	var writers errgroup.Group
	writers.SetLimit(atOnce)
	before := make(chan struct{})
	close(before)
	for batch := range slices.Chunk(entries, batchSize) {
		b := logbuf.Batch{Segment: segment, From: from, To: from + int64(len(batch)), Entries: batch}
		from = b.To
		turn, stored := before, make(chan struct{})
		before = stored
		writers.Go(func() error {
			defer close(stored)
			r, err := sink.WriteAfter(ctx, b, func(context.Context) error { <-turn; return nil })
			<-turn
			got.stored, got.duplicate = got.stored+r.Stored, got.duplicate+r.Duplicate
			return err
		})
	}
	if err := writers.Wait(); err != nil {
		return err
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
	if err := w.write(ctx, there, 2, result{stored: len(there)}); err != nil {
		return 0, err
	}
	if err := w.exec(ctx, `checkpoint`); err != nil {
		return 0, err
	}
	rate, _, err = timed(len(all), func() error {
		return w.write(ctx, all, 2, result{len(all) - len(there), len(there)})
	})
	return rate, err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
