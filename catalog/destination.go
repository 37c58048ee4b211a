package catalog

import (
	"cmp"
	"encoding/json"
	"net/url"
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

// API returns where the API of the provider is: what the paths of its protocol are appended to,
// such as /chat/completions, /messages or /models. It has no slash at its end, and is "" where the
// type has no address of its own and none is given. docs/balancers.md has the table.
//
// A base_url without a path gets the version of the API, such as /v1 or /v1beta. One with a path is
// taken as it stands, since not every API is below /v1. Two types differ, as the libraries of
// their makers do: of Anthropic, /v1 always follows base_url; of Azure, /openai does. Neither
// is added a second time.
func (d Destination) API() string {
	host, version := d.defaultAPI()
	base := strings.TrimRight(cmp.Or(d.BaseURL, host), "/")
	u, err := url.Parse(base)
	switch {
	case base == "" || err != nil:
		return base
	case d.Type == "azure" && (strings.HasSuffix(base, "/v1") || strings.HasSuffix(base, "/openai")),
		isAnthropic(d.Type) && strings.HasSuffix(base, "/v1"):
		return base
	case u.Path == "" || isAnthropic(d.Type) || d.Type == "azure":
		return base + version
	}
	return base
}

// isAnthropic reports whether a type speaks the protocol of Anthropic's API.
func isAnthropic(typ string) bool {
	return typ == "anthropic" || typ == "claude" || typ == "claude-code"
}

// defaultAPI returns the address that a type has without a base_url, and the path that leads to its
// API from an address without a path.
func (d Destination) defaultAPI() (base, path string) {
	switch d.Type {
	case "openai":
		return "https://api.openai.com", "/v1"
	case "compatible", "custom":
		return "", "/v1"
	case "anthropic", "claude", "claude-code":
		return "https://api.anthropic.com", "/v1"
	case "codex":
		return "https://chatgpt.com/backend-api/codex", ""
	case "gemini", "google", "aistudio":
		return "https://generativelanguage.googleapis.com", "/v1beta"
	case "gemini-cli", "antigravity":
		return "https://cloudcode-pa.googleapis.com", "/v1internal"
	case "vertex", "vertex-express":
		if d.Type == "vertex-express" || d.GoogleLocation == "" || d.GoogleLocation == "global" {
			return "https://aiplatform.googleapis.com", "/v1"
		}
		return "https://" + d.GoogleLocation + "-aiplatform.googleapis.com", "/v1"
	case "azure":
		return "", "/openai"
	case "bedrock":
		var options struct{ Region string }
		if json.Unmarshal([]byte(d.HostOptions), &options) == nil && options.Region != "" {
			return "https://bedrock-runtime." + options.Region + ".amazonaws.com", ""
		}
	}
	return "", ""
}
