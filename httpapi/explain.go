package httpapi

import (
	"context"
	"errors"
	"fmt"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

type explaining struct {
	KeyID int64  `query:"key_id" minimum:"1" required:"true" doc:"The id of the key."`
	Model string `query:"model" minLength:"1" maxLength:"1024" required:"true" doc:"The model as a client names it: its public name, or namespace.name."`
}

// explanation answers with why a key can or cannot reach a model.
type explanation struct {
	Body struct {
		Position  snapshot.Position `json:"position" doc:"The position of the published documents that this was computed from, <epoch>-<revision>."`
		Reachable bool              `json:"reachable" doc:"Whether the key can reach the model."`
		Reason    string            `json:"reason,omitempty" doc:"Why the key cannot reach the model, in the words that a client is told."`
		Steps     []step            `json:"steps" doc:"The checks on the way to the model, in their order."`
		Targets   []target          `json:"targets" doc:"The providers that are tried, in their order. Among those of equal priority the heavier comes first here, while requests draw by weight."`
	}
}

// step is one thing that is asked on the way to a model.
type step struct {
	Check  string `json:"check" doc:"What is checked."`
	OK     bool   `json:"ok" doc:"Whether the check passed."`
	Detail string `json:"detail" doc:"What was found."`
}

// target is a provider that may serve a request.
type target struct {
	ProviderID    int64  `json:"provider_id" doc:"The id of the provider."`
	Provider      string `json:"provider,omitempty" doc:"The name of the provider. Callers that are limited to a project are not shown it."`
	UpstreamModel string `json:"upstream_model" doc:"The name of the model at the provider."`
	Namespace     string `json:"namespace" doc:"The namespace of the model."`
	Model         string `json:"model" doc:"The public name of the model."`
	RouteGroup    string `json:"route_group" doc:"The route group of the key."`
	ProviderGroup string `json:"provider_group" doc:"The group of the provider."`
	Priority      int    `json:"priority" doc:"The priority of the provider. A higher one is tried first."`
	Weight        int    `json:"weight" doc:"The weight of the provider among those of its priority."`
}

// explain asks the catalog for the key's token hashes alone: all else is what
// balancers see.
func (h *Handler) explain(ctx context.Context, in *explaining) (*explanation, error) {
	key, err := h.plane.Keys.Get(ctx, in.KeyID)
	if err != nil {
		return nil, err
	}
	hashes := make([]string, len(key.Tokens))
	for i, t := range key.Tokens {
		hashes[i] = t.Hash
	}
	e, err := snapshot.Explain(ctx, h.plane.Publisher(), hashes, in.Model, h.plane.Now())
	switch {
	case errors.Is(err, snapshot.ErrNone) || errors.Is(err, snapshot.ErrStale):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errPublished, err)
	}
	out := &explanation{}
	b := &out.Body
	b.Position, b.Reachable = e.Position, e.Refusal == nil
	if e.Refusal != nil {
		b.Reason = e.Refusal.Error()
	}
	b.Steps, b.Targets = make([]step, len(e.Steps)), make([]target, len(e.Targets))
	for i, s := range e.Steps {
		b.Steps[i] = step(s)
	}
	for i, t := range e.Targets {
		b.Targets[i] = target{
			ProviderID: t.Provider.ID, UpstreamModel: t.UpstreamModel,
			Namespace: t.Namespace, Model: t.Model,
			RouteGroup: t.RouteGroup, ProviderGroup: t.ProviderGroup, Priority: t.Provider.Priority, Weight: t.Provider.Weight,
		}
		if catalog.ProjectOf(ctx) == "" {
			b.Targets[i].Provider = t.Provider.Name
		}
	}
	return out, nil
}
