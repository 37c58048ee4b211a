package snapshot

import (
	"cmp"
	"slices"

	"github.com/ez-api/ez-api/catalog"
)

// A ListedModel is a model that a key can ask for.
type ListedModel struct {
	Name  string    // by which the key asks for it
	Model *ModelDoc // where the record's name has a star, it is that of many models
}

// Models returns what a key can ask for, in order of names, for GET /v1/models: models that are active,
// that the key and its projects allow, and that an active provider serves to its group. Held providers
// count, because holds come and go. A model of the key's default namespace is listed by its name, one of
// another namespace as "namespace.name". Records whose name has a star stand for names that nobody can
// list: those are listed that an allow-list has in full.
//
// It looks at every model, and takes some microseconds for each.
func (v *View) Models(key *Key) (listed []ListedModel) {
	if v.refusal != "" {
		return nil
	}
	seen := map[string]bool{}
	list := func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		if m := v.reachable(key, name); m != nil {
			listed = append(listed, ListedModel{name, m})
		}
	}
	for m := range v.models.all() {
		switch {
		case catalog.IsWildcard(m.Name):
		case m.Namespace == key.DefaultNamespace:
			list(m.Name)
		case slices.Contains(key.Namespaces, m.Namespace):
			list(m.Namespace + "." + m.Name)
		}
	}
	lists := [][]string{key.Models}
	for path := key.Project; path != ""; path = catalog.ParentProject(path) {
		if p := v.projects.get(path); p != nil {
			lists = append(lists, p.Models)
		}
	}
	for _, names := range lists {
		for _, name := range names {
			list(name) // one with a star is no name, and so is not found
		}
	}
	slices.SortFunc(listed, func(a, b ListedModel) int { return cmp.Compare(a.Name, b.Name) })
	return listed
}

// reachable returns the model that a name means, if the key can ask for it.
func (v *View) reachable(key *Key, name string) *ModelDoc {
	found, err := v.resolve(key, name, nil)
	if err != nil || v.allowedAbove(key, found, nil) != nil || found.Status != catalog.Active ||
		len(key.Models) > 0 && !catalog.MatchesList(key.Models, found.asked) {
		return nil
	}
	for i := range found.Candidates {
		if c := &found.Candidates[i]; c.RouteGroup != key.Group || c.Status != catalog.Active {
			continue
		}
		for _, u := range found.upstreams[i] {
			if p := v.providers.get(u.provider); p != nil && p.Status == catalog.Active && p.Error == "" {
				return v.models.get(modelName{found.Namespace, found.PublicModel})
			}
		}
	}
	return nil
}
