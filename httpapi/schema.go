package httpapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ez-api/ez-api/catalog"
)

// The schemas come from the Go types: descriptions, bounds and forms are tags beside the
// fields. This file names the schemas, and derives those of bodies from those of answers.

// schemaNames are the names of schemas that are not those of their Go types. Where two packages
// have a type of the same name, the package says which is meant.
var schemaNames = map[string]string{
	"catalog.Step": "PlanStep", "Difference": "PlanDifference", "Summary": "PlanSummary", "Kept": "PlanKept",
	"Warning":      "PlanWarning",
	"KeyWithUsage": "Key", "Entry": "LogEntry", "Failure": "LogFailure", "Rejection": "LogRejection",
	"Accepted": "LogsAccepted", "Base": "HeadIdentity", "Head": "PublishedHead", "Report": "NodeReport",
	"Step":   "ExplainStep",
	"Target": "ExplainTarget", "Condition": "ReadinessCheck", "Changes": "ChangeList", "Alive": "Health",
	"Usage": "UsageReport",
}

// schemaName names the schema of a type. A page of keys is a KeyList.
func schemaName(t reflect.Type, hint string) string {
	name := strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), "Body")
	of, isPage := strings.CutPrefix(name, "Page")
	of, isListed := strings.CutPrefix(of, "Listed")
	if other, ok := schemaNames[t.String()]; ok {
		of = other
	} else if other, ok := schemaNames[of]; ok {
		of = other
	}
	if isPage || isListed {
		return of + "List"
	}
	return of
}

// usd is how the API shows amounts of money: as text, because a number would be read as
// a binary fraction.
type usd struct{}

const usdPattern = `^(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?$`

// Schema implements [huma.SchemaProvider].
func (usd) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true, Pattern: usdPattern, Examples: []any{"2.5"}}
}

func isUSD(s *huma.Schema) bool { return s.Pattern == usdPattern }

// completeSchemas adds the schemas that no answer has, and those of bodies.
func (h *Handler) completeSchemas(registry huma.Registry) {
	for _, t := range []reflect.Type{
		reflect.TypeFor[problem](), reflect.TypeFor[accepted](), reflect.TypeFor[rotation](), reflect.TypeFor[lookup](),
		reflect.TypeFor[reprice](), reflect.TypeFor[reversion](), reflect.TypeFor[providerTesting](),
		reflect.TypeFor[nodeReport](),
	} {
		registry.Schema(t, true, "")
	}
	schemas := registry.Map()
	delete(schemas, "ErrorModel") // huma's own, which no response is
	delete(schemas, "ErrorDetail")
	describeProblem(schemas["Problem"])
	describeLogs(schemas)
	describeChange(schemas["Change"])
	describePlan(schemas)
	for _, s := range schemas {
		boundWords(s.Properties["labels"], wordBounds{name: 63, value: 256, pattern: `^[^\s=]+$`})
		boundWords(s.Properties["tags"], wordBounds{name: 64, value: 256})
	}
	b := bodies{registry: registry, schemas: schemas}
	for _, t := range h.nouns {
		b.add(t)
	}
	for _, k := range catalog.Kinds() {
		if k.HasTokens() {
			create := schemas[nameOf(k)+"Create"]
			create.Properties = merged(create.Properties, b.imported())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		if !b.made[name] {
			loosen(schemas[name])
		}
	}
}

func merged(a, b map[string]*huma.Schema) map[string]*huma.Schema {
	maps.Copy(a, b)
	return a
}

// describeProblem lists all types of problems.
func describeProblem(s *huma.Schema) {
	for k := range problemTable {
		s.Properties["type"].Enum = append(s.Properties["type"].Enum, problemKind(k).facts().urn())
	}
}

// wordBounds are how long the names and the values of an object of texts may be, and the form of
// the names.
type wordBounds struct {
	name, value int
	pattern     string
}

// boundWords documents the bounds of an object of texts, for which there are no tags.
func boundWords(s *huma.Schema, bounds wordBounds) {
	if s == nil {
		return
	}
	if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
		values.MaxLength = new(bounds.value)
		names := map[string]any{"minLength": 1, "maxLength": bounds.name}
		if bounds.pattern != "" {
			names["pattern"] = bounds.pattern
		}
		s.Extensions = map[string]any{"propertyNames": names}
	}
}

