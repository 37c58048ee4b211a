package catalog

import (
	"context"
	"errors"
	"fmt"
)

// PlanOptions are the settings of [Tables.Plan]. Nil means the defaults.
type PlanOptions struct {
	// Owner labels every entity of the desired state owner=Owner. A stored entity that has another
	// owner, or none, is refused with ErrOwned. Defaults to none: owners do not matter.
	Owner string

	// TakeOver also changes entities of other owners and of none, and makes Owner their owner.
	TakeOver bool

	// Prune deletes the entities that belong to Owner, are of a kind that the desired state names,
	// and are not in it. Those with the label protected=true stay. It needs an Owner.
	Prune bool
}

// ApplyOptions are the settings of [Tables.Apply]. Nil means the defaults.
type ApplyOptions struct {
	PlanOptions

	// Expect is the Hash of the plan that is to be applied. If the plan is another one by now,
	// nothing is done. Defaults to any plan.
	Expect string

	// Force applies a plan also when it deletes more than half and more than 10 entities of
	// a kind.
	Force bool

	// DryRun makes the plan and does not carry it out. Unlike [Tables.Plan], it fails when the plan
	// is not the one that Expect names.
	DryRun bool
}

// RevertOptions are the settings of [Tables.Revert]. Nil means the defaults.
type RevertOptions struct {
	// Expect and Force are those of [ApplyOptions].
	Expect string
	Force  bool

	// DryRun makes the plan and does nothing.
	DryRun bool
}

// Plan says what [Tables.Apply] would do to bring the catalog into a desired state, and changes
// nothing. Every entity of d is created, or made equal to what d says. A field that d leaves out
// gets its default, but some keep the stored value: Status, the labels owner and protected, a
// provider's APIKey, a key's tokens, and prices of a model that an importer has set. References and
// uniqueness are judged by the state at the end, whatever the order: two entities may swap names.
//
// The error wraps ErrInvalid, ErrOwned, ErrExists or ErrReferenced, and [FieldsOf] names up to
// 100 fields, such as "bindings[3].selector_value".
func (t *Tables) Plan(ctx context.Context, d Desired, opts *PlanOptions) (Plan, error) {
	if opts == nil {
		opts = &PlanOptions{}
	}
	return t.core.settle(ctx, settling{dryRun: true}, desiredBy(d, *opts))
}

// Apply brings the catalog into a desired state, in one revision, or in none when it is in that
// state already, and returns what it did, see [Tables.Plan]. It depends on the entities that it
// changes and refers to, and on no others: while somebody changes one of them, it plans again.
//
// The error may also wrap ErrForce or ErrPlanChanged; then the plan that was refused comes with
// it.
func (t *Tables) Apply(ctx context.Context, d Desired, opts *ApplyOptions) (Plan, error) {
	if opts == nil {
		opts = &ApplyOptions{}
	}
	how := settling{dryRun: opts.DryRun, expect: opts.Expect, force: opts.Force}
	return t.core.settle(ctx, how, desiredBy(d, opts.PlanOptions))
}

// A planning says what a planner is to do, and with which settings.
type planning struct {
	opts   PlanOptions
	choose func(context.Context, *planner) error // the targets, and what is to be removed
}

func desiredBy(d Desired, opts PlanOptions) planning {
	return planning{opts, func(ctx context.Context, p *planner) error {
		if err := opts.check(); err != nil {
			return err
		}
		if d.Len() > MaxDesired {
			return fmt.Errorf("a desired state has at most %d resources: %w", MaxDesired, ErrTooMany)
		}
		return p.desire(ctx, d)
	}}
}

func (o PlanOptions) check() error {
	var errs FieldErrors
	checkText(&errs, "owner", o.Owner, 0, maxName)
	if o.Prune && o.Owner == "" {
		errs.add("owner", "is required with prune: only what an owner owns is deleted")
	}
	return errs.err()
}

// settling says how a plan is carried out.
type settling struct {
	dryRun bool
	expect string
	force  bool
}

