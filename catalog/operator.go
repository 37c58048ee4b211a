package catalog

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Operator is somebody, or something, that uses the API with a token of their own, unique by
// name. Operators are never published.
type Operator struct {
	Meta
	Name string `json:"name" store:"-" create:"required" minLength:"1" maxLength:"128" doc:"The name of the operator. No other operator has it. In the change feed, the actor is operator: and this name."`
	Credential
	Role      string    `json:"role" create:"required" enum:"admin,viewer,balancer" doc:"What the operator may do: admin everything, viewer read, balancer read snapshots, post logs and report about itself."`
	Project   string    `json:"project,omitempty" store:"-" pattern:"^[a-z0-9][a-z0-9_-]{0,62}(/[a-z0-9][a-z0-9_-]{0,62}){0,2}$" doc:"Limits an admin or a viewer to this project and all below it. The project must exist. Without it the operator is not limited."`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"When the operator's token ends, from 1970 on. Without it the token does not end."`

	// LastUsedAt is recorded once an hour; see [Operators.NoteUse].
	LastUsedAt time.Time `json:"last_used_at,omitzero" readOnly:"true" doc:"When the operator's token was last used, to the hour. One that was never used has none."`
}

// The roles of operators.
const (
	RoleAdmin    = "admin"
	RoleViewer   = "viewer"
	RoleBalancer = "balancer"
)

// OperatorRoles lists the values of Operator.Role.
func OperatorRoles() []string { return []string{RoleAdmin, RoleViewer, RoleBalancer} }

// maxOperatorName leaves room for what stands before the name in the change feed.
const maxOperatorName = 128

// storedOperator is an Operator with what of it is stored and not shown.
type storedOperator struct {
	*plainOperator
	Tokens *[]TokenHash `json:"tokens"`
}

type plainOperator Operator

func (*Operator) kind() Kind { return KindOperator }

func (*Operator) newToken() Secret { return NewOperatorToken() }

func (o *Operator) naturalKey() string { return o.Name }

func (o *Operator) normalize() {
	o.Meta.normalize()
	for _, s := range []*string{&o.Name, &o.Role, &o.Project} {
		*s = strings.TrimSpace(*s)
	}
	o.ExpiresAt = micros(o.ExpiresAt)
}

func (o *Operator) check(rules) FieldErrors {
	var errs FieldErrors
	o.Meta.check(&errs)
	checkText(&errs, "name", o.Name, 1, maxOperatorName)
	if !slices.Contains(OperatorRoles(), o.Role) {
		errs.add("role", "must be one of %s", strings.Join(OperatorRoles(), ", "))
	}
	if o.Project != "" {
		checkPath(&errs, "project", o.Project)
		if o.Role == RoleBalancer {
			errs.add("project", "must be left out for the role balancer, which serves all projects")
		}
	}
	checkExpiry(&errs, o.ExpiresAt)
	return errs
}

func (o *Operator) issued() Secret { return o.Token }

func (o *Operator) hidden() string { return o.state() }

// succeed gives a new operator its tokens, those that it brings or a fresh one, and
// leaves a stored one those that it has.
func (o *Operator) succeed(stored record, _ map[string]bool) FieldErrors {
	if before, ok := stored.(*Operator); ok {
		if before.Damaged {
			return lostTokens()
		}
		o.LastUsedAt = before.LastUsedAt
		return o.keep(before.Credential)
	}
	o.LastUsedAt = time.Time{}
	return o.begin(o.newToken)
}

// receive takes the members with which an operator imports tokens.
func (o *Operator) receive(errs *FieldErrors, object map[string]any, form body) {
	if form == newBody {
		o.receiveTokens(errs, object)
	}
}

// follow warns of a token that never works.
func (o *Operator) follow(_ context.Context, tx *txn, before, after record) error {
	if after != nil {
		old, _ := before.(*Operator)
		if old == nil {
			old = &Operator{}
		}
		warnExpiry(tx, o, "expires_at", old.ExpiresAt, o.ExpiresAt)
	}
	return nil
}

func (o *Operator) columns() Entity {
	e := o.entity(KindOperator)
	e.NaturalKey, e.Name, e.Ref = o.naturalKey(), o.Name, o.Project
	e.Hashes, e.DueAt = o.index()
	return e
}

func (o *Operator) unseen(Keeper) ([]member, error) { return []member{{"tokens", o.Tokens}}, nil }

func (o *Operator) decode(e Entity, _ Keeper) error {
	*o = Operator{}
	if err := e.spec(&storedOperator{(*plainOperator)(o), &o.Tokens}); err != nil {
		return err
	}
	o.Name, o.Project = e.Name, e.Ref
	o.load(e)
	return nil
}

func (o *Operator) touches() Touches {
	return Touches{NaturalKeys: sortedSet(o.Name), Refs: sortedSet(o.Project), Hashes: o.hashes()}
}
