package catalog

import (
	"context"
	"encoding/json"
	"errors"
)

// Bounds of what Copied reads of a revision.
const (
	copiedChunk = 40 // each may have more than a MiB
	copiedPages = 125
)

// Copied reports whether a revision has changed something that control planes keep in memory:
// prices, the project of a key, or an operator. Other control planes go by such a change only a
// moment later. It also reports true when the change feed does not tell, and for a revision with
// more than 5,000 changes.
func Copied(ctx context.Context, s Store, revision Revision) (copied bool, err error) {
	err = s.Read(ctx, func(r Reader) error {
		if err := r.Head().Leads(revision - 1); err != nil {
			return err
		}
		at := Cursor{Revision: revision - 1}
		for range copiedPages {
			page, err := r.Changes(ctx, at, copiedChunk, KindModel, KindProvider, KindKey, KindOperator)
			if err != nil {
				return err
			}
			for _, c := range page {
				if copied = c.Revision == revision && c.copied(); copied || c.Revision != revision {
					return nil
				}
				at = c.Cursor()
			}
			if len(page) < copiedChunk {
				return nil
			}
		}
		copied = true
		return nil
	})
	if errors.Is(err, ErrCompacted) {
		return true, nil
	}
	return copied, err
}

// copied reports whether copies in memory have what the change is of.
func (c *Change) copied() bool {
	if c.Kind != KindKey {
		return true
	}
	var before, after struct {
		Project string `json:"project"`
	}
	if len(c.After) == 0 { // what is logged of a key that is gone is charged as before
		return false
	}
	if json.Unmarshal(c.After, &after) != nil || len(c.Before) > 0 && json.Unmarshal(c.Before, &before) != nil {
		return true
	}
	return before.Project != after.Project
}
