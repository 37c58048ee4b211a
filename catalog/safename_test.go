package catalog_test

import (
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// Names of fields and of models are shown, and what may be a secret is not.
func TestSafeName(t *testing.T) {
	for _, name := range []string{
		"modles", "input_price", "default_namespace", "budget_window", "a", "team", "a/b", "app.kubernetes.io/name",
		"gpt-4o-2024-08-06", "openai/gpt-4.1-mini", "claude-3-5-sonnet-20241022", "Meta-Llama-3.1-405B-Instruct-Turbo",
		"models/gemini-2.5-pro", "@cf/meta/llama-3-8b-instruct", "gpt-4*", "text-embedding-3-small", "Qwen2.5-72B-Instruct",
		"anthropic.claude-3-5-sonnet-20241022-v2:0", "llama-3.3-70b-versatile",
	} {
		if got := catalog.SafeName(name); got != name {
			t.Errorf("%q is shown as %q", name, got)
		}
	}
	for _, name := range []string{
		"", "sk-live-SECRETSECRET", "sk_live_SECRETSECRETabc", "sk_live_SECRET1234567", "SECRET-VALUE",
		"sk-proj-aB3dE6gH9jK2",
		"0123456789abcdef", "AKIAIOSFODNN7EXAMPLE", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "correcthorsebattery",
		"a b", "a\nb", "name\"x", "пароль", "123456789", strings.Repeat("a.", 33), "eyJhbGciOi.eyJzdWIiOi.c2ln",
	} {
		if got := catalog.SafeName(name); got != catalog.Unknown {
			t.Errorf("%q is shown as %q", name, got)
		}
	}
}
