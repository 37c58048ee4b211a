package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ez-api/ez-api/logbuf"
)

// SQLSTATEs of which the sink makes something special, besides those of the catalog.
const (
	stateNumberRange = "22003"
	stateTimeRange   = "22008"
	stateBinaryValue = "22P03" // a column has another type than ours
	stateCopyFormat  = "22P04" // a table has other columns than ours
	stateProtocol    = "08P01" // with a context: a column is wider than ours
	stateCheck       = "23514" // a constraint, or there is no partition
	statePassedOver  = "27000" // "triggered data change violation", our own word for a row that a trigger left out
	stateForbidden   = "42501" // the role lacks a right
	stateNoTable     = "42P01"
	stateOverlap     = "42P17" // a partition whose bounds overlap another's
	stateLockTimeout = "55P03"
	stateDeadlock    = "40P01" // who writes logs waits only for the same entries

	// findPartition is the routine of PostgreSQL's that finds the partition of a row. No other may
	// set it in an error, unlike the SQLSTATE, which any trigger can raise.
	findPartition = "ExecFindPartition"
)

// classFault returns what the errors of a class of SQLSTATEs are about. All that do not tell of
// trouble that passes, or of tables, are about data, whatever a trigger of the operator's says.
func classFault(class string) fault {
	switch class {
	case "08", // connection exception
		"25", // invalid transaction state: a standby
		"26", // invalid SQL statement name: a pooler
		"3B", // savepoint exception: a pooler
		"40", // transaction rollback
		"53", // insufficient resources
		"55", // object not in prerequisite state: locks
		"57", // operator intervention: shutdown, timeouts
		"58", // system error
		"F0", // configuration file error
		"HV", // foreign data wrapper error
		"XX": // internal error
		return faultOther
	case "0A", // feature not supported
		"28", // invalid authorization
		"3D", // invalid catalog name
		"3F", // invalid schema name
		"42": // missing tables and columns, permissions
		return faultSchema
	}
	return faultData
}

// A refusal is an entry that would not even reach the database.
type refusal struct{ state, reason string }

func (r *refusal) Error() string { return r.reason }

// A mismatch is a table that is not as the migrations made it.
type mismatch struct{ reason string }

func (m *mismatch) Error() string { return m.reason }

// A shortfall is a statement that has stored fewer rows than it was sent: a trigger passed over some.
type shortfall struct{ sent, stored int64 }

func (s *shortfall) Error() string {
	return fmt.Sprintf("%d of %d rows were stored: did a trigger pass over the others?", s.stored, s.sent)
}

// fault says what kind of error a write met.
type fault int

const (
	faultOther     fault = iota // of the connection, of resources: try again
	faultDuplicate              // some entry is stored already, or at the same time
	faultData                   // some entry is refused
	faultPartition              // some entry's day has no partition
	faultSchema                 // the tables are not as they should be
)

func faultOf(err error) fault {
	if errors.Is(err, errStored) {
		return faultDuplicate
	}
	var r *refusal
	var short *shortfall
	if errors.As(err, &r) || errors.As(err, &short) {
		return faultData
	}
	var m *mismatch
	if errors.As(err, &m) {
		return faultSchema
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return faultOther
	}
	switch pg.Code {
	case stateUnique, stateDeadlock:
		return faultDuplicate
	case stateCheck:
		if pg.Routine == findPartition && pg.TableName == "access_logs" {
			return faultPartition
		}
	case stateProtocol:
		if pg.Where != "" {
			return faultSchema
		}
	case stateBinaryValue, stateCopyFormat, stateNotNull: // no entry brings a null: the column is not ours
		return faultSchema
	}
	return classFault(pg.Code[:2])
}

// explainSink wraps what a method of the sink failed with.
func explainSink(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("pgstore: %s: %w", doing, ctx.Err())
	}
	if passes(err) {
		return fmt.Errorf("pgstore: %s: %w: %w", doing, logbuf.ErrUnavailable, err)
	}
	// Data that is refused even so is not that of one entry: usage, say, in a
	// column that is not ours any more.
	if f := faultOf(err); f == faultSchema || f == faultData {
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == stateNoTable {
			return fmt.Errorf("pgstore: %s: %w: %w (is the schema migrated?)", doing, logbuf.ErrPaused, err)
		}
		return fmt.Errorf("pgstore: %s: %w: %w", doing, logbuf.ErrPaused, err)
	}
	return fmt.Errorf("pgstore: %s: %w", doing, err)
}

// isLockTimeout reports whether somebody else held a lock for too long.
func isLockTimeout(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == stateLockTimeout
}

// isForbidden reports whether the role lacks a right.
func isForbidden(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == stateForbidden
}

// isUnique reports whether a unique index has a value already.
func isUnique(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == stateUnique
}
