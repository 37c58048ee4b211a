// Package listprices has the list prices of large providers, for suggestions: what a model of a
// provider costs by the provider's own list, as of [Table.Date]. What somebody really pays
// may differ.
//
//	table, err := listprices.Load()
//	…
//	prices, ok := table.For(provider, "gpt-4o")
//
// The table is made from LiteLLM's model_prices_and_context_window.json by
//
//	go run ./cmd/internal/pricetable -date 2026-08 -o catalog/listprices/table.tsv FILE
//
// LICENSE-litellm has the licence of that file.
package listprices

import (
	_ "embed" // for the table
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

//go:embed table.tsv
var text string

// Table is a list of prices. It is safe for concurrent use.
type Table struct {
	Source string // where it comes from
	Date   string // month of the source: 2026-08
	prices map[string]catalog.Prices
}

// Load reads the table that is part of the program.
func Load() (*Table, error) { return parse(text) }

// Len returns how many models have a price.
func (t *Table) Len() int { return len(t.prices) }

// Find returns what a vendor charges for a model. Vendors are called as in the table: openai,
// anthropic, bedrock.
func (t *Table) Find(vendor, model string) (catalog.Prices, bool) {
	p, ok := t.prices[vendor+"\t"+model]
	return p.Clone(), ok
}

// For returns what the vendor behind a provider charges for an upstream model. It is not ok when
// the provider's type and address do not tell who the vendor is.
func (t *Table) For(p catalog.Provider, upstream string) (catalog.Prices, bool) {
	vendor := Vendor(p.Type, p.BaseURL)
	if vendor == "" {
		return catalog.Prices{}, false
	}
	return t.Find(vendor, upstream)
}

// Vendor returns the vendor of a provider, by its type and address; "" where they do not tell.
func Vendor(typ, baseURL string) string {
	if baseURL != "" {
		u, err := url.Parse(baseURL)
		if err != nil {
			return ""
		}
		for host, vendor := range hosts() {
			if name := u.Hostname(); name == host || strings.HasSuffix(name, "."+host) {
				return vendor
			}
		}
		if typ != "azure" { // somebody else's address may have somebody else's prices
			return ""
		}
	}
	switch typ {
	case "openai", "azure", "bedrock":
		return typ
	case "codex":
		return "openai"
	case "anthropic", "claude", "claude-code":
		return "anthropic"
	case "gemini", "google", "aistudio", "gemini-cli", "antigravity":
		return "gemini"
	case "vertex", "vertex-express":
		return "vertex_ai"
	}
	return ""
}

// hosts lists the vendors by the ends of their hosts.
func hosts() map[string]string {
	return map[string]string{
		"api.openai.com": "openai", "openai.azure.com": "azure", "api.anthropic.com": "anthropic",
		"generativelanguage.googleapis.com": "gemini", "aiplatform.googleapis.com": "vertex_ai",
		"api.deepseek.com": "deepseek", "api.mistral.ai": "mistral", "api.x.ai": "xai", "api.groq.com": "groq",
		"dashscope.aliyuncs.com": "dashscope", "dashscope-intl.aliyuncs.com": "dashscope", "api.moonshot.cn": "moonshot",
		"api.moonshot.ai": "moonshot", "openrouter.ai": "openrouter", "api.together.xyz": "together_ai",
		"api.perplexity.ai": "perplexity", "api.cohere.ai": "cohere", "api.cohere.com": "cohere", "api.z.ai": "zai",
		"ark.cn-beijing.volces.com": "volcengine", "api.minimax.chat": "minimax", "api.cerebras.ai": "cerebras",
		"api.voyageai.com": "voyage", "api.deepinfra.com": "deepinfra", "api.fireworks.ai": "fireworks_ai",
	}
}

// Vendors lists the vendors that a table may have, sorted.
func Vendors() []string {
	all := []string{"bedrock"}
	for _, vendor := range hosts() {
		all = append(all, vendor)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// A line of the table has these columns, separated by tabs; a price that is unknown is empty:
//
//	vendor  model  input  output  cache_read  cache_write  request  tiers
//
// Prices are USD, of tokens by the million. Tiers are separated by semicolons: the bound in
// tokens, a colon, and the five prices, separated by commas. Lines that begin with # are "# name: value".
const columns = 8

func parse(text string) (*Table, error) {
	t := &Table{prices: map[string]catalog.Prices{}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if about, ok := strings.CutPrefix(line, "# "); ok {
			name, value, _ := strings.Cut(about, ": ")
			switch name {
			case "source":
				t.Source = value
			case "date":
				t.Date = value
			}
			continue
		}
		cells := strings.Split(line, "\t")
		if len(cells) != columns {
			return nil, fmt.Errorf("listprices: line %d has %d columns: %w", n, len(cells), catalog.ErrInvalid)
		}
		p, err := parsePrices(cells[2:7], cells[7])
		if err != nil {
			return nil, fmt.Errorf("listprices: line %d: %w", n, err)
		}
		t.prices[cells[0]+"\t"+cells[1]] = p
	}
	return t, nil
}

func parsePrices(cells []string, tiers string) (p catalog.Prices, err error) {
	into := []**catalog.NanoUSD{&p.InputPrice, &p.OutputPrice, &p.CacheReadPrice, &p.CacheWritePrice, &p.RequestPrice}
	if err := parseAmounts(into, cells); err != nil || tiers == "" {
		return p, err
	}
	for tier := range strings.SplitSeq(tiers, ";") {
		bound, list, _ := strings.Cut(tier, ":")
		var t catalog.PriceTier
		if t.AboveInputTokens, err = strconv.ParseInt(bound, 10, 64); err != nil {
			return p, err
		}
		into := []**catalog.NanoUSD{&t.InputPrice, &t.OutputPrice, &t.CacheReadPrice, &t.CacheWritePrice, &t.RequestPrice}
		if err := parseAmounts(into, strings.Split(list, ",")); err != nil {
			return p, err
		}
		p.PriceTiers = append(p.PriceTiers, t)
	}
	return p, nil
}

func parseAmounts(into []**catalog.NanoUSD, cells []string) error {
	if len(cells) != len(into) {
		return fmt.Errorf("%d prices: %w", len(cells), catalog.ErrInvalid)
	}
	for i, cell := range cells {
		if cell == "" {
			continue
		}
		usd, err := catalog.ParseUSD(cell)
		if err != nil {
			return err
		}
		*into[i] = &usd
	}
	return nil
}

// Line writes prices as a line of a table, without its end.
func Line(vendor, model string, p catalog.Prices) string {
	amounts := func(list ...*catalog.NanoUSD) []string {
		cells := make([]string, len(list))
		for i, usd := range list {
			if usd != nil {
				cells[i] = usd.String()
			}
		}
		return cells
	}
	cells := append([]string{vendor, model},
		amounts(p.InputPrice, p.OutputPrice, p.CacheReadPrice, p.CacheWritePrice, p.RequestPrice)...)
	tiers := make([]string, len(p.PriceTiers))
	for i, t := range p.PriceTiers {
		tiers[i] = fmt.Sprintf("%d:%s", t.AboveInputTokens, strings.Join(
			amounts(t.InputPrice, t.OutputPrice, t.CacheReadPrice, t.CacheWritePrice, t.RequestPrice), ","))
	}
	return strings.Join(append(cells, strings.Join(tiers, ";")), "\t")
}
