package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Provider is an upstream AI vendor and the credential to use it with, unique
// by name.
type Provider struct {
	Meta
	Name           string         `json:"name" create:"required" minLength:"1" maxLength:"256" doc:"The name of the provider. No other provider has it."`
	Type           string         `json:"type" create:"required" enum:"openai,compatible,anthropic,claude,claude-code,codex,gemini-cli,antigravity,gemini,google,aistudio,vertex,vertex-express,azure,bedrock,custom" doc:"The kind of API that the provider offers."`
	BaseURL        string         `json:"base_url,omitempty" maxLength:"2048" format:"uri" doc:"The address of the API. The types compatible, azure and custom need it. When it changes, api_key must be sent again."`
	APIKey         Secret         `json:"api_key,omitzero" writeOnly:"true" maxLength:"16384" doc:"The credential for the API. It can be written, and is never shown."`
	APIKeyHint     string         `json:"api_key_hint,omitempty" readOnly:"true" doc:"The last four characters of the credential."` // derived from APIKey when it is written
	GoogleProject  string         `json:"google_project,omitempty" maxLength:"63" doc:"The Google Cloud project. Only the vertex types use it."`
	GoogleLocation string         `json:"google_location,omitempty" maxLength:"63" doc:"The Google Cloud location. Only the vertex types use it, and for them the default is global."`
	Group          string         `json:"group" minLength:"1" maxLength:"64" default:"default" doc:"The provider group, by which bindings find the provider."`
	Models         []string       `json:"models" maxItems:"10000" minLength:"1" maxLength:"256" doc:"The models that the credential serves, by the names that the provider gives them."`
	Weight         int            `json:"weight" min:"1" minimum:"1" maximum:"1000000" default:"1" doc:"The share of requests that this provider gets among those of the same priority."`
	Priority       int            `json:"priority" minimum:"-1000000" maximum:"1000000" default:"0" doc:"Providers of a higher priority are tried first."`
	AutoBan        bool           `json:"auto_ban" doc:"Whether a balancer may stop using the provider for a while when it fails."`
	Options        map[string]any `json:"options" doc:"Settings of your own, as a JSON object of at most 64 KiB. Balancers get them as they are."`

	// Prices are what this credential pays, by upstream model id, which may end
	// in * to stand for all ids that begin so.
	Prices map[string]Prices `json:"prices" doc:"What the provider charges, by the names that it gives the models. A name may end in *, which stands for every ending. These prices go before those of the model."`
}

// ProviderTypes lists the values of Provider.Type.
func ProviderTypes() []string {
	return []string{
		"openai", "compatible", "anthropic", "claude", "claude-code", "codex", "gemini-cli", "antigravity",
		"gemini", "google", "aistudio", "vertex", "vertex-express", "azure", "bedrock", "custom",
	}
}

const (
	maxAPIKey  = 16 << 10 // bytes; a service account's JSON fits
	maxOptions = 64 << 10 // bytes of JSON
)

// providerSpec is what of a Provider no store needs to know.
type providerSpec struct {
	Type           string            `json:"type"`
	BaseURL        string            `json:"base_url,omitempty"`
	APIKey         string            `json:"api_key,omitempty"` // sealed
	APIKeyHint     string            `json:"api_key_hint,omitempty"`
	GoogleProject  string            `json:"google_project,omitempty"`
	GoogleLocation string            `json:"google_location,omitempty"`
	Models         []string          `json:"models,omitempty"`
	Weight         int               `json:"weight"`
	Priority       int               `json:"priority,omitempty"`
	AutoBan        bool              `json:"auto_ban,omitempty"`
	Options        map[string]any    `json:"options,omitempty"`
	Prices         map[string]Prices `json:"prices,omitempty"`
}

func (*Provider) kind() Kind { return KindProvider }

func (p *Provider) normalize() {
	p.Meta.normalize()
	p.Name = strings.TrimSpace(p.Name)
	p.Type = strings.ToLower(strings.TrimSpace(p.Type))
	p.BaseURL = strings.TrimSpace(p.BaseURL)
	p.GoogleProject = strings.TrimSpace(p.GoogleProject)
	p.GoogleLocation = strings.TrimSpace(p.GoogleLocation)
	p.Group = strings.TrimSpace(p.Group)
	def(&p.Group, defaultGroup)
	def(&p.Weight, 1)
	if strings.HasPrefix(p.Type, "vertex") {
		def(&p.GoogleLocation, "global")
	}
	list(&p.Models)
	if p.Options == nil {
		p.Options = map[string]any{}
	}
	p.Prices = normalizePrices(p.Prices)
	p.APIKeyHint = p.APIKey.Hint()
}

// normalizePrices returns a copy of the records, each in its normal form.
func normalizePrices(records map[string]Prices) map[string]Prices {
	normal := make(map[string]Prices, len(records))
	for model, record := range records {
		record.normalize()
		normal[model] = record
	}
	return normal
}

