package imports

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/pricefile"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
	"github.com/ez-api/ez-api/cmd/internal/ctl/notes"
)

// The parts of LiteLLM's config.yaml that are read. What else is there is noted.
type liteConfig struct {
	Models   []yaml.Node    `yaml:"model_list"`
	Router   map[string]any `yaml:"router_settings"`
	LiteLLM  map[string]any `yaml:"litellm_settings"`
	General  map[string]any `yaml:"general_settings"`
	Variable map[string]any `yaml:"environment_variables"`
	Others   map[string]any `yaml:",inline"`
}

type liteModel struct {
	Name   string         `yaml:"model_name"`
	Params map[string]any `yaml:"litellm_params"`
	Info   map[string]any `yaml:"model_info"`
	Others map[string]any `yaml:",inline"`
}

// LiteLLM makes a file of LiteLLM's config.yaml. Keys and teams are in its database, and not in
// this file.
func LiteLLM(text []byte, owner string) (*Result, error) {
	var config liteConfig
	if err := manifest.DecodeYAML(text, &config); err != nil {
		return nil, fmt.Errorf("is no config.yaml of LiteLLM: %w", err)
	}
	if len(config.Models) == 0 {
		return nil, errors.New("is no config.yaml of LiteLLM: it has no model_list")
	}
	l := &lite{
		set:   newSet(owner, catalog.KindProvider, catalog.KindModel, catalog.KindBinding),
		known: map[string]*liteProvider{}, models: map[string]map[string]any{}, bound: map[string]bool{},
		draws: map[string][]drawn{},
	}
	for i := range config.Models {
		n, subject := &config.Models[i], fmt.Sprintf("model_list[%d]", i)
		var m liteModel
		if err := n.Decode(&m); err != nil {
			l.notes.Add(subject, "in line %d is no object with model_name, litellm_params and model_info, and is left out",
				n.Line)
			continue
		}
		l.deployment(subject, m)
	}
	l.weigh()
	l.aliases(config.Router)
	l.leftOver("router_settings", config.Router)
	l.leftOver("litellm_settings", config.LiteLLM)
	l.leftOver("general_settings", config.General)
	l.leftOver("environment_variables", config.Variable)
	for _, name := range slices.Sorted(maps.Keys(config.Others)) {
		l.notes.Add("", "%s is not imported", plain(name))
	}
	for _, p := range l.providers {
		l.set.Items[catalog.KindProvider] = append(l.set.Items[catalog.KindProvider], manifest.Item{Fields: p.fields})
	}
	return &Result{l.set, l.notes.Lines()}, nil
}

// lite turns a config into resources.
type lite struct {
	set       *manifest.Set
	notes     notes.List
	providers []*liteProvider
	known     map[string]*liteProvider // by what makes a provider
	names     words
	models    map[string]map[string]any // by public name
	bound     map[string]bool           // by model and provider group
	draws     map[string][]drawn        // by public name
}

// liteProvider is what deployments with the same address and credential become. It has a group
// of its own, so that each deployment is a binding with its weight.
type liteProvider struct {
	group  string
	fields map[string]any
	prices map[string]map[string]any // of each upstream model; empty where the deployment has none
}

// deployment makes a provider, a model and a binding of an element of model_list.
func (l *lite) deployment(subject string, m liteModel) {
	name, full := strings.TrimSpace(m.Name), text(m.Params, "model")
	probe := catalog.Model{Name: name}
	if err := catalog.Check(&probe, nil); err != nil || full == "" {
		l.notes.Add(subject, "has no model_name that can be a name here, or no model, and is left out")
		return
	}
	vendor, upstream := splitModel(full)
	binding := catalog.Binding{Model: name, SelectorValue: upstream}
	if err := catalog.Check(&binding, nil); err != nil {
		l.notes.Add(subject, "maps a name to models with a *, or the other way round, and is left out")
		return
	}
	prices := l.prices(subject, m)
	p := l.provider(subject, vendor, upstream, name, m.Params, prices)
	if models := p.fields["models"].([]any); !slices.Contains(models, any(upstream)) {
		p.fields["models"] = append(models, upstream)
	}
	p.price(upstream, prices)
	l.model(name, m.Info)
	l.draw(name, l.bind(name, p.group, upstream), m.Params)
	l.unknown(subject, m)
}

