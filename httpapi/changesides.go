package httpapi

import (
	"encoding/json"
	"slices"

	"github.com/ez-api/ez-api/catalog"
)

// shown returns what the caller is shown of a change; nil is nothing. Who is limited to a project
// is shown the sides that are of it: where a key came or went, that is a creation or a deletion.
func (p *feedPage) shown(c catalog.Change) *catalog.Change {
	if p.project == "" {
		return &c
	}
	for _, side := range []*json.RawMessage{&c.Before, &c.After} {
		if !p.owns(&c, *side) {
			*side = nil
		}
	}
	switch {
	case c.Before == nil && c.After == nil:
		return nil
	case c.Before == nil:
		c.Action = catalog.ActionCreate
	case c.After == nil:
		c.Action = catalog.ActionDelete
	}
	return &c
}

// owns reports whether one side of a change is shown to who is limited to a project.
func (p *feedPage) owns(c *catalog.Change, side json.RawMessage) bool {
	var of struct{ Name, Project, Target string }
	if len(side) == 0 || json.Unmarshal(side, &of) != nil {
		return false
	}
	switch c.Kind {
	case catalog.KindModel, catalog.KindBinding:
		return true
	case catalog.KindProject:
		return catalog.InProject(of.Name, p.project)
	case catalog.KindKey:
		return catalog.InProject(of.Project, p.project)
	case catalog.KindHold:
		return p.ownsTarget(c, of.Target)
	}
	return false
}

// ownsTarget goes by the project that a key was in when its hold was changed.
func (p *feedPage) ownsTarget(c *catalog.Change, target string) bool {
	t, _ := catalog.ParseHoldTarget(target)
	if t.KeyID == 0 {
		return t.Project != "" && catalog.InProject(t.Project, p.project)
	}
	return slices.ContainsFunc(c.Touches.Refs, func(ref string) bool { return catalog.InProject(ref, p.project) })
}
