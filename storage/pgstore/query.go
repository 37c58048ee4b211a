package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/storage/internal/gate"
)

const (
	// A query sees all of its tables as of one moment. None takes as long as these limits, because
	// whoever asks gives up before.
	sqlReadBegin    = `begin isolation level repeatable read read only`
	sqlReadSettings = `;
select ` + sqlNoSurprises + `, set_config('statement_timeout', '2min', true), set_config('lock_timeout', '30s', true),
    set_config('idle_in_transaction_session_timeout', '30s', true), set_config('jit', 'off', true)`

	// Maintenance truncates usage_pending, which hides its rows also from transactions that began
	// before. The lock keeps that away, and is taken before the transaction gets its snapshot.
	sqlReadUsage = `; set local lock_timeout = '30s'; lock table usage_pending in access share mode`
)

const (
	defaultQueryConns = 4
	keyConns          = 2
)

// newGates makes gates for so many of a pool's connections, but leaves at least as many to others:
// one for questions about logs and usage, and one for what keys have used, which is asked for with
// every list of keys and must not wait behind the others. A pool of few connections has one gate.
func newGates(pool *pgxpool.Pool, conns int) (queries, keys *gate.Gate) {
	if conns <= 0 {
		conns = defaultQueryConns
	}
	half := int(pool.Config().MaxConns) / 2
	if half < 2 {
		queries = gate.New(half)
		return queries, queries
	}
	forKeys := min(keyConns, half/2)
	return gate.New(min(conns, half-forKeys)), gate.New(forKeys)
}

// read runs fn in a transaction that only reads, on one of the connections that a gate stands for.
func (s *Sink) read(ctx context.Context, g *gate.Gate, begin string, fn func(conn *pgx.Conn) error) error {
	if err := g.Enter(ctx); err != nil {
		return err
	}
	defer g.Leave()
	return s.readNow(ctx, begin, fn)
}

// readNow runs fn in a transaction that only reads, whatever other queries do.
func (s *Sink) readNow(ctx context.Context, begin string, fn func(conn *pgx.Conn) error) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	defer rollback(ctx, conn)
	if err := run(ctx, conn, begin); err != nil {
		return err
	}
	return fn(conn.Conn())
}

// query runs a statement with results in the binary format, whatever the connection's settings say
// about texts, and without a prepared statement, which a pooler might not know. Each time it is
// planned with its arguments: what is best for one key is not for another.
func query(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (pgx.Rows, error) {
	types := conn.TypeMap()
	values, oids := make([][]byte, len(args)), make([]uint32, len(args))
	for i, arg := range args {
		t, ok := types.TypeForValue(arg)
		if !ok {
			return nil, fmt.Errorf("no type for argument %d, %T", i+1, arg)
		}
		value, err := types.Encode(t.OID, pgtype.BinaryFormatCode, arg, make([]byte, 0, 16))
		if err != nil {
			return nil, fmt.Errorf("argument %d: %w", i+1, err)
		}
		values[i], oids[i] = value, t.OID
	}
	binary := []int16{pgtype.BinaryFormatCode}
	if len(args) == 0 {
		return pgx.RowsFromResultReader(types, conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, binary)), nil
	}
	return pgx.RowsFromResultReader(types, conn.PgConn().ExecParams(ctx, sql, values, oids, binary, binary)), nil
}

// queryRow reads the only row of a statement; [pgx.ErrNoRows] when there is none.
func queryRow(ctx context.Context, conn *pgx.Conn, sql string, args []any, into ...any) error {
	rows, err := query(ctx, conn, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return errors.Join(rows.Err(), noRows(rows.Err()))
	}
	if err := rows.Scan(into...); err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

func noRows(err error) error {
	if err == nil {
		return pgx.ErrNoRows
	}
	return nil
}

// where collects conditions and their arguments.
type where struct {
	conditions []string
	args       []any
}

// add adds a condition; each %s in it stands for one of the values.
func (w *where) add(condition string, values ...any) {
	marks := make([]any, len(values))
	for i, v := range values {
		marks[i] = w.arg(v)
	}
	w.conditions = append(w.conditions, fmt.Sprintf(condition, marks...))
}

// arg adds an argument and returns its mark.
func (w *where) arg(v any) string {
	w.args = append(w.args, v)
	return fmt.Sprint("$", len(w.args))
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return "true"
	}
	return strings.Join(w.conditions, " and ")
}
