package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// pathOf names an entity that no item of a request names: "bindings/17".
func pathOf(k Kind, id int64) string { return fmt.Sprintf("%s/%d", k, id) }

// plan reads the plan from what the planner has written.
func (p *planner) plan(ctx context.Context) (Plan, error) {
	head := p.tx.reader.Head()
	plan := Plan{Store: head.Store, Revision: head.Revision, Owner: p.opts.Owner, Steps: []Step{}, Kept: p.kept}
	plan.Summary.Kept = len(p.kept) + p.others
	targets := map[place]*target{}
	for _, t := range p.targets {
		targets[t.place()] = t
		step, err := p.step(p.tx.pending(t.want.kind(), t.want.meta().ID), t)
		if err != nil {
			return plan, err
		}
		plan.Steps = append(plan.Steps, step)
	}
	for _, w := range p.tx.writes { // removals, and what follows
		if w == nil || targets[place{w.Entity.Kind, w.Entity.ID}] != nil || w.Entity.Kind.facts().imperative {
			continue
		}
		step, err := p.step(w, nil)
		if err != nil {
			return plan, err
		}
		plan.Steps = append(plan.Steps, step)
	}
	for _, w := range p.tx.warned()[:min(len(p.tx.warnings), maxWarnings)] {
		if w.ID >= provisional {
			w.ID = 0
		}
		plan.Warnings = append(plan.Warnings, w)
	}
	plan.count()
	return plan, p.guard(ctx, &plan)
}

// step describes a write, or a target that needs none.
func (p *planner) step(w *pendingWrite, t *target) (step Step, err error) {
	switch {
	case w == nil:
		m := t.want.meta()
		step = Step{Action: Unchanged, Kind: t.want.kind(), ID: m.ID, ExternalID: m.ExternalID, Revision: m.Revision}
		step.Name = p.nameOf(t.want)
	default:
		r := w.after
		if w.Delete {
			r = w.before
		}
		step = Step{Action: w.Change.Action, Kind: w.Entity.Kind, ID: w.Entity.ID, Revision: w.If}
		step.ExternalID, step.Name = r.meta().ExternalID, p.nameOf(r)
		if !w.Delete {
			step.Fields, err = p.fieldsOf(step.Kind).differences(w.before, w.after)
		}
	}
	if step.ID >= provisional {
		step.ID = 0
	}
	if t != nil {
		step.Item, step.Notes = t.at, t.notes
	}
	if w != nil && !w.Delete && (t == nil || !t.made) && (w.before == nil || w.before.hidden() != w.after.hidden()) {
		step.secret = p.tx.core.hasher.Hash(w.after.hidden())
	}
	return step, err
}

// nameOf returns what people know a record by.
func (p *planner) nameOf(r record) string {
	if key := r.naturalKey(); key != "" {
		return key
	}
	return p.fieldsOf(r.kind()).name(r)
}

const (
	manyDeletes = 10 // of a kind, beyond which more than half need force
)

// guard notes the kinds of which too much is deleted to be done without being asked.
func (p *planner) guard(ctx context.Context, plan *Plan) error {
	deletes := map[Kind]int64{}
	for i := range plan.Steps {
		if plan.Steps[i].Action == ActionDelete {
			deletes[plan.Steps[i].Kind]++
		}
	}
	for _, k := range Kinds() {
		if deletes[k] <= manyDeletes {
			continue
		}
		total, err := p.tx.reader.Count(ctx, k, Query{})
		if err != nil {
			return err
		}
		if 2*deletes[k] > total {
			plan.NeedsForce = append(plan.NeedsForce, k)
		}
	}
	return nil
}

// recordFields are the fields of a kind that people set, and a record with all at their default.
type recordFields struct {
	list  []recordField
	blank record
}

type recordField struct {
	name   string
	index  []int
	secret bool
	omit   bool // the JSON leaves it out when it is zero
}

// fieldsOf returns the fields of a kind, in the order of the Go type.
func (p *planner) fieldsOf(k Kind) *recordFields {
	if f := p.fields[k]; f != nil {
		return f
	}
	f := newRecordFields(k)
	p.fields[k] = f
	return f
}

func newRecordFields(k Kind) *recordFields {
	f := &recordFields{blank: k.facts().new()}
	f.blank.normalize()
	for _, field := range reflect.VisibleFields(reflect.TypeOf(f.blank).Elem()) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous || !field.IsExported() || name == "-" || field.Tag.Get("readOnly") == "true" {
			continue
		}
		f.list = append(f.list, recordField{
			name: name, index: field.Index, secret: field.Type == reflect.TypeFor[Secret](),
			omit: strings.HasPrefix(options, "omit"),
		})
	}
	return f
}

// name returns the field "name" of a record without natural key.
func (f *recordFields) name(r record) string {
	i := slices.IndexFunc(f.list, func(field recordField) bool { return field.name == "name" })
	if i < 0 {
		return ""
	}
	return reflect.ValueOf(r).Elem().FieldByIndex(f.list[i].index).String()
}

// differences lists the fields in which two records differ. before is nil for a new record,
// whose fields are compared with the defaults.
func (f *recordFields) differences(before, after record) ([]Difference, error) {
	was := before
	if before == nil {
		was = f.blank
	}
	a, b := reflect.ValueOf(was).Elem(), reflect.ValueOf(after).Elem()
	var all []Difference
	for _, field := range f.list {
		old, new := a.FieldByIndex(field.index), b.FieldByIndex(field.index)
		if field.secret {
			if !old.Interface().(Secret).Equal(new.Interface().(Secret)) {
				all = append(all, Difference{Field: field.name, Changed: true})
			}
			continue
		}
		if equal(old, new) {
			continue
		}
		from, errFrom := field.text(old)
		to, errTo := field.text(new)
		if err := errors.Join(errFrom, errTo); err != nil {
			return nil, err
		}
		if bytes.Equal(from, to) {
			continue
		}
		if before == nil {
			from = nil
		}
		all = append(all, Difference{Field: field.name, Before: from, After: to})
	}
	return all, nil
}

// equal reports whether two values of a field are deeply equal.
func equal(a, b reflect.Value) bool {
	switch a.Kind() { // most fields, without an allocation
	case reflect.String:
		return a.String() == b.String()
	case reflect.Bool:
		return a.Bool() == b.Bool()
	case reflect.Int, reflect.Int64:
		return a.Int() == b.Int()
	case reflect.Slice, reflect.Map:
		if a.Len() == 0 && b.Len() == 0 {
			return a.IsNil() == b.IsNil()
		}
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// text returns the JSON of a field; null where it is left out.
func (f recordField) text(v reflect.Value) (json.RawMessage, error) {
	if f.omit && v.IsZero() {
		return json.RawMessage("null"), nil
	}
	return plainJSON(v.Interface())
}
