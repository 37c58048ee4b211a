package catalog

import (
	"slices"
	"strings"
)

// Model is a supported model under its public name, unique by (namespace, name).
type Model struct {
	Meta
	Namespace          string `json:"namespace" store:"-" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" default:"default" doc:"The namespace of the model. A model is unique by its namespace and its name."`
	Name               string `json:"name" store:"-" create:"required" minLength:"1" maxLength:"256" doc:"The public name, by which clients ask for the model. It has at most 256 bytes in UTF-8, and may contain dots, slashes and spaces. A name that is * or ends in /* stands for every name that begins so and has no model of its own."`
	Kind               string `json:"kind" enum:"chat,embedding,rerank,image,audio,moderation,other" default:"chat" doc:"What the model does."`
	ContextWindow      int64  `json:"context_window,omitzero" minimum:"0" maximum:"9007199254740991" doc:"The greatest number of tokens of a request and its answer together. Without it the number is unknown."`
	MaxOutputTokens    int64  `json:"max_output_tokens,omitzero" minimum:"0" maximum:"9007199254740991" doc:"The greatest number of tokens of an answer. Without it the number is unknown."`
	SupportsVision     bool   `json:"supports_vision" doc:"Whether the model takes images."`
	SupportsFunctions  bool   `json:"supports_functions" doc:"Whether the model calls functions."`
	SupportsToolChoice bool   `json:"supports_tool_choice" doc:"Whether the client can choose which function is called."`
	SupportsFIM        bool   `json:"supports_fim" doc:"Whether the model completes text in the middle (fill in the middle)."`
	SupportsStream     bool   `json:"supports_stream" doc:"Whether the model streams its answers."`
	Prices                    // of its own; a provider's price for the upstream model goes before them
	PriceSource        string `json:"price_source" minLength:"1" maxLength:"64" default:"manual" doc:"Who set the prices: manual, or the name of what imported them."`
}

// ModelKinds lists the values of Model.Kind.
func ModelKinds() []string {
	return []string{"chat", "embedding", "rerank", "image", "audio", "moderation", "other"}
}

// ModelKey returns the natural key of a model, "namespace.name", by which
// balancers find it. A namespace has no dot, so no two models share a key.
func ModelKey(namespace, name string) string { return namespace + "." + name }

func (*Model) kind() Kind { return KindModel }

func (m *Model) naturalKey() string { return ModelKey(m.Namespace, m.Name) }

func (m *Model) normalize() {
	m.Meta.normalize()
	m.Namespace, m.Name = strings.TrimSpace(m.Namespace), strings.TrimSpace(m.Name)
	setDefault(&m.Namespace, defaultNamespace)
	setDefault(&m.Kind, "chat")
	m.Prices.normalize()
	m.PriceSource = strings.TrimSpace(m.PriceSource)
	setDefault(&m.PriceSource, PriceSourceManual)
}

func (m *Model) check(rules) FieldErrors {
	var errs FieldErrors
	m.Meta.check(&errs)
	checkNamespace(&errs, "namespace", m.Namespace)
	checkModelName(&errs, "name", m.Name)
	if !slices.Contains(ModelKinds(), m.Kind) {
		errs.add("kind", "must be one of %s", strings.Join(ModelKinds(), ", "))
	}
	checkLimit(&errs, "context_window", m.ContextWindow)
	checkLimit(&errs, "max_output_tokens", m.MaxOutputTokens)
	m.Prices.check(&errs, "")
	checkWord(&errs, "price_source", m.PriceSource, maxWord)
	return errs
}

// checkLimit accepts what a JSON number holds exactly.
func checkLimit(errs *FieldErrors, field string, v int64) {
	if v < 0 || v > maxExact {
		errs.add(field, "must be 0 to 2^53-1")
	}
}

func (m *Model) columns() Entity {
	e := m.entity(KindModel)
	e.NaturalKey, e.Name, e.Namespaces = m.naturalKey(), m.Name, []string{m.Namespace}
	return e
}

func (m *Model) decode(e Entity, _ Keeper) error {
	*m = Model{}
	if err := e.spec(m); err != nil {
		return err
	}
	m.Namespace, m.Name = first(e.Namespaces), e.Name
	m.load(e)
	return nil
}

func (m *Model) touches() Touches {
	return Touches{NaturalKeys: sortedSet(m.naturalKey())}
}
