package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// maxCascade bounds the allow-lists that one commit changes.
const maxCascade = 100_000

// follow looks after the allow-lists that name a model by its old name, and warns
// of prices that look like those of single tokens.
func (m *Model) follow(ctx context.Context, tx *txn, before, after record) error {
	if after != nil {
		warnPrices(tx, m, "", m.Prices)
		tx.rendered.model(m)
	}
	old, ok := before.(*Model)
	if !ok || after != nil && old.Namespace == m.Namespace && old.Name == m.Name || tx.reader == nil {
		return nil
	}
	projects, err := tx.projectsListing(ctx, old)
	if err != nil {
		return err
	}
	listing := Query{Mentions: []string{old.Name}, Namespace: old.Namespace}
	n, err := tx.count(ctx, KindKey, listing)
	all, stay := n+int64(len(projects)), ""
	switch {
	case err != nil || all == 0:
		return err
	case !cascades(ctx):
		stay = "without cascade"
	case IsWildcard(old.Name) || after != nil && IsWildcard(m.Name):
		stay = "because a name with * stands there for every model whose name begins so"
	case all > maxCascade:
		return &FieldError{Field: "name",
			Message: fmt.Sprintf("is on more than %d lists, too many for one commit; change them first", maxCascade)}
	}
	if stay != "" {
		tx.warnAbout(m, "", countBoth(n, int64(len(projects)))+" it; the lists stay as they are "+stay)
		return nil
	}
	to := ""
	if after != nil {
		to = m.Name
	}
	keys, err := tx.list(ctx, KindKey, listing)
	if err != nil {
		return err
	}
	return tx.renameInLists(ctx, m, old, to, append(projects, keys...))
}

// A lister is a record with an allow-list of models.
type lister interface {
	record
	list() (models *[]string, namespaces []string)
}

var (
	_ lister = (*Key)(nil)
	_ lister = (*Project)(nil)
)

func (k *Key) list() (models *[]string, namespaces []string) { return &k.Models, k.Namespaces }

func (p *Project) list() (models *[]string, namespaces []string) { return &p.Models, p.Namespaces }

// projectsListing returns the projects whose lists name a model. One without namespaces allows
// those of all.
func (tx *txn) projectsListing(ctx context.Context, m *Model) ([]Entity, error) {
	all, err := tx.list(ctx, KindProject, Query{Mentions: []string{m.Name}, Limit: maxCascade + 1})
	return slices.DeleteFunc(all, func(e Entity) bool {
		return len(e.Namespaces) > 0 && !slices.Contains(e.Namespaces, m.Namespace)
	}), err
}

// renameInLists replaces the old model's name by another, or takes it away where
// to is empty. A list never allows more afterwards: it is not emptied, because an empty one
// allows all, and it does not get a name that another model has, too.
func (tx *txn) renameInLists(ctx context.Context, m, old *Model, to string, entities []Entity) error {
	var changed, only, taken, unreadable int64
	others := modelsElsewhere{tx: tx, known: map[string]bool{}}
	for _, e := range entities {
		if tx.pinned[place{e.Kind, e.ID}] != nil {
			continue
		}
		before, after := e.Kind.facts().new().(lister), e.Kind.facts().new().(lister)
		if err := errors.Join(before.decode(e, tx.core.keeper), after.decode(e, tx.core.keeper)); err != nil {
			unreadable++ // it holds up no other
			continue
		}
		models, namespaces := after.list()
		names := *models
		shared, err := others.have(ctx, old, old.Name, namespaces)
		wider := false
		if err == nil && to != "" && !slices.Contains(names, to) {
			wider, err = others.have(ctx, m, to, namespaces)
		}
		if err != nil {
			return err
		}
		switch *models = replaceName(names, old.Name, to, shared); {
		case len(*models) == 0:
			only++
		case wider:
			taken++
		case !slices.Equal(names, *models):
			after.meta().UpdatedAt = tx.now
			if err := tx.put(before, after); err != nil {
				return err
			}
			changed++
		}
	}
	tx.warnAbout(m, "", countOf(changed, "list was", "lists were")+" changed with it")
	for _, kept := range []struct {
		lists  int64
		reason string
	}{
		{only, "where it is the only name: a list without names allows all models"},
		{taken, "where the new name would allow another model, too"},
		{unreadable, "which cannot be read"},
	} {
		if kept.lists > 0 {
			tx.warnAbout(m, "", "it stays on "+countOf(kept.lists, "list", "lists")+", "+kept.reason)
		}
	}
	return nil
}

