package snapshot

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/ez-api/ez-api/catalog"
)

// ProviderDoc is the document of an upstream provider, under its id.
type ProviderDoc struct {
	ID             int64             `json:"id"`
	Name           string            `json:"name"`
	Type           string            `json:"type"` // one of catalog.ProviderTypes
	BaseURL        string            `json:"base_url,omitempty"`
	SealedAPIKey   string            `json:"api_key,omitempty"` // see Keys.Open; clear text without a sync key
	GoogleProject  string            `json:"google_project,omitempty"`
	GoogleLocation string            `json:"google_location,omitempty"`
	Group          string            `json:"group"`
	Models         []string          `json:"models,omitempty"` // upstream model ids; a final * stands for every ending
	Weight         int               `json:"weight"`           // 0 serves only when the others have failed
	Priority       int               `json:"priority"`         // higher is tried first
	Status         catalog.Status    `json:"status"`
	Error          string            `json:"error,omitempty"` // ConfigError when its secret cannot be used
	AutoBan        bool              `json:"auto_ban"`        // may be taken out while it fails
	Options        map[string]any    `json:"options,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
}

// ModelDoc is the document of a model, under catalog.ModelKey.
type ModelDoc struct {
	Namespace          string `json:"namespace"`
	Name               string `json:"name"`                        // public name
	Kind               string `json:"kind"`                        // one of catalog.ModelKinds
	ContextWindow      int64  `json:"context_window,omitempty"`    // tokens; 0 is unknown
	MaxOutputTokens    int64  `json:"max_output_tokens,omitempty"` // 0 is unknown
	SupportsVision     bool   `json:"supports_vision"`
	SupportsFunctions  bool   `json:"supports_functions"`
	SupportsToolChoice bool   `json:"supports_tool_choice"`
	SupportsFIM        bool   `json:"supports_fim"`
	SupportsStream     bool   `json:"supports_stream"`
	PricesDoc
	Status catalog.Status    `json:"status"`
	Labels map[string]string `json:"labels,omitempty"`
}

// PricesDoc is the part of a document that says what a model costs, see
// catalog.Prices. What is unknown is absent.
type PricesDoc struct {
	InputPrice      *catalog.NanoUSD `json:"input_price,omitempty"` // USD per million tokens
	OutputPrice     *catalog.NanoUSD `json:"output_price,omitempty"`
	CacheReadPrice  *catalog.NanoUSD `json:"cache_read_price,omitempty"`
	CacheWritePrice *catalog.NanoUSD `json:"cache_write_price,omitempty"`
	RequestPrice    *catalog.NanoUSD `json:"request_price,omitempty"` // USD per request
	PriceTiers      []PriceTierDoc   `json:"price_tiers,omitempty"`   // by rising bounds
}

// PriceTierDoc holds the prices of requests with more input than a bound, see
// catalog.PriceTier. What is absent is as in the record itself.
type PriceTierDoc struct {
	AboveInputTokens int64            `json:"above_input_tokens"`
	InputPrice       *catalog.NanoUSD `json:"input_price,omitempty"`
	OutputPrice      *catalog.NanoUSD `json:"output_price,omitempty"`
	CacheReadPrice   *catalog.NanoUSD `json:"cache_read_price,omitempty"`
	CacheWritePrice  *catalog.NanoUSD `json:"cache_write_price,omitempty"`
	RequestPrice     *catalog.NanoUSD `json:"request_price,omitempty"`
}

// pricesDoc writes a record of prices.
func pricesDoc(p *catalog.Prices) PricesDoc {
	doc := PricesDoc{
		InputPrice: p.InputPrice, OutputPrice: p.OutputPrice, CacheReadPrice: p.CacheReadPrice,
		CacheWritePrice: p.CacheWritePrice, RequestPrice: p.RequestPrice,
	}
	for _, t := range p.PriceTiers {
		doc.PriceTiers = append(doc.PriceTiers, PriceTierDoc(t))
	}
	return doc
}

// BindingDoc says who serves a model, resolved, under catalog.ModelKey. Every
// model has one.
type BindingDoc struct {
	Namespace   string         `json:"namespace"`
	PublicModel string         `json:"public_model"`
	Status      catalog.Status `json:"status"` // of the model
	Candidates  []Candidate    `json:"candidates"`
}

// Candidate is one way to serve a model: a binding with what its selector
// finds at each provider of the group.
type Candidate struct {
	RouteGroup    string         `json:"route_group"`    // which keys
	ProviderGroup string         `json:"provider_group"` // who serves
	Weight        int            `json:"weight"`         // 0 serves only when the others have failed
	Priority      int            `json:"priority"`       // higher is tried first
	SelectorType  string         `json:"selector_type"`
	SelectorValue string         `json:"selector_value"`
	Status        catalog.Status `json:"status"` // of the binding

	// Error is ConfigError when Errors has entries, NoProvider when the
	// group has no provider at all. Neither keeps Upstreams from being used.
	Error     string            `json:"error,omitempty"`
	Upstreams map[string]string `json:"upstreams,omitempty"` // provider id → its model id; a final * stands for what that of the public name stands for
	Errors    map[string]string `json:"errors,omitempty"`    // provider id → why it has none
}

// The values of Candidate.Error, and of ProviderDoc.Error.
const (
	ConfigError = "config_error"
	NoProvider  = "no_provider"
)

// KeyDoc is the document of a client key, under the SHA-256 of each of its
// tokens, in hex.
type KeyDoc struct {
	ID               int64             `json:"id"`
	Name             string            `json:"name"`
	Project          string            `json:"project,omitempty"` // path; see ProjectDoc
	Status           catalog.Status    `json:"status"`
	Group            string            `json:"group"` // route group
	Namespaces       []string          `json:"namespaces"`
	DefaultNamespace string            `json:"default_namespace"`
	Models           []string          `json:"models,omitempty"` // public names; empty allows all
	Scopes           []string          `json:"scopes,omitempty"`
	AllowIPs         []string          `json:"allow_ips,omitempty"` // networks or addresses; empty allows all
	ExpiresAt        time.Time         `json:"expires_at,omitzero"` // zero is never
	RPMLimit         int64             `json:"rpm_limit,omitempty"` // requests a minute; 0 is no limit
	TPMLimit         int64             `json:"tpm_limit,omitempty"` // tokens a minute; 0 is no limit
	MaxParallel      int64             `json:"max_parallel,omitempty"`
	Budgets          []BudgetDoc       `json:"budgets,omitempty"`
	Labels           map[string]string `json:"labels,omitempty"`
}

// BudgetDoc is a budget of a key, see catalog.Budget. Whoever uses up one with the action block
// is held; balancers need not count.
type BudgetDoc struct {
	Limit    *catalog.NanoUSD `json:"limit"`    // USD
	Window   string           `json:"window"`   // one of catalog.BudgetWindows
	Timezone string           `json:"timezone"` // IANA
	Action   string           `json:"action"`   // one of catalog.BudgetActions
	AlertAt  []int64          `json:"alert_at,omitempty"`
}

// ProjectDoc is the document of a project, under its path. It restricts all keys of it and below.
type ProjectDoc struct {
	Name        string            `json:"name"` // path
	Status      catalog.Status    `json:"status"`
	Models      []string          `json:"models,omitempty"`     // public names; empty allows all
	Groups      []string          `json:"groups,omitempty"`     // route groups; empty allows all
	Namespaces  []string          `json:"namespaces,omitempty"` // empty allows all
	RPMLimit    int64             `json:"rpm_limit,omitempty"`  // requests a minute; 0 is no limit
	TPMLimit    int64             `json:"tpm_limit,omitempty"`  // tokens a minute; 0 is no limit
	MaxParallel int64             `json:"max_parallel,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
}

