package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// madeTokens are the tokens of the new keys of a plan.
type madeTokens struct{ out *tokens }

// makeTokens makes the tokens of keys that the plan creates and the files give none, and writes
// them where they are to be kept. The plan is made again with their hashes; it has to be the same
// otherwise.
func (j *job) makeTokens(ctx context.Context, plan catalog.Plan, path string) (*madeTokens, catalog.Plan, error) {
	made := &madeTokens{}
	for _, s := range plan.Steps {
		object, ok := j.newKey(s)
		if !ok {
			continue
		}
		if made.out == nil {
			var err error
			if made.out, err = j.app.newTokens(path); err != nil {
				return made, plan, err
			}
		}
		hash, err := made.out.issue(s.ExternalID, s.Name)
		if err != nil {
			return made, plan, errors.Join(err, made.discard())
		}
		object["token_hashes"] = []any{hash}
	}
	if made.out == nil {
		return made, plan, nil
	}
	if err := made.out.flush(); err != nil {
		return made, plan, errors.Join(err, made.discard())
	}
	again, err := j.dryRun(ctx)
	if err == nil && !sameSteps(plan, again) {
		err = refused("the catalog has changed meanwhile, and so has the plan; nothing was done")
	}
	if err != nil {
		return made, plan, errors.Join(err, made.discard())
	}
	return made, again, nil
}

// newKey returns the fields of the key that a step creates, if it needs a token.
func (j *job) newKey(s catalog.Step) (fields, bool) {
	if s.Action != catalog.ActionCreate || s.Kind != catalog.KindKey {
		return nil, false
	}
	index, ok := strings.CutPrefix(s.Item, string(catalog.KindKey)+"[")
	n, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
	items := j.set.Items[catalog.KindKey]
	if !ok || err != nil || n < 0 || n >= len(items) || !needsToken(catalog.KindKey, items[n].Fields) {
		return nil, false
	}
	return items[n].Fields, true
}

// sameSteps reports whether two plans do the same, tokens aside.
func sameSteps(a, b catalog.Plan) bool {
	text := func(p catalog.Plan) string {
		steps := slices.Clone(p.Steps)
		for i := range steps {
			steps[i].Notes = nil // they tell of tokens
		}
		text, _ := json.Marshal(steps)
		return string(text)
	}
	return text(a) == text(b)
}

// finish closes the file of the tokens, and removes it when the server has surely not taken them.
func (m *madeTokens) finish(err error) {
	if m.out != nil {
		m.out.finish(err)
	}
}

// discard removes the tokens: nothing knows them.
func (m *madeTokens) discard() error {
	if m.out == nil {
		return nil
	}
	return m.out.discard()
}
