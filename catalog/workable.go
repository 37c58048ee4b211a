package catalog

import (
	"maps"
	"slices"
	"strings"
)

// warnProvider warns of what a provider was given, or lacks, with which it cannot work.
func warnProvider(tx *txn, p *Provider) {
	secret := p.APIKey.Reveal()
	document := slices.Contains(documentTypes(), p.Type)
	keyless := p.Type == "compatible" || p.Type == "custom" || p.Type == "bedrock"
	for _, w := range []struct {
		wrong          bool
		field, message string
	}{
		{p.APIKey.isAbsent() && !keyless, "api_key", "is missing: a provider of this type refuses requests without it"},
		{len(secret) > 7 && strings.EqualFold(secret[:7], "bearer "), "api_key",
			"begins with Bearer: send the credential alone, because balancers add that word"},
		{!document && strings.Contains(secret, " "), "api_key", "holds a space: is it more than the credential?"},
		{p.Type == "vertex" && p.GoogleProject == "", "google_project", "is missing: it is part of the path of requests"},
		{p.Type == "vertex" && secret != "" && !isJSONObject(secret), "api_key",
			"is not the JSON of a service account, which this type needs"},
		{p.Type == "bedrock" && p.BaseURL == "" && p.Options["region"] == nil, "options.region",
			"is missing: it is part of the host"},
		{endsInOperation(p.BaseURL), "base_url",
			"ends in the path of one operation: leave that out, because balancers add it"},
	} {
		if w.wrong {
			tx.warnAbout(p, w.field, w.message)
		}
	}
	for _, model := range slices.Sorted(maps.Keys(p.Prices)) {
		if !slices.Contains(p.Models, model) && !MatchesList(p.Models, model) && !IsWildcard(model) {
			tx.warnAbout(p, memberPath("prices", model), "is for a model that the provider does not list")
		}
	}
}

// endsInOperation reports whether an address is that of one operation of an API.
func endsInOperation(baseURL string) bool {
	return slices.ContainsFunc([]string{"/chat/completions", "/completions", "/messages", "/responses", "/embeddings",
		"/models"}, func(path string) bool { return strings.HasSuffix(strings.TrimRight(baseURL, "/"), path) })
}
