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
	Namespace     string `json:"namespace" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" default:"default" doc:"The namespace of the model."`
	Model         string `json:"model" create:"required" minLength:"1" maxLength:"256" doc:"The public name of the model. The model must exist."`
	RouteGroup    string `json:"route_group" minLength:"1" maxLength:"64" default:"default" doc:"The binding is for the keys of this group."`
	ProviderGroup string `json:"provider_group" minLength:"1" maxLength:"64" doc:"The providers of this group serve the requests. When the binding is created, the default is its route_group."`
	Weight        int    `json:"weight" min:"1" minimum:"1" maximum:"1000000" default:"1" doc:"The share of requests that this binding gets among those of the same priority."`
	Priority      int    `json:"priority" minimum:"-1000000" maximum:"1000000" default:"0" doc:"Bindings of a higher priority are tried first."`
	SelectorType  string `json:"selector_type" enum:"exact,regex,normalize_exact" default:"exact" doc:"How selector_value picks one of the models of each provider: exact by the same name; regex by an RE2 expression that fits the whole name; normalize_exact by the same name after trimming, in lower case, after the last slash."`
	SelectorValue string `json:"selector_value" minLength:"1" maxLength:"1024" doc:"The name or the expression that picks the model of a provider. When the binding is created, the default is the public name."`
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
