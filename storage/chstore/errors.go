package chstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ez-api/ez-api/logbuf"
)

// Codes of ClickHouse's exceptions of which something is made, see ErrorCodes.cpp of its sources.
const (
	codeNoColumn        = 16
	codeCannotReadAll   = 33 // the table has other columns than the rows
	codeBadArguments    = 36
	codeUnknownName     = 47
	codeTypeMismatch    = 53
	codeUnknownTable    = 60
	codeOutOfBound      = 69
	codeUnknownDatabase = 81
	codeUnknownSetting  = 115
	codeIncorrectData   = 117
	codeLargeString     = 131
	codeTooManyRows     = 158
	codeTimeout         = 159
	codeNoMacro         = 139 // in the server's configuration
	codeReadOnly        = 164
	codeUnknownUser     = 192
	codeWrongPassword   = 193
	codeRequired        = 194 // a password
	codeTooManyQueries  = 202
	codeSocketTimeout   = 209
	codeNetwork         = 210
	codeTableReadOnly   = 242 // its replica has lost its keeper
	codeNoSpace         = 243
	codeMemory          = 241
	codeTooManyParts    = 252
	codeNoKeeper        = 225 // a table cannot replicate itself
	codeFewReplicas     = 285
	codeTooManyBytes    = 307
	codeValueRange      = 321
	codeSetTooLarge     = 191
	codeProhibited      = 392 // statements that define tables
	codeTooManyResults  = 396
	codeDecimalOverflow = 407
	codeSettingBounds   = 452
	codeConstraint      = 469
	codeAccessDenied    = 497
	codeAuthentication  = 516
	codeNoCluster       = 701
	codeKeeper          = 999
)

// A serverError is an answer of the server that says what is wrong.
type serverError struct {
	code   int // of the exception; 0 where whoever answered is not ClickHouse
	status int // of HTTP
	text   string
}

func (e *serverError) Error() string {
	switch {
	case e.code != 0:
		return e.text
	case strings.Contains(e.text, "clickhouse-client"):
		return "the port is not that of ClickHouse's HTTP interface: as a rule 8123, or 8443 with secure=true"
	}
	return fmt.Sprintf("the answer is no answer of ClickHouse: HTTP status %d", e.status)
}

// An unreachableError is a server that is not there, or went away.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

// fault says what kind of error a statement met.
type fault int

const (
	faultOther  fault = iota // try again
	faultData                // some entry is refused
	faultSchema              // somebody has to mend something
	faultLater               // the server is there, and has too much to do, or too little room
	faultAway                // the server is not there
)

func faultOf(err error) fault {
	var away *unreachableError
	if errors.As(err, &away) {
		return faultAway
	}
	var e *serverError
	if !errors.As(err, &e) {
		return faultOther
	}
	switch e.code {
	case 0:
		if e.status == http.StatusBadGateway || e.status == http.StatusServiceUnavailable ||
			e.status == http.StatusGatewayTimeout {
			return faultAway // a load balancer in front of it
		}
		return faultSchema
	case codeConstraint,
		codeValueRange,
		codeOutOfBound,
		codeIncorrectData,
		codeLargeString,
		codeDecimalOverflow:
		return faultData
	case codeNoColumn,
		codeCannotReadAll,
		codeUnknownName,
		codeTypeMismatch,
		codeUnknownTable,
		codeUnknownDatabase,
		codeUnknownSetting,
		codeReadOnly,
		codeProhibited,
		codeUnknownUser,
		codeWrongPassword,
		codeRequired,
		codeSettingBounds,
		codeAccessDenied,
		codeAuthentication,
		codeNoCluster,
		codeNoKeeper,
		codeNoMacro,
		codeBadArguments:
		return faultSchema
	case codeTimeout,
		codeTooManyQueries,
		codeSocketTimeout,
		codeNetwork,
		codeTableReadOnly,
		codeNoSpace,
		codeMemory,
		codeTooManyParts,
		codeFewReplicas,
		codeTooManyRows,
		codeTooManyBytes,
		codeTooManyResults,
		codeSetTooLarge,
		codeKeeper:
		return faultLater
	}
	return faultOther
}

// isCode reports whether an error is an exception of the server with one of these codes.
func isCode(err error, codes ...int) bool {
	var e *serverError
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.code == c {
			return true
		}
	}
	return false
}

// explain wraps what a method of the sink failed with.
func explain(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("chstore: %s: %w", doing, ctx.Err())
	}
	if isCode(err, codeReadOnly, codeSettingBounds) {
		return fmt.Errorf("chstore: %s: %w: the profile of the user forbids to set what answers and writes depend on; "+
			"permit it, or give that setting the same value in the profile: %w", doing, logbuf.ErrPaused, err)
	}
	switch faultOf(err) {
	case faultAway, faultLater:
		return fmt.Errorf("chstore: %s: %w: %w", doing, logbuf.ErrUnavailable, err)
	case faultSchema, faultData: // what is refused even alone is not the data of one entry
		return fmt.Errorf("chstore: %s: %w: %w", doing, logbuf.ErrPaused, err)
	case faultOther:
	}
	if errors.Is(err, context.DeadlineExceeded) { // the sink's own
		return fmt.Errorf("chstore: %s: %w: it took too long", doing, logbuf.ErrUnavailable)
	}
	return fmt.Errorf("chstore: %s: %w", doing, err)
}
