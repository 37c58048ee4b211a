package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// The errors of this package and of every [Store], matched with errors.Is.
var (
	// ErrInvalid is wrapped by every [FieldError] and [FieldErrors].
	ErrInvalid = errors.New("invalid")

	// ErrNotFound says that there is no such entity.
	ErrNotFound = errors.New("not found")

	// ErrExists says that a natural key, an external id or a token is taken.
	ErrExists = errors.New("already exists")

	// ErrConflict says that the entity or the catalog has moved on since it
	// was read: read again.
	ErrConflict = errors.New("changed meanwhile")

	// ErrReferenced says that an entity is still, or not yet, referred to:
	// a model with bindings cannot go, a binding without a model cannot come.
	ErrReferenced = errors.New("reference broken")

	// ErrCompacted says that the history asked for was pruned.
	ErrCompacted = errors.New("history compacted")

	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")

	// ErrUnavailable says that the store cannot reach its database, or that this was too busy, so that
	// nothing was done. Time may help.
	ErrUnavailable = errors.New("database is not available")

	// ErrUnconfirmed says that the outcome of a commit is not known: the connection to the store
	// was lost, or the store did not confirm the commit within 25 seconds plus a millisecond for
	// each of its writes. The commit may be done, may still be done later, or never. Read before
	// you repeat it.
	ErrUnconfirmed = errors.New("the database has not confirmed the write")

	// ErrSealed says that a secret cannot be opened: its key is not among
	// those held, or the sealed text is not what was stored for this record.
	ErrSealed = errors.New("secret cannot be opened")
)

// FieldError says which field is not acceptable, and why. The message holds
// the remedy and never the value.
type FieldError struct {
	Field   string `json:"field"`   // as in the API: "models[2]", "labels.team"
	Message string `json:"message"` // "must be an https URL"
}

func (e *FieldError) Error() string { return e.Field + " " + e.Message }

// Unwrap returns ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }

// FieldErrors is everything that is not acceptable about one entity.
type FieldErrors []*FieldError

func (e FieldErrors) Error() string {
	texts := make([]string, len(e))
	for i, f := range e {
		texts[i] = f.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the single errors, and with them ErrInvalid.
func (e FieldErrors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, f := range e {
		errs[i] = f
	}
	return errs
}

// add appends an error about a field.
func (e *FieldErrors) add(field, format string, args ...any) {
	*e = append(*e, &FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

// addAt appends what err says about fields of what is at a path. An error about no field is
// about all of it.
func (e *FieldErrors) addAt(path string, err error) {
	fields := FieldsOf(err)
	if len(fields) == 0 {
		fields = FieldErrors{{Message: err.Error()}}
	}
	for _, f := range fields {
		at := path
		if f.Field != "" {
			at += "." + f.Field
		}
		*e = append(*e, &FieldError{Field: at, Message: f.Message})
	}
}

// err returns e as an error, nil when it is empty.
func (e FieldErrors) err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// Exists makes the ErrExists with which a store refuses a second holder of a
// unique value. It does not name the value.
func Exists(k Kind, by Index) error {
	return &existsError{kind: k, by: by}
}

type existsError struct {
	kind Kind
	by   Index
}

func (e *existsError) Error() string {
	return fmt.Sprintf("another %s has this %s", e.kind.Noun(), e.by)
}

func (e *existsError) Unwrap() error { return ErrExists }

// fields names what collides. A natural key of several fields collides as a whole.
func (e *existsError) fields() FieldErrors {
	names := []string{string(e.by)}
	if e.by == ByNaturalKey {
		names = e.kind.facts().key
	}
	var errs FieldErrors
	for _, name := range names {
		if len(names) == 1 {
			errs.add(name, "is taken: another %s has it", e.kind.Noun())
			continue
		}
		errs.add(name, "is taken: another %s has the same %s", e.kind.Noun(), strings.Join(names, ", "))
	}
	return errs
}

// FieldsOf returns the fields that an error of this package is about, and what is
// wrong with each. Besides FieldError and FieldErrors, an ErrExists names what
// collides, and an ErrReferenced the field that refers to nothing. It returns
// nil for all other errors.
func FieldsOf(err error) FieldErrors {
	if list, ok := errors.AsType[FieldErrors](err); ok {
		return list
	}
	if f, ok := errors.AsType[*FieldError](err); ok {
		return FieldErrors{f}
	}
	if e, ok := errors.AsType[interface {
		error
		fields() FieldErrors
	}](err); ok {
		return e.fields()
	}
	return nil
}

// Dangling makes the ErrReferenced that refuses an entity of kind k whose Ref
// names nothing.
func Dangling(k Kind) error {
	return &referenceError{kind: k, dangling: true}
}

// Referenced makes the ErrReferenced that refuses to delete or rename an
// entity of kind k, because another still refers to it.
func Referenced(k Kind) error {
	return &referenceError{kind: k}
}

// IsDangling reports whether err says that a reference names nothing: made by
// [Dangling], not by [Referenced].
func IsDangling(err error) bool {
	var ref *referenceError
	return errors.As(err, &ref) && ref.dangling
}

type referenceError struct {
	kind      Kind
	dangling  bool
	referrers []string // what still refers to it, as far as that is known
}

func (e *referenceError) Error() string {
	if e.dangling {
		return fmt.Sprintf("the %s that this %s refers to does not exist", e.kind.referred(), e.kind.Noun())
	}
	if len(e.referrers) > 0 {
		return fmt.Sprintf("the %s is still referred to by %s", e.kind.Noun(), strings.Join(e.referrers, "; "))
	}
	return fmt.Sprintf("the %s is still referred to; delete or change what refers to it first", e.kind.Noun())
}

func (e *referenceError) Unwrap() error { return ErrReferenced }

func (e *referenceError) fields() FieldErrors {
	if !e.dangling {
		return nil
	}
	var errs FieldErrors
	f := e.kind.facts()
	errs.add(f.field, "%s", cmp.Or(f.absent, "names no "+e.kind.referred()+" that exists"))
	return errs
}

// referred says in words what entities of kind k refer to: "key, project or provider".
func (k Kind) referred() string {
	var nouns []string
	for _, of := range k.Refers() {
		nouns = append(nouns, of.Noun())
	}
	if n := len(nouns); n > 1 {
		return strings.Join(nouns[:n-1], ", ") + " or " + nouns[n-1]
	}
	return first(nouns)
}
