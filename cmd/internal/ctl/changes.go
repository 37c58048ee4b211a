package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

type changesCommand struct {
	printing
	After  string `help:"Only after this revision."`
	Kind   string `help:"Only of this kind of resources."`
	ID     int64  `name:"id" help:"Only of the resource with this id."`
	Actor  string `help:"Only by this actor."`
	Since  string `default:"24h" help:"From when on: RFC 3339, or a span such as 90m, 24h, 7d."`
	Limit  int    `default:"100" help:"At most so many, the oldest first; 0 is all."`
	Follow bool   `short:"f" help:"Go on with what comes later."`
}

const changesPause = time.Second // between two looks at the feed

// Run lists changes.
func (c *changesCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	q := client.ChangesQuery{After: c.After, ID: c.ID, Actor: c.Actor, Limit: 1000}
	if c.Kind != "" {
		if q.Kind, err = parseKind(c.Kind); err != nil {
			return err
		}
	}
	if c.After == "" {
		if q.Since, err = parseTime("since", c.Since); err != nil {
			return err
		}
	}
	found, err := c.read(ctx, api, &q)
	if err != nil {
		return err
	}
	if !c.Follow {
		return a.print(found, func() *table { return changeTable(found) })
	}
	for {
		for _, change := range found {
			if err := a.printChange(change); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(changesPause):
		}
		if found, err = c.read(ctx, api, &q); err != nil {
			return err
		}
	}
}

// read reads what there is, and moves the query on behind it.
func (c *changesCommand) read(ctx context.Context, api *client.Client, q *client.ChangesQuery) ([]catalog.Change,
	error) {
	found := []catalog.Change{}
	for {
		page, err := api.Changes(ctx, *q)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Data...)
		at := q.After
		if q.After = page.Next; page.Next == at {
			return found, nil
		}
		if c.Limit > 0 && len(found) >= c.Limit && !c.Follow {
			return found[:c.Limit], nil
		}
	}
}

func changeTable(found []catalog.Change) *table {
	t := &table{titles: []string{"REVISION", "TIME", "ACTOR", "ACTION", "KIND", "ID", "NAME", "FIELDS"}}
	for _, c := range found {
		t.add(changeRow(c)...)
	}
	return t
}

// printChange prints one change in one line.
func (a *app) printChange(c catalog.Change) error {
	if a.output != "table" {
		text, err := json.Marshal(c)
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s\n", text)
		}
		return err
	}
	row := changeRow(c)
	for i, n := range []int{8, 19, 16, 8, 9, 8, 24} {
		row[i] = pad(printable(row[i]), n)
	}
	_, err := fmt.Fprintln(a.stdout, strings.TrimRight(strings.Join(row, " "), " "))
	return err
}

func changeRow(c catalog.Change) []string {
	id := "-"
	if c.ID != 0 {
		id = strconv.FormatInt(c.ID, 10)
	}
	before, _ := parseFields(c.Before)
	after, _ := parseFields(c.After)
	name := cell(nameOf(c.Kind, after))
	if name == "-" {
		name = cell(nameOf(c.Kind, before))
	}
	return []string{
		fmt.Sprintf("%d.%d", c.Revision, c.Seq), timeCell(c.Time), c.Actor, string(c.Action), cell(c.Kind.Noun()), id, name,
		strings.Join(changedFields(before, after), ","),
	}
}

// nameOf returns what people know a resource by.
func nameOf(kind catalog.Kind, object fields) string {
	text := func(name string) string { s, _ := object[name].(string); return s }
	switch kind {
	case catalog.KindModel:
		if object == nil {
			return ""
		}
		return text("namespace") + "." + text("name")
	case catalog.KindBinding:
		if object == nil {
			return ""
		}
		return fmt.Sprintf("%s.%s %s → %s", text("namespace"), text("model"), text("route_group"), text("provider_group"))
	case catalog.KindHold:
		return text("target")
	}
	return text("name")
}

// changedFields names the fields that differ, when there are both sides.
func changedFields(before, after fields) (names []string) {
	if before == nil || after == nil {
		return nil
	}
	for name := range difference(before, after) {
		if name != "updated_at" && name != "revision" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
