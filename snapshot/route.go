package snapshot

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Target is one provider that may serve a request.
type Target struct {
	Provider      *Provider
	UpstreamModel string // what the provider calls the model
	Namespace     string // of the model
	Model         string // what was asked for, without a namespace
	RouteGroup    string // the key's group
	ProviderGroup string
}

// binding is a BindingDoc as it is walked for each request.
type binding struct {
	BindingDoc
	upstreams [][]upstream // of each candidate, in order of provider id
}

type upstream struct {
	provider int64
	model    string
}

func newBinding(d *BindingDoc) *binding {
	b := &binding{BindingDoc: *d, upstreams: make([][]upstream, len(d.Candidates))}
	for i, c := range d.Candidates {
		for id, model := range c.Upstreams {
			b.upstreams[i] = append(b.upstreams[i], upstream{mustID(id), model})
		}
		slices.SortFunc(b.upstreams[i], func(a, b upstream) int { return cmp.Compare(a.provider, b.provider) })
	}
	return b
}

// Route returns the providers that may serve a model to a key, in the order in
// which to try them, each at most once. The model is a name as a client
// writes it: a public name in the key's default namespace, or "namespace.name"; see
// [Names] for the records that it may mean. It does not ask whether the key may be
// used at all, see [View.Authenticate].
//
// The candidates for the key's group come in order of priority, the highest
// first; those of one priority in a random order that follows their weights: the
// first is each with a chance proportional to its weight, and so on for the rest;
// those of weight 0 come last. The providers of a candidate are ordered the same way.
//
// Providers that are held at this time are left out, and so are models of theirs. Holds for
// health are disregarded when they would leave nobody.
//
// The error is a [Refusal].
func (v *View) Route(key *Key, model string, now time.Time) ([]Target, error) {
	return v.AppendTargets(nil, key, model, now)
}

// AppendTargets is Route, but appends to dst, so that a caller that uses its
// slice again allocates nothing.
func (v *View) AppendTargets(dst []Target, key *Key, model string, now time.Time) ([]Target, error) {
	if v.refusal != "" {
		return dst, v.refusal
	}
	return v.walk(dst, key, model, now, nil)
}

// trace is told each step of a walk: what was asked, whether it passed, and what was found.
type trace func(check string, ok bool, detail string)

// walk is the one routing walk, of requests and of explanations. A nil trace costs nothing.
func (v *View) walk(dst []Target, key *Key, model string, now time.Time, tell trace) ([]Target, error) {
	found, err := v.resolve(key, model, tell)
	if err != nil {
		return dst, err
	}
	if err := v.allowedAbove(key, found, tell); err != nil {
		return dst, err
	}
	b := found.binding
	allowed := len(key.Models) == 0 || catalog.MatchesList(key.Models, found.asked)
	if tell != nil {
		tell("allow-list", allowed, fmt.Sprintf("the key's list has %d models; an empty one allows all", len(key.Models)))
	}
	if !allowed {
		return dst, ErrNotAllowed
	}
	if tell != nil {
		tell("model status", b.Status == catalog.Active, string(b.Status))
	}
	if b.Status != catalog.Active {
		return dst, ErrModelDisabled
	}

	var space [8]ranked
	order := space[:0]
	for i := range b.Candidates {
		c := &b.Candidates[i]
		fits := c.RouteGroup == key.Group && c.Status == catalog.Active
		if tell != nil {
			tell("candidate", fits, fmt.Sprintf("route group %q to provider group %q, %s, priority %d, weight %d; "+
				"the key's group is %q",
				c.RouteGroup, c.ProviderGroup, c.Status, c.Priority, c.Weight, key.Group))
		}
		if fits {
			order = append(order, v.rank(i, c.Priority, c.Weight))
		}
	}
	if len(order) == 0 {
		return dst, ErrNoCandidate
	}
	sortRanked(order)
	start := len(dst)
	w := walking{now: now, tell: tell}
	for _, r := range order {
		dst = v.appendCandidate(dst, start, found, r.index, &w)
	}
	if len(dst) == start && w.sick {
		if tell != nil {
			tell("health", true, "every provider is held, some for health alone: holds for health are disregarded")
		}
		w = walking{now: now, tell: tell, anyhow: true}
		for _, r := range order {
			dst = v.appendCandidate(dst, start, found, r.index, &w)
		}
	}
	if len(dst) == start {
		return dst, ErrNoUpstream
	}
	return dst, nil
}

// walking is one way through the candidates.
type walking struct {
	now    time.Time
	anyhow bool // holds for health are disregarded
	sick   bool // a provider was left out because of its health alone
	tell   trace
}

// takes reports whether a hold lets a provider be used.
func (w *walking) takes(h *HoldDoc) bool {
	switch {
	case h == nil:
		return true
	case h.Reason != catalog.HoldHealth:
		return false
	}
	w.sick = true
	return w.anyhow
}