// describeLogs derives the schema of an entry that comes in from that of one that is
// stored: fields are optional there, and may be unknown.
func describeLogs(schemas map[string]*huma.Schema) {
	stored := schemas["LogEntry"]
	stored.Properties["id"] = &huma.Schema{ // huma sees 16 bytes
		Type: huma.TypeString, Format: "uuid", Description: stored.Properties["id"].Description,
	}
	class := schemas["LogFailure"].Properties["class"]
	names := make([]string, len(class.Enum)) // generators in Go would call one of them Client, as the client
	for i, v := range class.Enum {
		word := fmt.Sprint(v)
		names[i] = "Failed" + strings.ToUpper(word[:1]) + word[1:]
	}
	class.Extensions = map[string]any{"x-enum-varnames": names}
	in := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Properties: maps.Clone(stored.Properties)}
	delete(in.Properties, "priced_revision")
	schemas["LogEntryCreate"] = in
}

// describeChange says what the sides of a change are, which the Go type leaves open.
func describeChange(s *huma.Schema) {
	s.Properties["before"].Type, s.Properties["after"].Type = huma.TypeObject, huma.TypeObject
	for _, k := range catalog.Kinds() {
		s.Properties["kind"].Enum = append(s.Properties["kind"].Enum, k)
	}
}

// describePlan says what a desired state is, and that the sides of a difference are any JSON.
func describePlan(schemas map[string]*huma.Schema) {
	sides := schemas["PlanDifference"].Properties
	for _, side := range []string{"before", "after"} {
		sides[side] = &huma.Schema{Description: sides[side].Description}
	}
	state := &huma.Schema{
		Type: huma.TypeObject, Description: "A state that the catalog is to have.", AdditionalProperties: false,
		Properties: map[string]*huma.Schema{
			"store":    {Type: huma.TypeString, Description: "The catalog whose ids the resources have, as an export says it."},
			"revision": {Type: huma.TypeInteger, Format: "int64", Description: "An export says it. It is ignored."},
		},
	}
	for _, k := range catalog.DesiredKinds() {
		word := k.Noun()
		state.Properties[string(k)] = &huma.Schema{
			Type: huma.TypeArray, Items: refTo(strings.ToUpper(word[:1]) + word[1:] + "Create"),
			Description: "All " + string(k) + " that are wanted. Without it they stay as they are.",
		}
	}
	schemas["DesiredState"] = state
}

// loosen says of an answer that fields may be added, that lists are never null, and
// nothing of defaults and of what is only read: bodies have schemas of their own, and
// generators make a field that is only read one that may be missing.
func loosen(s *huma.Schema) {
	if s == nil {
		return
	}
	if s.Type == huma.TypeArray {
		s.Nullable = false
	}
	if s.AdditionalProperties == false {
		s.AdditionalProperties = nil
	}
	s.Default, s.ReadOnly = nil, false
	if !isUSD(s) {
		s.Examples = nil
	}
	loosen(s.Items)
	for _, p := range s.Properties {
		loosen(p)
	}
}

// bodies derives the schemas of bodies from those of answers.
type bodies struct {
	registry huma.Registry
	schemas  map[string]*huma.Schema
	made     map[string]bool
}

