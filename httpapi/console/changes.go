package console

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// changesView is a part of the change feed.
type changesView struct {
	Filters  []*input
	Kinds    []choice
	Filtered bool
	Problems []string
	Rows     []changeRow
	Older    string // address of what came before, where the newest is shown first
	Newer    string // address of what came later, where the oldest is shown first
}

// A changeRow is one change.
type changeRow struct {
	Revision int64
	Time     *moment
	Actor    string
	Reason   string
	Action   string
	Kind     catalog.Kind
	ID       int64
	Title    string
	Gone     bool // by this change
	Fields   []difference
	Revert   bool // whether the caller may take it back
}

// feedWindow is how many revisions the page reads back at once, and feedRows how many changes it
// shows at most.
const (
	feedWindow = 50
	feedRows   = 200
)

func (p *page) changes() error {
	q := p.query()
	view := changesView{Filters: q.inputs("id", "actor", "since")}
	kind := q.text("kind")
	for _, k := range catalog.Kinds() {
		view.Kinds = append(view.Kinds, choice{string(k), string(k) == kind})
	}
	query := client.ChangesQuery{
		After: q.text(
			"after",
		), Kind: catalog.Kind(kind), ID: q.number("id"), Actor: q.text("actor"), Since: q.time("since"),
		Limit: pageSize,
	}
	before := q.number("before")
	view.Problems = q.wrong
	if len(q.wrong) > 0 {
		return p.render("changes", http.StatusUnprocessableEntity, view)
	}
	view.Filtered = query.Kind != "" || query.ID != 0 || query.Actor != "" || !query.Since.IsZero() ||
		query.After != ""
	err := p.fillChanges(&view, query, before)
	if messages, ok := p.problems(err); ok {
		view.Problems = messages
		return p.render("changes", http.StatusUnprocessableEntity, view)
	}
	if err != nil {
		return err
	}
	for i := range view.Rows {
		view.Rows[i].Revert = p.MayWrite() && !p.Limited() && view.Rows[i].Kind != ""
	}
	return p.render("changes", http.StatusOK, view)
}

// fillChanges shows the newest first where nothing is filtered. With filters it shows the history from
// its beginning, as the API has it.
func (p *page) fillChanges(view *changesView, query client.ChangesQuery, before int64) error {
	if !view.Filtered && !p.Limited() {
		found, from, more, err := p.newest(before, feedWindow, feedRows)
		if err != nil {
			return err
		}
		if more != "" {
			view.Newer = link("changes", "after", more)
		}
		for _, c := range slices.Backward(found) {
			view.Rows = append(view.Rows, p.changeRow(c))
		}
		if from > 0 {
			view.Older = link("changes", "before", strconv.FormatInt(from+1, 10))
		}
		return nil
	}
	found, more, err := p.readChanges(query)
	if err != nil {
		return err
	}
	for _, c := range found {
		view.Rows = append(view.Rows, p.changeRow(c))
	}
	if more != "" {
		next := queryWithout(p.r.URL.Query(), "after")
		next.Set("after", more)
		view.Newer = "changes?" + next.Encode()
	}
	return nil
}

// feedPages is how many pages of the feed are read for one of the console: one of the feed ends at some bytes, and
// may have few that a filter selects.
const feedPages = 5

// readChanges returns changes up to the limit of a query, and where others may begin; "" where there are none.
func (p *page) readChanges(query client.ChangesQuery) (found []catalog.Change, more string, err error) {
	most := query.Limit
	for range feedPages {
		page, err := p.client.Changes(p.ctx(), query)
		if err != nil {
			return nil, "", err
		}
		if found = append(found, page.Data...); len(page.Data) == 0 && page.Next == query.After {
			return found, "", nil
		}
		if query.After, query.Limit = page.Next, most-len(found); query.Limit == 0 {
			break
		}
	}
	return found, query.After, nil
}

// newest returns the changes of the revisions before one, or of the last where that is 0, oldest first; from is the
// revision after which they begin. It looks back at most as many revisions as window says, and at fewer where these
// have more changes than it returns at most. Of a single revision with more it returns the first, and in more where
// the others begin.
func (p *page) newest(before, window int64, most int) (found []catalog.Change, from int64, more string, err error) {
	if before == 0 {
		status, err := p.client.SyncStatus(p.ctx())
		if err != nil {
			return nil, 0, "", err
		}
		before = int64(status.Revision) + 1
	}
	for ; ; window /= 2 {
		from = max(0, before-1-window)
		query := client.ChangesQuery{After: strconv.FormatInt(from, 10), Limit: most}
		all, next, err := p.readChanges(query)
		if errors.Is(err, catalog.ErrCompacted) { // it reaches back no further
			query.After, from = "", 0
			all, next, err = p.readChanges(query)
		}
		if err != nil {
			return nil, 0, "", err
		}
		if n := len(all); next != "" && n > 0 && int64(all[n-1].Revision) < before {
			if window > 1 {
				continue
			}
			more = next
		}
		for _, c := range all {
			if int64(c.Revision) < before {
				found = append(found, c)
			}
		}
		return found, from, more, nil
	}
}

func (p *page) changeRow(c catalog.Change) changeRow {
	row := changeRow{
		Revision: int64(c.Revision), Time: p.at(c.Time), Actor: c.Actor, Reason: c.Reason, Action: string(c.Action),
		Kind: c.Kind, ID: c.ID, Gone: c.Action == catalog.ActionDelete,
	}
	before, _ := decodeObject(c.Before) // an absent side is an empty object
	after, _ := decodeObject(c.After)
	if n := p.nouns[c.Kind]; n != nil {
		if row.Title = n.titleOf(after); row.Title == "" {
			row.Title = n.titleOf(before)
		}
	}
	row.Fields = p.differences(before, after)
	return row
}

// isBookkeeping says which fields change with every change.
func isBookkeeping(name string) bool {
	return slices.Contains([]string{"id", "revision", "created_at", "updated_at"}, name)
}

// differences lists the fields that two versions do not have in common.
func (p *page) differences(before, after object) (all []difference) {
	names := maps.Clone(before)
	if names == nil {
		names = object{}
	}
	maps.Copy(names, after)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !isBookkeeping(name) && !reflect.DeepEqual(before[name], after[name]) {
			all = append(all, difference{p.words.or("field.", name), p.plainly(before[name]), p.plainly(after[name])})
		}
	}
	return all
}

// plainly writes a value in a line.
func (p *page) plainly(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		if v {
			return p.words.text("yes")
		}
		return p.words.text("no")
	case string:
		if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return t.In(p.zone).Format(time.DateTime)
		}
		return p.words.or("value.", v)
	case []any:
		if texts := elements(v); !slices.ContainsFunc(v, isNested) {
			return strings.Join(texts, ", ")
		}
	case map[string]any:
		if len(v) == 0 {
			return ""
		}
	}
	var b strings.Builder
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	_ = to.Encode(v) // it came from JSON
	return strings.TrimSpace(b.String())
}

func isNested(v any) bool {
	_, list := v.([]any)
	_, object := v.(map[string]any)
	return list || object
}
