package manifest

import (
	"reflect"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// noun is a kind that a file may hold.
type noun struct {
	kind   catalog.Kind
	check  func(object []byte) error // says what is wrong with an object of the API
	fields []field                   // in the order in which a file has them
}

// nouns lists the kinds that a file may hold, each after those that it refers to.
func nouns() []noun {
	return []noun{
		nounOf[catalog.Project](catalog.KindProject),
		nounOf[catalog.Provider](catalog.KindProvider),
		nounOf[catalog.Model](catalog.KindModel),
		nounOf[catalog.Binding](catalog.KindBinding),
		nounOf[catalog.Key](catalog.KindKey,
			extra[catalog.Secret]("token", `doc:"A token to import. Without it and token_hashes a new key gets a new one."`),
			extra[[]string]("token_hashes", `maxItems:"4" pattern:"^[0-9a-f]{64}$" `+
				`doc:"The SHA-256 of tokens to import, in lower-case hexadecimal."`)),
	}
}

// everyNoun lists all kinds: those of files, and those that are made one by one.
func everyNoun() []noun {
	return append(nouns(), nounOf[catalog.Operator](catalog.KindOperator), nounOf[catalog.Hold](catalog.KindHold))
}

// Kinds lists the kinds that a file may hold, each after those that it refers to.
func Kinds() []catalog.Kind {
	var kinds []catalog.Kind
	for _, n := range nouns() {
		kinds = append(kinds, n.kind)
	}
	return kinds
}

// field is a member of a resource in a file.
type field struct {
	name string
	typ  reflect.Type
	tag  reflect.StructTag
}

// readOnly reports whether the server sets the field.
func (f field) readOnly() bool { return f.tag.Get("readOnly") == "true" }

// secret reports whether the field holds a secret.
func (f field) secret() bool { return f.typ == reflect.TypeFor[catalog.Secret]() }

// extra is a member that is no field of the Go type.
func extra[T any](name string, tag reflect.StructTag) field {
	return field{name, reflect.TypeFor[T](), tag}
}

// nounOf describes a noun. Its ids come first, then what is its own, and then what all
// nouns have.
func nounOf[T catalog.Noun](kind catalog.Kind, more ...field) noun {
	common := fieldsOf(reflect.TypeFor[catalog.Meta]())
	isCommon := func(f field) bool {
		return slices.ContainsFunc(common, func(c field) bool { return c.name == f.name })
	}
	own := slices.DeleteFunc(fieldsOf(reflect.TypeFor[T]()), isCommon)
	const ids = 2 // id and external_id
	return noun{
		kind: kind,
		check: func(object []byte) error {
			v, err := catalog.Decode[T](object)
			if err == nil {
				err = catalog.Check(&v, &catalog.Options{AllowPrivateUpstreams: true}) // the server may
			}
			return err
		},
		fields: slices.Concat(common[:ids], own, more, common[ids:]),
	}
}

// fieldsOf lists the members that a struct has in JSON.
func fieldsOf(t reflect.Type) (fields []field) {
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.Anonymous && f.IsExported() && name != "-" && name != "" {
			fields = append(fields, field{name, f.Type, f.Tag})
		}
	}
	return fields
}

// field finds a member by its name.
func (n *noun) field(name string) (field, bool) {
	i := slices.IndexFunc(n.fields, func(f field) bool { return f.name == name })
	if i < 0 {
		return field{}, false
	}
	return n.fields[i], true
}
