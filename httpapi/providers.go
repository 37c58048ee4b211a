package httpapi

import (
	"context"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/health"
	"github.com/ez-api/ez-api/catalog/upstreams"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/logbuf"
)

// providerTesting is the body of a test of a provider; there may be none.
type providerTesting struct {
	Model string `json:"model,omitempty" maxLength:"256" doc:"The upstream model to ask for, with chat. Without it the first one that the provider lists by its whole name."`
	Kind  string `json:"kind,omitempty" enum:"models,chat" default:"models" doc:"What to ask for: the list of models, which costs nothing, or one token of chat."`
}

// providerTest says what came of asking a provider. It has nothing of what the provider sent.
type providerTest struct {
	OK        bool                `json:"ok" doc:"Whether the provider answered as it should."`
	Class     logbuf.FailureClass `json:"class,omitempty" enum:"auth,billing,rate,overload,server,timeout,network,client" doc:"Why it did not. client means that it did not accept the question: base_url may be another, or the model unknown."`
	Status    int                 `json:"status,omitzero" doc:"The HTTP status of the provider. 0 means that it gave none."`
	LatencyMS int64               `json:"latency_ms" doc:"How many milliseconds it took."`
}

// upstreamModels is what a provider lists.
type upstreamModels struct {
	providerTest
	Models    []string `json:"models" doc:"The models that the provider lists, by its own names, in its order. There are none when it failed."`
	Truncated bool     `json:"truncated,omitzero" doc:"Whether some were left out: there are more than 10,000, or some are no names."`
}

type tryingProvider struct {
	request.ID
	Content request.Body
}

type testAnswer struct{ Body providerTest }

type upstreamModelsAnswer struct{ Body upstreamModels }

const testText = "It asks the provider with its stored credential. Types openai, compatible, azure, anthropic and " +
	"gemini can be asked. That the provider fails is no problem of this request. Each provider can be asked five times " +
	"in a row, then every six seconds."

// testProvider asks a provider.
func (h *Handler) testProvider(ctx context.Context, in *tryingProvider) (*testAnswer, error) {
	id, err := in.Number()
	if err != nil {
		return nil, err
	}
	body := providerTesting{Kind: string(upstreams.Models)}
	if !in.Content.Empty() {
		if err := in.Content.Decode(&body); err != nil {
			return nil, err
		}
	}
	kind := upstreams.Kind(body.Kind)
	if kind == "" {
		kind = upstreams.Models
	}
	if body.Model != "" && kind != upstreams.Chat {
		return nil, &catalog.FieldError{Field: "model", Message: "is of use with kind chat only"}
	}
	r, err := h.plane.TestProvider(ctx, id, kind, body.Model)
	if err != nil {
		return nil, err
	}
	return &testAnswer{testShown(r)}, nil
}

func testShown(r upstreams.Result) providerTest {
	return providerTest{r.OK, r.Class, r.Status, r.Latency.Milliseconds()}
}

// upstreamModels asks a provider for its models.
func (h *Handler) upstreamModels(ctx context.Context, in *struct{ request.ID }) (*upstreamModelsAnswer, error) {
	id, err := in.Number()
	if err != nil {
		return nil, err
	}
	r, err := h.plane.TestProvider(ctx, id, upstreams.Models, "")
	if err != nil {
		return nil, err
	}
	out := &upstreamModelsAnswer{upstreamModels{testShown(r), r.Models, r.Cut}}
	if out.Body.Models == nil {
		out.Body.Models = []string{}
	}
	return out, nil
}

type healthQuery struct {
	ProviderID int64  `query:"provider_id" minimum:"1" doc:"Only this provider."`
	Limit      int    `query:"limit" default:"1000" minimum:"1" maximum:"10000" doc:"How many a page has at most."`
	Cursor     string `query:"cursor" maxLength:"1024" doc:"The next_cursor of the page before. Without it the first page is shown."`
}

// providersHealth is what all control planes know of how providers do.
type providersHealth struct {
	Body struct {
		WindowSeconds int64            `json:"window_seconds" doc:"How many seconds back attempts count."`
		JudgedAt      *time.Time       `json:"judged_at" doc:"When this server judged last. null means that it has not yet."`
		Data          []upstreamHealth `json:"data" doc:"What had attempts lately, or is held, in order of provider and model."`
		NextCursor    string           `json:"next_cursor,omitempty" doc:"The cursor of the next page. The last page has none."`
	}
}

// upstreamHealth is how a model of a provider does.
type upstreamHealth struct {
	ProviderID    int64                         `json:"provider_id" doc:"The id of the provider."`
	Provider      string                        `json:"provider,omitempty" doc:"The name of the provider."`
	UpstreamModel string                        `json:"upstream_model,omitempty" doc:"The name of the model at the provider. Without it, it is about the provider as a whole."`
	Attempts      int64                         `json:"attempts" doc:"How many attempts there were, without those whose failure was the client's."`
	Failures      int64                         `json:"failures" doc:"How many of them count as failed: network failures do not while only one balancer reports them."`
	ByClass       map[logbuf.FailureClass]int64 `json:"failures_by_class" doc:"The failures that were reported, by class."`
	Held          *heldBy                       `json:"held" doc:"What holds it now; null means that nothing does."`
	Strikes       int                           `json:"strikes,omitzero" doc:"How many holds for health there were in a row."`
}

// heldBy is a hold that lasts.
type heldBy struct {
	Until   *time.Time `json:"until" doc:"When the hold ends. null means that it lasts until it is deleted."`
	Reason  string     `json:"reason" enum:"admin,budget,health" doc:"Why it is held."`
	Cause   string     `json:"cause,omitempty" enum:"failures,rate,auth,billing,models" doc:"What a hold for health was made for."`
	Message string     `json:"message,omitempty" doc:"The message of the hold."`
}

// providersHealth shows how providers do.
func (h *Handler) providersHealth(ctx context.Context, in *healthQuery) (*providersHealth, error) {
	q := health.Query{ProviderID: in.ProviderID, Limit: in.Limit}
	if in.Cursor != "" {
		after, err := targetOfCursor(in.Cursor)
		if err != nil {
			return nil, err
		}
		q.After = logbuf.Upstream{ProviderID: after.ProviderID, Model: after.UpstreamModel}
	}
	rows, more, err := h.plane.ProviderHealth(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &providersHealth{}
	out.Body.WindowSeconds = int64(h.plane.HealthWindow() / time.Second)
	if at := h.plane.Stats().Health.JudgedAt.UTC(); !at.IsZero() {
		out.Body.JudgedAt = &at
	}
	out.Body.Data = make([]upstreamHealth, 0, len(rows))
	for _, r := range rows {
		row := upstreamHealth{ProviderID: r.ProviderID, Provider: r.Provider, UpstreamModel: r.Model, Attempts: r.Attempts,
			Failures: r.Failures, ByClass: r.Failed, Strikes: r.Strikes}
		if row.ByClass == nil {
			row.ByClass = map[logbuf.FailureClass]int64{}
		}
		if r.Hold != nil {
			row.Held = &heldBy{Reason: r.Hold.Reason, Cause: r.Hold.Cause, Message: r.Hold.Message}
			if until := r.Hold.Until; !until.IsZero() {
				row.Held.Until = &until
			}
		}
		out.Body.Data = append(out.Body.Data, row)
	}
	if more {
		last := rows[len(rows)-1]
		out.Body.NextCursor = cursorOfTarget(catalog.HoldTarget{ProviderID: last.ProviderID, UpstreamModel: last.Model})
	}
	return out, nil
}
