package snapshot

import "github.com/ez-api/ez-api/catalog"

// sealedData returns the additional data with which a provider's api_key is
// sealed: whatever decides where the secret is sent. So a document whose
// address was moved opens nothing.
func sealedData(d *ProviderDoc) string {
	return catalog.NewDestination(d.Type, d.BaseURL, d.GoogleProject, d.GoogleLocation, d.Options).SealData(d.ID)
}
