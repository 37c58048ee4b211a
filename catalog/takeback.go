package catalog

import (
	"bytes"
	"context"
	"errors"
	"reflect"
)

// takeBack takes the targets from what was changed in one revision.
func (p *planner) takeBack(ctx context.Context, revision Revision) error {
	changes, err := p.readRevision(ctx, revision)
	if err != nil {
		return err
	}
	of := map[Kind][]Change{}
	for _, c := range changes {
		of[c.Kind] = append(of[c.Kind], c)
	}
	for k, list := range of {
		ids := make([]int64, len(list))
		for i, c := range list {
			ids[i] = c.ID
		}
		if err := fetch(ctx, p, k, ids, byIDs); err != nil {
			return err
		}
	}
	since, err := p.readSince(ctx, changes, revision)
	if err != nil {
		return err
	}
	for _, k := range DesiredKinds() {
		for _, c := range of[k] {
			if err := p.takeBackOne(c, since[place{k, c.ID}]); err != nil {
				return err
			}
		}
		if err := p.readRivals(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// sequel is what became of an entity after the revision that is taken back.
type sequel struct {
	fields map[string]Revision // in which a field was changed, last
	made   Revision            // in which it was created or deleted, last; 0 for none
}

// readSince reads from the feed what became of the entities of a revision. Values alone do not
// tell: a field may have been changed, and changed again into what the revision had made of it.
func (p *planner) readSince(ctx context.Context, changes []Change, revision Revision) (map[place]sequel, error) {
	since := map[place]sequel{}
	for _, c := range changes {
		if now, exists := p.of(c.Kind).byID[c.ID]; !exists || now.Revision != revision {
			since[place{c.Kind, c.ID}] = sequel{fields: map[string]Revision{}}
		}
	}
	for at, more := (Cursor{Revision: revision}), len(since) > 0; more; {
		page, err := p.tx.reader.Changes(ctx, at, feedPage)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			at = c.Cursor()
			key := place{c.Kind, c.ID}
			s, asked := since[key]
			switch {
			case !asked:
			case c.Action != ActionUpdate && c.Action != ActionReseal:
				s.made = c.Revision
				since[key] = s
			default:
				before, errBefore := fromFeed(c.Kind, c.Before)
				after, errAfter := fromFeed(c.Kind, c.After)
				if err := errors.Join(errBefore, errAfter); err != nil {
					return nil, err
				}
				differences, err := p.fieldsOf(c.Kind).differences(before, after)
				if err != nil {
					return nil, err
				}
				for _, d := range differences {
					s.fields[d.Field] = c.Revision
				}
			}
		}
		more = len(page) == feedPage
	}
	return since, nil
}

// takeBackOne takes back one change, unless the entity was changed again where that matters.
func (p *planner) takeBackOne(c Change, since sequel) error {
	now, exists := p.of(c.Kind).byID[c.ID]
	at := pathOf(c.Kind, c.ID)
	switch {
	case c.Action == ActionCreate && !exists:
		return nil
	case c.Action == ActionCreate && now.Revision != c.Revision:
		p.refused.add(ErrConflict, at, "was changed again, last in revision %d; delete it by itself", now.Revision)
		return nil
	case c.Action == ActionCreate:
		return p.remove(now)
	case c.Action == ActionDelete && since.made != 0:
		p.refused.add(ErrConflict, at, "has existed again since; it was last created or deleted in revision %d", since.made)
		return nil
	case c.Action == ActionDelete:
		return p.returnOne(place{c.Kind, c.ID}, c.Before, c.Revision)
	case !exists:
		p.refused.add(ErrConflict, at, "was deleted since; revert that first")
		return nil
	case since.made != 0:
		p.refused.add(ErrConflict, at, "was deleted since, and came back in revision %d; change it by itself", since.made)
		return nil
	}
	was, errWas := fromFeed(c.Kind, c.Before)
	did, errDid := fromFeed(c.Kind, c.After)
	want, errNow := show(now, p.tx.core.keeper)
	before, _ := show(now, p.tx.core.keeper)
	if err := errors.Join(errWas, errDid, errNow); err != nil {
		return err
	}
	if want.meta().Damaged {
		p.refused.add(ErrConflict, at, "is damaged, so that nothing of it can be changed alone")
		return nil
	}
	t := &target{at: at, want: want, before: before}
	note := was.comeBack(t.before, 0)
	collisions, err := p.fieldsOf(c.Kind).takeBack(t.want, was, did, since.fields)
	for _, field := range collisions {
		p.refused.add(ErrConflict, at+"."+field.name, "was changed again since, last in revision %d; "+
			"revert that first, or change the field by itself", field.last)
	}
	if err != nil || len(collisions) > 0 {
		return err
	}
	p.claimed[place{c.Kind, c.ID}] = t
	p.aim(t, note)
	return nil
}

// collision is a field that cannot be taken back, and when it was last changed.
type collision struct {
	name string
	last Revision
}

// takeBack gives the fields of a record that differ between was and did their value of was. It
// returns those that have been changed again since, and have another value than in was.
func (f *recordFields) takeBack(record, was, did record, changed map[string]Revision) (again []collision, err error) {
	from, to, v := reflect.ValueOf(was).Elem(), reflect.ValueOf(did).Elem(), reflect.ValueOf(record).Elem()
	for _, field := range f.list {
		if field.secret {
			continue
		}
		old, errOld := field.text(from.FieldByIndex(field.index))
		new, errNew := field.text(to.FieldByIndex(field.index))
		now, errNow := field.text(v.FieldByIndex(field.index))
		last := changed[field.name]
		switch err := errors.Join(errOld, errNew, errNow); {
		case err != nil:
			return nil, err
		case bytes.Equal(old, new), bytes.Equal(now, old):
		case last == 0 && bytes.Equal(now, new):
			v.FieldByIndex(field.index).Set(from.FieldByIndex(field.index))
		default:
			again = append(again, collision{field.name, last})
		}
	}
	return again, nil
}
