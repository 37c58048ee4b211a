package model

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// An oracle answers what a data plane is asked, from the raw catalog: no
// documents, no indexes, no code of package snapshot. It is the contract, read aloud.
type oracle struct {
	providers []catalog.Provider
	models    []catalog.Model
	bindings  []catalog.Binding
	keys      []catalog.Key
	projects  []catalog.Project
	holds     []catalog.Hold
}

func consult(ctx context.Context, tables *catalog.Tables) (o oracle, err error) {
	everything := catalog.Query{}
	if o.providers, err = collect(tables.Providers.All(ctx, everything)); err != nil {
		return o, err
	}
	if o.models, err = collect(tables.Models.All(ctx, everything)); err != nil {
		return o, err
	}
	if o.bindings, err = collect(tables.Bindings.All(ctx, everything)); err != nil {
		return o, err
	}
	if o.keys, err = collect(tables.Keys.All(ctx, everything)); err != nil {
		return o, err
	}
	if o.projects, err = collect(tables.Projects.All(ctx, everything)); err != nil {
		return o, err
	}
	o.holds, err = collect(tables.Holds.All(ctx, everything))
	return o, err
}

func collect[T any](seq func(yield func(T, error) bool)) (all []T, err error) {
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// authenticate returns the key that a token belongs to, and why it may not be used.
func (o oracle) authenticate(token string, addr netip.Addr, now time.Time) (*catalog.Key, error) {
	for i := range o.keys {
		key := &o.keys[i]
		for _, t := range key.Tokens {
			if t.Hash != catalog.HashToken(token) {
				continue
			}
			ends := []time.Time{key.ExpiresAt, t.ExpiresAt}
			expired := slices.ContainsFunc(ends, func(end time.Time) bool { return !end.IsZero() && !now.Before(end) })
			switch {
			case key.Status != catalog.Active:
				return key, snapshot.ErrKeyDisabled
			case expired:
				return key, snapshot.ErrKeyExpired
			case len(key.AllowIPs) > 0 && !slices.ContainsFunc(key.AllowIPs,
				func(allowed string) bool { return covers(allowed, addr) }):
				return key, snapshot.ErrAddress
			}
			return key, o.free(key, now)
		}
	}
	return nil, snapshot.ErrUnknownToken
}

// free returns why holds, or the projects of a key, keep it from being used.
func (o oracle) free(key *catalog.Key, now time.Time) error {
	if held := o.held(fmt.Sprint("key/", key.ID), now); held != nil {
		return held
	}
	for _, p := range o.above(key) {
		if p == nil {
			return snapshot.ErrUnknownProject
		}
		if p.Status != catalog.Active {
			return snapshot.ErrProjectDisabled
		}
		if held := o.held("project/"+p.Name, now); held != nil {
			return held
		}
	}
	return nil
}

// above returns the projects of a key, its own first; nil stands for one that is not there.
func (o oracle) above(key *catalog.Key) (all []*catalog.Project) {
	parts := strings.Split(key.Project, "/")
	for n := len(parts); n > 0 && key.Project != ""; n-- {
		i := slices.IndexFunc(o.projects, func(p catalog.Project) bool { return p.Name == strings.Join(parts[:n], "/") })
		if i < 0 {
			all = append(all, nil)
			continue
		}
		all = append(all, &o.projects[i])
	}
	return all
}

// held returns what the holds of a target amount to: the latest end, and the strongest reason.
func (o oracle) held(target string, now time.Time) error {
	var held *snapshot.ErrHeld
	for _, reason := range []string{"health", "budget", "admin"} {
		for _, h := range o.holds {
			if h.Target != target || h.Reason != reason || h.Status != catalog.Active ||
				!h.Until.IsZero() && !now.Before(h.Until) {
				continue
			}
			if held == nil {
				held = &snapshot.ErrHeld{Target: target, Until: h.Until}
			}
			held.Reason = reason
			if h.Until.IsZero() || !held.Until.IsZero() && h.Until.After(held.Until) {
				held.Until = h.Until
			}
		}
	}
	if held == nil {
		return nil
	}
	return held
}

// same reports whether two refusals are the same.
func same(got, want error) bool {
	a, held := want.(*snapshot.ErrHeld)
	if !held {
		return errors.Is(got, want)
	}
	var b *snapshot.ErrHeld
	return errors.As(got, &b) && a.Target == b.Target && a.Reason == b.Reason && a.Until.Equal(b.Until)
}

func covers(allowed string, addr netip.Addr) bool {
	if p, err := netip.ParsePrefix(allowed); err == nil {
		return p.Contains(addr)
	}
	return netip.MustParseAddr(allowed) == addr
}

// A rung is a set of targets that may come in any order.
type rung struct {
	bindingPriority, providerPriority int
	group                             string
	targets                           []string // "provider id upstream model api key", sorted
}

// route returns what may serve the model, from the best down.
func (o oracle) route(key *catalog.Key, name string) ([]rung, error) {
	model := o.model(key.DefaultNamespace, name)
	if namespace, rest, ok := strings.Cut(name, "."); model == nil && ok {
		model = o.model(namespace, rest)
	}
	switch {
	case model == nil:
		return nil, snapshot.ErrUnknownModel
	case !slices.Contains(key.Namespaces, model.Namespace):
		return nil, snapshot.ErrNamespace
	}
	for _, p := range o.above(key) {
		switch {
		case p == nil:
			return nil, snapshot.ErrUnknownProject
		case len(p.Namespaces) > 0 && !slices.Contains(p.Namespaces, model.Namespace):
			return nil, snapshot.ErrProjectNamespace
		case len(p.Groups) > 0 && !slices.Contains(p.Groups, key.Group):
			return nil, snapshot.ErrProjectGroup
		case len(p.Models) > 0 && !slices.Contains(p.Models, model.Name):
			return nil, snapshot.ErrProjectModel
		}
	}
	switch {
	case len(key.Models) > 0 && !slices.Contains(key.Models, model.Name):
		return nil, snapshot.ErrNotAllowed
	case model.Status != catalog.Active:
		return nil, snapshot.ErrModelDisabled
	}
	rungs, sick, err := o.ways(key, model, false)
	if err == nil && len(rungs) == 0 && sick { // holds for health never take the last
		rungs, _, err = o.ways(key, model, true)
	}
	if err == nil && len(rungs) == 0 {
		err = snapshot.ErrNoUpstream
	}
	return rungs, err
}

// ways returns what may serve a model to a key, and whether a provider was left out for its health
// alone, which anyhow disregards.
func (o oracle) ways(key *catalog.Key, model *catalog.Model, anyhow bool) (rungs []rung, sick bool, err error) {
	ways, now := 0, time.Now()
	for _, b := range o.bindingsOf(model) {
		if b.RouteGroup != key.Group || b.Status != catalog.Active {
			continue
		}
		ways++
		for _, p := range o.providers {
			upstream, ok := pick(b, p.Models)
			if p.Group != b.ProviderGroup || p.Status != catalog.Active || !ok {
				continue
			}
			refused, ill := false, false
			for _, target := range []string{fmt.Sprint("provider/", p.ID), fmt.Sprint("provider/", p.ID, "/", upstream)} {
				if held, _ := o.held(target, now).(*snapshot.ErrHeld); held != nil {
					refused, ill = refused || held.Reason != catalog.HoldHealth, true
				}
			}
			sick = sick || ill && !refused
			if refused || ill && !anyhow {
				continue
			}
			rungs = add(rungs, b, p, fmt.Sprintln(p.ID, upstream, p.APIKey.Reveal()))
		}
	}
	if ways == 0 {
		err = snapshot.ErrNoCandidate
	}
	return rungs, sick, err
}

func (o oracle) model(namespace, name string) *catalog.Model {
	for i := range o.models {
		if o.models[i].Namespace == namespace && o.models[i].Name == name {
			return &o.models[i]
		}
	}
	return nil
}

// bindingsOf returns the bindings of a model, which are implied where there is no record.
func (o oracle) bindingsOf(m *catalog.Model) (all []catalog.Binding) {
	for _, b := range o.bindings {
		if b.Namespace == m.Namespace && b.Model == m.Name {
			all = append(all, b)
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, p := range o.providers {
		known := slices.ContainsFunc(all, func(b catalog.Binding) bool { return b.ProviderGroup == p.Group })
		if slices.Contains(p.Models, m.Name) && !known {
			b := catalog.Binding{RouteGroup: p.Group, ProviderGroup: p.Group, SelectorType: "exact", SelectorValue: m.Name}
			b.Status = catalog.Active
			all = append(all, b)
		}
	}
	return all
}

// pick returns the one model that a selector hits.
func pick(b catalog.Binding, models []string) (upstream string, ok bool) {
	plain := func(s string) string {
		s = strings.ToLower(strings.TrimSpace(s))
		return s[strings.LastIndex(s, "/")+1:]
	}
	hits := 0
	for _, m := range models {
		hit := m == b.SelectorValue
		switch b.SelectorType {
		case "regex":
			hit = regexp.MustCompile(`^(?:` + b.SelectorValue + `)$`).MatchString(m)
		case "normalize_exact":
			hit = plain(m) == plain(b.SelectorValue)
		}
		if hit {
			upstream = m
			hits++
		}
	}
	return upstream, hits == 1
}

func add(rungs []rung, b catalog.Binding, p catalog.Provider, target string) []rung {
	for i := range rungs {
		r := &rungs[i]
		if r.bindingPriority == b.Priority && r.providerPriority == p.Priority && r.group == b.ProviderGroup {
			r.targets = append(r.targets, target)
			slices.Sort(r.targets)
			return rungs
		}
	}
	return append(rungs, rung{b.Priority, p.Priority, b.ProviderGroup, []string{target}})
}

// check says how targets differ from what the rungs allow.
func check(rungs []rung, targets []snapshot.Target) error {
	var last rung
	for i := 0; i < len(targets); {
		id := targets[i].Provider.ID
		at := slices.IndexFunc(rungs, func(r rung) bool {
			return slices.ContainsFunc(r.targets, func(t string) bool { return strings.HasPrefix(t, fmt.Sprint(id, " ")) })
		})
		if at < 0 {
			return fmt.Errorf("target %d, provider %d, may not be there, or not again", i, id)
		}
		r := rungs[at]
		var got []string
		for _, t := range targets[i:min(i+len(r.targets), len(targets))] {
			got = append(got, fmt.Sprintln(t.Provider.ID, t.UpstreamModel, t.Provider.APIKey.Reveal()))
		}
		slices.Sort(got)
		if !slices.Equal(got, r.targets) {
			return fmt.Errorf("targets %d to %d are %q, want %q in some order", i, i+len(got), got, r.targets)
		}
		worse := r.bindingPriority > last.bindingPriority ||
			r.group == last.group && r.providerPriority > last.providerPriority
		if i > 0 && worse {
			return fmt.Errorf("target %d is better than what comes before it", i)
		}
		last = r
		rungs = slices.Delete(slices.Clone(rungs), at, at+1)
		i += len(r.targets)
	}
	if len(rungs) > 0 {
		return fmt.Errorf("targets are missing: %v", rungs)
	}
	return nil
}
