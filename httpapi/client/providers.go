package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// ProviderTest says what came of asking a provider.
type ProviderTest struct {
	OK        bool                `json:"ok"`
	Class     logbuf.FailureClass `json:"class,omitempty"`  // why it failed
	Status    int                 `json:"status,omitempty"` // of the provider; 0 when it gave none
	LatencyMS int64               `json:"latency_ms"`
}

// UpstreamModels is what a provider lists.
type UpstreamModels struct {
	ProviderTest
	Models    []string `json:"models"`
	Truncated bool     `json:"truncated,omitempty"` // some were left out
}

// TestProvider asks the provider with the id for its models, which costs nothing. With chat, it
// asks an upstream model for one token instead; if model is empty, the first one that the provider
// has. The provider is not asked again when the answer is lost.
func (c *Client) TestProvider(ctx context.Context, id int64, chat bool, model string) (t ProviderTest, err error) {
	body := map[string]string{}
	if chat {
		body["kind"] = "chat"
	}
	if model != "" {
		body["model"] = model
	}
	_, err = c.do(ctx, call{method: http.MethodPost, path: fmt.Sprintf("providers/%d/test", id), body: body}, &t)
	return t, err
}

// UpstreamModels asks the provider with the id for its models.
func (c *Client) UpstreamModels(ctx context.Context, id int64) (m UpstreamModels, err error) {
	_, err = c.do(ctx, call{method: http.MethodGet, path: fmt.Sprintf("providers/%d/upstream-models", id)}, &m)
	return m, err
}

// ProvidersHealth is how providers do, as balancers report it.
type ProvidersHealth struct {
	WindowSeconds int64            `json:"window_seconds"` // how far back attempts count
	JudgedAt      *time.Time       `json:"judged_at"`      // nil: not yet, by this server
	Data          []UpstreamHealth `json:"data"`
	NextCursor    string           `json:"next_cursor,omitempty"` // of the page that comes after Data
}

// UpstreamHealth is how a model of a provider does, or whether all of the provider is held.
type UpstreamHealth struct {
	ProviderID    int64                         `json:"provider_id"`
	Provider      string                        `json:"provider,omitempty"`
	UpstreamModel string                        `json:"upstream_model,omitempty"` // empty: the provider as a whole
	Attempts      int64                         `json:"attempts"`
	Failures      int64                         `json:"failures"`
	ByClass       map[logbuf.FailureClass]int64 `json:"failures_by_class"`
	Held          *HeldBy                       `json:"held"` // nil: nothing holds it
	Strikes       int                           `json:"strikes,omitempty"`
}

// HeldBy is a hold that lasts.
type HeldBy struct {
	Until   *time.Time `json:"until"` // nil: until it is deleted
	Reason  string     `json:"reason"`
	Cause   string     `json:"cause,omitempty"`
	Message string     `json:"message,omitempty"`
}

// ProvidersHealth returns a page of how the provider with the id does; 0 is all providers. The cursor is
// empty for the first page.
func (c *Client) ProvidersHealth(ctx context.Context, id int64, cursor string) (h ProvidersHealth, err error) {
	query := url.Values{}
	setTexts(query, map[string]string{"cursor": cursor})
	setNumbers(query, map[string]int64{"provider_id": id})
	_, err = c.do(ctx, call{method: http.MethodGet, path: "health/providers", query: query, again: againAlways}, &h)
	return h, err
}
