package catalog_test

import (
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// A base_url leads to one place, whoever asks: balancers, and the test of a provider.
func TestDestinationAPI(t *testing.T) {
	region := map[string]any{"region": "eu-west-1"}
	for _, tt := range []struct {
		typ, base, location string
		options             map[string]any
		want                string
	}{
		{typ: "openai", want: "https://api.openai.com/v1"},
		{typ: "openai", base: "https://a.example/", want: "https://a.example/v1"},
		{typ: "openai", base: "https://a.example/openai", want: "https://a.example/openai"},
		{typ: "compatible", base: "https://a.example/v1/", want: "https://a.example/v1"},
		{typ: "compatible", base: "https://a.example/api/paas/v4", want: "https://a.example/api/paas/v4"},
		{typ: "compatible", base: "https://a.example/v1beta/openai", want: "https://a.example/v1beta/openai"},
		{typ: "custom", base: "https://a.example:8443", want: "https://a.example:8443/v1"},
		{typ: "compatible", want: ""},
		{typ: "anthropic", want: "https://api.anthropic.com/v1"},
		{typ: "claude", base: "https://a.example/anthropic", want: "https://a.example/anthropic/v1"},
		{typ: "claude-code", base: "https://a.example/v1", want: "https://a.example/v1"},
		{typ: "codex", want: "https://chatgpt.com/backend-api/codex"},
		{typ: "gemini", want: "https://generativelanguage.googleapis.com/v1beta"},
		{typ: "google", base: "https://a.example/v1", want: "https://a.example/v1"},
		{typ: "antigravity", want: "https://cloudcode-pa.googleapis.com/v1internal"},
		{typ: "vertex", location: "europe-west1", want: "https://europe-west1-aiplatform.googleapis.com/v1"},
		{typ: "vertex", location: "global", want: "https://aiplatform.googleapis.com/v1"},
		{typ: "vertex-express", location: "europe-west1", want: "https://aiplatform.googleapis.com/v1"},
		{typ: "azure", base: "https://a.example", want: "https://a.example/openai"},
		{typ: "azure", base: "https://a.example/openai/v1", want: "https://a.example/openai/v1"},
		{typ: "azure", base: "https://a.example/gate", want: "https://a.example/gate/openai"},
		{typ: "bedrock", options: region, want: "https://bedrock-runtime.eu-west-1.amazonaws.com"},
	} {
		got := catalog.NewDestination(tt.typ, tt.base, "", tt.location, tt.options).API()
		if got != tt.want {
			t.Errorf("%s at %q: %q, want %q", tt.typ, tt.base, got, tt.want)
		}
	}
}
