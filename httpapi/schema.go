package httpapi

import (
	"maps"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ez-api/ez-api/catalog"
)

// describeNouns completes the schema of each noun with what its Go type does
// not say, and derives from it those of the bodies that create and change it.
func describeNouns(schemas map[string]*huma.Schema) {
	for name, required := range map[string][]string{
		"Provider": {"name", "type"}, "Model": {"name"}, "Binding": {"model"}, "Key": {"name"}, "KeyWithToken": nil, "KeyWithUsage": nil,
	} {
		shown := schemas[name]
		for field, s := range shown.Properties {
			describeField(name, field, s)
		}
		switch name {
		case "KeyWithToken":
			shown.Properties["token"].Description = "The secret by which the client is known. It is shown only here."
			continue
		case "KeyWithUsage":
			*shown.Properties["spend"] = huma.Schema{
				Type: huma.TypeString, ReadOnly: true, Pattern: usdPattern, Examples: []any{"12.5"},
				Description: "What it has cost in the current budget window, in USD; without a window, ever. Absent where usage cannot be asked for.",
			}
			shown.Properties["last_used_at"].ReadOnly = true
			shown.Properties["last_used_at"].Description = "Start of the last hour in which it was used; absent when it never was."
			continue
		}
		schemas[name+"Create"] = bodySchema(name, shown, required)
		schemas[name+"Patch"] = bodySchema(name, shown, nil)
		delete(shown.Properties, "api_key") // never shown
	}
	describePrices(schemas)
	create := schemas["KeyCreate"].Properties
	create["token"] = &huma.Schema{
		Type: huma.TypeString, Nullable: true, WriteOnly: true, MinLength: new(16), MaxLength: new(256),
		Description: "A token to import; printable ASCII without spaces. One is made by default.",
	}
	create["token_hashes"] = &huma.Schema{
		Type: huma.TypeArray, Nullable: true, WriteOnly: true, MaxItems: new(4),
		Items:       &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9a-f]{64}$"},
		Description: "SHA-256 of tokens to import, in lower-case hex; not together with token.",
	}
}

func describeField(noun, field string, s *huma.Schema) {
	s.Description = docs[noun+"."+field]
	if s.Description == "" {
		s.Description = docs[field]
	}
	if strings.HasPrefix(noun, "KeyWith") && s.Description == "" {
		s.Description = docs["Key."+field]
	}
	if values, ok := enums()[field]; ok && (field != "type" || noun == "Provider") {
		for _, v := range values {
			s.Enum = append(s.Enum, v)
		}
	}
	if slices.Contains(amounts, field) {
		s.Type, s.Format, s.Nullable, s.Pattern, s.Examples = huma.TypeString, "", true, usdPattern, []any{"2.5"}
	}
	if s.Type == huma.TypeInteger && slices.Contains(limits, field) {
		s.Minimum = new(1.0)
	}
}

// bodySchema derives the schema of a body from that of an answer: everything
// may be null, which is the default, and read-only fields are ignored.
func bodySchema(noun string, shown *huma.Schema, required []string) *huma.Schema {
	body := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Properties: map[string]*huma.Schema{}, Required: required}
	if required == nil {
		body.Description = "A merge patch (RFC 7396): null restores a field's default, arrays are replaced."
	}
	for field, s := range shown.Properties {
		in := *s
		if !in.ReadOnly {
			in.Nullable = !slices.Contains(required, field)
			in.Default = defaults[field]
		}
		if in.Nullable && len(in.Enum) > 0 {
			in.Enum = append(slices.Clone(in.Enum), nil)
		}
		if slices.Contains(amounts, field) {
			in = huma.Schema{Description: s.Description, Examples: s.Examples, OneOf: []*huma.Schema{
				{Type: huma.TypeString, Pattern: usdPattern}, {Type: huma.TypeNumber, Minimum: new(0.0)}, {Type: "null"},
			}}
		}
		body.Properties[field] = &in
	}
	return body
}

