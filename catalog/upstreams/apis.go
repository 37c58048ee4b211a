package upstreams

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// questionOf returns what to ask a provider, in the words of its API. The formats are those of
// https://platform.openai.com/docs/api-reference, https://docs.anthropic.com/en/api,
// https://ai.google.dev/api and https://learn.microsoft.com/azure/ai-services/openai/reference.
func questionOf(p *catalog.Provider, kind Kind, model string) (*question, error) {
	ask := map[string]func(p *catalog.Provider, model string) *question{
		"openai": askOpenAI, "compatible": askOpenAI, "azure": askAzure, "anthropic": askAnthropic, "gemini": askGemini,
	}[p.Type]
	switch {
	case ask == nil:
		return nil, fmt.Errorf("%w: this server cannot ask providers of type %s", ErrUntestable, p.Type)
	case p.Sealed:
		return nil, fmt.Errorf("%w: its api_key cannot be opened; send it again", ErrUntestable)
	case kind == Models:
		return ask(p, ""), nil
	case model == "":
		i := slices.IndexFunc(p.Models, func(m string) bool { return !strings.HasSuffix(m, "*") })
		if i < 0 {
			return nil, fmt.Errorf("%w: it lists no model by its whole name; say which to ask for", ErrUntestable)
		}
		model = p.Models[i]
	}
	return ask(p, model), nil
}

// greeting is the shortest chat.
func greeting() []map[string]any { return []map[string]any{{"role": "user", "content": "Hi"}} }

func bearer(p *catalog.Provider, header, prefix string) http.Header {
	h := http.Header{}
	if key := p.APIKey.Reveal(); key != "" {
		h.Set(header, prefix+key)
	}
	return h
}

// askOpenAI asks for a chat when a model is given, else for the models.
func askOpenAI(p *catalog.Provider, model string) *question {
	at := p.Destination().API()
	q := &question{base: at, url: at + "/models", header: bearer(p, "Authorization", "Bearer "),
		list: modelList("data", "id", "")}
	if model != "" {
		limit := "max_tokens"
		if p.Type == "openai" {
			limit = "max_completion_tokens" // newer models refuse the other
		}
		q.url, q.body = at+"/chat/completions", map[string]any{"model": model, "messages": greeting(), limit: 1}
	}
	return q
}

// azureVersion is the last generally available version of the API that has versions.
const azureVersion = "2024-10-21"

// askAzure knows both addresses: that of a resource, where models are deployments in the path, and the
// newer one, which ends in /openai/v1 and is like OpenAI's own.
func askAzure(p *catalog.Provider, model string) *question {
	at := p.Destination().API()
	q := &question{base: at, header: bearer(p, "Api-Key", ""), list: modelList("data", "id", "")}
	chat := map[string]any{"messages": greeting(), "max_completion_tokens": 1}
	if strings.HasSuffix(at, "/v1") {
		q.url = at + "/models"
		if model != "" {
			chat["model"] = model
			q.url, q.body = at+"/chat/completions", chat
		}
		return q
	}
	q.url = at + "/models?api-version=" + azureVersion
	if model != "" {
		q.url = at + "/deployments/" + url.PathEscape(model) + "/chat/completions?api-version=" + azureVersion
		q.body = chat
	}
	return q
}

func askAnthropic(p *catalog.Provider, model string) *question {
	at := p.Destination().API()
	q := &question{base: at, url: at + "/models?limit=1000", header: bearer(p, "X-Api-Key", ""),
		list: modelList("data", "id", "")}
	q.header.Set("Anthropic-Version", "2023-06-01")
	if model != "" {
		q.url, q.body = at+"/messages", map[string]any{"model": model, "messages": greeting(), "max_tokens": 1}
	}
	return q
}

func askGemini(p *catalog.Provider, model string) *question {
	at := p.Destination().API()
	q := &question{base: at, url: at + "/models?pageSize=1000", header: bearer(p, "X-Goog-Api-Key", ""),
		list: modelList("models", "name", "models/")}
	if model != "" {
		q.url = at + "/models/" + url.PathEscape(model) + ":generateContent"
		q.body = map[string]any{
			"contents":         []any{map[string]any{"role": "user", "parts": []any{map[string]any{"text": "Hi"}}}},
			"generationConfig": map[string]any{"maxOutputTokens": 1},
		}
	}
	return q
}
