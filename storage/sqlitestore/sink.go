package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/gate"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	logColumns = `ts, id, key_id, provider_id, latency_ms, ttft_ms,
    input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, cost_nano_usd, priced_revision,
    status, attempts, stream, request_id, balancer, namespace, model, upstream_model,
    route_group, endpoint, error, client_ip, user_agent, revision, project, end_user, tags, failures`

	sqlInsertLog = `
insert into access_logs (` + logColumns + `)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (ts, id) do nothing`

	sqlPosition = `select position from log_checkpoints where segment = ?`

	sqlAdvance = `
insert into log_checkpoints (segment, position, updated_at) values (?, ?, ?)
on conflict (segment) do update set position = excluded.position, updated_at = excluded.updated_at`

	sqlDead = `
insert into log_dead_letter (id, micros, at, segment, code, reason, entry) values (?, ?, ?, ?, ?, ?, ?)
on conflict do nothing`
)

// Sink stores access logs in the file of a [Store], and answers questions
// about them. It is safe for concurrent use.
//
// A batch is one transaction, during which commits of the catalog wait: some
// tens of µs an entry, a quarter of a second for a batch of 5,000.
type Sink struct {
	store *Store
	zone  *time.Location
	clock func() time.Time

	// Half of the connections that read: the catalog's requests keep the others. What keys have used
	// is asked for with every list of keys, and must not wait behind the others.
	queries, keys *gate.Gate
}

var (
	_ logbuf.Sink         = (*Sink)(nil)
	_ logbuf.Archive      = (*Sink)(nil)
	_ logbuf.Checkpointer = (*Sink)(nil)
	_ logbuf.Maintainer   = (*Sink)(nil)
	_ logbuf.Repricer     = (*Sink)(nil)
	_ logbuf.HealthKeeper = (*Sink)(nil)
)

const keyReaders = 2

// SinkOptions change how a [Sink] works. The zero value is fine, and so is nil.
type SinkOptions struct {
	// UsageZone is the time zone of the days by which usage is kept when its quarters of an hour
	// are too old. The first maintenance of a file fixes it. Defaults to UTC.
	UsageZone *time.Location

	// Clock tells what is now, where a query does not say. Defaults to time.Now.
	Clock func() time.Time
}

// NewSink returns a sink in the file of a store. It ends with the store.
func NewSink(store *Store, opts *SinkOptions) *Sink {
	s := &Sink{store: store, zone: time.UTC, clock: time.Now,
		queries: gate.New(readers/2 - keyReaders), keys: gate.New(keyReaders)}
	if opts != nil && opts.UsageZone != nil {
		s.zone = opts.UsageZone
	}
	if opts != nil && opts.Clock != nil {
		s.clock = opts.Clock
	}
	return s
}

// Write stores a batch; see [logbuf.Sink].
func (s *Sink) Write(ctx context.Context, b logbuf.Batch) (result logbuf.Result, err error) {
	if len(b.Entries) == 0 && b.Segment == uuid.Nil {
		return result, ctx.Err()
	}
	err = s.inTx(ctx, "write logs", func(tx *sqlx.Tx) error {
		w := writer{tx: tx, segment: b.Segment}
		if b.Segment != uuid.Nil {
			at, err := position(ctx, tx, b.Segment)
			if err != nil {
				return err
			}
			if at >= b.To {
				result = logbuf.Result{Duplicate: len(b.Entries)}
				return nil
			}
			if at < b.From {
				return &logbuf.BehindError{Position: at}
			}
			if _, err := tx.ExecContext(ctx, sqlAdvance, b.Segment[:], b.To, time.Now().UnixMicro()); err != nil {
				return err
			}
		}
		if err := w.write(ctx, b.Entries); err != nil {
			return err
		}
		result = w.result
		return s.addUsage(ctx, tx, w.usage.Rows)
	})
	if err != nil {
		return logbuf.Result{}, err
	}
	return result, nil
}

// inTx runs fn in a transaction that has the write lock.
func (s *Sink) inTx(ctx context.Context, doing string, fn func(*sqlx.Tx) error) error {
	tx, err := s.store.write.BeginTxx(ctx, nil)
	if err == nil {
		defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
		if err = fn(tx); err == nil {
			err = tx.Commit()
		}
	}
	return s.fail(ctx, doing, err)
}

// writer stores the entries of one batch.
type writer struct {
	tx      *sqlx.Tx
	segment uuid.UUID
	result  logbuf.Result
	usage   rollup.Table
}

func (w *writer) write(ctx context.Context, entries []logbuf.Entry) error {
	insert, err := w.tx.PrepareContext(ctx, sqlInsertLog)
	if err != nil {
		return err
	}
	defer insert.Close() //nolint:errcheck // with the transaction at the latest
	for i := range entries {
		e := &entries[i]
		row, err := logRow(e)
		if err != nil {
			return err
		}
		done, err := insert.ExecContext(ctx, row...)
		switch {
		case refused(err):
			if err := w.going(ctx); err != nil {
				return err
			}
			if err := w.bury(ctx, e, err); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		switch n, err := done.RowsAffected(); {
		case err != nil:
			return err
		case n == 0:
			w.result.Duplicate++
		default:
			w.result.Stored++
			w.usage.Add(e)
		}
	}
	return nil
}

// logRow returns the values of logColumns. Tags and failures are JSON, empty when there are none.
func logRow(e *logbuf.Entry) ([]any, error) {
	tags, failures, err := nestedText(e)
	return []any{
		e.Time.UnixMicro(), e.ID[:], e.KeyID, e.ProviderID, e.LatencyMS, e.TTFTMS,
		e.InputTokens, e.CacheReadTokens, e.CacheWriteTokens, e.OutputTokens, e.CostNanoUSD, e.PricedRevision,
		e.Status, e.Attempts, e.Stream, e.RequestID, e.Balancer, e.Namespace, e.Model, e.UpstreamModel,
		e.Group, e.Endpoint, e.Error, e.ClientIP, e.UserAgent, e.Revision, e.Project, e.User, tags, failures,
	}, err
}

func nestedText(e *logbuf.Entry) (tags, failures string, err error) {
	if len(e.Tags) > 0 {
		text, err := json.Marshal(e.Tags)
		if err != nil {
			return "", "", err
		}
		tags = string(text)
	}
	if len(e.Failures) > 0 {
		text, err := json.Marshal(e.Failures)
		if err != nil {
			return "", "", err
		}
		failures = string(text)
	}
	return tags, failures, nil
}

// bury puts an entry into the dead letters, once.
func (w *writer) bury(ctx context.Context, e *logbuf.Entry, cause error) error {
	entry, err := json.Marshal(e)
	if err != nil { // JSON has no time beyond the year 9999; the table has it in micros
		withoutTime := *e
		withoutTime.Time = time.Time{}
		if entry, err = json.Marshal(withoutTime); err != nil {
			return fmt.Errorf("bury an entry: %w", err)
		}
	}
	var segment []byte
	if w.segment != uuid.Nil {
		segment = w.segment[:]
	}
	w.result.Dead++
	_, err = w.tx.ExecContext(ctx, sqlDead, e.ID[:], e.Time.UnixMicro(), time.Now().UnixMicro(), segment, code(cause),
		cause.Error(), string(entry))
	return err
}

// Checkpoint says how far a segment is stored; see [logbuf.Checkpointer].
func (s *Sink) Checkpoint(ctx context.Context, segment uuid.UUID) (int64, error) {
	at, err := position(ctx, s.store.read, segment)
	return at, s.fail(ctx, "read a checkpoint", err)
}

func position(ctx context.Context, db sqlx.QueryerContext, segment uuid.UUID) (at int64, err error) {
	err = sqlx.GetContext(ctx, db, &at, sqlPosition, segment[:])
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return at, err
}
