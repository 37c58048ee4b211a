package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Project is what keys belong to, unique by name. Projects are a tree of at most three levels,
// and what a project restricts holds for all keys of it and below it.
type Project struct {
	Meta
	Name       string   `json:"name" store:"-" create:"required" pattern:"^[a-z0-9][a-z0-9_-]{0,62}(/[a-z0-9][a-z0-9_-]{0,62}){0,2}$" doc:"The path of the project: one to three parts, such as acme/search. The project that it is below must exist. The name cannot be changed."`
	Models     []string `json:"models" store:"-" maxItems:"10000" minLength:"1" maxLength:"256" doc:"The public names of the models that the keys below may use, without namespaces. A name may end in *, which stands for every ending. An empty list allows all."`
	Groups     []string `json:"groups" store:"-" maxItems:"10000" minLength:"1" maxLength:"64" doc:"The route groups that the keys below may have. An empty list allows all."`
	Namespaces []string `json:"namespaces" store:"-" maxItems:"10000" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" doc:"The namespaces of the models that the keys below may use. An empty list allows all."`
	Limits
	MaxKeys int64    `json:"max_keys,omitzero" min:"1" minimum:"1" maximum:"9007199254740991" doc:"The greatest number of keys of the project and of all below it. Without it there is no limit. Keys that are there already stay."`
	Budgets []Budget `json:"budgets" maxItems:"4" doc:"What all keys of the project and below it may cost together in a window of time. Each window of a time zone is there at most once."`
}

var pathForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}(/[a-z0-9][a-z0-9_-]{0,62}){0,2}$`)

// checkPath accepts the name of a project.
func checkPath(errs *FieldErrors, field, v string) {
	if !pathForm.MatchString(v) {
		errs.add(field, "must be one to three parts, with slashes between them, each of 1 to 63 of a-z 0-9 _ -, "+
			"the first a letter or a digit")
	}
}

// IsProjectPath reports whether a text can be the name of a project.
func IsProjectPath(path string) bool { return pathForm.MatchString(path) }

// ParentProject returns the project that another is below; "" for one that is below none.
func ParentProject(path string) string {
	return path[:max(strings.LastIndexByte(path, '/'), 0)]
}

// ProjectPath returns a project and all that it is below, the highest first; nothing for "".
func ProjectPath(path string) []string {
	var all []string
	for ; path != ""; path = ParentProject(path) {
		all = append(all, path)
	}
	slices.Reverse(all)
	return all
}

// InProject reports whether a project is another, or below it. Everything is in "".
func InProject(path, of string) bool { return under(path, of) }

func (*Project) kind() Kind { return KindProject }

func (p *Project) naturalKey() string { return p.Name }

func (p *Project) normalize() {
	p.Meta.normalize()
	p.Name = strings.TrimSpace(p.Name)
	p.Models, p.Groups, p.Namespaces = trimAll(p.Models), trimAll(p.Groups), trimAll(p.Namespaces)
	p.Budgets = normalizeBudgets(p.Budgets)
}

func (p *Project) check(rules) FieldErrors {
	var errs FieldErrors
	p.Meta.check(&errs)
	checkPath(&errs, "name", p.Name)
	checkList(&errs, "models", p.Models, checkPattern)
	checkList(&errs, "groups", p.Groups, checkGroup)
	checkList(&errs, "namespaces", p.Namespaces, checkNamespace)
	checkTogether(&errs, []string{"models", "groups", "namespaces"}, p.Models, p.Groups, p.Namespaces)
	p.Limits.check(&errs)
	checkLimit(&errs, "max_keys", p.MaxKeys)
	checkBudgets(&errs, p.Budgets)
	return errs
}

func (p *Project) columns() Entity {
	e := p.entity(KindProject)
	e.NaturalKey, e.Name, e.Ref = p.naturalKey(), p.Name, ParentProject(p.Name)
	e.Mentions, e.Groups, e.Namespaces = slices.Clone(p.Models), slices.Clone(p.Groups), slices.Clone(p.Namespaces)
	return e
}

func (p *Project) decode(e Entity, _ Keeper) error {
	*p = Project{}
	if err := e.spec(p); err != nil {
		return err
	}
	p.Name, p.Models = e.Name, append([]string{}, e.Mentions...)
	p.Groups, p.Namespaces = append([]string{}, e.Groups...), append([]string{}, e.Namespaces...)
	p.load(e)
	return nil
}

func (p *Project) touches() Touches {
	return Touches{NaturalKeys: sortedSet(p.Name), Refs: sortedSet(ParentProject(p.Name))}
}

func (p *Project) reads() bool { return len(p.Models) > 0 }

// follow refuses another name, and warns of budgets and names of models that allow nothing.
func (p *Project) follow(_ context.Context, tx *txn, before, after record) error {
	if after != nil {
		warnBudgets(tx, p, before, p.Budgets)
		had, _ := before.(lister)
		tx.unserved.list(had, p)
	}
	if old, ok := before.(*Project); ok && after != nil && old.Name != p.Name {
		return stays("name")
	}
	return nil
}

// stays says that a field cannot be changed.
func stays(field string) error {
	return &FieldError{Field: field, Message: "cannot be changed; create another one in its place"}
}

func (k *Key) reads() bool { return k.Project != "" || len(k.Models) > 0 }

// follow warns of what keeps a key from working, and checks what its projects allow, as far as
// the key asks for more than before.
func (k *Key) follow(ctx context.Context, tx *txn, before, after record) error {
	if after == nil {
		return nil
	}
	old, _ := before.(*Key)
	if old == nil {
		old = &Key{}
	}
	warnExpiry(tx, k, "expires_at", old.ExpiresAt, k.ExpiresAt)
	warnBudgets(tx, k, before, k.Budgets)
	had, _ := before.(lister)
	tx.unserved.list(had, k)
	if k.Project == "" {
		return nil
	}
	moves := old.Project != k.Project
	if moves {
		tx.grows(k)
	}
	if !moves && old.Group == k.Group && slices.Equal(old.Namespaces, k.Namespaces) {
		return nil
	}
	projects, err := tx.projectsOn(ctx, k.Project)
	if err != nil {
		return err
	}
	var errs FieldErrors
	for _, p := range projects {
		if (moves || old.Group != k.Group) && len(p.Groups) > 0 && !slices.Contains(p.Groups, k.Group) {
			errs.add("group", "must be one of the groups of its project and of those above it")
		}
		for i, n := range k.Namespaces {
			if (moves || !slices.Contains(old.Namespaces, n)) && len(p.Namespaces) > 0 && !slices.Contains(p.Namespaces, n) {
				errs.add(elementPath("namespaces", i), "must be one of the namespaces of its project and of those above it")
			}
		}
	}
	return errs.err()
}

// projectsOn returns the projects on a path that exist. Whether all do is for the store to say.
func (tx *txn) projectsOn(ctx context.Context, path string) (all []*Project, err error) {
	for _, name := range ProjectPath(path) {
		p, err := tx.project(ctx, name)
		if err != nil {
			return nil, err
		}
		if p != nil {
			all = append(all, p)
		}
	}
	return all, nil
}

// project returns a project, which must not be changed; nil when there is none. Thousands of keys
// may ask for the same one.
func (tx *txn) project(ctx context.Context, name string) (*Project, error) {
	if p, known := tx.projects[name]; known {
		return p, nil
	}
	var p *Project
	e, err := tx.find(ctx, KindProject, ByNaturalKey, name)
	if err == nil {
		p = &Project{}
		err = p.decode(e, tx.core.keeper)
	}
	switch {
	case errors.Is(err, ErrDamaged):
		return nil, &FieldError{Field: "project", Message: "must not be damaged, because what it allows is not known " +
			"then; send all of the project with PUT first"}
	case err != nil && !errors.Is(err, ErrNotFound):
		return nil, err
	}
	if tx.projects == nil {
		tx.projects = map[string]*Project{}
	}
	tx.projects[name] = p
	return p, nil
}

// grows notes that the projects of a key have another one.
func (tx *txn) grows(k *Key) {
	if tx.grown == nil {
		tx.grown = map[string]*Key{}
	}
	for _, name := range ProjectPath(k.Project) {
		tx.grown[name] = k
	}
}

// checkGrowth refuses a commit after which a project that has more keys than before has more
// than its max_keys. The store judges that again in the commit, as another key may come meanwhile.
func (tx *txn) checkGrowth(ctx context.Context) error {
	for _, path := range slices.Sorted(maps.Keys(tx.grown)) {
		p, err := tx.project(ctx, path)
		if err != nil {
			return err
		}
		if p == nil || p.MaxKeys == 0 {
			continue
		}
		tx.caps = append(tx.caps, Cap{Kind: KindKey, RefUnder: path, Max: p.MaxKeys})
		n, err := tx.count(ctx, KindKey, Query{RefUnder: path})
		if err != nil {
			return err
		}
		if n > p.MaxKeys {
			return &FieldError{Field: tx.fieldOf(tx.grown[path], "project"),
				Message: fmt.Sprintf("has no room for another key: it, or one above it, "+
					"and those below that may have %d (max_keys)", p.MaxKeys)}
		}
	}
	return nil
}