// HoldDoc says that a key, a project or a provider must not be used, under its target, see
// catalog.HoldTarget. It ends by the clock of whoever reads it.
type HoldDoc struct {
	Target  string    `json:"target"`
	Until   time.Time `json:"until,omitzero"`    // zero is without an end
	Reason  string    `json:"reason"`            // one of catalog.HoldReasons
	Message string    `json:"message,omitempty"` // for people
}

// Doc is the content of one kind of document.
type Doc interface {
	ProviderDoc | ModelDoc | BindingDoc | KeyDoc | ProjectDoc | HoldDoc
}

// checked is what Decode asks of a pointer to a [Doc].
type checked interface {
	kind() catalog.Kind
	check(key string) error
}

// Encode returns v as the document under key. Equal content is equal bytes.
func Encode[T Doc](key string, v T) (Document, error) {
	kind := any(&v).(checked).kind()
	text, err := encode(v)
	if err != nil {
		return Document{}, fmt.Errorf("%s: %w", name(kind, key), err)
	}
	return Document{Kind: kind, Key: key, Doc: text}, nil
}

// encode writes fields in the order of the struct and names in maps sorted,
// which makes the bytes a function of the content.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Decode reads a document and checks whatever a data plane relies on. Fields
// that it does not know are ignored. The error wraps [ErrCorrupt] and never
// holds values of the document.
func Decode[T Doc](d Document) (*T, error) {
	v := new(T)
	c := any(v).(checked)
	if c.kind() != d.Kind {
		return nil, fmt.Errorf("%s is no document of kind %s: %w", name(d.Kind, d.Key), c.kind(), ErrCorrupt)
	}
	if err := jsonv2.Unmarshal(d.Doc, v); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", name(d.Kind, d.Key), ErrCorrupt)
	}
	if err := c.check(d.Key); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name(d.Kind, d.Key), err, ErrCorrupt)
	}
	return v, nil
}

