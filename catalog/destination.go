package catalog

import (
	"strconv"
	"strings"
)

// Destination is everything about a provider that decides where its secret is
// sent. A secret is sealed together with it, so that a provider whose address was
// moved, in a database or in a document, opens nothing; and whoever changes any of
// it has to send the secret again.
type Destination struct {
	Type           string
	BaseURL        string
	GoogleProject  string
	GoogleLocation string
	HostOptions    string // JSON object of the options that are part of the host, names sorted
}

// NewDestination collects the fields of a provider. Of the options only those
// count that the type uses for its host, see [HostOptions].
func NewDestination(typ, baseURL, googleProject, googleLocation string, options map[string]any) Destination {
	host := map[string]any{}
	for _, name := range HostOptions(typ) {
		if v, ok := options[name]; ok {
			host[name] = v
		}
	}
	text, err := plainJSON(host)
	if err != nil {
		text = []byte("{}") // unreachable: options that are no JSON were refused
	}
	return Destination{typ, baseURL, googleProject, googleLocation, string(text)}
}

// HostOptions lists the options that a provider of the type uses for the host
// that it is asked at. They are words of a-z, 0-9 and hyphens.
func HostOptions(typ string) []string {
	if typ == "bedrock" {
		return []string{"region"} // bedrock-runtime.<region>.amazonaws.com
	}
	return nil
}

// SealData returns the additional data with which the api_key of the provider
// with the id is sealed for this destination, in the database and in documents.
func (d Destination) SealData(id int64) string {
	return strings.Join([]string{
		"provider/" + strconv.FormatInt(id, 10) + "/api_key",
		d.Type, d.BaseURL, d.GoogleProject, d.GoogleLocation, d.HostOptions,
	}, "\x00")
}
