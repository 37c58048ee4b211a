package catalog

import (
	"cmp"
	"context"
	"maps"
	"slices"
)

const (
	// LabelOwner is the label that says whose an entity is, see [PlanOptions.Owner].
	LabelOwner = "owner"

	// LabelProtected is the label that, with the value "true", keeps an entity from being deleted.
	// Like the owner, it is only taken from an entity by who names it.
	LabelProtected = "protected"

	maxKept     = 100 // that a plan lists
	maxWarnings = 100 // that a plan lists
	maxScanned  = 5_000
)

// protected reports whether an entity must not be deleted.
func protected(labels map[string]string) bool { return labels[LabelProtected] == "true" }

// A target is what one entity is to become.
type target struct {
	at     string // how the plan and errors name it: "bindings[3]"
	want   record
	before record // as it is; nil where it is new
	back   bool   // it comes back under the id that it had
	silent silence
	wrong  bool                           // it was refused already
	hidden struct{ externalID, key bool } // what it would be found by was refused
	notes  []string
	made   bool // a token was made for it
}

// silence says which settings an item of a desired state does not name, so that they keep the values
// of the stored entity.
type silence struct {
	status bool
	prices bool // of a model
	labels []string
}

func silenceOf(r record) silence {
	m := r.meta()
	s := silence{status: m.Status == ""}
	if model, ok := r.(*Model); ok {
		s.prices = !model.HasAny() && model.PriceSource == ""
	}
	for _, name := range []string{LabelOwner, LabelProtected} {
		if _, named := m.Labels[name]; !named {
			s.labels = append(s.labels, name)
		}
	}
	return s
}

// keep takes over from the entity that is there what the target is silent about.
func (t *target) keep() (errs FieldErrors) {
	m, is := t.want.meta(), t.before.meta()
	if t.silent.status && m.Status != is.Status {
		m.Status = is.Status
		t.notes = append(t.notes, "stays "+string(is.Status)+", because status is not named")
	}
	if t.silent.prices {
		t.keepImportedPrices()
	}
	for _, name := range t.silent.labels {
		if value, has := is.Labels[name]; has {
			m.Labels[name] = value
		}
	}
	if len(m.Labels) > maxLabels {
		m.check(&errs)
	}
	return errs
}

// keepImportedPrices: who describes models in files does not lose what an importer has added.
func (t *target) keepImportedPrices() {
	m, ok := t.want.(*Model)
	if is, same := t.before.(*Model); ok && same && is.PriceSource != PriceSourceManual {
		m.Prices, m.PriceSource = is.Prices.Clone(), is.PriceSource
	}
}

// externalID returns what the store may be asked for: nothing that the rules refuse.
func (t *target) externalID() string {
	if t.hidden.externalID {
		return ""
	}
	return t.want.meta().ExternalID
}

// key returns the natural key that the store may be asked for.
func (t *target) key() string {
	if t.hidden.key {
		return ""
	}
	return t.want.naturalKey()
}

func (t *target) place() place { return place{t.want.kind(), t.want.meta().ID} }

// A planner makes a plan within a transaction: it writes there what is to be done, and reads the
// steps from what was written. All that is refused is collected.
type planner struct {
	tx      *txn
	opts    PlanOptions
	stored  map[Kind]*storedEntities
	targets []*target
	claimed map[place]*target // of the entities that are there
	removed []record
	kept    []Kept
	others  int // that stay, and are not in kept
	refused refusals
	fields  map[Kind]*recordFields
}

func newPlanner(tx *txn, opts PlanOptions) *planner {
	return &planner{
		tx: tx, opts: opts, stored: map[Kind]*storedEntities{}, claimed: map[place]*target{},
		fields: map[Kind]*recordFields{},
	}
}