// name names a document in messages. Token hashes are cut: they are nobody's business.
func name(k catalog.Kind, key string) string {
	if k == catalog.KindKey && len(key) > 8 {
		key = key[:8] + "…"
	}
	return fmt.Sprintf("document %s/%.100q", k, key)
}

func (*ProviderDoc) kind() catalog.Kind { return catalog.KindProvider }
func (*ModelDoc) kind() catalog.Kind    { return catalog.KindModel }
func (*BindingDoc) kind() catalog.Kind  { return catalog.KindBinding }
func (*KeyDoc) kind() catalog.Kind      { return catalog.KindKey }
func (*ProjectDoc) kind() catalog.Kind  { return catalog.KindProject }
func (*HoldDoc) kind() catalog.Kind     { return catalog.KindHold }

// errDoc says what is wrong with a document.
type errDoc string

func (e errDoc) Error() string { return string(e) }

const (
	errKey       errDoc = "is not under its own key"
	errWeight    errDoc = "has a weight out of range"
	errUpstream  errDoc = "has an upstream under what is no provider id"
	errAllowIP   errDoc = "has an allowed address that cannot be read"
	errNamespace errDoc = "has no namespace"
	errProject   errDoc = "is of a project that has no path"
)

// maxWeight keeps sums of weights far from overflow.
const maxWeight = 1 << 30

func (d *ProviderDoc) check(key string) error {
	switch {
	case d.ID < 1 || key != providerKey(d.ID):
		return errKey
	case d.Weight < 0 || d.Weight > maxWeight:
		return errWeight
	}
	return nil
}

func (d *ModelDoc) check(key string) error {
	if key != catalog.ModelKey(d.Namespace, d.Name) || strings.Contains(d.Namespace, ".") {
		return errKey
	}
	return nil
}

func (d *BindingDoc) check(key string) error {
	if key != catalog.ModelKey(d.Namespace, d.PublicModel) || strings.Contains(d.Namespace, ".") {
		return errKey
	}
	for _, c := range d.Candidates {
		if c.Weight < 0 || c.Weight > maxWeight {
			return errWeight
		}
		for id := range c.Upstreams {
			if _, ok := providerID(id); !ok {
				return errUpstream
			}
		}
	}
	return nil
}

func (d *KeyDoc) check(key string) error {
	if _, ok := tokenHash(key); !ok {
		return errKey
	}
	if len(d.Namespaces) == 0 || d.DefaultNamespace == "" {
		return errNamespace
	}
	if d.Project != "" && !catalog.IsProjectPath(d.Project) {
		return errProject
	}
	for _, ip := range d.AllowIPs {
		if _, err := catalog.ParsePrefix(ip); err != nil {
			return errAllowIP
		}
	}
	return nil
}

func (d *ProjectDoc) check(key string) error {
	if key != d.Name || !catalog.IsProjectPath(d.Name) {
		return errKey
	}
	return nil
}

func (d *HoldDoc) check(key string) error {
	if _, ok := catalog.ParseHoldTarget(key); !ok || key != d.Target {
		return errKey
	}
	return nil
}

// providerKey is what a provider's document stands under.
func providerKey(id int64) string { return strconv.FormatInt(id, 10) }

// providerID reads a provider's id in the one form it is written in.
func providerID(s string) (int64, bool) {
	id, err := strconv.ParseInt(s, 10, 64)
	return id, err == nil && id > 0 && providerKey(id) == s
}

// tokenHash reads 64 lower-case hexadecimal characters.
func tokenHash(s string) (sum [32]byte, ok bool) {
	if len(s) != hex.EncodedLen(len(sum)) {
		return sum, false
	}
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'F' {
			return sum, false
		}
	}
	_, err := hex.Decode(sum[:], []byte(s))
	return sum, err == nil
}