// splitModel splits "openai/gpt-4o" into the vendor and the name there.
func splitModel(full string) (vendor, upstream string) {
	vendor, upstream, ok := strings.Cut(full, "/")
	if ok {
		return strings.ToLower(vendor), upstream
	}
	for prefix, vendor := range map[string]string{
		"gpt-": "openai", "o1": "openai", "o3": "openai", "o4": "openai", "text-embedding-": "openai", "claude-": "anthropic",
		"gemini-": "gemini", "command": "cohere", "mistral-": "mistral", "deepseek-": "deepseek", "grok-": "xai",
	} {
		if strings.HasPrefix(full, prefix) {
			return vendor, full
		}
	}
	return "", full
}

// liteVendors are LiteLLM's names of vendors that are called otherwise here.
func liteVendors() map[string]string {
	return map[string]string{
		"azure_ai": "azure", "vertex_ai": "vertex", "vertex_ai_beta": "vertex", "bedrock": "aws", "bedrock_converse": "aws",
		"dashscope": "ali", "volcengine": "volcengine", "zai": "zhipu", "together_ai": "together",
		"text-completion-openai": "openai",
		"hosted_vllm":            "xinference", "vllm": "xinference", "ollama_chat": "ollama", "openai_like": "custom",
		"custom_openai": "custom", "litellm_proxy": "custom",
	}
}

// provider returns the provider for a deployment's address and credential, and for its prices of the upstream model.
func (l *lite) provider(
	subject, vendorName, upstream, model string, params, prices map[string]any,
) *liteProvider {
	if other, ok := liteVendors()[vendorName]; ok {
		vendorName = other
	}
	v, known := vendorNamed(vendorName)
	if !known {
		l.notes.Add(subject, "has a provider that is not known here; it becomes custom")
	}
	base := text(params, "api_base")
	if base == "" {
		base = text(params, "base_url")
	}
	if strings.HasPrefix(base, osEnviron) {
		l.notes.Add(subject, "has an api_base that is read from the environment; its provider is disabled: "+
			"write the address into base_url, and status: active")
		base = placeholder
	}
	if base != "" && v.typ == "openai" && !strings.Contains(base, "api.openai.com") {
		v = vendor{typ: "compatible"}
	}
	if base == "" {
		base = v.address("")
	}
	address, note, usable := usableAddress(v.typ, strings.TrimRight(base, "/"))
	if note != "" {
		l.notes.Add(subject, "%s", note)
	}
	fields := map[string]any{"type": v.typ, "models": []any{}}
	setNonEmpty(fields, "base_url", address)
	if !usable || base == placeholder {
		fields["status"] = "disabled"
	}
	l.credential(subject, fields, params)
	identity := fmt.Sprint(fields, secretIdentity(fields["api_key"]))
	// A model is bound to a group once, and a provider has one price of an upstream model: otherwise another is needed.
	for n := 0; ; n++ {
		p := l.known[fmt.Sprint(n, identity)]
		if p == nil {
			p = &liteProvider{fields: fields, prices: map[string]map[string]any{}}
			base := vendorName
			if base == "" {
				base = "custom"
			}
			p.group = l.names.get(fmt.Sprint(n, identity), maxGroup, func(string) string {
				return numbered(&l.names, groupWord(base))
			})
			fields["name"], fields["group"] = p.group, p.group
			fields["external_id"] = "litellm:" + p.group
			l.known[fmt.Sprint(n, identity)] = p
			l.providers = append(l.providers, p)
			return p
		}
		if known, ok := p.prices[upstream]; ok && !maps.Equal(known, prices) {
			continue
		}
		if !l.bound[bindingName(model, p.group)] || l.sameBinding(model, p.group, upstream) {
			return p
		}
	}
}

// numbered returns a name that is not taken: openai, openai-2, openai-3.
func numbered(w *words, base string) string {
	name := base
	for n := 2; w.taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}

// secretIdentity tells credentials apart.
func secretIdentity(v any) string {
	switch v := v.(type) {
	case catalog.Secret:
		return catalog.HashToken(v.Reveal())
	case manifest.Reference:
		return fmt.Sprint(v)
	}
	return ""
}

const osEnviron = "os.environ/"

// secret sets the api_key of a provider: a reference where LiteLLM has one.
func (l *lite) secret(subject string, fields map[string]any, value string) {
	name, refers := strings.CutPrefix(value, osEnviron)
	switch {
	case !refers:
		fields["api_key"] = catalog.NewSecret(value)
	case manifest.IsVariable(name):
		fields["api_key"] = manifest.Env(name)
	default:
		l.notes.Add(subject, "has its credential in a variable whose name cannot be one; name another as api_key")
	}
}

