package pgstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ez-api/ez-api/catalog"
)

// SQLSTATEs that say more than "it failed".
const (
	stateNotNull    = "23502"
	stateForeignKey = "23503"
	stateUnique     = "23505"
	stateCanceled   = "57014"
	stateReadOnly   = "25006" // a standby, or a role that only reads unless told otherwise
	stateIdle       = "25P03" // a timeout has ended a transaction that was idle
	stateTooLong    = "25P04" // a timeout has ended a transaction

	classRollback  = "40" // deadlocks, conflicts of serializable transactions
	classResources = "53" // too many connections, a full disk, no memory
	classOperator  = "57" // it stops or starts; timeouts
)

// sqlExist counts the entities of a table that have one of the ids or natural keys.
const sqlExist = `select count(*) from %s where id = any ($1::bigint[]) or natural_key = any ($2::text[])`

// notCommitted wraps an error that came before the commit went to the server.
type notCommitted struct{ err error }

func (e *notCommitted) Error() string { return e.err.Error() }
func (e *notCommitted) Unwrap() error { return e.err }

// explain turns the failure of a commit into what [catalog.Store] promises.
// An error of the server's that ends a statement means that nothing was committed;
// after any other it is not known.
func (s *Store) explain(ctx context.Context, c catalog.Commit, err error) error {
	var before *notCommitted
	if errors.As(err, &before) || pgconn.SafeToRetry(err) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unavailable(err)
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.SeverityUnlocalized != "ERROR" {
		//nolint:errorlint // the cause may be a context's end
		return fmt.Errorf("%w: %v", catalog.ErrUnconfirmed, err)
	}
	switch pg.Code {
	case stateNotNull:
		switch {
		case pg.TableName == "catalog_head" && pg.ColumnName == "revision":
			return fmt.Errorf("the catalog is at another revision: %w", catalog.ErrConflict)
		case pg.TableName == "catalog_head" && pg.ColumnName == "store":
			return fmt.Errorf("there is no room for more: %w", catalog.ErrConflict)
		case pg.TableName == "changes" && pg.ColumnName == "seq":
			return fmt.Errorf("the entity is at another revision: %w", catalog.ErrConflict)
		}
	case stateUnique:
		return uniqueError(pg)
	case stateForeignKey:
		if b, ok := brokenBy(pg.ConstraintName); ok {
			return b.explain(c, func(ids []int64, naturalKeys []string) (n int, err error) {
				err = s.db.GetContext(ctx, &n, fmt.Sprintf(sqlExist, b.to), ids, naturalKeys)
				return n, err
			})
		}
	case stateCanceled:
		if ctx.Err() != nil {
			return ctx.Err()
		}
	case stateReadOnly:
		return fmt.Errorf("%w: %w (is it a standby?)", catalog.ErrUnavailable, err)
	}
	return unavailable(err)
}

// unavailable lets an error wrap ErrUnavailable where time may help.
func unavailable(err error) error {
	if passes(err) {
		return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
	}
	return err
}

// uniqueError names what is taken by the constraint's name: <table>_<what>.
func uniqueError(pg *pgconn.PgError) error {
	kind, what, _ := strings.Cut(pg.ConstraintName, "_")
	switch {
	case what == "hashes_pkey": // of the table of a noun in the singular
		return catalog.Exists(catalog.Kind(kind+"s"), catalog.ByHash)
	case what == "natural_key":
		return catalog.Exists(catalog.Kind(kind), catalog.ByNaturalKey)
	case what == "external_id":
		return catalog.Exists(catalog.Kind(kind), catalog.ByExternalID)
	case what == "pkey" && kind != "changes":
		return fmt.Errorf("the %s exists: %w", catalog.Kind(kind).Noun(), catalog.ErrConflict)
	}
	return pg
}

// fail wraps the error of a read: nothing hangs on what became of it.
func (s *Store) fail(ctx context.Context, doing string, err error) error {
	if closed := s.alive(); closed != nil {
		return closed
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("pgstore: %s: %w", doing, unavailable(err))
}

// passes reports whether nothing is wrong with what was asked, and time may help: the database was not
// there to do it, or only a standby of it, or went away meanwhile; or it had no room, or others were in
// the way for too long.
func passes(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && len(pg.Code) == 5 {
		switch pg.Code {
		case stateReadOnly, stateIdle, stateTooLong, stateLockTimeout:
			return true
		}
		switch pg.Code[:2] {
		case classRollback, classResources, classOperator:
			return true
		}
		return false
	}
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[*net.OpError](err)
	return connect || network || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// isCanceled reports whether the server has stopped a statement, which may have taken too long.
func isCanceled(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == stateCanceled
}

// isReadOnly reports whether a transaction was refused because it may only read.
func isReadOnly(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == stateReadOnly
}
