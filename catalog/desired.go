package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// MaxDesired is how many entities a [Desired] may have, and how many a revert may change.
	MaxDesired = 100_000

	maxPlanErrors = 100 // that a desired state is refused with at once
)

// Desired is a state that a catalog is to have. Of each kind that it names it has all entities
// that are wanted; a kind that it does not name stays as it is. The zero value names none. It is
// made by [Want] and [ParseDesired], and [Tables.Apply] brings a catalog into it.
//
// An entity is found in the catalog by its external id, or else by its natural key. Meta.ID
// counts only where there is no external id, and Store is the store that gave it.
type Desired struct {
	// Store is the UUID of the store whose ids the entities carry, as [Tables.Export] writes
	// it. Another store takes no notice of the ids.
	Store string

	items map[Kind][]record
}

// Want adds nouns to a desired state. Without any it says that the kind is present, and that
// none are wanted, so that all that an owner has of it are pruned.
func Want[T Noun](d *Desired, nouns ...T) {
	kind := asRecord(new(T)).kind()
	d.name(kind)
	for _, v := range nouns {
		d.items[kind] = append(d.items[kind], asRecord(&v))
	}
}

// Wanted returns what a desired state has of a noun.
func Wanted[T Noun](d Desired) []T {
	var all []T
	for _, r := range d.items[asRecord(new(T)).kind()] {
		all = append(all, *any(r).(*T))
	}
	return all
}

// name says that a kind is present.
func (d *Desired) name(k Kind) {
	if d.items == nil {
		d.items = map[Kind][]record{}
	}
	if _, named := d.items[k]; !named {
		d.items[k] = []record{}
	}
}

// Kinds lists the kinds that d names, each after those it refers to.
func (d Desired) Kinds() []Kind {
	return slices.DeleteFunc(Kinds(), func(k Kind) bool { _, named := d.items[k]; return !named })
}

// Len returns how many entities d has.
func (d Desired) Len() int {
	n := 0
	for _, list := range d.items {
		n += len(list)
	}
	return n
}

// ParseDesired reads a desired state from a JSON object in the form of the API: for each kind
// a list, {"providers": […], "keys": []}, and "store". The error wraps [ErrMalformed],
// [ErrTooMany], or is a [FieldErrors], which names up to 100 fields ("bindings[3].weight") and
// holds no values.
func ParseDesired(data []byte) (Desired, error) {
	p := desiredParser{dec: jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true))}
	if err := p.parse(); err != nil {
		return Desired{}, err
	}
	return p.desired, p.errs.err()
}

type desiredParser struct {
	dec     *jsontext.Decoder
	desired Desired
	errs    FieldErrors
}

func (p *desiredParser) parse() error {
	if p.dec.PeekKind() != jsontext.KindBeginObject {
		return fmt.Errorf("the body must be one JSON object: %w", ErrMalformed)
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return syntaxError(p.dec)
	}
	seen := map[string]bool{}
	for p.dec.PeekKind() != jsontext.KindEndObject {
		token, err := p.dec.ReadToken()
		if err != nil {
			return syntaxError(p.dec)
		}
		name := token.String()
		if seen[name] {
			p.errs.add(SafeName(name), "occurs twice in the object; send it once")
		}
		seen[name] = true
		if err := p.member(name); err != nil {
			return err
		}
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return syntaxError(p.dec)
	}
	if _, err := p.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("something follows the object, at byte %d: %w", p.dec.InputOffset(), ErrMalformed)
	}
	return nil
}

// member reads the value of a member of the object.
func (p *desiredParser) member(name string) error {
	kind := Kind(name)
	switch {
	case name == "revision", name == "damaged": // an export says it
	case name == "store":
		text, err := p.dec.ReadValue()
		if err != nil {
			return syntaxError(p.dec)
		}
		if json.Unmarshal(text, &p.desired.Store) != nil {
			p.errs.add("store", "must be a string")
		}
		return nil
	case slices.Contains(DesiredKinds(), kind) && p.dec.PeekKind() == jsontext.KindBeginArray:
		return p.list(kind)
	case slices.Contains(DesiredKinds(), kind):
		p.errs.add(name, "must be a list; an empty one wants none")
	case slices.Contains(Kinds(), kind):
		p.errs.add(name, "are no part of a desired state: make them one by one")
	default:
		p.errs.add(SafeName(name), "is not known here; there are store, %s", kindList(DesiredKinds()))
	}
	if err := p.dec.SkipValue(); err != nil {
		return syntaxError(p.dec)
	}
	return nil
}

func kindList(kinds []Kind) string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = string(k)
	}
	return strings.Join(words, ", ")
}

// list reads the entities of a kind.
func (p *desiredParser) list(kind Kind) error {
	if _, err := p.dec.ReadToken(); err != nil {
		return syntaxError(p.dec)
	}
	p.desired.name(kind)
	fields := fieldsOf(reflect.TypeOf(kind.facts().new()).Elem())
	for i := 0; p.dec.PeekKind() != jsontext.KindEndArray; i++ {
		text, err := p.dec.ReadValue()
		if err != nil {
			return syntaxError(p.dec)
		}
		if p.desired.Len() == MaxDesired {
			return fmt.Errorf("a desired state has at most %d resources: %w", MaxDesired, ErrTooMany)
		}
		r, err := p.item(kind, fields, text)
		if err != nil {
			p.errs.addAt(elementPath(string(kind), i), err)
		}
		if len(p.errs) >= maxPlanErrors {
			return p.errs[:maxPlanErrors].err()
		}
		p.desired.items[kind] = append(p.desired.items[kind], r)
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return syntaxError(p.dec)
	}
	return nil
}

func (p *desiredParser) item(kind Kind, fields structFields, text []byte) (record, error) {
	r := kind.facts().new()
	object, err := parseObject(text)
	if errors.Is(err, ErrMalformed) {
		return r, &FieldError{Message: fmt.Sprintf("must be a JSON object, nested at most %d deep", maxNesting)}
	}
	if err != nil {
		return r, err
	}
	err = decodeObject(r, fields, object)
	if id, ok := object["id"].(json.Number); ok {
		r.meta().ID, _ = wholeNumber(string(id))
	}
	return r, err
}
