package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Provider is an upstream AI vendor and the credential to use it with, unique
// by name.
type Provider struct {
	Meta
	Name           string         `json:"name" store:"-" create:"required" minLength:"1" maxLength:"256" doc:"The name of the provider. No other provider has it."`
	Type           string         `json:"type" create:"required" enum:"openai,compatible,anthropic,claude,claude-code,codex,gemini-cli,antigravity,gemini,google,aistudio,vertex,vertex-express,azure,bedrock,custom" doc:"The kind of API that the provider offers."`
	BaseURL        string         `json:"base_url,omitempty" minLength:"1" maxLength:"2048" format:"uri" doc:"The address of the API. One without a path gets the version of the API, such as /v1; one with a path is taken as it stands. After that of Anthropic always comes /v1, and after that of Azure /openai, unless it ends so. The types compatible, azure and custom need it. When it changes, api_key must be sent again."`
	APIKey         Secret         `json:"api_key,omitzero" store:"-" writeOnly:"true" minLength:"1" maxLength:"16384" doc:"The credential for the API. It can be written, and is never shown."`
	APIKeyHint     string         `json:"api_key_hint,omitempty" readOnly:"true" doc:"The last four characters of the credential."` // derived from APIKey when it is written
	Sealed         bool           `json:"sealed,omitzero" store:"-" readOnly:"true" doc:"The stored credential cannot be opened, because the key that sealed it is not among those of the server. The provider does not serve until a new credential is sent, or the server gets the key back."`
	GoogleProject  string         `json:"google_project,omitempty" pattern:"^[a-z][a-z0-9:.-]{0,62}$" doc:"The Google Cloud project. Only the vertex types use it."`
	GoogleLocation string         `json:"google_location,omitempty" pattern:"^[a-z0-9-]{1,63}$" doc:"The Google Cloud location. Only the vertex types use it, and for them the default is global."`
	Group          string         `json:"group" store:"-" minLength:"1" maxLength:"64" default:"default" doc:"The provider group, by which bindings find the provider."`
	Models         []string       `json:"models" maxItems:"10000" minLength:"1" maxLength:"256" doc:"The models that the credential serves, by the names that the provider gives them. A name may end in *, which stands for every ending."`
	Weight         *int           `json:"weight" minimum:"0" maximum:"1000000" default:"1" doc:"The share of requests that this provider gets among those of the same priority. One with 0 gets requests only when the others have failed."`
	Priority       int            `json:"priority" minimum:"-1000000" maximum:"1000000" default:"0" doc:"Providers of a higher priority are tried first."`
	AutoBan        *bool          `json:"auto_ban" default:"true" doc:"Whether the provider may be left out for a while when it fails."`
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

func (*Provider) kind() Kind { return KindProvider }

func (p *Provider) naturalKey() string { return p.Name }

func (p *Provider) normalize() {
	p.Meta.normalize()
	for _, s := range []*string{&p.Name, &p.Type, &p.BaseURL, &p.GoogleProject, &p.GoogleLocation, &p.Group} {
		*s = strings.TrimSpace(*s)
	}
	p.Type = strings.Map(lowerASCII, p.Type)
	setDefault(&p.Group, defaultGroup)
	setDefault(&p.Weight, new(1))
	setDefault(&p.AutoBan, new(true))
	if strings.HasPrefix(p.Type, "vertex") {
		setDefault(&p.GoogleLocation, "global")
	}
	p.Models = trimAll(p.Models)
	p.Options = normalizeOptions(p.Options)
	p.Prices = normalizePrices(p.Prices)
	if p.Sealed = p.APIKey.closed != nil; !p.Sealed {
		p.APIKey.text = strings.TrimSpace(p.APIKey.text)
		p.APIKeyHint = p.APIKey.Hint()
	}
}

// lowerASCII turns capitals of ASCII alone into small letters: no letter of another alphabet stands
// for one of a type.
func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + ('a' - 'A')
	}
	return r
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
	checkAPIKey(&errs, p.Type, p.APIKey)
	if p.GoogleProject != "" && !googleProject.MatchString(p.GoogleProject) {
		errs.add("google_project", "must be 1 to 63 of a-z 0-9 : . -, the first a letter")
	}
	if p.GoogleLocation != "" && !hostWord.MatchString(p.GoogleLocation) {
		errs.add("google_location", "must be 1 to 63 of a-z 0-9 -, because it is part of the upstream's host")
	}
	checkGroup(&errs, "group", p.Group)
	checkList(&errs, "models", p.Models, checkPattern)
	checkWeight(&errs, p.Weight, p.Priority)
	checkOptions(&errs, p.Options, HostOptions(p.Type))
	checkPrices(&errs, p.Prices)
	return errs
}

var googleProject = regexp.MustCompile(`^[a-z][a-z0-9:.-]{0,62}$`)

// normalizePrices returns a copy of the records, each in its normal form.
func normalizePrices(records map[string]Prices) map[string]Prices {
	normal := make(map[string]Prices, len(records))
	for model, record := range records {
		record.normalize()
		normal[model] = record
	}
	return normal
}

