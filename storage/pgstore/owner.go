package pgstore

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	sqlOwner = `select catalog from log_owner`
	sqlOwn   = `insert into log_owner (catalog) values ($1) on conflict do nothing`
)

// Claim makes sure that the logs in the database belong to the catalog that [SinkOptions].Owner
// returns. It claims them for that catalog if they belong to none yet. If they belong to another
// one, the error wraps [logbuf.ErrForeign]. Whatever else a Sink does in the database begins with
// this check, except Clock.
func (s *Sink) Claim(ctx context.Context) error {
	if err := s.claims.Check(ctx, s.own); err != nil {
		return explainSink(ctx, "claim the log store", err)
	}
	return nil
}

// own makes the logs those of a catalog unless they are another's, and returns whose they are.
func (s *Sink) own(ctx context.Context, catalog string) (owner string, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Release()
	if err = queryRow(ctx, conn.Conn(), sqlOwner, nil, &owner); !errors.Is(err, pgx.ErrNoRows) {
		return owner, err
	}
	err = inTxOn(ctx, conn, func(tx pgx.Tx) error {
		if _, err := affect(ctx, tx, sqlOwn, catalog); err != nil {
			return err
		}
		return tx.QueryRow(ctx, sqlOwner, pgx.QueryExecModeExec).Scan(&owner)
	})
	return owner, err
}

// acquire returns a connection, once the logs are known to be this catalog's.
func (s *Sink) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	if err := s.claims.Check(ctx, s.own); err != nil {
		return nil, err
	}
	return s.pool.Acquire(ctx)
}
