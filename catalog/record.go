package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Noun is one of the things a catalog holds.
type Noun interface {
	Project | Provider | Model | Binding | Key | Operator | Hold
}

// record is what the tables ask of a pointer to a [Noun]. [Meta] answers what
// most nouns have nothing to say to.
type record interface {
	kind() Kind
	meta() *Meta
	normalize()                  // fills in defaults; again, it changes nothing
	check(rules) FieldErrors     // says what is not acceptable
	columns() Entity             // what a store indexes: all of the storage form but the Spec
	decode(Entity, Keeper) error // from storage form; see encode for the way there
	touches() Touches            // what documents need to be rendered by
	naturalKey() string          // "" where the kind has none
	reads() bool                 // whether what follows from making a new one needs to read

	// unseen returns what the Spec has beside the fields of the API: secrets, sealed, and tokens.
	unseen(Keeper) ([]member, error)

	// receive takes from an object of the API the members that are no fields.
	receive(errs *FieldErrors, object map[string]any, form body)

	// succeed takes over, from the record in whose place this one is to be
	// stored, what callers do not send: secrets and tokens. stored is nil for a new
	// record. sent names the fields that a patch names; a put names none.
	succeed(stored record, sent map[string]bool) FieldErrors

	// hidden returns the state that the JSON form does not show.
	hidden() string

	// issued returns the token of a new record, which is shown once.
	issued() Secret

	// comeBack adapts a record that a revert restores from the feed, which holds no secrets, and
	// returns a note on what cannot be restored; "" for nothing. now is the stored record that it
	// replaces, or nil. deleted is the revision in which it was deleted meanwhile, or 0.
	comeBack(now record, deleted Revision) string

	// follow does in the same transaction what follows from a write. before is
	// nil for a new record, after is nil when it is deleted; one of them is the
	// receiver.
	follow(ctx context.Context, tx *txn, before, after record) error
}

var (
	_ record = (*Project)(nil)
	_ record = (*Provider)(nil)
	_ record = (*Model)(nil)
	_ record = (*Binding)(nil)
	_ record = (*Key)(nil)
	_ record = (*Operator)(nil)
	_ record = (*Hold)(nil)
)

func (*Meta) reads() bool { return false }

func (*Meta) unseen(Keeper) ([]member, error) { return nil, nil }

func (*Meta) receive(*FieldErrors, map[string]any, body) {}

func (*Meta) succeed(record, map[string]bool) FieldErrors { return nil }

func (*Meta) hidden() string { return "" }

func (*Meta) issued() Secret { return Secret{} }

func (*Meta) comeBack(record, Revision) string { return "" }

// copyOf returns a copy of a record. It shares memory until it is normalized.
func copyOf(r record) record {
	c := r.kind().facts().new()
	reflect.ValueOf(c).Elem().Set(reflect.ValueOf(r).Elem())
	return c
}

// rules are the server-wide settings that validation depends on.
type rules struct{ privateUpstreams bool }

func asRecord[T Noun](v *T) record { return any(v).(record) }

func newRecord[T Noun]() record { return asRecord(new(T)) }

// same reports whether storing b where a is would change nothing.
func same(a, b record) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y) && a.hidden() == b.hidden()
}

// encode returns the storage form of a record.
func encode(r record, keeper Keeper) (e Entity, err error) {
	e = r.columns()
	e.Spec, err = specOf(r, keeper)
	return e, err
}

// specOf returns the Spec of a record: every field as the API names it, also where that is at its
// default, except those that columns hold and secrets (tag store:"-").
func specOf(r record, keeper Keeper) ([]byte, error) {
	unseen, err := r.unseen(keeper)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for i, m := range append(members(reflect.ValueOf(r).Elem(), nil), unseen...) {
		fmt.Fprintf(&buf, "%c%q:", "{,"[min(i, 1)], m.name)
		if err := enc.Encode(m.value); err != nil {
			return nil, fmt.Errorf("%s %d: write %s: %w", r.kind().Noun(), r.meta().ID, m.name, err)
		}
		buf.Truncate(buf.Len() - 1) // the line feed that the encoder adds
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

// members appends the members that a struct has in the spec, those of embedded structs included.
func members(s reflect.Value, all []member) []member {
	for i := range s.NumField() {
		f := s.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Type == reflect.TypeFor[Meta](), name == "-", f.Tag.Get("store") == "-":
		case f.Anonymous:
			all = members(s.Field(i), all)
		default:
			all = append(all, member{name, s.Field(i).Interface()})
		}
	}
	return all
}

type member struct {
	name  string
	value any
}

// spec reads what encode has written into the noun that v points to.
func (e Entity) spec(v any) error {
	dec := json.NewDecoder(bytes.NewReader(e.Spec))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%s %d: %w: %w", e.Kind.Noun(), e.ID, ErrDamaged, err)
	}
	return nil
}

// plainJSON writes a value without the escapes that are for HTML.
func plainJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}
