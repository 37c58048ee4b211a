package catalog

import (
	"errors"
	"fmt"
	"slices"
)

var (
	// ErrOwned says that a desired state names what belongs to another owner, or to none.
	ErrOwned = errors.New("belongs to another owner")

	// ErrProtected says that an entity with the label protected=true was to be deleted.
	ErrProtected = errors.New("protected")

	// ErrForce says that a plan deletes so much that it has to be forced.
	ErrForce = errors.New("has to be forced")

	// ErrPlanChanged says that the plan is not the expected one. It comes with an ErrConflict.
	ErrPlanChanged = errors.New("the plan is not the one that was expected")
)

// refusals collects what is wrong with a plan. The zero value is nothing.
type refusals struct {
	reason error // the gravest so far
	list   FieldErrors
	more   int // that list has no room for
}

// reasons are the sentinels that a plan is refused with, the gravest first: what cannot be right
// in any catalog comes before what is in the way in this one.
func reasons() []error {
	return []error{ErrInvalid, ErrOwned, ErrProtected, ErrExists, ErrReferenced, ErrConflict}
}

// add notes what is wrong at a path.
func (r *refusals) add(reason error, at, format string, args ...any) {
	if r.reason == nil || slices.Index(reasons(), reason) < slices.Index(reasons(), r.reason) {
		r.reason = reason
	}
	if len(r.list) == maxPlanErrors {
		r.more++
		return
	}
	r.list.add(at, format, args...)
}

// err returns everything that was collected as one error; nil when that is nothing.
func (r *refusals) err() error {
	if r.reason == nil {
		return nil
	}
	return &planError{r.reason, r.list, r.more}
}

// planError says why a plan cannot be made. It wraps the gravest reason, and [FieldsOf] returns
// all that are listed.
type planError struct {
	reason error
	list   FieldErrors
	more   int
}

const printedErrors = 5

func (e *planError) Error() string {
	shown := e.list[:min(len(e.list), printedErrors)]
	if more := len(e.list) - len(shown) + e.more; more > 0 {
		return fmt.Sprintf("%s; and %d more", shown, more)
	}
	return shown.Error()
}

func (e *planError) Unwrap() error { return e.reason }

func (e *planError) fields() FieldErrors { return e.list }
