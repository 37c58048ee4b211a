package logbuf

import (
	"errors"
	"fmt"
)

var (
	// ErrFull says that the buffer's capacity is used up. Nothing of the call
	// was taken; the caller should slow down and try again.
	ErrFull = errors.New("log buffer is full")

	// ErrClosed says that the buffer no longer accepts entries.
	ErrClosed = errors.New("log buffer is closed")

	// ErrBroken says that the spool's disk failed in a way after which nothing
	// can be promised any more: an fsync failed. It stays until the queue is
	// opened again. What was acknowledged before is kept and still stored.
	ErrBroken = errors.New("log spool is broken until it is opened again")

	// ErrPaused is what a [Sink] wraps when its schema is not what it should
	// be (a column is missing, a permission was taken away). The batch is kept
	// and tried again; nothing is dead-lettered, because the data is not at fault.
	ErrPaused = errors.New("log sink is paused")

	// ErrForeign is what a [Sink] wraps, with ErrPaused, when its store has the logs of another catalog.
	ErrForeign = errors.New("the log store belongs to another catalog")

	// ErrBusy is what a [Maintainer] or a [Repricer] wraps when another process is
	// doing the same. Nothing was done; the next time will do.
	ErrBusy = errors.New("another process is doing the same")

	// ErrUnsupported says that a [Sink] has not the optional interface that is needed for what it was
	// asked for.
	ErrUnsupported = errors.New("the log store cannot do this")

	// ErrUnavailable is what an [Archive] wraps when it cannot reach its
	// database, or when this is too busy. Time may help.
	ErrUnavailable = errors.New("log storage is not available")

	// ErrTooManyQueries is what an [Archive] wraps when it answers as many queries as it may at once,
	// and enough others wait. It wraps ErrUnavailable.
	ErrTooManyQueries = fmt.Errorf("too many queries at once: %w", ErrUnavailable)

	// ErrInvalid is wrapped by every error that says an entry or a query is
	// not acceptable. See [FieldError] for which field, and why.
	ErrInvalid = errors.New("invalid")

	// ErrMalformed says that a body as a whole cannot be read: it is not JSON,
	// or not an object, an array or lines of objects. It wraps ErrInvalid.
	ErrMalformed = fmt.Errorf("%w: malformed body", ErrInvalid)

	// ErrTooMany says that a body holds more than [MaxEntries] entries, or that
	// a buffer never has room for so many at once. It wraps ErrInvalid.
	ErrTooMany = fmt.Errorf("%w: too many entries", ErrInvalid)
)

// FieldError says which field is not acceptable, and why. The message holds
// the remedy and never the value.
type FieldError struct {
	Field   string `json:"field"`   // as in the API: "since"
	Message string `json:"message"` // "must be before until"
}

func (e *FieldError) Error() string { return e.Field + " " + e.Message }

// Unwrap returns ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }
