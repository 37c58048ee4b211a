package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Unchanged is the action of a [Step] that does nothing: the entity is as it should be.
const Unchanged Action = "unchanged"

// A Plan says what would be done, or was done, to bring a catalog into a desired state. It is
// a value: it can be printed, kept as JSON, compared, and expected later, see
// [ApplyOptions.Expect]. It holds no secret.
type Plan struct {
	// Hash names what the plan does: the SHA-256, in lower-case hex, of its steps, of the
	// revisions of the entities that it changes, and of keyed hashes of the secrets. Two plans
	// with the same hash do the same to the same entities.
	Hash string `json:"plan" doc:"The SHA-256 of what the plan does. Send it as expect, and the plan is applied only if it is still the same."`

	Store    string   `json:"store" doc:"The catalog that the plan is for."`
	Revision Revision `json:"revision" doc:"The revision of the catalog that the plan was made for or, when it was applied, the one that it made."`
	Applied  bool     `json:"applied" doc:"Whether it was done. A plan without changes is done, and makes no revision."`
	Owner    string   `json:"owner,omitempty" doc:"The owner for whom the plan was made."`
	Summary  Summary  `json:"summary" doc:"How many resources the plan touches, and how."`
	Steps    []Step   `json:"steps" doc:"What is done to each resource."`

	// Kept lists entities of the kinds that were to be pruned, or were to be deleted, which stay,
	// and those that a revert leaves alone: at most 100. Summary.Kept counts them all.
	Kept []Kept `json:"kept,omitempty" doc:"Resources that would have been deleted, or belong to others, and stay as they are. At most 100 are listed."`

	// NeedsForce lists the kinds of which the plan deletes more than half and more than 10
	// entities. It is applied only with force.
	NeedsForce []Kind `json:"needs_force,omitempty" doc:"The kinds of which more than half and more than 10 resources would be deleted. Such a plan is applied only with force."`

	// Warnings say what should be known about the steps: at most 100.
	Warnings []Warning `json:"warnings,omitempty" doc:"What should be known about it. At most 100 are listed."`

	// Documents says how many documents that balancers read the plan touches. Only who knows
	// documents sets it, see package snapshot.
	Documents *int `json:"documents,omitempty" minimum:"0" doc:"How many documents that balancers read are published anew when the plan is carried out. Only the answer to a dry run has it."`

	// Feed is, in a plan that was only made, what it would add to the change feed. Before and After
	// are there for changed providers only.
	Feed []Change `json:"-"`

	// Tokens are those of the new keys for which tokens were made. They are in no other place.
	Tokens []IssuedToken `json:"-"`
}

// Summary counts the steps of a [Plan].
type Summary struct {
	Create    int `json:"create" doc:"How many are created."`
	Update    int `json:"update" doc:"How many are changed."`
	Delete    int `json:"delete" doc:"How many are deleted."`
	Unchanged int `json:"unchanged" doc:"How many are as they should be."`
	Kept      int `json:"kept" doc:"How many others of the kinds to be pruned stay as they are."`
}

// A Step is what a [Plan] does to one entity.
type Step struct {
	Action     Action `json:"action" enum:"create,update,delete,unchanged" doc:"What is done."`
	Kind       Kind   `json:"kind" doc:"The kind of the resource."`
	Item       string `json:"item,omitempty" doc:"What of the request it comes from, such as bindings[3]. What follows from other steps has none."`
	ID         int64  `json:"id,omitzero" doc:"The id of the resource. One that is not created yet has none."`
	ExternalID string `json:"external_id,omitempty" doc:"The external_id of the resource."`
	Name       string `json:"name" doc:"What people know the resource by: the fields that make it unique, or its name."`

	// Revision is that of the entity before the step; 0 when it is new.
	Revision Revision `json:"revision,omitzero" doc:"The revision of the resource before. A new one has none."`

	Fields []Difference `json:"fields,omitempty" doc:"The fields that change. Of a new resource, those that are not at their default."`
	Notes  []string     `json:"notes,omitempty" doc:"What else is to be known of it."`

	secret string // keyed hash of the secrets that the step writes; for the plan's hash
}

// Difference is what becomes of one field.
type Difference struct {
	Field   string          `json:"field" doc:"The name of the field."`
	Before  json.RawMessage `json:"before,omitempty" doc:"What it was. A new resource has none."`
	After   json.RawMessage `json:"after,omitempty" doc:"What it becomes."`
	Changed bool            `json:"changed,omitzero" doc:"That it changes. It stands in the place of before and after where the field is a secret."`
}

// Kept is an entity that a [Plan] leaves alone, and why.
type Kept struct {
	Kind   Kind   `json:"kind" doc:"The kind of the resource."`
	ID     int64  `json:"id" doc:"The id of the resource."`
	Name   string `json:"name" doc:"What people know the resource by."`
	Reason string `json:"reason" doc:"Why it stays as it is."`
}

// IssuedToken is the token that was made for a new key.
type IssuedToken struct {
	Item       string // what of the desired state the key comes from
	ID         int64
	ExternalID string
	Name       string
	Token      Secret
}

// Changes reports whether the plan does anything.
func (p *Plan) Changes() bool { return p.Summary.Create+p.Summary.Update+p.Summary.Delete > 0 }

// String prints the plan, a line for each entity that it changes and one for each field, and a
// line of sums.
func (p *Plan) String() string {
	var b strings.Builder
	for i := range p.Steps {
		p.Steps[i].print(&b)
	}
	for _, k := range p.Kept {
		fmt.Fprintf(&b, "! %-9s %s    %s\n", k.Kind.Noun(), k.Name, k.Reason)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	s := p.Summary
	fmt.Fprintf(&b, "%d to create, %d to update, %d to delete, %d unchanged\n", s.Create, s.Update, s.Delete, s.Unchanged)
	return b.String()
}

func (s *Step) print(b *strings.Builder) {
	sign, shown := map[Action]string{ActionCreate: "+", ActionUpdate: "~", ActionDelete: "-"}[s.Action]
	if !shown {
		return
	}
	fmt.Fprintf(b, "%s %-9s %s\n", sign, s.Kind.Noun(), s.Name)
	for _, d := range s.Fields {
		fmt.Fprintf(b, "    %s\n", d)
	}
	for _, note := range s.Notes {
		fmt.Fprintf(b, "    (%s)\n", note)
	}
}

// String returns the difference in one line.
func (d Difference) String() string {
	switch {
	case d.Changed:
		return d.Field + " (changed)"
	case d.Before == nil:
		return d.Field + " " + string(d.After)
	default:
		return d.Field + " " + string(d.Before) + " → " + string(d.After)
	}
}

// count makes the sums and the hash of the plan.
func (p *Plan) count() {
	p.Summary = Summary{Kept: p.Summary.Kept}
	var lines []string
	for i := range p.Steps {
		s := &p.Steps[i]
		switch s.Action {
		case ActionCreate:
			p.Summary.Create++
		case ActionUpdate:
			p.Summary.Update++
		case ActionDelete:
			p.Summary.Delete++
		default:
			p.Summary.Unchanged++
			continue
		}
		lines = append(lines, s.identity())
	}
	slices.Sort(lines)
	sum := sha256.New()
	for _, line := range lines {
		sum.Write([]byte(line + "\n"))
	}
	p.Hash = hex.EncodeToString(sum.Sum(nil))
}

// identity is what the hash of the plan covers of a step: all but where it comes from. No part
// holds the separator.
func (s *Step) identity() string {
	const separator = "\x00"
	parts := []string{string(s.Action), string(s.Kind), strconv.FormatInt(s.ID, 10), s.ExternalID, s.Name,
		strconv.FormatInt(int64(s.Revision), 10), s.secret}
	for _, d := range s.Fields {
		parts = append(parts, d.Field, string(d.Before), string(d.After))
	}
	return strings.Join(append(parts, s.Notes...), separator)
}
