package model

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// commit writes one thing. What the rules of the catalog refuse is no failure.
func (w *world) commit(r *rand.Rand) error {
	err := w.write(r, w.tables)
	if errors.Is(err, catalog.ErrExists) || errors.Is(err, catalog.ErrReferenced) ||
		errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrInvalid) {
		return nil
	}
	return err
}

// commitMuch writes many keys at once, or takes most of them away.
func (w *world) commitMuch(r *rand.Rand) error {
	var tokens []string
	_, err := w.tables.Update(w.ctx, func(tx *catalog.Tx) error {
		tokens = nil
		for key, err := range w.tables.Keys.All(w.ctx, catalog.Query{}) {
			if err != nil {
				return err
			}
			if r.IntN(3) > 0 {
				if _, err := tx.Keys.Delete(w.ctx, key.ID, 0); err != nil {
					return err
				}
			}
		}
		n := r.IntN(60)
		if r.IntN(8) == 0 {
			n = 1100 // too many for a delta
		}
		for range n {
			key, err := tx.Keys.Create(w.ctx, randomKey(r))
			if err != nil {
				return err
			}
			tokens = append(tokens, key.Token.Reveal())
		}
		return nil
	})
	w.tokens = append(w.tokens, tokens...)
	return err
}

func (w *world) rotate(r *rand.Rand) error {
	for key, err := range w.tables.Keys.All(w.ctx, catalog.Query{}) {
		if err != nil {
			return err
		}
		if r.IntN(3) == 0 {
			key, err := w.tables.Keys.Rotate(w.ctx, key.ID, time.Duration(r.IntN(2))*time.Hour, 0)
			w.tokens = append(w.tokens, key.Token.Reveal())
			return err
		}
	}
	return nil
}

func (w *world) write(r *rand.Rand, t *catalog.Tables) error {
	ctx := w.ctx
	switch r.IntN(6) {
	case 0:
		return change(w, r, t.Providers, func() (catalog.Provider, error) {
			return t.Providers.Create(ctx,
				randomProvider(r))
		},
			func(p *catalog.Provider) {
				fresh := randomProvider(r)
				fresh.Meta, fresh.Name = p.Meta, p.Name
				fresh.Status = catalog.Status(one(r, "active", "disabled"))
				*p = fresh
			})
	case 1:
		return change(w, r, t.Models, func() (catalog.Model, error) { return t.Models.Create(ctx, randomModel(r)) },
			func(m *catalog.Model) { m.Status = catalog.Status(one(r, "active", "disabled")) })
	case 2:
		return change(w, r, t.Bindings, func() (catalog.Binding, error) { return t.Bindings.Create(ctx, randomBinding(r)) },
			func(b *catalog.Binding) {
				fresh := randomBinding(r)
				b.Priority, b.SelectorType, b.SelectorValue, b.Status = fresh.Priority, fresh.SelectorType,
					fresh.SelectorValue, catalog.Status(one(r, "active", "disabled"))
			})
	case 3:
		return change(w, r, t.Projects, func() (catalog.Project, error) { return t.Projects.Create(ctx, randomProject(r)) },
			func(p *catalog.Project) {
				fresh := randomProject(r)
				p.Models, p.Groups, p.Namespaces = fresh.Models, fresh.Groups, fresh.Namespaces
				p.Status = catalog.Status(one(r, "active", "active", "disabled"))
			})
	case 4:
		target, err := w.randomTarget(r)
		if err != nil {
			return err
		}
		return change(w, r, t.Holds, func() (catalog.Hold, error) { return t.Holds.Create(ctx, randomHold(r, target)) },
			func(h *catalog.Hold) {
				h.Status, h.Until = catalog.Status(one(r, "active", "disabled")), randomHold(r, target).Until
			})
	default:
		return change(w, r, t.Keys.Table, func() (catalog.Key, error) {
			fresh := randomKey(r)
			fresh.Project = one(r, "", "a", "a/b", "c")
			key, err := t.Keys.Create(ctx, fresh)
			w.tokens = append(w.tokens, key.Token.Reveal())
			return key, err
		}, func(k *catalog.Key) {
			fresh := randomKey(r)
			k.Group, k.Namespaces, k.DefaultNamespace, k.Models, k.AllowIPs, k.ExpiresAt = fresh.Group,
				fresh.Namespaces, fresh.DefaultNamespace, fresh.Models, fresh.AllowIPs, fresh.ExpiresAt
			k.Status = catalog.Status(one(r, "active", "active", "disabled"))
			k.Project = one(r, "", "a", "a/b", "c")
		})
	}
}

// change creates an entity, or edits or deletes one of those that exist.
func change[T catalog.Noun](w *world, r *rand.Rand, table catalog.Table[T], create func() (T, error),
	edit func(*T)) error {
	all, err := collect(table.All(w.ctx, catalog.Query{}))
	if err != nil {
		return err
	}
	if len(all) == 0 || r.IntN(2) == 0 {
		_, err := create()
		return err
	}
	id := idOf(all[r.IntN(len(all))])
	if r.IntN(4) == 0 {
		_, err := table.Delete(w.ctx, id, 0)
		return err
	}
	_, err = table.Edit(w.ctx, id, func(v *T) error { edit(v); return nil })
	return err
}