// add derives the bodies that create and change a noun, and hides from its answers what
// is only written.
func (b *bodies) add(noun reflect.Type) {
	if b.made == nil {
		b.made = map[string]bool{}
	}
	name := noun.Name()
	shown := b.schemas[name]
	create, patch := b.object(noun, shown), b.object(noun, shown)
	create.Description = "A whole resource. A field that is left out gets its default."
	patch.Description = "A merge patch (RFC 7396). A field that is left out stays as it is, and null restores the default."
	patch.Required = nil
	for field, s := range patch.Properties {
		s.Nullable = s.Ref == "" && !slices.Contains(create.Required, field)
		if s.Nullable && len(s.Enum) > 0 {
			s.Enum = append(slices.Clone(s.Enum), nil)
		}
		if values, ok := s.AdditionalProperties.(*huma.Schema); ok && values.Ref == "" && values.Type != "" {
			of := *values
			of.Nullable = true // takes the entry away
			s.AdditionalProperties = &of
		}
	}
	b.schemas[name+"Create"], b.schemas[name+"Patch"] = create, patch
	b.made[name+"Create"], b.made[name+"Patch"] = true, true
	for field, s := range shown.Properties {
		if s.WriteOnly {
			delete(shown.Properties, field)
		}
	}
}

// object derives the schema of an object that is sent. Nothing is required but what
// the Go type says is, in a tag create:"required".
func (b *bodies) object(t reflect.Type, shown *huma.Schema) *huma.Schema {
	body := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Properties: map[string]*huma.Schema{}}
	for _, f := range reflect.VisibleFields(t) {
		field, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		s := shown.Properties[field]
		if f.Anonymous || s == nil || s.ReadOnly {
			continue
		}
		body.Properties[field] = b.value(f.Type, s)
		if f.Tag.Get("create") == "required" {
			body.Required = append(body.Required, field)
		}
	}
	slices.Sort(body.Required)
	return body
}

// value derives the schema of a value that is sent.
func (b *bodies) value(t reflect.Type, shown *huma.Schema) *huma.Schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	in := *shown
	in.WriteOnly = false
	if in.Default != nil { // as text: generators make a field that has a default one that must be sent
		text, _ := json.Marshal(in.Default) // it came from JSON
		in.Default, in.Description = nil, in.Description+" The default is "+strings.Trim(string(text), `"`)+"."
	}
	switch {
	case isUSD(shown):
		in.Description = strings.TrimSpace(in.Description + " Send it as a string, which is exact. " +
			"A number is taken too, and is rounded half-even to 9 decimals.")
	case shown.Ref != "":
		in.Ref = b.nested(t, shown.Ref)
	case shown.Type == huma.TypeArray:
		in.Nullable = false
		in.Items = b.value(t.Elem(), shown.Items)
	case t.Kind() == reflect.Map:
		if values, ok := shown.AdditionalProperties.(*huma.Schema); ok {
			in.AdditionalProperties = b.value(t.Elem(), values)
		}
	}
	return &in
}

// nested derives the schema of an object within a body, and returns the reference to it.
func (b *bodies) nested(t reflect.Type, ref string) string {
	name := strings.TrimPrefix(ref, schemaPrefix) + "Input"
	if !b.made[name] {
		b.made[name] = true
		b.schemas[name] = b.object(t, b.registry.SchemaFromRef(ref))
	}
	return schemaPrefix + name
}

// tokenImport are the fields with which a new key or operator brings its own tokens.
type tokenImport struct {
	Token       string   `json:"token" writeOnly:"true" minLength:"16" maxLength:"256" pattern:"^[!-~]+$" doc:"A token to import, in printable ASCII without spaces. Without it, and without token_hashes, a token is made."`
	TokenHashes []string `json:"token_hashes" writeOnly:"true" maxItems:"4" pattern:"^[0-9a-f]{64}$" doc:"The SHA-256 of tokens to import, in lower-case hex. They must not come together with token."`
}

func (b *bodies) imported() map[string]*huma.Schema {
	in := huma.SchemaFromType(b.registry, reflect.TypeFor[tokenImport]())
	in.Properties["token_hashes"].Nullable = false
	in.Properties["token"].WriteOnly, in.Properties["token_hashes"].WriteOnly = false, false
	return in.Properties
}
