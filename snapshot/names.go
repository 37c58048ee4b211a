package snapshot

import (
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

const (
	maxAskedBytes   = 256
	maxAskedSlashes = 8
)

// Names returns the keys of the binding documents that a model name in a client's request may mean,
// where the client's key has this default namespace. They are in the order in which they are tried:
// the first that exists decides. It returns none for a name that no model can have.
//
// Let D be the default namespace and N the name. If N has a dot, and no slash before it, let S be
// what stands before the first dot, and R what follows; otherwise there is no S. First come D.N and
// S.R. Then a star takes the place of the last part of the path (parts end at slashes), then of the
// last two parts, and so on; D.* and S.* come last. For a/b with the default namespace n the keys
// are n.a/b, n.a/* and n.*.
func Names(defaultNamespace, model string) []string {
	var names []string
	lookupNames(defaultNamespace, model, func(n modelName, _, _ string) bool {
		names = append(names, catalog.ModelKey(n.namespace, n.name))
		return false
	})
	return names
}

// lookupNames calls try with each of those names until it returns true. asked is
// the name without the namespace, and star what the star at its end stands for.
func lookupNames(defaultNamespace, model string, try func(n modelName, asked, star string) bool) {
	if strings.Contains(model, "*") || len(model) > maxAskedBytes || strings.Count(model, "/") > maxAskedSlashes {
		return
	}
	other, rest, dotted := strings.Cut(model, ".")
	dotted = dotted && !strings.Contains(other, "/")
	if try(modelName{defaultNamespace, model}, model, "") || dotted && try(modelName{other, rest}, rest, "") {
		return
	}
	for end := len(model); end >= 0; {
		end = strings.LastIndexByte(model[:end], '/') // -1 at last: the star alone
		if try(modelName{defaultNamespace, model[:end+1] + "*"}, model, model[end+1:]) {
			return
		}
		if !dotted {
			continue
		}
		head := max(0, end+1-len(model)+len(rest)) // of rest, where model has end+1
		if try(modelName{other, rest[:head] + "*"}, rest, rest[head:]) {
			return
		}
	}
}