// meant is the record that a name means.
type meant struct {
	*binding
	asked string // the name asked for, without the namespace of the record
	star  string // what the final * of the record stands for
}

// resolve finds the model that a name means: the first of [Names] that exists.
func (v *View) resolve(key *Key, model string, tell trace) (meant, error) {
	var found meant
	lookupNames(key.DefaultNamespace, model, func(n modelName, asked, star string) bool {
		b := v.binding(n)
		if tell != nil {
			tell("model name", b != nil, fmt.Sprintf("%q in namespace %q", n.name, n.namespace))
		}
		found = meant{b, asked, star}
		return b != nil
	})
	if found.binding == nil {
		return found, ErrUnknownModel
	}
	member := slices.Contains(key.Namespaces, found.Namespace)
	if tell != nil {
		tell("namespace", member, fmt.Sprintf("%q among the key's namespaces %q", found.Namespace, key.Namespaces))
	}
	if !member {
		return found, ErrNamespace
	}
	return found, nil
}

// appendCandidate appends the active providers of one candidate that are not
// in dst[start:] yet.
func (v *View) appendCandidate(dst []Target, start int, b meant, index int, w *walking) []Target {
	c, tell := &b.Candidates[index], w.tell
	var space [16]ranked
	order := space[:0]
	for i, u := range b.upstreams[index] {
		p := v.providers.get(u.provider)
		fits := p != nil && p.Status == catalog.Active && p.Error == ""
		if tell != nil {
			tell("provider", fits, v.describe(u, c))
		}
		if fits && v.holds.table.n > 0 {
			h := v.providerHold(u.provider, b.upstream(u.model), w.now)
			fits = w.takes(h)
			if tell != nil && h != nil {
				t, _ := catalog.ParseHoldTarget(h.Target)
				tell("provider hold", fits, describeHold(t, h))
			}
		}
		if fits {
			order = append(order, v.rank(i, p.Priority, p.Weight))
		}
	}
	if tell != nil {
		for _, id := range slices.Sorted(maps.Keys(c.Errors)) {
			tell("provider", false, fmt.Sprintf("provider %s of group %q: %s", id, c.ProviderGroup, c.Errors[id]))
		}
		if c.Error == NoProvider {
			tell("provider", false, fmt.Sprintf("group %q has no provider", c.ProviderGroup))
		}
	}
	sortRanked(order)
	for _, r := range order {
		u := b.upstreams[index][r.index]
		if slices.ContainsFunc(dst[start:], func(t Target) bool { return t.Provider.ID == u.provider }) {
			if tell != nil {
				tell("provider", false, fmt.Sprintf("provider %d is a target already", u.provider))
			}
			continue
		}
		p := v.providers.get(u.provider)
		dst = append(dst, Target{
			Provider: p, UpstreamModel: b.upstream(u.model), Namespace: b.Namespace, Model: b.asked,
			RouteGroup: c.RouteGroup, ProviderGroup: c.ProviderGroup,
		})
	}
	return dst
}

// upstream returns what a provider calls the model that was asked for.
func (b meant) upstream(model string) string {
	if head, ok := strings.CutSuffix(model, "*"); ok && catalog.IsWildcard(b.PublicModel) {
		return head + b.star
	}
	return model
}

func (v *View) describe(u upstream, c *Candidate) string {
	p, ok := v.Provider(u.provider)
	if !ok {
		return fmt.Sprintf("provider %d of group %q has no document", u.provider, c.ProviderGroup)
	}
	if p.Error != "" {
		return fmt.Sprintf("provider %d of group %q has no secret that can be opened (%s)", p.ID, c.ProviderGroup, p.Error)
	}
	return fmt.Sprintf("provider %d of group %q, %s, priority %d, weight %d, serves it as %q",
		p.ID, c.ProviderGroup, p.Status, p.Priority, p.Weight, u.model)
}

// ranked is a place in an order that is being made.
type ranked struct {
	index    int
	priority int
	draw     float64
}

// rank draws a place. Among draws of an exponential distribution with the
// weight as its rate, each is the smallest with a chance proportional to its
// weight, and so on for the rest (Efraimidis and Spirakis: Weighted random
// sampling with a reservoir, 2006).
// Weight 0 comes after all others, in a random order.
func (v *View) rank(index, priority, weight int) ranked {
	draw := v.rand()
	if weight == 0 {
		return ranked{index, priority, math.MaxFloat64 / 2 * (1 + draw)}
	}
	return ranked{index, priority, -math.Log1p(-draw) / float64(weight)}
}

func sortRanked(order []ranked) {
	slices.SortFunc(order, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.draw, b.draw))
	})
}
