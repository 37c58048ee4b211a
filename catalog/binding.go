package catalog

import "strings"

// Binding says which group of providers serves a public model to which group
// of keys, unique by (namespace, model, route_group, provider_group).
type Binding struct {
	Meta
	Namespace     string `json:"namespace" store:"-" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" default:"default" doc:"The namespace of the model."`
	Model         string `json:"model" store:"-" create:"required" minLength:"1" maxLength:"256" doc:"The public name of the model. The model must exist."`
	RouteGroup    string `json:"route_group" store:"-" minLength:"1" maxLength:"64" default:"default" doc:"The binding is for the keys of this group."`
	ProviderGroup string `json:"provider_group" store:"-" minLength:"1" maxLength:"64" doc:"The providers of this group serve the requests. When the binding is created, the default is its route_group."`
	Weight        *int   `json:"weight" minimum:"0" maximum:"1000000" default:"1" doc:"The share of requests that this binding gets among those of the same priority. One with 0 gets requests only when the others have failed."`
	Priority      int    `json:"priority" minimum:"-1000000" maximum:"1000000" default:"0" doc:"Bindings of a higher priority are tried first."`
	SelectorType  string `json:"selector_type" enum:"exact,regex,normalize_exact" default:"exact" doc:"How selector_value picks one of the models of each provider: exact by the same name; regex by an RE2 expression that fits the whole name; normalize_exact by the same name after trimming, in lower case, after the last slash."`
	SelectorValue string `json:"selector_value" minLength:"1" maxLength:"1024" doc:"The name or the expression that picks the model of a provider. When the binding is created, the default is the public name."`
}

// BindingKey returns the natural key of a binding. Groups hold no white space,
// so no two bindings share a key.
func BindingKey(namespace, model, routeGroup, providerGroup string) string {
	return ModelKey(namespace, model) + " " + routeGroup + " " + providerGroup
}

func (*Binding) kind() Kind { return KindBinding }

func (b *Binding) naturalKey() string {
	return BindingKey(b.Namespace, b.Model, b.RouteGroup, b.ProviderGroup)
}

func (b *Binding) normalize() {
	b.Meta.normalize()
	for _, s := range []*string{&b.Namespace, &b.Model, &b.RouteGroup, &b.ProviderGroup} {
		*s = strings.TrimSpace(*s)
	}
	setDefault(&b.Namespace, defaultNamespace)
	setDefault(&b.RouteGroup, defaultGroup)
	setDefault(&b.ProviderGroup, b.RouteGroup)
	setDefault(&b.Weight, new(1))
	setDefault(&b.SelectorType, SelectExact)
	setDefault(&b.SelectorValue, b.Model)
}

func (b *Binding) check(rules) FieldErrors {
	var errs FieldErrors
	b.Meta.check(&errs)
	checkNamespace(&errs, "namespace", b.Namespace)
	checkModelName(&errs, "model", b.Model)
	checkGroup(&errs, "route_group", b.RouteGroup)
	checkGroup(&errs, "provider_group", b.ProviderGroup)
	checkWeight(&errs, b.Weight, b.Priority)
	b.checkSelector(&errs)
	return errs
}

func (b *Binding) columns() Entity {
	e := b.entity(KindBinding)
	e.NaturalKey = b.naturalKey()
	e.Ref, e.Name = ModelKey(b.Namespace, b.Model), b.Model
	e.Namespaces, e.Groups = []string{b.Namespace}, []string{b.RouteGroup, b.ProviderGroup}
	return e
}

func (b *Binding) decode(e Entity, _ Keeper) error {
	*b = Binding{}
	if err := e.spec(b); err != nil {
		return err
	}
	setDefault(&b.Weight, new(1)) // what others have written may lack it
	b.Namespace, b.Model, b.RouteGroup, b.ProviderGroup = first(e.Namespaces), e.Name, first(e.Groups), last(e.Groups)
	b.load(e)
	return nil
}

func (b *Binding) touches() Touches {
	return Touches{
		NaturalKeys: sortedSet(b.naturalKey()),
		Refs:        sortedSet(ModelKey(b.Namespace, b.Model)),
		Groups:      sortedSet(b.RouteGroup, b.ProviderGroup),
	}
}