// credential sets what a provider authenticates with, and what decides where that goes.
func (l *lite) credential(subject string, fields, params map[string]any) {
	if key := text(params, "api_key"); key != "" {
		l.secret(subject, fields, key)
	}
	options := map[string]any{}
	setNonEmpty(options, "api_version", text(params, "api_version"))
	setNonEmpty(options, "organization", text(params, "organization"))
	if fields["type"] == "bedrock" {
		setNonEmpty(options, "region", text(params, "aws_region_name"))
		id, secret := text(params, "aws_access_key_id"), text(params, "aws_secret_access_key")
		switch {
		case id == "" && secret == "":
		case strings.HasPrefix(id, osEnviron) || strings.HasPrefix(secret, osEnviron):
			l.notes.Add(subject, "has AWS keys in two variables; put both, as ID|SECRET, into one, and name it as api_key")
		default:
			fields["api_key"] = catalog.NewSecret(id + "|" + secret)
		}
	}
	if fields["type"] == "vertex" {
		setNonEmpty(fields, "google_project", text(params, "vertex_project"))
		setNonEmpty(fields, "google_location", text(params, "vertex_location"))
		switch account := text(params, "vertex_credentials"); {
		case account == "":
		case strings.HasPrefix(account, osEnviron) || strings.HasPrefix(strings.TrimSpace(account), "{"):
			l.secret(subject, fields, account)
		default:
			fields["api_key"] = manifest.File(account)
		}
	}
	for _, name := range []string{"google_project", "google_location"} {
		if v, _ := fields[name].(string); strings.HasPrefix(v, osEnviron) {
			l.notes.Add(subject, "has %s in the environment; write it into the file", name)
			delete(fields, name)
		}
	}
	for name, v := range options {
		if strings.HasPrefix(v.(string), osEnviron) {
			l.notes.Add(subject, "has %s in the environment; write it into the file", name)
			delete(options, name)
		}
	}
	if len(options) > 0 {
		fields["options"] = options
	}
}

func bindingName(model, group string) string { return model + "\x00" + group }

func (l *lite) sameBinding(model, group, upstream string) bool {
	for _, b := range l.set.Items[catalog.KindBinding] {
		if b.Fields["model"] == model && b.Fields["provider_group"] == group {
			return b.Fields["selector_value"] == upstream
		}
	}
	return false
}

// bind returns the binding of a model to a group.
func (l *lite) bind(model, group, upstream string) map[string]any {
	if l.bound[bindingName(model, group)] {
		for _, b := range l.set.Items[catalog.KindBinding] {
			if b.Fields["model"] == model && b.Fields["provider_group"] == group {
				return b.Fields
			}
		}
	}
	l.bound[bindingName(model, group)] = true
	b := map[string]any{"model": model, "provider_group": group, "selector_value": upstream}
	l.set.Items[catalog.KindBinding] = append(l.set.Items[catalog.KindBinding], manifest.Item{Fields: b})
	return b
}

// model adds a public model, or what another deployment knows of it.
func (l *lite) model(name string, info map[string]any) {
	m := l.models[name]
	if m == nil {
		m = map[string]any{"name": name}
		l.models[name] = m
		l.set.Items[catalog.KindModel] = append(l.set.Items[catalog.KindModel], manifest.Item{Fields: m})
	}
	kinds := map[string]string{
		"chat": "chat", "completion": "chat", "embedding": "embedding", "rerank": "rerank", "image_generation": "image",
		"audio_transcription": "audio", "audio_speech": "audio", "moderation": "moderation",
	}
	if kind := kinds[text(info, "mode")]; kind != "" && kind != "chat" {
		m["kind"] = kind
	} else if kind := modelKind(name); kind != "chat" && m["kind"] == nil {
		m["kind"] = kind
	}
	for ours, theirs := range map[string]string{"context_window": "max_input_tokens",
		"max_output_tokens": "max_output_tokens"} {
		if n := whole(info[theirs]); n > 0 {
			m[ours] = n
		}
	}
	for ours, theirs := range map[string]string{
		"supports_vision": "supports_vision", "supports_functions": "supports_function_calling",
		"supports_tool_choice": "supports_tool_choice",
	} {
		if yes, _ := info[theirs].(bool); yes {
			m[ours] = true
		}
	}
}