// desire takes the targets from a desired state.
func (p *planner) desire(ctx context.Context, d Desired) error {
	scope := scopeOf(d.Store, p.tx.reader.Head().Store)
	for _, k := range d.Kinds() {
		if k.facts().imperative {
			p.refused.add(ErrInvalid, string(k), "are no part of a desired state: make them one by one")
			continue
		}
		first := len(p.targets)
		for i, r := range d.items[k] {
			p.targets = append(p.targets, p.wanted(elementPath(string(k), i), r))
		}
		if err := p.match(ctx, k, p.targets[first:], scope); err != nil {
			return err
		}
		if p.opts.Prune {
			if err := p.prune(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// wanted makes a target of an item of a desired state, which stays as it is.
func (p *planner) wanted(at string, item record) *target {
	t := &target{at: at, want: copyOf(item)}
	m := t.want.meta()
	if owner := p.opts.Owner; owner != "" {
		if other, named := m.Labels[LabelOwner]; named && other != owner {
			p.refuse(t, ErrInvalid, "labels."+LabelOwner, "must be the owner for whom it is applied, or be left out")
		}
		m.Labels = maps.Clone(m.Labels)
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		m.Labels[LabelOwner] = owner
	}
	t.silent = silenceOf(t.want)
	p.accept(t)
	return t
}

// accept refuses a target that is not acceptable by the rules.
func (p *planner) accept(t *target) {
	t.want.normalize()
	errs := t.want.check(p.tx.core.rules)
	for _, e := range errs {
		t.hidden.externalID = t.hidden.externalID || e.Field == string(ByExternalID)
		t.hidden.key = t.hidden.key || slices.Contains(t.want.kind().facts().key, e.Field)
	}
	p.refuseFields(t, errs)
	if t.want.meta().Damaged {
		p.refuse(t, ErrInvalid, "damaged", "is true: all that is known of it are its name and its like")
	}
}

// refuse notes that a target cannot be, because of one field; "" is all of it.
func (p *planner) refuse(t *target, reason error, field, format string, args ...any) {
	t.wrong = true
	at := t.at
	if field != "" {
		at += "." + field
	}
	p.refused.add(reason, at, format, args...)
}

func (p *planner) refuseFields(t *target, errs FieldErrors) {
	for _, e := range errs {
		p.refuse(t, ErrInvalid, e.Field, "%s", e.Message)
	}
}

// refuseOr refuses a target for an error about its fields, and returns any other error.
func (p *planner) refuseOr(t *target, err error) error {
	fields := FieldsOf(err)
	if fields == nil {
		return err
	}
	p.refuseFields(t, fields)
	return nil
}

// prune removes what the owner owns of a kind and no target has claimed.
func (p *planner) prune(ctx context.Context, k Kind) error {
	stored := p.stored[k]
	for _, id := range slices.Sorted(maps.Keys(stored.byID)) {
		e := stored.byID[id]
		if e.Labels[LabelOwner] != p.opts.Owner || p.claimed[place{k, id}] != nil {
			continue
		}
		if err := p.remove(e); err != nil {
			return err
		}
	}
	return p.keepOthers(ctx, k)
}

// remove deletes an entity, unless it is protected.
func (p *planner) remove(e Entity) error {
	if protected(e.Labels) {
		p.kept = append(p.kept, Kept{e.Kind, e.ID, nameOf(e), "is protected"})
		return nil
	}
	before, err := show(e, p.tx.core.keeper)
	if err != nil {
		return err
	}
	p.removed = append(p.removed, before)
	return p.tx.remove(before)
}

// keepOthers notes what of a kind is not named, and stays because it belongs to others.
func (p *planner) keepOthers(ctx context.Context, k Kind) error {
	total, err := p.tx.reader.Count(ctx, k, Query{})
	if err != nil {
		return err
	}
	left := int(total)
	for at := range p.claimed {
		if at.kind == k {
			left--
		}
	}
	for id, e := range p.stored[k].byID {
		if e.Labels[LabelOwner] == p.opts.Owner && p.claimed[place{k, id}] == nil {
			left-- // it is removed or, being protected, among the kept
		}
	}
	p.others += left
	q := Query{Limit: pageSize}
	for scanned := 0; left > 0 && scanned < maxScanned && len(p.kept) < maxKept; scanned += q.Limit {
		page, err := p.tx.reader.List(ctx, k, q)
		if err != nil {
			return err
		}
		for _, e := range page {
			q.After = e.ID
			owner := e.Labels[LabelOwner]
			if owner == p.opts.Owner || p.claimed[place{k, e.ID}] != nil || len(p.kept) == maxKept {
				continue
			}
			left--
			p.others--
			reason := LabelOwner + "=" + owner + ": left alone"
			if owner == "" {
				reason = "no owner: left alone"
			}
			p.kept = append(p.kept, Kept{k, e.ID, nameOf(e), reason})
		}
		if len(page) < q.Limit {
			break
		}
	}
	return nil
}

// nameOf returns what people know an entity by.
func nameOf(e Entity) string { return cmp.Or(e.NaturalKey, e.Name) }

// write writes all targets, then does what follows from that, and checks the end.
func (p *planner) write(ctx context.Context) error {
	hashes := map[string]*target{}
	for _, t := range p.targets {
		if t.wrong {
			continue
		}
		if err := p.refuseOr(t, p.put(ctx, t, hashes)); err != nil {
			return err
		}
	}
	p.tx.pinned = p.claimed
	for _, t := range p.targets {
		if w := p.tx.pending(t.want.kind(), t.want.meta().ID); w != nil && !t.wrong {
			if err := p.refuseOr(t, t.want.follow(ctx, p.tx, t.before, t.want)); err != nil {
				return err
			}
		}
	}
	if err := p.tx.afterRemoval(ctx, p.removed...); err != nil {
		return err
	}
	p.checkUnique()
	if err := p.checkReferences(ctx); err != nil {
		return err
	}
	return p.refused.err()
}

// put writes one target, if that changes anything.
func (p *planner) put(ctx context.Context, t *target, hashes map[string]*target) error {
	r, m := t.want, t.want.meta()
	given := !r.issued().IsZero()
	if t.before != nil {
		if errs := t.keep(); len(errs) > 0 {
			return errs
		}
	}
	if errs := r.succeed(t.before, nil); len(errs) > 0 {
		return errs
	}
	if t.before != nil {
		m.continues(t.before.meta())
		diff, err := p.fieldsOf(r.kind()).differences(t.before, r)
		if err != nil || len(diff) == 0 && t.before.hidden() == r.hidden() {
			return err
		}
		m.UpdatedAt = p.tx.now
		p.tx.note(t.before, r)
		return nil
	}
	t.made = !given && !r.issued().IsZero()
	if t.back {
		m.UpdatedAt, m.Revision = p.tx.now, 0
	} else {
		id, err := p.tx.nextID(ctx)
		if err != nil {
			return err
		}
		m.ID, m.CreatedAt, m.UpdatedAt, m.Revision = id, p.tx.now, p.tx.now, 0
	}
	p.claimed[t.place()] = t
	p.tx.note(nil, r)
	for _, h := range p.tx.pending(r.kind(), m.ID).Entity.Hashes {
		if other := hashes[h]; other != nil {
			p.refuse(t, ErrInvalid, string(ByHash), "is the same as that of %s", other.at)
		}
		hashes[h] = t
	}
	return nil
}
