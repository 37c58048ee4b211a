package imports

import (
	"slices"
	"strings"
)

// vendor is what a type of channel becomes.
type vendor struct {
	typ     string // of the provider
	baseURL string // where the channel has none; empty: that of the type, or none
	path    string // that the gateway adds to a base URL, and this one expects in it
}

// vendors are the types of channels by the names that the New API exporter gives them, with the
// addresses that New API and one-api ask when a channel has none.
func vendors() map[string]vendor {
	compatible := func(baseURL, path string) vendor { return vendor{"compatible", baseURL, path} }
	return map[string]vendor{
		"openai":      {"openai", "", "/v1"},
		"azure":       {"azure", "", ""},
		"anthropic":   {"anthropic", "", ""},
		"gemini":      {"gemini", "", "/v1beta"},
		"vertex":      {"vertex", "", ""},
		"aws":         {"bedrock", "", ""},
		"codex":       {"codex", "", ""},
		"custom":      {"custom", "", ""},
		"ali":         compatible("https://dashscope.aliyuncs.com", "/compatible-mode/v1"),
		"zhipu":       compatible("https://open.bigmodel.cn", "/api/paas/v4"),
		"volcengine":  compatible("https://ark.cn-beijing.volces.com", "/api/v3"),
		"baidu":       compatible("https://qianfan.baidubce.com", "/v2"),
		"tencent":     compatible("https://api.hunyuan.cloud.tencent.com", "/v1"),
		"openrouter":  compatible("https://openrouter.ai/api", "/v1"),
		"moonshot":    compatible("https://api.moonshot.cn", "/v1"),
		"baichuan":    compatible("https://api.baichuan-ai.com", "/v1"),
		"perplexity":  compatible("https://api.perplexity.ai", ""),
		"lingyiwanwu": compatible("https://api.lingyiwanwu.com", "/v1"),
		"stepfun":     compatible("https://api.stepfun.com", "/v1"),
		"cohere":      compatible("https://api.cohere.ai", "/compatibility/v1"),
		"minimax":     compatible("https://api.minimax.chat", "/v1"),
		"siliconflow": compatible("https://api.siliconflow.cn", "/v1"),
		"mistral":     compatible("https://api.mistral.ai", "/v1"),
		"deepseek":    compatible("https://api.deepseek.com", "/v1"),
		"xai":         compatible("https://api.x.ai", "/v1"),
		"groq":        compatible("https://api.groq.com/openai", "/v1"),
		"together":    compatible("https://api.together.xyz", "/v1"),
		"novita":      compatible("https://api.novita.ai/v3/openai", ""),
		"360":         compatible("https://api.360.cn", "/v1"),
		"submodel":    compatible("https://llm.submodel.ai", "/v1"),
		"ollama":      compatible("", "/v1"),
		"xinference":  compatible("", "/v1"),
		"openaimax":   compatible("https://api.openaimax.com", "/v1"),
		"ohmygpt":     compatible("https://api.ohmygpt.com", "/v1"),
		"ails":        compatible("https://api.caipacity.com", "/v1"),
		"aiproxy":     compatible("https://api.aiproxy.io", "/v1"),
		"api2gpt":     compatible("https://api.api2gpt.com", "/v1"),
		"aigc2d":      compatible("https://api.aigc2d.com", "/v1"),
	}
}

// otherNames are names that the same vendors have elsewhere.
func otherNames() map[string]string {
	return map[string]string{
		"claude": "anthropic", "google": "gemini", "vertexai": "vertex", "vertex_ai": "vertex", "bedrock": "aws",
		"zhipu_v4": "zhipu", "zhipuv4": "zhipu", "baidu_v2": "baidu", "baiduv2": "baidu", "doubao": "volcengine",
		"alibaba": "ali", "grok": "xai", "openai-compatible": "custom", "openai_max": "openaimax",
	}
}

// vendorNamed finds a vendor by its name.
func vendorNamed(name string) (vendor, bool) {
	name = strings.ToLower(strings.TrimSpace(name))
	if other, ok := otherNames()[name]; ok {
		name = other
	}
	v, ok := vendors()[name]
	if !ok {
		return vendors()["custom"], false
	}
	return v, true
}

// newAPITypes are the names of the vendors by the numbers of New API's channel types. What is
// not here is no vendor of texts.
func newAPITypes() map[int64]string {
	return map[int64]string{
		1: "openai", 3: "azure", 4: "ollama", 6: "openaimax", 7: "ohmygpt", 8: "custom", 9: "ails", 10: "aiproxy",
		12: "api2gpt", 13: "aigc2d", 14: "anthropic", 15: "baidu", 16: "zhipu", 17: "ali", 19: "360", 20: "openrouter",
		23: "tencent", 24: "gemini", 25: "moonshot", 26: "zhipu", 27: "perplexity", 31: "lingyiwanwu", 33: "aws",
		34: "cohere", 35: "minimax", 40: "siliconflow", 41: "vertex", 42: "mistral", 43: "deepseek", 45: "volcengine",
		46: "baidu", 47: "xinference", 48: "xai", 53: "submodel", 57: "codex",
	}
}

// oneAPITypes are those of one-api, which differ from 26 on.
func oneAPITypes() map[int64]string {
	types := newAPITypes()
	for n := range types {
		if n >= 26 || n == 4 {
			delete(types, n)
		}
	}
	for n, name := range map[int64]string{
		26: "baichuan", 27: "minimax", 28: "mistral", 29: "groq", 30: "ollama", 31: "lingyiwanwu", 32: "stepfun",
		33: "aws", 35: "cohere", 36: "deepseek", 39: "together", 40: "volcengine", 41: "novita", 42: "vertex",
		44: "siliconflow", 45: "xai", 47: "baidu",
	} {
		types[n] = name
	}
	return types
}

// vendorNumbered finds the vendor of a number, and its name.
func vendorNumbered(number int64, oneAPI bool) (v vendor, name string, known bool) {
	types := newAPITypes()
	if oneAPI {
		types = oneAPITypes()
	}
	name, known = types[number]
	if !known {
		return vendors()["custom"], "", false
	}
	v, known = vendorNamed(name)
	return v, name, known
}

// address returns the base URL of a provider: what the channel has, or what its vendor has,
// with the path that is expected in it.
func (v vendor) address(baseURL string) string {
	base := strings.TrimRight(strings.TrimSpace(baseURL), "/")
	if base == "" {
		base = v.baseURL
	}
	versions := []string{"/v1", "/v1beta", "/v2", "/v3", "/v4"}
	hasVersion := slices.ContainsFunc(versions, func(s string) bool { return strings.HasSuffix(base, s) })
	if base == "" || hasVersion || v.path != "" && strings.HasSuffix(base, v.path) {
		return base
	}
	return base + v.path
}