// maxCollisions bounds how often a plan is made again because the store refused what the plan
// said was free. When that persists, the store and the plan disagree.
const maxCollisions = 3

// settle makes a plan and carries it out. While others change what it depends on, it makes the
// plan again.
func (c *core) settle(ctx context.Context, s settling, what planning) (Plan, error) {
	if err := whole(ctx); err != nil {
		return Plan{}, err
	}
	if s.expect != "" && !hashForm.MatchString(s.expect) {
		return Plan{}, &FieldError{Field: "expect",
			Message: "must be the plan that a dry run answered: 64 hexadecimal digits"}
	}
	tokenTaken := false
	for try, collisions := 1, 0; ; try++ {
		tx := &txn{core: c, now: c.now()}
		var p *planner
		var plan Plan
		_, err := tx.run(ctx, guarded, func(tx *txn) (err error) {
			p = newPlanner(tx, what.opts)
			plan, err = p.make(ctx, what, tokenTaken)
			return err
		})
		switch {
		case err != nil:
			return Plan{}, err
		case s.expect != "" && s.expect != plan.Hash:
			return plan, fmt.Errorf("%w: %w", ErrPlanChanged, ErrConflict)
		case s.dryRun:
			plan.Feed, err = tx.feed()
			return plan, err
		case len(plan.NeedsForce) > 0 && !s.force:
			return plan, fmt.Errorf("more than half of the %s would be deleted: %w", kindList(plan.NeedsForce), ErrForce)
		case len(tx.places) == 0:
			plan.Applied = true
			return plan, nil
		}
		revision, err := c.carryOut(ctx, tx)
		switch {
		case err == nil:
			plan.Revision, plan.Applied = revision, true
			p.complete(&plan)
			tx.warn(ctx)
			return plan, nil
		case errors.Is(err, ErrExists), errors.Is(err, ErrReferenced):
			if collisions++; collisions == maxCollisions {
				return Plan{}, err
			}
			tokenTaken = true
		case !errors.Is(err, ErrConflict) || try == maxTries:
			return Plan{}, err
		}
		if err := pause(ctx, try); err != nil {
			return Plan{}, err
		}
	}
}

// feed returns what a plan would add to the change feed.
func (tx *txn) feed() (changes []Change, err error) {
	for _, w := range tx.writes {
		if w == nil {
			continue
		}
		if w.Entity.Kind == KindProvider && w.before != nil {
			if err := w.show(); err != nil {
				return nil, err
			}
		}
		changes = append(changes, w.Change)
	}
	return changes, nil
}

// carryOut commits what a plan has written.
func (c *core) carryOut(ctx context.Context, tx *txn) (Revision, error) {
	if tx.missing > 0 {
		first, err := c.store.NextIDs(ctx, tx.missing)
		if err != nil {
			return 0, err
		}
		tx.identify(first)
	}
	return c.commit(ctx, tx, 0)
}

// make makes the plan. checkTokens finds out whose token is taken.
func (p *planner) make(ctx context.Context, what planning, checkTokens bool) (Plan, error) {
	if err := what.choose(ctx, p); err != nil {
		return Plan{}, err
	}
	if err := p.write(ctx); err != nil {
		return Plan{}, err
	}
	if checkTokens {
		if err := errors.Join(p.checkHashes(ctx), p.refused.err()); err != nil {
			return Plan{}, err
		}
	}
	if err := p.tx.warnUnserved(ctx); err != nil {
		return Plan{}, err
	}
	return p.plan(ctx)
}

// complete adds to a plan what is known only when it is done: new ids, and tokens.
func (p *planner) complete(plan *Plan) {
	for i, t := range p.targets {
		m := t.want.meta()
		plan.Steps[i].ID = m.ID
		if t.made {
			plan.Tokens = append(plan.Tokens, IssuedToken{
				Item: t.at, ID: m.ID, ExternalID: m.ExternalID, Name: plan.Steps[i].Name, Token: t.want.issued(),
			})
		}
	}
	for i, w := range p.tx.warned()[:len(plan.Warnings)] {
		plan.Warnings[i].ID = w.ID
	}
}
