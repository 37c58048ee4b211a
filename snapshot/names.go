package snapshot

import (
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

const (
	maxAskedBytes   = 256
	maxAskedSlashes = 8
)

// Names returns the keys of the binding documents that a name may mean which a
// client asks for, for a key with this default namespace, in their order: the
// first that exists decides. It returns none for a name that no model can have.
//
// N being the name, D the default namespace, S what stands before the first dot and
// R the rest, these are D.N and S.R, then for each shorter path, the longest first, D
// and S with the first parts of N and R and a star, and at last D.* and S.*. So a/b
// in n is n.a/b, n.a/*, n.*.
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