// describePrices completes the schemas of records of prices, and derives those
// of the records that bodies hold.
func describePrices(schemas map[string]*huma.Schema) {
	for _, name := range []string{"Prices", "PriceTier"} {
		for field, s := range schemas[name].Properties {
			describeField(name, field, s)
		}
		in := bodySchema(name, schemas[name], []string{})
		in.Required = nil
		schemas[name+"Body"] = in
	}
	schemas["PriceTier"].Properties["above_input_tokens"].Minimum = new(1.0)
	schemas["PriceTierBody"].Properties["above_input_tokens"].Minimum = new(1.0)
	schemas["PriceTierBody"].Required = []string{"above_input_tokens"}
	schemas["PricesBody"].Properties["price_tiers"].Items = refTo("PriceTierBody")
	for _, body := range []string{"Create", "Patch"} {
		schemas["Model"+body].Properties["price_tiers"].Items = refTo("PriceTierBody")
		schemas["Provider"+body].Properties["prices"].AdditionalProperties = refTo("PricesBody")
	}
}

// describeLogs derives the schema of an entry that comes in from that of one
// that is stored: fields are optional there, and may be unknown.
func describeLogs(schemas map[string]*huma.Schema) {
	stored := schemas["Entry"]
	for field, s := range stored.Properties {
		s.Description = docs["Entry."+field]
		if field == "id" { // huma sees 16 bytes
			*s = huma.Schema{Type: huma.TypeString, Format: "uuid", Description: s.Description}
		}
	}
	in := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Properties: maps.Clone(stored.Properties)}
	delete(in.Properties, "priced_revision")
	schemas["LogEntry"] = in
}

func describeChanges(schemas map[string]*huma.Schema) {
	p := schemas["Change"].Properties
	for field, s := range p {
		s.Description = docs["Change."+field]
	}
	p["action"].Enum = []any{catalog.ActionCreate, catalog.ActionUpdate, catalog.ActionDelete, catalog.ActionSync}
	for _, k := range catalog.Kinds() {
		p["kind"].Enum = append(p["kind"].Enum, k)
	}
	p["before"].Type, p["after"].Type = huma.TypeObject, huma.TypeObject
}

const usdPattern = `^[0-9]+(\.[0-9]{1,9})?$`

func enums() map[string][]string {
	return map[string][]string{
		"status": {string(catalog.Active), string(catalog.Disabled)}, "type": catalog.ProviderTypes(), "kind": catalog.ModelKinds(),
		"selector_type": catalog.SelectorTypes(), "budget_window": catalog.BudgetWindows(),
	}
}

