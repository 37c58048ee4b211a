package chstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// The greatest UUID stands in the place of a writer in the row that says until when notes are
// forgotten. The rows themselves go with the task tidy: ClickHouse does not like to delete every
// few seconds.

const sqlHealthNotes = `
SELECT slot, writer, body FROM log_health FINAL WHERE writer != %[2]s AND slot >= %[1]s
AND slot >= (SELECT max(slot) FROM log_health WHERE writer = %[2]s) ORDER BY slot, writer`

// KeepHealth stores notes; see [logbuf.HealthKeeper].
func (s *Sink) KeepHealth(ctx context.Context, before time.Time, notes ...logbuf.HealthNote) error {
	var rows []byte
	until := logbuf.HealthNote{Writer: uuid.Max, Slot: before}
	for _, n := range append(slices.Clone(notes), until) {
		rows = appendInt64(rows, n.Slot.UnixMicro())
		rows = append(rows, n.Writer[:]...)
		rows = appendString(rows, string(n.Body))
	}
	err := s.begin(ctx)
	if err == nil {
		err = s.insert(ctx, "log_health (slot, writer, body)", rows, "")
	}
	return explain(ctx, "keep the health of providers", err)
}

// HealthNotes returns notes; see [logbuf.HealthKeeper]. It does not wait with the queries of users.
func (s *Sink) HealthNotes(ctx context.Context, since time.Time) (notes []logbuf.HealthNote, err error) {
	ask := func() error {
		if err := s.begin(ctx); err != nil {
			return err
		}
		answer, err := s.ask(ctx, fmt.Sprintf(sqlHealthNotes, micros(since.UnixMicro()), bytes16(uuid.Max)))
		if err != nil {
			return err
		}
		r := rowReader{rest: answer}
		for r.more() {
			n := logbuf.HealthNote{Slot: time.UnixMicro(r.int64()).UTC()}
			copy(n.Writer[:], r.bytes(16))
			n.Body = []byte(r.string())
			notes = append(notes, n)
		}
		return r.err
	}
	if err := ask(); err != nil {
		return nil, explain(ctx, "read the health of providers", err)
	}
	return notes, nil
}
