package catalog

import (
	"slices"
	"strconv"
	"strings"
)

// Kind names a noun. Its value is the name of the noun's collection: in URLs,
// in the hashes that balancers read, in the change feed.
type Kind string

// The nouns.
const (
	KindProject  Kind = "projects"
	KindProvider Kind = "providers"
	KindModel    Kind = "models"
	KindBinding  Kind = "bindings"
	KindKey      Kind = "keys"
	KindOperator Kind = "operators"
	KindHold     Kind = "holds"
)

// Kinds lists the nouns so that each comes after those it refers to.
func Kinds() []Kind {
	return []Kind{KindProject, KindProvider, KindModel, KindBinding, KindKey, KindOperator, KindHold}
}

func noKind(k Kind) string { return "catalog: there is no kind " + strconv.Quote(string(k)) }

// facts are what the code needs to know of a kind beyond its type.
type facts struct {
	new    func() record // makes an empty one
	key    []string      // the fields that make up the natural key; none where there is no such key
	tokens bool          // is known by tokens, so that entities have hashes
	stays  bool          // its natural key never changes, so that others may name it by that

	field  string // the field that names an entity
	refers []Kind // of one of these kinds
	absent string // what is wrong when there is none; "" for the usual words
	goes   bool   // deleted together with that entity; else it prevents that deletion

	imperative bool // made and ended one by one: no part of a desired state, of exports and of reverts
}

// facts returns those of k, which must be one of Kinds.
func (k Kind) facts() facts {
	switch k {
	case KindProject:
		return facts{new: newRecord[Project], key: []string{"name"}, stays: true, field: "name", refers: []Kind{KindProject},
			absent: "is below a project that does not exist; create that one first"}
	case KindProvider:
		return facts{new: newRecord[Provider], key: []string{"name"}}
	case KindModel:
		return facts{new: newRecord[Model], key: []string{"namespace", "name"}}
	case KindBinding:
		return facts{new: newRecord[Binding],
			key:   []string{"namespace", "model", "route_group", "provider_group"},
			field: "model", refers: []Kind{KindModel},
		}
	case KindKey: // names may repeat
		return facts{new: newRecord[Key], tokens: true, field: "project", refers: []Kind{KindProject}}
	case KindOperator:
		return facts{new: newRecord[Operator], imperative: true, key: []string{"name"}, tokens: true, field: "project",
			refers: []Kind{KindProject}}
	case KindHold:
		return facts{new: newRecord[Hold], imperative: true,
			key: []string{"target", "reason"}, field: "target", goes: true,
			refers: []Kind{KindKey, KindProject, KindProvider},
		}
	}
	panic(noKind(k))
}

// DesiredKinds lists the nouns that are part of a [Desired] state: all that people describe in
// files. Each comes after those it refers to.
func DesiredKinds() []Kind {
	return slices.DeleteFunc(Kinds(), func(k Kind) bool { return k.facts().imperative })
}

// Noun returns the singular: "provider".
func (k Kind) Noun() string { return string(k[:max(len(k)-1, 0)]) }

// HasTokens reports whether entities of the kind are known by tokens.
func (k Kind) HasTokens() bool { return k.facts().tokens }

// Refers returns the kinds of which [Entity.Ref] may name an entity; none when entities of
// kind k refer to nothing.
func (k Kind) Refers() []Kind { return slices.Clone(k.facts().refers) }

// refersTo returns the one kind that k refers to by natural keys; "" when there is none, or more
// than one.
func (k Kind) refersTo() Kind {
	if refers := k.facts().refers; len(refers) == 1 {
		return refers[0]
	}
	return ""
}

// A Target is what an [Entity.Ref] names: an entity by its id or, where ID is 0, by its
// natural key.
type Target struct {
	Kind       Kind
	ID         int64
	NaturalKey string
}

// Target reads the Ref of an entity of kind k. Where k refers to one kind, a Ref is a natural
// key. Where k refers to several, it is the noun, a slash, and the natural key of an entity
// whose natural key never changes, else the id: "project/acme/search", "key/12". It is not
// ok for anything else.
func (k Kind) Target(ref string) (t Target, ok bool) {
	refers := k.facts().refers
	if len(refers) == 1 {
		return Target{Kind: refers[0], NaturalKey: ref}, ref != ""
	}
	noun, name, _ := strings.Cut(ref, "/")
	for _, of := range refers {
		if of.Noun() != noun {
			continue
		}
		if of.facts().stays {
			return Target{Kind: of, NaturalKey: name}, name != ""
		}
		id, ok := parseID(name)
		return Target{Kind: of, ID: id}, ok
	}
	return Target{}, false
}

// RefTo returns the Ref by which entities of kind k refer to e; "" when they cannot.
func (k Kind) RefTo(e Entity) string {
	refers := k.facts().refers
	switch {
	case !slices.Contains(refers, e.Kind):
		return ""
	case len(refers) == 1:
		return e.NaturalKey
	case e.Kind.facts().stays && e.NaturalKey == "":
		return ""
	case e.Kind.facts().stays:
		return e.Kind.Noun() + "/" + e.NaturalKey
	}
	return e.Kind.Noun() + "/" + strconv.FormatInt(e.ID, 10)
}

// parseID reads an id in the one form that it is written in.
func parseID(s string) (int64, bool) {
	id, err := strconv.ParseInt(s, 10, 64)
	return id, err == nil && id > 0 && strconv.FormatInt(id, 10) == s
}