var (
	amounts = []string{"input_price", "output_price", "cache_read_price", "cache_write_price", "request_price", "budget_limit"}
	limits  = []string{"weight", "rpm_limit", "tpm_limit", "max_parallel"}

	defaults = map[string]any{
		"status": "active", "group": "default", "weight": 1, "priority": 0, "namespace": "default", "kind": "chat",
		"route_group": "default", "selector_type": "exact", "namespaces": []string{"default"}, "price_source": "manual",
	}

	// docs are the descriptions of fields, by "Noun.field" or by the field alone.
	docs = map[string]string{
		"id":          "Given by the server.",
		"external_id": "The caller's own id, unique among things of the same sort.",
		"labels":      "Free names and values, to find things by.",
		"status":      "Whether it takes part in serving.",
		"created_at":  "When it was created.",
		"updated_at":  "When it was last changed.",
		"revision":    "Of the catalog, when it was last changed. Also its ETag.",
		"weight":      "Share among equal priorities.",
		"priority":    "Higher is tried first.",
		"namespace":   "Models are unique by namespace and name.",

		"Provider.name":            "Unique.",
		"Provider.type":            "Which API it speaks.",
		"Provider.base_url":        "Where it is; required for compatible, azure and custom. Changing it requires sending api_key again.",
		"Provider.api_key":         "The upstream credential. Never shown.",
		"Provider.api_key_hint":    "The last four characters of api_key.",
		"Provider.google_project":  "For the vertex types.",
		"Provider.google_location": "For the vertex types; defaults to global there.",
		"Provider.group":           "By which bindings find it.",
		"Provider.models":          "Upstream model ids that the credential serves.",
		"Provider.auto_ban":        "A hint: the balancer may take it out while it fails.",
		"Provider.options":         "Passed on to balancers.",

		"Model.name":               "Public name; may contain dots and slashes.",
		"Model.kind":               "What it does.",
		"Model.context_window":     "Tokens; absent is unknown.",
		"Model.max_output_tokens":  "Tokens; absent is unknown.",
		"Model.supports_fim":       "Fill in the middle.",
		"Model.supports_vision":    "Takes images.",
		"Model.supports_functions": "Calls functions.",
		"supports_tool_choice":     "Lets the client choose the tool.",
		"supports_stream":          "Streams its answer.",
		"input_price":              "USD per million tokens, at most 9 decimals; null is unknown, 0 is free.",
		"output_price":             "USD per million tokens; null is unknown, 0 is free.",
		"cache_read_price":         "USD per million tokens; null is unknown, 0 is free.",
		"cache_write_price":        "USD per million tokens; null is unknown, 0 is free.",

		"request_price":      "USD per request that succeeds; null is none.",
		"price_tiers":        "Other prices for requests with much input. The highest tier whose bound the input exceeds prices the whole request.",
		"above_input_tokens": "The bound: input tokens, those read from a cache or written to one included.",
		"Model.price_source": "Who set the prices: manual, or the name of what imported them.",
		"Provider.prices":    "Prices by upstream model id, which may end in *. They go before those of the model.",

		"Binding.model":          "Public name of a model that exists.",
		"Binding.route_group":    "Of the keys that it is for.",
		"Binding.provider_group": "Of the providers that serve; defaults to route_group at creation.",
		"Binding.selector_type":  "How selector_value picks one of each provider's models.",
		"Binding.selector_value": "Defaults to the public name at creation. Regular expressions are RE2 and match the whole model id.",

		"Key.name":              "Names may repeat.",
		"Key.token_hint":        "The last four characters of the token.",
		"Key.group":             "Route group.",
		"Key.namespaces":        "Of the models that it may reach.",
		"Key.default_namespace": "One of namespaces; defaults to the first at creation.",
		"Key.models":            "Public names that it may use; empty allows all.",
		"Key.scopes":            "Passed on to balancers.",
		"Key.allow_ips":         "Networks or addresses that it may be used from; empty allows all.",
		"Key.expires_at":        "Until when it is valid; absent is for ever.",
		"Key.rpm_limit":         "Requests a minute; absent is no limit.",
		"Key.tpm_limit":         "Tokens a minute; absent is no limit.",
		"Key.max_parallel":      "Requests at once; absent is no limit.",
		"Key.budget_limit":      "USD per budget_window; null is no limit.",
		"Key.budget_window":     "With a limit defaults to total.",
		"Key.rotated_at":        "When it got its present token by rotation.",

		"Change.revision": "Of the catalog, with this change.",
		"Change.time":     "When it was committed.",
		"Change.actor":    "Who did it.",
		"Change.reason":   "Why, where that was said.",
		"Change.action":   "What was done; sync is a full re-synchronisation, which touches nothing.",
		"Change.kind":     "What it was done to; absent for sync.",
		"Change.id":       "Of what it was done to.",
		"Change.before":   "How it was, without secrets; absent for create.",
		"Change.after":    "How it is, without secrets; absent for delete.",

		"Entry.id":                 "With ts the identity of an entry: sent again, it is stored once. A UUID; one is made by default.",
		"Entry.ts":                 "When it happened; defaults to the time in a UUIDv7 id, or to now.",
		"Entry.balancer":           "Who served it.",
		"Entry.model":              "Public name.",
		"Entry.status":             "HTTP status that the client got.",
		"Entry.ttft_ms":            "Time to the first token.",
		"Entry.input_tokens":       "Without cache_read_tokens and cache_write_tokens.",
		"Entry.output_tokens":      "Reasoning included.",
		"Entry.cost_nano_usd":      "Billionths of a dollar; computed from the prices when absent, null when not known.",
		"Entry.priced_revision":    "Of the catalog whose prices made the cost.",
		"Entry.revision":           "Position that the balancer had applied.",
		"Entry.attempts":           "Upstreams that were tried.",
		"Entry.error":              "What went wrong.",
		"Entry.namespace":          "Defaults to default.",
		"Entry.latency_ms":         "From the request to the end of the answer.",
		"Entry.cache_read_tokens":  "Input tokens that the upstream had cached.",
		"Entry.cache_write_tokens": "Input tokens that the upstream has cached now.",
	}
)
