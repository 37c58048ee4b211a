package catalog

import (
	"encoding/json"
	"math"
	"regexp"
	"strings"
)

const maxOptions = 64 << 10 // bytes of JSON

// normalizeOptions returns options as they are read back: numbers as
// json.Number, whatever Go type they came as. What is no JSON is left for check.
func normalizeOptions(options map[string]any) map[string]any {
	if len(options) == 0 {
		return map[string]any{}
	}
	text, err := json.Marshal(options)
	if err != nil {
		return options
	}
	tree, err := parseObject(text)
	if err != nil {
		return options
	}
	return tree
}

// checkOptions accepts what every store keeps as it is.
func checkOptions(errs *FieldErrors, options map[string]any, hostOptions []string) {
	text, err := plainJSON(options)
	switch {
	case err != nil:
		errs.add("options", "must be a JSON object")
		return
	case len(text) > maxOptions:
		errs.add("options", "must be at most %d bytes of JSON, and is %d", maxOptions, len(text))
		return
	}
	checkOption(errs, "options", options, 0)
	for _, name := range hostOptions {
		v, ok := options[name]
		if s, isText := v.(string); ok && (!isText || !hostWord.MatchString(s)) {
			errs.add("options."+name, "must be 1 to 63 of a-z 0-9 -, because it is part of the upstream's host")
		}
	}
}

var hostWord = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// checkOption reports the first thing that is not acceptable in a value.
func checkOption(errs *FieldErrors, path string, v any, depth int) {
	before := len(*errs)
	switch v := v.(type) {
	case json.Number:
		if f, err := v.Float64(); err != nil || math.IsInf(f, 0) || len(v) > maxDigits {
			errs.add(path, "must be a number that a 64-bit float can hold")
		}
	case string:
		if i := strings.IndexByte(v, 0); i >= 0 {
			errs.add(path, "must not hold NUL, as byte %d is", i+1)
		}
	case map[string]any:
		if depth == maxDepth {
			errs.add(path, "must be nested at most %d deep", maxDepth)
			return
		}
		for name, e := range v {
			if strings.IndexByte(name, 0) >= 0 {
				errs.add(path, "must have no name with NUL in it")
			}
			if checkOption(errs, memberPath(path, name), e, depth+1); len(*errs) > before {
				return
			}
		}
	case []any:
		if depth == maxDepth {
			errs.add(path, "must be nested at most %d deep", maxDepth)
			return
		}
		for i, e := range v {
			if checkOption(errs, elementPath(path, i), e, depth+1); len(*errs) > before {
				return
			}
		}
	}
}
