package catalog

import (
	"slices"
	"strings"
)

// Model is a supported model under its public name, unique by (namespace, name).
type Model struct {
	Meta
	Namespace          string `json:"namespace" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" default:"default" doc:"The namespace of the model. A model is unique by its namespace and its name."`
	Name               string `json:"name" create:"required" minLength:"1" maxLength:"256" doc:"The public name, by which clients ask for the model. It may contain dots and slashes."`
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

type modelSpec struct {
	Kind               string `json:"kind"`
	ContextWindow      int64  `json:"context_window,omitzero"`
	MaxOutputTokens    int64  `json:"max_output_tokens,omitzero"`
	SupportsVision     bool   `json:"supports_vision,omitzero"`
	SupportsFunctions  bool   `json:"supports_functions,omitzero"`
	SupportsToolChoice bool   `json:"supports_tool_choice,omitzero"`
	SupportsFIM        bool   `json:"supports_fim,omitzero"`
	SupportsStream     bool   `json:"supports_stream,omitzero"`
	Prices
	PriceSource string `json:"price_source"`
}

func (*Model) kind() Kind { return KindModel }

func (m *Model) normalize() {
	m.Meta.normalize()
	m.Namespace, m.Name = strings.TrimSpace(m.Namespace), strings.TrimSpace(m.Name)
	def(&m.Namespace, defaultNamespace)
	def(&m.Kind, "chat")
	m.Prices.normalize()
	m.PriceSource = strings.TrimSpace(m.PriceSource)
	def(&m.PriceSource, PriceSourceManual)
}

func (m *Model) check(rules) FieldErrors {
	var errs FieldErrors
	m.Meta.check(&errs)
	checkNamespace(&errs, "namespace", m.Namespace)
	checkID(&errs, "name", m.Name, maxName)
	if !slices.Contains(ModelKinds(), m.Kind) {
		errs.add("kind", "must be one of %s", strings.Join(ModelKinds(), ", "))
	}
	checkLimit(&errs, "context_window", m.ContextWindow)
	checkLimit(&errs, "max_output_tokens", m.MaxOutputTokens)
	m.Prices.check(&errs, "")
	checkID(&errs, "price_source", m.PriceSource, maxWord)
	return errs
}

// checkLimit accepts what a JSON number holds exactly.
func checkLimit(errs *FieldErrors, field string, v int64) {
	if v < 0 || v > maxExact {
		errs.add(field, "must be 0 to 2^53-1")
	}
}

func (m *Model) encode(Keeper) (Entity, error) {
	e := m.entity(KindModel)
	e.NaturalKey, e.Name, e.Namespaces = ModelKey(m.Namespace, m.Name), m.Name, []string{m.Namespace}
	return e.withSpec(modelSpec{
		Kind: m.Kind, ContextWindow: m.ContextWindow, MaxOutputTokens: m.MaxOutputTokens, SupportsVision: m.SupportsVision,
		SupportsFunctions: m.SupportsFunctions, SupportsToolChoice: m.SupportsToolChoice, SupportsFIM: m.SupportsFIM,
		SupportsStream: m.SupportsStream, Prices: m.Prices, PriceSource: m.PriceSource,
	})
}

func (m *Model) decode(e Entity, _ Keeper) error {
	var spec modelSpec
	if err := e.spec(&spec); err != nil {
		return err
	}
	*m = Model{
		Namespace: first(e.Namespaces), Name: e.Name, Kind: spec.Kind, ContextWindow: spec.ContextWindow,
		MaxOutputTokens: spec.MaxOutputTokens, SupportsVision: spec.SupportsVision, SupportsFunctions: spec.SupportsFunctions,
		SupportsToolChoice: spec.SupportsToolChoice, SupportsFIM: spec.SupportsFIM, SupportsStream: spec.SupportsStream,
		Prices: spec.Prices, PriceSource: spec.PriceSource,
	}
	m.load(e)
	m.Prices.normalize()
	return nil
}

func (m *Model) touches() Touches {
	return Touches{NaturalKeys: sortedSet(ModelKey(m.Namespace, m.Name))}
}
