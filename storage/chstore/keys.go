package chstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

// KeyUsage returns what keys have used; see [logbuf.Archive].
func (s *Sink) KeyUsage(ctx context.Context, since map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
	used := make(map[int64]logbuf.KeyUsage)
	if len(since) == 0 {
		return used, ctx.Err()
	}
	asked := (&rollup.State{Zone: time.UTC}).PlanKeys(since)
	err := s.guarded(ctx, s.keys, "read the usage of keys", func(ctx context.Context) error {
		all := rollup.Span{From: minTime(), Until: maxTime()}
		closed, err := s.closedSpans(ctx, all.From, all.Until)
		if err != nil {
			return err
		}
		var where conditions
		where.add("key_id IN (%s)", list(slices.Collect(maps.Keys(since)), number))
		source := usageSource(
			closed,
			all,
			where,
			func(quarter string) string { return quarter },
			[]string{"key_id"},
		)
		answer, err := s.ask(ctx, "SELECT id, nth, max(_last), "+
			"sumIf(_cost_nano_usd, _start >= since), sumIf(_unpriced, _start >= since) "+
			"FROM ("+source+") AS used INNER JOIN "+askedTable(asked)+
			" AS asked ON used.key_id = asked.id GROUP BY id, nth")
		if err != nil {
			return err
		}
		r := rowReader{rest: answer}
		for r.more() {
			id, nth, last := r.int64(), r.int64(), time.Unix(r.int64(), 0)
			rollup.NoteSpent(
				used,
				since,
				id,
				int(nth),
				last,
				logbuf.Spent{CostNanoUSD: r.int128(), Unpriced: r.int64()},
			)
		}
		return r.err
	})
	if err != nil {
		return nil, err
	}
	return used, nil
}

// askedTable writes a table of what is asked for.
func askedTable(asked []rollup.KeySpan) string {
	var ids, nths, sinces []string
	for _, k := range asked {
		ids = append(ids, number(k.KeyID))
		nths = append(nths, number(int64(k.Nth)))
		sinces = append(sinces, number(k.Since.Unix()))
	}
	return fmt.Sprintf("(SELECT id, nth, since FROM (SELECT [%s] AS ids, [%s] AS nths, [%s] AS sinces) "+
		"ARRAY JOIN ids AS id, nths AS nth, sinces AS since)",
		strings.Join(ids, ", "), strings.Join(nths, ", "), strings.Join(sinces, ", "))
}
