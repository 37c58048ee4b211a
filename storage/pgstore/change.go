package pgstore

import (
	"context"
	"database/sql"

	"github.com/jmoiron/sqlx"
)

// sqlMayWrite is for roles whose transactions only read by default.
const sqlMayWrite = `set transaction read write`

// inTx runs fn in a transaction that may write, with the bounds that every one of ours has, whatever
// the role's settings are.
func (s *Store) inTx(ctx context.Context, fn func(*sqlx.Tx) error) error {
	tx, err := s.db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after the commit it does nothing
	for _, statement := range []string{sqlMayWrite, sqlTaskSettings} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// change executes a statement that writes, and returns how many rows it affected.
func (s *Store) change(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = s.inTx(ctx, func(tx *sqlx.Tx) error {
		result, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	return n, err
}