// modelsElsewhere are the models of a transaction, and remembers which there are.
type modelsElsewhere struct {
	tx    *txn
	known map[string]bool // by natural key
}

// have reports whether a model of the name is in one of some namespaces, or where those are none, in
// any, leaving aside the namespace of m.
func (o modelsElsewhere) have(ctx context.Context, m *Model, name string, namespaces []string) (bool, error) {
	if len(namespaces) == 0 {
		models, err := o.tx.list(ctx, KindModel, Query{Names: []string{name}, Limit: 2})
		return slices.ContainsFunc(models, func(e Entity) bool { return first(e.Namespaces) != m.Namespace }), err
	}
	for _, namespace := range namespaces {
		if namespace == m.Namespace {
			continue
		}
		key := ModelKey(namespace, name)
		there, asked := o.known[key]
		if !asked {
			_, err := o.tx.find(ctx, KindModel, ByNaturalKey, key)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return false, err
			}
			there = err == nil
			o.known[key] = there
		}
		if there {
			return true, nil
		}
	}
	return false, nil
}

// replaceName returns a list with to in the place of name; shared keeps name, too.
func replaceName(list []string, name, to string, shared bool) []string {
	var out []string
	for _, v := range list {
		if v != name || shared {
			out = append(out, v)
		}
		if v == name && to != "" && !slices.Contains(list, to) {
			out = append(out, to)
		}
	}
	return out
}

// countBoth says how many keys and projects name something: "12 keys and 1 project name".
func countBoth(keys, projects int64) string {
	of := []string{countOf(keys, "key", "keys"), countOf(projects, "project", "projects")}
	verb := " name"
	if keys+projects == 1 {
		verb = " names"
	}
	switch {
	case projects == 0:
		return of[0] + verb
	case keys == 0:
		return of[1] + verb
	}
	return of[0] + " and " + of[1] + verb
}

func countOf(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (*Provider) reads() bool { return true }

// follow warns of prices, and notes whose bindings pick from other models now.
func (p *Provider) follow(_ context.Context, tx *txn, before, after record) error {
	old, replaces := before.(*Provider)
	if after != nil {
		for model, prices := range p.Prices {
			warnPrices(tx, p, memberPath("prices", model)+".", prices)
		}
		if !replaces || old.Group != p.Group || !slices.Equal(old.Models, p.Models) {
			tx.rendered.provider(p)
		}
		if !replaces || !same(old, p) && !p.Sealed {
			warnProvider(tx, p)
		}
	}
	return nil
}

func (*Binding) reads() bool { return true }

// follow notes the model whose document names the providers of the binding, and what it picks.
func (b *Binding) follow(_ context.Context, tx *txn, before, after record) error {
	if after == nil {
		return nil
	}
	tx.rendered.binding(b)
	old, _ := before.(*Binding)
	tx.unserved.binding(old, b)
	return nil
}

const (
	leastUsualPrice = nano / 10_000
	mostUsualPrice  = 10_000 * nano
)

// warnPrices warns of token prices that look as if they were for a single token,
// or for another unit.
func warnPrices(tx *txn, r record, prefix string, p Prices) {
	check := func(prefix string, amounts [5]amount) {
		for _, a := range amounts {
			switch v := *a.value; {
			case v == nil || *v == 0 || a.field == "request_price":
			case *v < leastUsualPrice:
				tx.warnAbout(r, prefix+a.field, "is below 0.0001 USD per million tokens; is it the price of a single token?")
			case *v > mostUsualPrice:
				tx.warnAbout(r, prefix+a.field, "is above 10,000 USD per million tokens")
			}
		}
	}
	check(prefix, p.amounts())
	for i := range p.PriceTiers {
		check(elementPath(prefix+"price_tiers", i)+".", p.PriceTiers[i].amounts())
	}
}