func (p *Provider) check(r rules) FieldErrors {
	var errs FieldErrors
	p.Meta.check(&errs)
	checkName(&errs, "name", p.Name)
	switch {
	case !slices.Contains(ProviderTypes(), p.Type):
		errs.add("type", "must be one of %s", strings.Join(ProviderTypes(), ", "))
	case p.BaseURL == "" && (p.Type == "compatible" || p.Type == "azure" || p.Type == "custom"):
		errs.add("base_url", "is required for type %s", p.Type)
	}
	if p.BaseURL != "" {
		checkUpstreamURL(&errs, "base_url", p.BaseURL, r.privateUpstreams)
	}
	if k := p.APIKey.Reveal(); len(k) > maxAPIKey || !utf8.ValidString(k) {
		errs.add("api_key", "must be at most %d bytes of UTF-8", maxAPIKey)
	}
	if p.GoogleProject != "" {
		checkID(&errs, "google_project", p.GoogleProject, maxName)
	}
	if p.GoogleLocation != "" {
		checkID(&errs, "google_location", p.GoogleLocation, maxName)
	}
	checkID(&errs, "group", p.Group, maxWord)
	checkList(&errs, "models", p.Models, checkUpstreamModel)
	checkWeight(&errs, p.Weight, p.Priority)
	checkOptions(&errs, p.Options)
	checkPrices(&errs, p.Prices)
	return errs
}

// checkUpstreamModel accepts an upstream model id, or with a star at its end
// the beginning of some.
func checkUpstreamModel(errs *FieldErrors, field, v string) {
	checkID(errs, field, v, maxName)
	checkStar(errs, field, v)
}

func checkPrices(errs *FieldErrors, records map[string]Prices) {
	if len(records) > maxList {
		errs.add("prices", "must be for at most %d upstream models", maxList)
		return
	}
	for _, model := range slices.Sorted(maps.Keys(records)) {
		record, at := records[model], memberPath("prices", model)
		checkUpstreamModel(errs, at, model)
		if !record.HasAny() {
			errs.add(at, "must have a price; send null in its place to remove the record")
		}
		record.check(errs, at+".")
	}
	if text, err := json.Marshal(records); err != nil || len(text) > maxPrices {
		errs.add("prices", "must be at most %d bytes of JSON", maxPrices)
	}
}

// checkOptions accepts what every store keeps by value.
func checkOptions(errs *FieldErrors, options map[string]any) {
	text, err := json.Marshal(options)
	switch {
	case err != nil:
		errs.add("options", "must be a JSON object")
	case len(text) > maxOptions:
		errs.add("options", "must be at most %d bytes of JSON", maxOptions)
	case bytes.Contains(text, []byte(`\u0000`)):
		errs.add("options", "must hold no NUL characters")
	case !finite(options):
		errs.add("options", "must hold only numbers that a 64-bit float can, deep at most 32 levels")
	}
}

// finite reports whether every number in a decoded JSON value fits a float64.
func finite(v any) bool { return finiteWithin(v, 32) }

func finiteWithin(v any, depth int) bool {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		return err == nil && !math.IsInf(f, 0)
	case map[string]any:
		for _, e := range v {
			if depth == 0 || !finiteWithin(e, depth-1) {
				return false
			}
		}
	case []any:
		for _, e := range v {
			if depth == 0 || !finiteWithin(e, depth-1) {
				return false
			}
		}
	}
	return true
}

// checkSuccessor refuses to take a stored secret to another host.
func (p *Provider) checkSuccessor(before *Provider, kept bool) FieldErrors {
	var errs FieldErrors
	if kept && !before.APIKey.IsZero() && (p.BaseURL != before.BaseURL || p.Type != before.Type) {
		errs.add("api_key", "must be sent again when base_url or type changes, so that the stored one goes nowhere else")
	}
	return errs
}

func (p *Provider) sealedField() string {
	return "provider/" + strconv.FormatInt(p.ID, 10) + "/api_key"
}

func (p *Provider) encode(k Keeper) (Entity, error) {
	e := p.entity(KindProvider)
	e.NaturalKey, e.Name, e.Groups = p.Name, p.Name, []string{p.Group}
	spec := providerSpec{
		Type: p.Type, BaseURL: p.BaseURL, APIKeyHint: p.APIKeyHint, GoogleProject: p.GoogleProject, GoogleLocation: p.GoogleLocation,
		Models: p.Models, Weight: p.Weight, Priority: p.Priority, AutoBan: p.AutoBan, Options: p.Options, Prices: p.Prices,
	}
	if !p.APIKey.IsZero() {
		var err error
		if spec.APIKey, err = k.Seal(p.APIKey.Reveal(), p.sealedField()); err != nil {
			return Entity{}, fmt.Errorf("seal api_key: %w", err)
		}
	}
	return e.withSpec(spec)
}

func (p *Provider) decode(e Entity, k Keeper) error {
	var spec providerSpec
	if err := e.spec(&spec); err != nil {
		return err
	}
	*p = Provider{
		Name: e.Name, Type: spec.Type, BaseURL: spec.BaseURL, APIKeyHint: spec.APIKeyHint, GoogleProject: spec.GoogleProject,
		GoogleLocation: spec.GoogleLocation, Group: first(e.Groups), Models: slices.Clone(spec.Models), Weight: spec.Weight,
		Priority: spec.Priority, AutoBan: spec.AutoBan, Options: maps.Clone(spec.Options), Prices: normalizePrices(spec.Prices),
	}
	p.load(e)
	list(&p.Models)
	if p.Options == nil {
		p.Options = map[string]any{}
	}
	if spec.APIKey != "" {
		plain, err := k.Open(spec.APIKey, p.sealedField())
		if err != nil {
			return err
		}
		p.APIKey = NewSecret(plain)
	}
	return nil
}

func (p *Provider) touches() Touches {
	return Touches{NaturalKeys: sortedSet(p.Name), Groups: sortedSet(p.Group), Models: sortedSet(slices.Clone(p.Models)...)}
}

// MarshalJSON writes the provider as the API shows it: without its api_key.
func (p Provider) MarshalJSON() ([]byte, error) {
	type plain Provider
	p.APIKey = Secret{}
	return json.Marshal(plain(p))
}
