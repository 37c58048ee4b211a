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
	stateNumberRange   = "22003"
	stateTimeRange     = "22008"
	stateBinaryValue   = "22P03" // a column has another type than ours
	stateCopyFormat    = "22P04" // a table has other columns than ours
	stateProtocol      = "08P01" // with a context: a column is wider than ours
	stateCheck         = "23514" // a constraint; without a name: no partition
	stateProgramLimit  = "54000" // a value too long for an index
	stateRaise         = "P0001" // a trigger says no
	stateForbidden     = "42501" // the role lacks a right
	stateNoTable       = "42P01"
	stateOverlap       = "42P17" // a partition whose bounds overlap another's
	stateLockTimeout   = "55P03"
	stateDeadlock      = "40P01" // who writes logs waits only for the same entries
	classData          = "22"
	classConstraint    = "23"
	classAuthorization = "28"
	classDatabase      = "3D"
	classSchema        = "3F"
	classSyntax        = "42" // missing tables and columns, permissions
	classFeature       = "0A"
)

// A refusal is an entry that would not even reach the database.
type refusal struct{ state, reason string }

func (r *refusal) Error() string { return r.reason }

// A mismatch is a column that is not as the migrations made it.
type mismatch struct{ column string }

func (m *mismatch) Error() string {
	return "column " + m.column + " of access_logs has another type than the migrations gave it"
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
	var r *refusal
	if errors.As(err, &r) {
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
		if pg.ConstraintName == "" {
			return faultPartition
		}
	case stateProtocol:
		if pg.Where != "" {
			return faultSchema
		}
	case stateRaise, stateProgramLimit:
		return faultData
	case stateBinaryValue, stateCopyFormat, stateNotNull: // no entry brings a null: the column is not ours
		return faultSchema
	}
	switch pg.Code[:2] {
	case classData, classConstraint:
		return faultData
	case classSyntax, classSchema, classDatabase, classAuthorization, classFeature:
		return faultSchema
	}
	return faultOther
}

// explainSink wraps what a method of the sink failed with.
func explainSink(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("pgstore: %s: %w", doing, ctx.Err())
	}
	if unreachable(err) {
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
