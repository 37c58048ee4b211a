package catalog

import "strings"

// maxSlashes bounds how many names a request can be looked up under.
const maxSlashes = 8

// checkPattern accepts a name of a model, or with a star at its end the
// beginning of some: an element of an allow-list or of a provider's models.
func checkPattern(errs *FieldErrors, field, v string) {
	checkText(errs, field, v, 1, maxName)
	if i := strings.IndexByte(v, '*'); i >= 0 && i < len(v)-1 {
		errs.add(field, "must have * at its end only, where it stands for every ending")
	}
}

// checkModelName accepts the public name of a model. One that is * or ends in
// /* serves every name that begins so and has no model of its own.
func checkModelName(errs *FieldErrors, field, v string) {
	checkText(errs, field, v, 1, maxName)
	if strings.Contains(v, "*") && !IsWildcard(v) {
		errs.add(field, "must have no *, unless it is * or ends in /*, which serve every name that begins so")
	}
	if strings.Count(v, "/") > maxSlashes {
		errs.add(field, "must have at most %d slashes", maxSlashes)
	}
	if len(v) > maxNameBytes {
		errs.add(field, "must have at most %d bytes", maxNameBytes)
	}
}

// maxNameBytes is the longest name that balancers look for.
const maxNameBytes = 256

// IsWildcard reports whether the public name of a model stands for every name
// that begins as it does: "*", or a name that ends in "/*".
func IsWildcard(name string) bool {
	head, ok := strings.CutSuffix(name, "*")
	return ok && !strings.Contains(head, "*") && (head == "" || strings.HasSuffix(head, "/"))
}

// checkGroup accepts a group. A star would be taken for one that fits all groups.
func checkGroup(errs *FieldErrors, field, v string) {
	checkWord(errs, field, v, maxWord)
	if strings.Contains(v, "*") {
		errs.add(field, "must have no *, which stands for nothing here")
	}
}

// MatchesList reports whether a name is on a list: as it is, or by an element
// that ends in * and that it begins with. An empty list is on nothing: whether it
// allows all is for the caller to say.
func MatchesList(list []string, name string) bool {
	for _, pattern := range list {
		if pattern == name {
			return true
		}
		if head, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(name, head) {
			return true
		}
	}
	return false
}
