package catalog

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Status says whether an entity takes part in serving.
type Status string

// The statuses of every noun.
const (
	Active   Status = "active"
	Disabled Status = "disabled"
)

const (
	defaultGroup     = "default"
	defaultNamespace = "default"

	maxName   = 256 // characters of a name, an id or an external id
	maxWord   = 64  // characters of a group or scope
	maxList   = 10_000
	maxBytes  = 512 << 10 // of the lists of a resource as JSON, so that a request of 1 MiB can replace them
	maxLabels = 64
	maxLabel  = 63 // characters of a label's name
	maxWeight = 1_000_000
)

// Meta is what all nouns have. The store sets ID, CreatedAt, UpdatedAt and
// Revision.
type Meta struct {
	ID         int64             `json:"id" readOnly:"true" minimum:"1" doc:"The number of this resource. The server assigns it, and never uses it again."`
	ExternalID string            `json:"external_id,omitempty" minLength:"1" maxLength:"256" doc:"Your own name for this resource. No other resource of the same kind has it."`
	Labels     map[string]string `json:"labels" maxProperties:"64" doc:"Names and values of your own, by which lists can be filtered. A name has 1 to 63 characters of any language, without white space and without =, and a value at most 256 characters."`
	Status     Status            `json:"status" enum:"active,disabled" default:"active" doc:"Whether the resource takes part in serving requests."`
	CreatedAt  time.Time         `json:"created_at" readOnly:"true" doc:"When the resource was created."`
	UpdatedAt  time.Time         `json:"updated_at" readOnly:"true" doc:"When the resource was last changed."`
	Revision   Revision          `json:"revision,omitzero" readOnly:"true" doc:"The revision of the catalog in which the resource was last changed. In quotes it is the ETag."` // 0 where that is not known yet
	Damaged    bool              `json:"damaged,omitzero" readOnly:"true" doc:"What is stored of this resource cannot be read, because something other than this server has written to the database. Its name is shown, and what else is known; other fields have their defaults. It is not published. Send all of it with PUT, or delete it."`
}

func (m *Meta) meta() *Meta { return m }

// continues takes over what the store sets from the record in whose place m is stored.
func (m *Meta) continues(before *Meta) {
	m.ID, m.CreatedAt, m.UpdatedAt, m.Revision = before.ID, before.CreatedAt, before.UpdatedAt, before.Revision
}

func (m *Meta) normalize() {
	m.ExternalID = strings.TrimSpace(m.ExternalID)
	if m.Status == "" {
		m.Status = Active
	}
	labels := make(map[string]string, len(m.Labels))
	for name, value := range m.Labels {
		labels[name] = strings.TrimSpace(value)
	}
	m.Labels = labels
}

func (m *Meta) check(errs *FieldErrors) {
	if m.ExternalID != "" {
		checkName(errs, "external_id", m.ExternalID)
	}
	if m.Status != Active && m.Status != Disabled {
		errs.add("status", "must be active or disabled")
	}
	if len(m.Labels) > maxLabels {
		errs.add("labels", "must have at most %d names", maxLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Labels)) {
		if wrong := wrongLabel(name); wrong != "" {
			errs.add("labels", "has a name that %s", wrong)
			continue
		}
		checkText(errs, memberPath("labels", name), m.Labels[name], 0, maxName)
	}
}

// wrongLabel says what is wrong with the name of a label, or "". Lists are filtered by name=value.
func wrongLabel(name string) string {
	if strings.Contains(name, "=") {
		return "must not hold ="
	}
	var errs FieldErrors
	if checkWord(&errs, "labels", name, maxLabel); len(errs) > 0 {
		return errs[0].Message
	}
	return ""
}

// entity returns the part of an Entity that comes from m.
func (m *Meta) entity(k Kind) Entity {
	return Entity{
		Kind: k, ID: m.ID, Revision: m.Revision, CreatedAt: m.CreatedAt, UpdatedAt: m.UpdatedAt,
		ExternalID: m.ExternalID, Status: string(m.Status), Labels: maps.Clone(m.Labels),
	}
}

func (m *Meta) load(e Entity) {
	*m = Meta{
		ID: e.ID, ExternalID: e.ExternalID, Labels: maps.Clone(e.Labels), Status: Status(e.Status),
		CreatedAt: e.CreatedAt.UTC(), UpdatedAt: e.UpdatedAt.UTC(), Revision: e.Revision,
	}
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
}

var namespaceForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func checkNamespace(errs *FieldErrors, field, v string) {
	if !namespaceForm.MatchString(v) {
		errs.add(field, "must be 1 to 63 of a-z 0-9 _ -, the first a letter or a digit")
	}
}

func checkWeight(errs *FieldErrors, weight *int, priority int) {
	if *weight < 0 || *weight > maxWeight {
		errs.add("weight", "must be 0 to %d; 0 serves only when the others have failed, status disabled not at all",
			maxWeight)
	}
	if priority < -maxWeight || priority > maxWeight {
		errs.add("priority", "must be %d to %d", -maxWeight, maxWeight)
	}
}

// checkList checks each element and that none stands twice.
func checkList(errs *FieldErrors, field string, list []string, check func(errs *FieldErrors, field, v string)) {
	if len(list) > maxList {
		errs.add(field, "must have at most %d elements", maxList)
		return
	}
	seen, size := make(map[string]bool, len(list)), 0
	for i, v := range list {
		size += jsonLen(v)
		if size > maxBytes {
			errs.add(field, "must be at most %d bytes of JSON, so that a request can replace it", maxBytes)
			return
		}
		at := elementPath(field, i)
		if seen[v] {
			errs.add(at, "occurs twice in the list; send it once")
			continue
		}
		seen[v] = true
		check(errs, at, v)
	}
}

// jsonLen returns how many bytes of JSON an element of a list takes.
func jsonLen(v string) int {
	return len(v) + strings.Count(v, `"`) + strings.Count(v, `\`) + len(`"",`)
}

// checkTogether checks that lists, each of which may have maxBytes alone, have no more together. It
// names the field that goes beyond.
func checkTogether(errs *FieldErrors, fields []string, lists ...[]string) {
	all := 0
	for i, list := range lists {
		alone := 0
		for _, v := range list {
			alone += jsonLen(v)
		}
		if alone > maxBytes {
			return // checkList has said so
		}
		if all += alone; all > maxBytes {
			errs.add(fields[i], "must be at most %d bytes of JSON together with the other lists; shorten one of them",
				maxBytes)
			return
		}
	}
}

// setDefault sets *v to the default where it is zero.
func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// trimAll returns a copy of a list, each element without white space at its
// ends. An absent list becomes an empty one, so that it is [] in JSON.
func trimAll(list []string) []string {
	trimmed := make([]string, len(list))
	for i, v := range list {
		trimmed[i] = strings.TrimSpace(v)
	}
	return trimmed
}

func sortedSet(values ...string) []string {
	values = slices.DeleteFunc(values, func(s string) bool { return s == "" })
	slices.Sort(values)
	return slices.Compact(values)
}

// micros is t as every store keeps it.
func micros(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}
