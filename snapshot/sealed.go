package snapshot

import (
	"strings"
)

// sealedData returns the additional data with which a provider's api_key is
// sealed: whatever decides where the secret is sent. So a document whose
// address was moved opens nothing.
func sealedData(d *ProviderDoc) string {
	return strings.Join([]string{
		"provider/" + providerKey(d.ID) + "/api_key",
		d.Type, d.BaseURL, d.GoogleProject, d.GoogleLocation,
		hostOptions(d),
	}, "\x00")
}

// hostOptions returns the options that decide the host to which a provider of
// its type is asked, as a JSON object in the order of the names. No type has any yet.
func hostOptions(*ProviderDoc) string { return "{}" }
