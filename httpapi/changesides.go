package httpapi

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/ez-api/ez-api/catalog"
)

// shown returns what the caller is shown of a change; nil is nothing. Who is limited to a project
// is shown the sides that are of it: where a key came or went, that is a creation or a deletion.
func (p *feedPage) shown(ctx context.Context, r catalog.Reader, c catalog.Change) (*catalog.Change, error) {
	if p.project == "" {
		return &c, nil
	}
	for _, side := range []*json.RawMessage{&c.Before, &c.After} {
		own, err := p.owns(ctx, r, c.Kind, *side)
		if err != nil {
			return nil, err
		}
		if !own {
			*side = nil
		}
	}
	switch {
	case c.Before == nil && c.After == nil:
		return nil, nil
	case c.Before == nil:
		c.Action = catalog.ActionCreate
	case c.After == nil:
		c.Action = catalog.ActionDelete
	}
	return &c, nil
}

// owns reports whether one side of a change is shown to who is limited to a project.
func (p *feedPage) owns(ctx context.Context, r catalog.Reader, k catalog.Kind, side json.RawMessage) (bool, error) {
	var of struct{ Name, Project, Target string }
	if len(side) == 0 || json.Unmarshal(side, &of) != nil {
		return false, nil
	}
	switch k {
	case catalog.KindModel, catalog.KindBinding:
		return true, nil
	case catalog.KindProject:
		return catalog.InProject(of.Name, p.project), nil
	case catalog.KindKey:
		return catalog.InProject(of.Project, p.project), nil
	case catalog.KindHold:
		return p.ownsTarget(ctx, r, of.Target)
	}
	return false, nil
}

// ownsTarget goes by the project that a key is in now: the hold does not tell where it was then.
// The holds of a key that is gone are not shown.
func (p *feedPage) ownsTarget(ctx context.Context, r catalog.Reader, target string) (bool, error) {
	t, _ := catalog.ParseHoldTarget(target)
	if t.KeyID == 0 {
		return t.Project != "" && catalog.InProject(t.Project, p.project), nil
	}
	key, err := r.Get(ctx, catalog.KindKey, t.KeyID)
	if errors.Is(err, catalog.ErrNotFound) {
		return false, nil
	}
	return err == nil && catalog.InProject(key.Ref, p.project), err
}
