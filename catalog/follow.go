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
	}
	old, ok := before.(*Model)
	if !ok || after != nil && old.Namespace == m.Namespace && old.Name == m.Name || tx.reader == nil {
		return nil
	}
	n, err := tx.count(ctx, KindKey, Query{Mentions: []string{old.Name}, Namespace: old.Namespace})
	if err != nil || n == 0 {
		return err
	}
	if !cascades(ctx) {
		tx.warnAbout(m, "", countOf(n, "key names", "keys name")+" it; the lists stay as they are without cascade")
		return nil
	}
	if n > maxCascade {
		return &FieldError{Field: "name",
			Message: fmt.Sprintf("is on more than %d lists, too many for one commit; change them first", maxCascade)}
	}
	to := ""
	if after != nil {
		to = m.Name
	}
	return tx.renameInLists(ctx, m, old, to)
}

// renameInLists replaces the old model's name by another, or takes it away where
// to is empty. It never empties a list, because that would allow all.
func (tx *txn) renameInLists(ctx context.Context, m, old *Model, to string) error {
	entities, err := tx.list(ctx, KindKey, Query{Mentions: []string{old.Name}, Namespace: old.Namespace})
	if err != nil {
		return err
	}
	var changed, kept int64
	others := map[string]bool{} // by namespace: whether another model there has the name
	for _, e := range entities {
		if tx.pinned[place{e.Kind, e.ID}] != nil {
			continue
		}
		var before, after Key
		if err := errors.Join(before.decode(e, tx.core.keeper), after.decode(e, tx.core.keeper)); err != nil {
			return err
		}
		shared, err := tx.modelElsewhere(ctx, others, old, before.Namespaces)
		if err != nil {
			return err
		}
		switch after.Models = replaceName(before.Models, old.Name, to, shared); {
		case len(after.Models) == 0:
			kept++
		case !slices.Equal(before.Models, after.Models):
			after.UpdatedAt = tx.now
			if err := tx.put(&before, &after); err != nil {
				return err
			}
			changed++
		}
	}
	tx.warnAbout(m, "", countOf(changed, "list was", "lists were")+" changed with it")
	if kept > 0 {
		tx.warnAbout(m, "", "it stays on "+countOf(kept, "list", "lists")+
			", where it is the only name: a list without names allows all models")
	}
	return nil
}

// modelElsewhere reports whether a key can reach another model of the same name.
func (tx *txn) modelElsewhere(ctx context.Context, known map[string]bool, old *Model,
	namespaces []string) (bool, error) {
	for _, namespace := range namespaces {
		if namespace == old.Namespace {
			continue
		}
		there, asked := known[namespace]
		if !asked {
			_, err := tx.find(ctx, KindModel, ByNaturalKey, ModelKey(namespace, old.Name))
			if err != nil && !errors.Is(err, ErrNotFound) {
				return false, err
			}
			there = err == nil
			known[namespace] = there
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

func countOf(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// follow warns of prices, and notes whose bindings pick from other models now.
func (p *Provider) follow(_ context.Context, tx *txn, before, after record) error {
	old, replaces := before.(*Provider)
	if after != nil {
		for model, prices := range p.Prices {
			warnPrices(tx, p, memberPath("prices", model)+".", prices)
		}
		if !replaces || old.Group != p.Group || !slices.Equal(old.Models, p.Models) {
			tx.renders(p.Group)
		}
	}
	return nil
}

// follow notes the providers from whose models the binding picks.
func (b *Binding) follow(_ context.Context, tx *txn, _, after record) error {
	if after != nil && b.SelectorType == SelectRegex {
		tx.renders(b.ProviderGroup)
	}
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