// prices returns the prices that a deployment has of its own. Those of litellm_params go before those of model_info.
func (l *lite) prices(subject string, m liteModel) map[string]any {
	prices := map[string]any{}
	for ours, theirs := range map[string]string{
		"input_price": "input_cost_per_token", "output_price": "output_cost_per_token",
		"cache_read_price": "cache_read_input_token_cost", "cache_write_price": "cache_creation_input_token_cost",
	} {
		for _, from := range []map[string]any{m.Info, m.Params} {
			if from[theirs] == nil {
				continue
			}
			usd, err := pricefile.PerMillion(json.Number(fmt.Sprint(from[theirs])))
			if err != nil {
				l.notes.Add(subject, "has a %s that is no price", theirs)
				continue
			}
			prices[ours] = usd.String()
		}
	}
	return prices
}

// price sets the prices of an upstream model.
func (p *liteProvider) price(upstream string, prices map[string]any) {
	p.prices[upstream] = prices
	if len(prices) == 0 {
		return
	}
	all, _ := p.fields["prices"].(map[string]any)
	if all == nil {
		all = map[string]any{}
		p.fields["prices"] = all
	}
	all[upstream] = prices
}

// unknown notes what of a deployment has no place here.
func (l *lite) unknown(subject string, m liteModel) {
	used := []string{
		"model", "api_key", "api_base", "base_url", "api_version", "organization", "weight", "rpm", "tpm", "aws_region_name",
		"aws_access_key_id", "aws_secret_access_key", "vertex_project", "vertex_location", "vertex_credentials",
		"input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost", "cache_creation_input_token_cost",
		"custom_llm_provider",
	}
	for _, name := range slices.Sorted(maps.Keys(m.Params)) {
		if !slices.Contains(used, name) {
			l.notes.Add(subject, "has %s in litellm_params, which has no place here", plain(name))
		}
	}
	used = append(used, "mode", "max_input_tokens", "max_output_tokens", "max_tokens", "supports_vision",
		"supports_function_calling", "supports_tool_choice")
	for _, name := range slices.Sorted(maps.Keys(m.Info)) {
		if !slices.Contains(used, name) {
			l.notes.Add(subject, "has %s in model_info, which has no place here", plain(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Others)) {
		l.notes.Add(subject, "has %s, which has no place here", plain(name))
	}
}

// aliases makes a model of each alias, with the bindings of what it stands for.
func (l *lite) aliases(router map[string]any) {
	aliases, _ := router["model_group_alias"].(map[string]any)
	for _, alias := range slices.Sorted(maps.Keys(aliases)) {
		of, _ := aliases[alias].(string)
		if object, ok := aliases[alias].(map[string]any); ok {
			of = text(object, "model")
		}
		from, known := l.models[of]
		if !known || l.models[alias] != nil {
			l.notes.Add("alias "+plain(alias), "stands for no model of model_list, or is one itself, and is left out")
			continue
		}
		m := maps.Clone(from)
		m["name"] = alias
		l.models[alias] = m
		l.set.Items[catalog.KindModel] = append(l.set.Items[catalog.KindModel], manifest.Item{Fields: m})
		for _, b := range slices.Clone(l.set.Items[catalog.KindBinding]) {
			if b.Fields["model"] == of {
				copied := maps.Clone(b.Fields)
				copied["model"] = alias
				l.set.Items[catalog.KindBinding] = append(l.set.Items[catalog.KindBinding], manifest.Item{Fields: copied})
			}
		}
	}
}

// leftOver notes settings that are not imported, fallbacks above all.
func (l *lite) leftOver(section string, settings map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		switch {
		case name == "model_group_alias":
		case strings.Contains(name, "fallbacks"):
			l.notes.Add("", "%s.%s is not imported: here a binding of lower priority is what is tried next", section,
				plain(name))
		default:
			l.notes.Add("", "%s.%s is not imported", section, plain(name))
		}
	}
}

// text returns a member that is a string.
func text(object map[string]any, name string) string {
	s, _ := object[name].(string)
	return strings.TrimSpace(s)
}

// whole returns a whole number; 0 for anything else.
func whole(v any) int64 {
	switch v := v.(type) {
	case int:
		return int64(v)
	case int64:
		return v
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return 0
}
