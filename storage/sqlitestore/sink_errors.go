package sqlitestore

import (
	"context"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/ez-api/ez-api/logbuf"
)

// errEnded is about RAISE(ROLLBACK) and ON CONFLICT ROLLBACK.
var errEnded = fmt.Errorf("%w: a trigger or a constraint on access_logs ends the transaction", logbuf.ErrPaused)

// fail wraps what a method failed with, if anything. A constraint that gets
// this far is not about one entry: those are refused.
func (s *Sink) fail(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	switch code(err) & 0xff {
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		err = fmt.Errorf("%w: %w", logbuf.ErrPaused, err)
	}
	return s.store.fail(ctx, doing, err)
}

// refused reports whether the insertion of an entry failed because of the entry.
func refused(err error) bool {
	switch c := code(err); c {
	case sqlite3.SQLITE_CONSTRAINT_DATATYPE, sqlite3.SQLITE_CONSTRAINT_NOTNULL:
		return false // no entry brings another type, or a null: the column is not ours
	default:
		return c&0xff == sqlite3.SQLITE_CONSTRAINT || c&0xff == sqlite3.SQLITE_TOOBIG
	}
}

// going makes sure that the transaction is still there after a refusal.
// Otherwise all that follows would be stored by itself. SQLite does not say, but
// begins a transaction only where there is none.
func (w *writer) going(ctx context.Context) error {
	if _, err := w.tx.ExecContext(ctx, `begin`); err == nil {
		return errEnded
	}
	return nil
}