func checkPrices(errs *FieldErrors, records map[string]Prices) {
	if len(records) > maxList {
		errs.add("prices", "must be for at most %d upstream models", maxList)
		return
	}
	for _, model := range slices.Sorted(maps.Keys(records)) {
		record, at := records[model], memberPath("prices", model)
		checkPattern(errs, at, model)
		if !record.HasAny() {
			errs.add(at, "must have a price; leave it out, or remove it with null in a patch")
		}
		record.check(errs, at+".")
	}
	if text, err := json.Marshal(records); err != nil || len(text) > maxPrices {
		errs.add("prices", "must be at most %d bytes of JSON", maxPrices)
	}
}

// Destination returns what decides where the provider's secret is sent.
func (p *Provider) Destination() Destination {
	return NewDestination(p.Type, p.BaseURL, p.GoogleProject, p.GoogleLocation, p.Options)
}

// succeed keeps the stored secret where none was sent, but takes it to no other
// destination.
func (p *Provider) succeed(stored record, sent map[string]bool) FieldErrors {
	if before, ok := stored.(*Provider); ok && !sent["api_key"] && p.APIKey.isAbsent() {
		if before.Damaged {
			return FieldErrors{{Field: "api_key", Message: "must be sent again: the stored provider cannot be read"}}
		}
		p.APIKey, p.APIKeyHint, p.Sealed = before.APIKey, before.APIKeyHint, before.Sealed
	}
	return p.checkDestination()
}

// checkDestination refuses a stored secret at another destination than the one that it was stored
// for. No provider is stored without it, however it came by its secret.
func (p *Provider) checkDestination() (errs FieldErrors) {
	if p.APIKey.storedFor != nil && *p.APIKey.storedFor != p.Destination() {
		errs.add("api_key", "must be sent again when what decides where it is sent changes "+
			"(type, base_url, google_project, google_location or an option for the host), so that the stored one goes "+
			"nowhere else")
	}
	return errs
}

func (p *Provider) hidden() string { return p.APIKey.identity() }

// comeBack keeps a provider that has lost its api_key out of service until somebody sends it.
func (p *Provider) comeBack(now record, deleted Revision) string {
	if now == nil {
		p.Status, p.APIKeyHint = Disabled, ""
		return "comes back disabled and without its api_key: send that, and set status to active"
	}
	is, lost := now.(*Provider), deleted != 0 || p.APIKeyHint != ""
	if !lost || !is.APIKey.isAbsent() || is.Status == Active || p.Status != Active {
		return ""
	}
	p.Status = is.Status
	return "stays disabled, because its api_key is gone: send that, and set status to active"
}

func (p *Provider) columns() Entity {
	e := p.entity(KindProvider)
	e.NaturalKey, e.Name, e.Groups = p.naturalKey(), p.Name, []string{p.Group}
	return e
}

func (p *Provider) unseen(k Keeper) ([]member, error) {
	if err := p.checkDestination().err(); err != nil {
		return nil, err
	}
	sealed, data := "", p.Destination().SealData(p.ID)
	switch closed := p.APIKey.closed; {
	case closed != nil && closed.data != data:
		return nil, &FieldError{Field: "api_key", Message: "must be sent again: the stored one cannot be opened, and " +
			"so not be sealed for another destination"}
	case closed != nil:
		sealed = closed.text
	case !p.APIKey.IsZero():
		var err error
		if sealed, err = k.Seal(p.APIKey.Reveal(), data); err != nil {
			return nil, fmt.Errorf("seal api_key: %w", err)
		}
	}
	return []member{{"api_key", sealed}}, nil
}

func (p *Provider) decode(e Entity, k Keeper) error {
	*p = Provider{}
	if err := e.spec(p); err != nil {
		return err
	}
	setDefault(&p.Weight, new(1)) // what others have written may lack them
	setDefault(&p.AutoBan, new(true))
	sealed := p.APIKey.Reveal()
	p.Name, p.Group, p.APIKey = e.Name, first(e.Groups), Secret{}
	p.load(e)
	if sealed == "" {
		return nil
	}
	here := p.Destination()
	data := here.SealData(p.ID)
	plain, err := k.Open(sealed, data)
	switch {
	case errors.Is(err, ErrSealed): // it holds up nothing but itself
		p.APIKey, p.Sealed = Secret{closed: &closedSecret{sealed, data}, storedFor: &here}, true
	case err != nil:
		return fmt.Errorf("provider %d: open api_key: %w", p.ID, err)
	default:
		p.APIKey = Secret{text: plain, storedFor: &here}
	}
	return nil
}

func (p *Provider) touches() Touches {
	return Touches{NaturalKeys: sortedSet(p.Name), Groups: sortedSet(p.Group),
		Models: sortedSet(slices.Clone(p.Models)...)}
}

// MarshalJSON writes the provider as the API shows it: without its api_key.
func (p Provider) MarshalJSON() ([]byte, error) {
	type plain Provider
	p.APIKey = Secret{}
	return plainJSON(plain(p))
}
