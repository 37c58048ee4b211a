package catalog

import (
	"regexp"
	"slices"
	"strings"
)

// Binding says which group of providers serves a public model to which group
// of keys, unique by (namespace, model, route_group, provider_group).
type Binding struct {
	Meta
	Namespace     string `json:"namespace"`      // defaults to default
	Model         string `json:"model"`          // public name of a model that exists
	RouteGroup    string `json:"route_group"`    // which keys; defaults to default
	ProviderGroup string `json:"provider_group"` // who serves; defaults to route_group
	Weight        int    `json:"weight" min:"1"` // share among equal priorities; defaults to 1
	Priority      int    `json:"priority"`       // higher is tried first
	SelectorType  string `json:"selector_type"`  // one of SelectorTypes; defaults to exact
	SelectorValue string `json:"selector_value"` // picks one of each provider's models; defaults to the public name
}

// The selector types.
const (
	SelectExact      = "exact"           // the same model id
	SelectRegex      = "regex"           // RE2, matches the whole model id
	SelectNormalized = "normalize_exact" // the same after trimming, lower-casing and cutting all up to the last "/"
)

// SelectorTypes lists the values of Binding.SelectorType.
func SelectorTypes() []string { return []string{SelectExact, SelectRegex, SelectNormalized} }

const maxSelector = 1024 // characters

// BindingKey returns the natural key of a binding. Groups and namespaces hold
// no spaces, so no two bindings share a key.
func BindingKey(namespace, model, routeGroup, providerGroup string) string {
	return ModelKey(namespace, model) + " " + routeGroup + " " + providerGroup
}

type bindingSpec struct {
	Weight        int    `json:"weight"`
	Priority      int    `json:"priority,omitempty"`
	SelectorType  string `json:"selector_type"`
	SelectorValue string `json:"selector_value"`
}

func (*Binding) kind() Kind { return KindBinding }

func (b *Binding) normalize() {
	b.Meta.normalize()
	for _, s := range []*string{&b.Namespace, &b.Model, &b.RouteGroup, &b.ProviderGroup} {
		*s = strings.TrimSpace(*s)
	}
	def(&b.Namespace, defaultNamespace)
	def(&b.RouteGroup, defaultGroup)
	def(&b.ProviderGroup, b.RouteGroup)
	def(&b.Weight, 1)
	def(&b.SelectorType, SelectExact)
	def(&b.SelectorValue, b.Model)
}

// forgetDerived clears what still is the default that another field gave, so
// that it follows when that field changes.
func (b *Binding) forgetDerived() {
	if b.ProviderGroup == b.RouteGroup {
		b.ProviderGroup = ""
	}
	if b.SelectorValue == b.Model {
		b.SelectorValue = ""
	}
}

func (b *Binding) check(rules) FieldErrors {
	var errs FieldErrors
	b.Meta.check(&errs)
	checkNamespace(&errs, "namespace", b.Namespace)
	checkID(&errs, "model", b.Model, maxName)
	checkID(&errs, "route_group", b.RouteGroup, maxWord)
	checkID(&errs, "provider_group", b.ProviderGroup, maxWord)
	checkWeight(&errs, b.Weight, b.Priority)
	switch {
	case !slices.Contains(SelectorTypes(), b.SelectorType):
		errs.add("selector_type", "must be one of %s", strings.Join(SelectorTypes(), ", "))
	case len(b.SelectorValue) > maxSelector || !printable(b.SelectorValue):
		errs.add("selector_value", "must be at most %d printable characters", maxSelector)
	case b.SelectorType == SelectRegex:
		if _, err := regexp.Compile(b.SelectorValue); err != nil {
			errs.add("selector_value", "must be a regular expression in RE2 syntax")
		}
	}
	return errs
}

func (b *Binding) encode(Keeper) (Entity, error) {
	e := b.entity(KindBinding)
	e.NaturalKey = BindingKey(b.Namespace, b.Model, b.RouteGroup, b.ProviderGroup)
	e.Ref, e.Name = ModelKey(b.Namespace, b.Model), b.Model
	e.Namespaces, e.Groups = []string{b.Namespace}, []string{b.RouteGroup, b.ProviderGroup}
	return e.withSpec(bindingSpec{b.Weight, b.Priority, b.SelectorType, b.SelectorValue})
}

func (b *Binding) decode(e Entity, _ Keeper) error {
	var spec bindingSpec
	if err := e.spec(&spec); err != nil {
		return err
	}
	*b = Binding{
		Namespace: first(e.Namespaces), Model: e.Name, RouteGroup: first(e.Groups), ProviderGroup: last(e.Groups),
		Weight: spec.Weight, Priority: spec.Priority, SelectorType: spec.SelectorType, SelectorValue: spec.SelectorValue,
	}
	b.load(e)
	return nil
}

func (b *Binding) touches() Touches {
	return Touches{
		NaturalKeys: sortedSet(BindingKey(b.Namespace, b.Model, b.RouteGroup, b.ProviderGroup)),
		Refs:        sortedSet(ModelKey(b.Namespace, b.Model)),
		Groups:      sortedSet(b.RouteGroup, b.ProviderGroup),
	}
}
