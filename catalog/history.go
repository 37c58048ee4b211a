package catalog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// At returns the catalog as it was at a revision: of every kind of [DesiredKinds] all entities,
// with their ids, and without secrets, tokens and their hashes. It is made from what is there and
// from the change feed, and the error wraps ErrCompacted when that does not reach back so far.
func (t *Tables) At(ctx context.Context, revision Revision) (d Desired, err error) {
	if err := whole(ctx); err != nil {
		return d, err
	}
	err = t.core.store.Read(ctx, func(r Reader) error {
		d = Desired{Store: r.Head().Store}
		past, err := readPast(ctx, r, "revision", revision)
		if err != nil {
			return err
		}
		for _, k := range DesiredKinds() {
			if err := past.restore(ctx, r, t.core.keeper, k, &d); err != nil {
				return err
			}
		}
		return nil
	})
	return d, err
}

// past is what the feed tells of the entities that were changed after a revision.
type past struct {
	first   map[place]Change // the first change of each
	deleted map[place]Revision
	order   []place
}

// readPast reads the feed after a revision. field names the revision in errors.
func readPast(ctx context.Context, r Reader, field string, revision Revision) (*past, error) {
	if revision < 0 || revision > r.Head().Revision {
		return nil, &FieldError{Field: field, Message: "must be a revision that the catalog has had"}
	}
	kinds := DesiredKinds() // the feed may hold others, of another version too
	p := &past{first: map[place]Change{}, deleted: map[place]Revision{}}
	for at := (Cursor{Revision: revision}); ; {
		page, err := r.Changes(ctx, at, feedPage)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			at = c.Cursor()
			if !slices.Contains(kinds, c.Kind) {
				continue
			}
			key := place{c.Kind, c.ID}
			if c.Action == ActionDelete {
				p.deleted[key] = c.Revision
			}
			if _, known := p.first[key]; known {
				continue
			}
			if len(p.order) == MaxDesired {
				return nil, fmt.Errorf("more than %d resources have changed since: %w", MaxDesired, ErrTooMany)
			}
			p.first[key] = Change{Kind: c.Kind, ID: c.ID, Before: c.Before}
			p.order = append(p.order, key)
		}
		if len(page) < feedPage {
			return p, nil
		}
	}
}

// restore adds all entities of a kind as they were.
func (p *past) restore(ctx context.Context, r Reader, keeper Keeper, k Kind, d *Desired) error {
	d.name(k)
	q := Query{Limit: pageSize}
	for more := true; more; {
		page, err := r.List(ctx, k, q)
		if err != nil {
			return err
		}
		for _, e := range page {
			q.After = e.ID
			if _, changed := p.first[place{k, e.ID}]; changed {
				continue
			}
			v, err := shownOf(e, keeper)
			if err != nil {
				return err
			}
			d.items[k] = append(d.items[k], v)
		}
		more = len(page) == q.Limit
	}
	for _, key := range p.order {
		if c := p.first[key]; key.kind == k && c.Before != nil {
			v, err := fromFeed(k, c.Before)
			if err != nil {
				return err
			}
			d.items[k] = append(d.items[k], v)
		}
	}
	slices.SortFunc(d.items[k], func(a, b record) int { return cmp.Compare(a.meta().ID, b.meta().ID) })
	return nil
}

// shownOf returns what the API shows of a stored entity.
func shownOf(e Entity, keeper Keeper) (record, error) {
	v, err := show(e, keeper)
	if err != nil {
		return nil, err
	}
	text, err := plainJSON(v)
	if err != nil {
		return nil, err
	}
	return fromFeed(e.Kind, text)
}

// fromFeed reads one side of a change.
func fromFeed(k Kind, text []byte) (record, error) {
	v := k.facts().new()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return nil, fmt.Errorf("a %s in the change feed cannot be read: %w", k.Noun(), err)
	}
	return v, nil
}

// Revert brings the catalog back into the state that it had at a revision, as a new revision, and
// returns what it did. Secrets, tokens and their hints of what still exists stay as they are. What
// was deleted comes back under its old id: a provider disabled and without api_key, and a key with
// a new token, which is in the plan's Tokens. The plan says so. Nothing that is protected is
// deleted.
//
// The error wraps ErrCompacted when the feed does not reach back so far, and ErrInvalid when
// something of then is not acceptable any more: [FieldsOf] names it, as "providers/7.base_url".
// See [Tables.Apply] for the others.
func (t *Tables) Revert(ctx context.Context, to Revision, opts *RevertOptions) (Plan, error) {
	return t.core.revert(ctx, opts, fmt.Sprintf("return to revision %d", to),
		func(ctx context.Context, p *planner) error { return p.returnTo(ctx, to) })
}

