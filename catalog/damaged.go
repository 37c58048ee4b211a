package catalog

import (
	"encoding/json"
	"errors"
)

// ErrDamaged says that what a store has of an entity cannot be read. Only somebody who writes to the
// database past this package can bring that about.
var ErrDamaged = errors.New("the stored record is damaged")

// show decodes an entity for whoever looks at it or deletes it. One that is damaged is shown with
// what its columns hold, such as its name, and with defaults for the rest: it holds up no other.
func show(e Entity, keeper Keeper) (record, error) {
	r := e.Kind.facts().new()
	err := r.decode(e, keeper)
	if !errors.Is(err, ErrDamaged) {
		return r, err
	}
	e.Spec = json.RawMessage("{}")
	if err := r.decode(e, keeper); err != nil {
		return nil, err
	}
	r.normalize()
	r.meta().Damaged = true
	if h, ok := r.(holder); ok { // so that they end with it
		for _, hash := range e.Hashes {
			h.credential().Tokens = append(h.credential().Tokens, TokenHash{Hash: hash})
		}
	}
	return r, nil
}

// whole decodes an entity that is to be changed in part. That needs all of it.
func (t Table[T]) whole(e Entity) (T, error) {
	v, err := t.Decode(e)
	if errors.Is(err, ErrDamaged) {
		err = &FieldError{Field: "damaged", Message: "is true: the stored " + e.Kind.Noun() + " cannot be read, so that " +
			"nothing of it can be changed alone; send all of it with PUT, or delete it and create it anew"}
	}
	return v, err
}

// show is show for the noun of the table.
func (t Table[T]) show(e Entity) (T, error) {
	r, err := show(e, t.core.keeper)
	if err != nil {
		return *new(T), err
	}
	return *any(r).(*T), nil
}

// lostTokens refuses to put a holder of tokens in the place of a damaged one: which of the tokens
// are in their grace is not known any more.
func lostTokens() FieldErrors {
	return FieldErrors{{Field: "damaged", Message: "is true: the stored resource cannot be read, and what is known of " +
		"its tokens neither; delete it and create it anew"}}
}
