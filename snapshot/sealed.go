package snapshot

import "github.com/ez-api/ez-api/catalog"

// Destination returns what decides where the provider's requests and its secret are sent; its API
// method says where that is.
func (d *ProviderDoc) Destination() catalog.Destination {
	return catalog.NewDestination(d.Type, d.BaseURL, d.GoogleProject, d.GoogleLocation, d.Options)
}

// sealedData returns the additional data with which a provider's api_key is
// sealed: whatever decides where the secret is sent. So a document whose
// address was moved opens nothing.
func sealedData(d *ProviderDoc) string {
	return d.Destination().SealData(d.ID)
}