func idOf(v any) int64 {
	switch v := v.(type) {
	case catalog.Provider:
		return v.ID
	case catalog.Model:
		return v.ID
	case catalog.Binding:
		return v.ID
	case catalog.Key:
		return v.ID
	case catalog.Project:
		return v.ID
	case catalog.Hold:
		return v.ID
	}
	panic(fmt.Sprintf("no noun: %T", v))
}

func randomProject(r *rand.Rand) catalog.Project {
	p := catalog.Project{Name: one(r, "a", "a/b", "c")}
	if r.IntN(3) == 0 {
		p.Models, p.Groups, p.Namespaces = some(r, "m0", "m1", "vendor/m1"), some(r, "default", "eu"), some(r, "default",
			"team")
	}
	return p
}

// randomTarget returns something to hold: a key, a project, a provider, or one of its models.
func (w *world) randomTarget(r *rand.Rand) (string, error) {
	keys, err := collect(w.tables.Keys.All(w.ctx, catalog.Query{}))
	if err != nil {
		return "", err
	}
	providers, err := collect(w.tables.Providers.All(w.ctx, catalog.Query{}))
	if err != nil {
		return "", err
	}
	switch n := r.IntN(4); {
	case n == 0 && len(keys) > 0:
		return fmt.Sprint("key/", keys[r.IntN(len(keys))].ID), nil
	case n == 1 && len(providers) > 0:
		return fmt.Sprint("provider/", providers[r.IntN(len(providers))].ID), nil
	case n == 2 && len(providers) > 0:
		return fmt.Sprint("provider/", providers[r.IntN(len(providers))].ID, "/",
			one(r, "m0", "m1", "m0-2026", "vendor/m1")), nil
	}
	return "project/" + one(r, "a", "a/b", "c"), nil
}

func randomHold(r *rand.Rand, target string) catalog.Hold {
	h := catalog.Hold{Target: target, Reason: one(r, catalog.HoldReasons()...)}
	if r.IntN(2) == 0 { // none ends while the test is at work
		h.Until = time.Now().Add(time.Duration(1+r.IntN(48)) * time.Hour).UTC().Truncate(time.Microsecond)
	}
	return h
}

func one(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

// some returns some of the values, perhaps none.
func some(r *rand.Rand, of ...string) (chosen []string) {
	for _, v := range of {
		if r.IntN(2) == 0 {
			chosen = append(chosen, v)
		}
	}
	return chosen
}

func randomProvider(r *rand.Rand) catalog.Provider {
	return catalog.Provider{
		Name: one(r, "p0", "p1", "p2", "p3", "p4", "p5"), Type: "openai", Group: one(r, "default", "eu", "us"),
		APIKey: catalog.NewSecret(fmt.Sprint("sk-", r.Uint64())), Weight: new(r.IntN(3)), Priority: r.IntN(3),
		Models: some(r, "m0", "m1", "m2", "vendor/m1", "other/M1", "M0", "m0-2026", "m1-2026"),
	}
}

func randomModel(r *rand.Rand) catalog.Model {
	return catalog.Model{Namespace: one(r, "default", "default", "team"),
		Name: one(r, "m0", "m1", "m2", "vendor/m1", "team.m1")}
}

func randomBinding(r *rand.Rand) catalog.Binding {
	b := catalog.Binding{
		Namespace: one(r, "default", "default", "team"), Model: one(r, "m0", "m1", "m2", "vendor/m1"),
		RouteGroup:    one(r, "default", "eu"),
		ProviderGroup: one(r, "", "eu", "us"), Weight: new(r.IntN(3)), Priority: r.IntN(2),
	}
	switch r.IntN(4) {
	case 0:
		b.SelectorType, b.SelectorValue = "regex", one(r, "m0.*", "m[01]-2026", ".*", "m1|m2")
	case 1:
		b.SelectorType, b.SelectorValue = "normalize_exact", one(r, "M1", "x/m0")
	case 2:
		b.SelectorValue = one(r, "m0-2026", "vendor/m1")
	}
	return b
}

func randomKey(r *rand.Rand) catalog.Key {
	k := catalog.Key{Name: "k", Group: one(r, "default", "default", "eu", "us")}
	if r.IntN(2) == 0 {
		k.Namespaces = one2(r, []string{"team"}, []string{"default", "team"}, []string{"team", "default"})
	}
	if r.IntN(4) == 0 {
		k.Models = []string{"m0", "vendor/m1"}
	}
	if r.IntN(4) == 0 {
		k.AllowIPs = one2(r, []string{"192.0.2.0/24"}, []string{"198.51.100.1"})
	}
	if r.IntN(4) == 0 {
		k.ExpiresAt = time.Now().Add(time.Duration(1+r.IntN(600)) * time.Second).UTC().Truncate(time.Microsecond)
	}
	return k
}

func one2(r *rand.Rand, of ...[]string) []string { return of[r.IntN(len(of))] }
