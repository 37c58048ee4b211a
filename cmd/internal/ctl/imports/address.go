package imports

import (
	"slices"

	"github.com/ez-api/ez-api/catalog"
)

// placeholder is the address of a provider that needs one, where the source has none that can be
// used. Every server accepts it, nobody is asked there (RFC 2606), and the provider is disabled.
const placeholder = "https://base-url.example.com"

// usableAddress returns the address that a provider of a type gets, and what is to be said of it.
// usable is false when somebody has to write another one into the file.
func usableAddress(typ, address string) (base, note string, usable bool) {
	accepted := func(base string, opts *catalog.Options) bool {
		p := catalog.Provider{Name: "p", Type: typ, BaseURL: base}
		return !slices.ContainsFunc(catalog.FieldsOf(catalog.Check(&p, opts)),
			func(f *catalog.FieldError) bool { return f.Field == "base_url" })
	}
	const remedy = "it is imported as disabled: write its address into base_url, and status: active"
	switch anywhere := (&catalog.Options{AllowPrivateUpstreams: true}); {
	case accepted(address, nil):
		return address, "", true
	case accepted(address, anywhere):
		return address, "has an address that a server takes only with EZ_ALLOW_PRIVATE_UPSTREAMS=true", true
	case address != "" && accepted("", anywhere):
		return "", "has an address that cannot be one here; " + remedy, false
	case address != "":
		return placeholder, "has an address that cannot be one here; " + remedy, false
	}
	return placeholder, "has no address, and its type needs one; " + remedy, false
}