// RevertOne takes back what was changed in one revision, as a new revision, and leaves what came
// after as it is. Fields that were changed again since, and entities that were deleted or made
// again, are collisions: the error wraps ErrConflict, and [FieldsOf] names them. See
// [Tables.Revert].
func (t *Tables) RevertOne(ctx context.Context, revision Revision, opts *RevertOptions) (Plan, error) {
	return t.core.revert(ctx, opts, fmt.Sprintf("take back revision %d", revision),
		func(ctx context.Context, p *planner) error { return p.takeBack(ctx, revision) })
}

func (c *core) revert(ctx context.Context, opts *RevertOptions, reason string,
	choose func(context.Context, *planner) error) (Plan, error) {
	if opts == nil {
		opts = &RevertOptions{}
	}
	if actor, given := ActorFrom(ctx); given == "" {
		ctx = WithActor(ctx, actor, reason)
	}
	how := settling{dryRun: opts.DryRun, expect: opts.Expect, force: opts.Force}
	return c.settle(ctx, how, planning{choose: choose})
}

// returnTo takes the targets from how the entities were that changed after a revision.
func (p *planner) returnTo(ctx context.Context, to Revision) error {
	past, err := readPast(ctx, p.tx.reader, "to", to)
	if err != nil {
		return err
	}
	for _, k := range DesiredKinds() {
		var ids []int64
		for _, key := range past.order {
			if key.kind == k {
				ids = append(ids, key.id)
			}
		}
		if err := fetch(ctx, p, k, ids, byIDs); err != nil {
			return err
		}
		for _, id := range ids {
			at := place{k, id}
			if err := p.returnOne(at, past.first[at].Before, past.deleted[at]); err != nil {
				return err
			}
		}
		if err := p.readRivals(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// returnOne makes an entity what it was; nothing when it was not there. deleted is the revision in
// which it was deleted meanwhile, or 0.
func (p *planner) returnOne(at place, was []byte, deleted Revision) error {
	now, exists := p.of(at.kind).byID[at.id]
	if was == nil {
		if !exists {
			return nil
		}
		return p.remove(now)
	}
	want, err := fromFeed(at.kind, was)
	if err != nil {
		return err
	}
	t := &target{at: pathOf(at.kind, at.id), want: want, back: !exists}
	if exists {
		if t.before, err = show(now, p.tx.core.keeper); err != nil {
			return err
		}
		p.claimed[at] = t
	}
	p.aim(t, want.comeBack(t.before, deleted))
	return nil
}

// aim adds a target, as far as it is acceptable by the rules of today. note says what of it cannot
// come back.
func (p *planner) aim(t *target, note string) {
	if note != "" {
		t.notes = []string{note}
	}
	p.accept(t)
	p.targets = append(p.targets, t)
}

// readRivals reads the entities of a kind that have what the targets want to have.
func (p *planner) readRivals(ctx context.Context, k Kind) error {
	var mine []*target
	for _, t := range p.targets {
		if t.want.kind() == k {
			mine = append(mine, t)
		}
	}
	return p.read(ctx, k, mine, idsMeanNothing)
}

// readRevision reads the changes of one revision that can be taken back, and notes the others.
func (p *planner) readRevision(ctx context.Context, revision Revision) (all []Change, err error) {
	r := p.tx.reader
	if revision < 1 || revision > r.Head().Revision {
		return nil, &FieldError{Field: "revision", Message: "must be a revision that the catalog has had"}
	}
	kinds := DesiredKinds()
	for at, there := (Cursor{Revision: revision - 1}), false; ; {
		page, err := r.Changes(ctx, at, feedPage)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			if at = c.Cursor(); c.Revision > revision {
				break
			}
			there = true
			switch {
			case c.Kind == "", c.Action == ActionReseal:
			case slices.Contains(kinds, c.Kind):
				all = append(all, c)
			case len(p.kept) < maxKept:
				p.kept = append(p.kept, Kept{c.Kind, c.ID, pathOf(c.Kind, c.ID), "a revert leaves " + string(c.Kind) + " alone"})
			default:
				p.others++
			}
		}
		if !there {
			return nil, fmt.Errorf("the changes of revision %d: %w", revision, ErrCompacted) // were thinned out
		}
		if len(page) < feedPage || at.Revision > revision {
			return all, nil
		}
		if len(all) > MaxDesired {
			return nil, fmt.Errorf("more than %d resources were changed: %w", MaxDesired, ErrTooMany)
		}
	}
}
