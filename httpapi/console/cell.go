package console

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/ez-api/ez-api/catalog"
)

// A cell is a value as pages show it.
type cell struct {
	Widget widget
	Name   string
	Text   string
	Items  []string // of a list
	Time   *moment
	Link   string
	Meters []meter
	Rows   [][]cell
	Heads  []*field
}

// shortList is how many elements of a list a table shows.
const shortList = 3

// More returns how many elements a table leaves out.
func (c cell) More() int { return len(c.Items) - shortList }

// A meter is how much of a budget is spent.
type meter struct {
	Window, Timezone string
	Spent, Limit     string
	Percent          int64
	Over             bool
	Unpriced         int64
}

// cell makes the cell of a field.
func (p *page) cell(f *field, o object) cell {
	v := o[f.Name]
	c := cell{Widget: f.Widget, Name: f.Name}
	switch f.Widget {
	case widgetTime:
		c.Time = p.at(o.time(f.Name))
	case widgetLines:
		list, _ := v.([]any)
		c.Items = elements(list)
	case widgetLabels:
		labels, _ := v.(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			c.Items = append(c.Items, fmt.Sprintf("%s=%v", name, labels[name]))
		}
	case widgetSpend:
		c.Meters = meters(o)
	case widgetRows:
		c.Heads = f.Columns
		for _, inner := range f.rowsOf(o) {
			var cells []cell
			for _, column := range f.Columns {
				cells = append(cells, p.cell(column, inner))
			}
			c.Rows = append(c.Rows, cells)
		}
	case widgetNumber:
		if n, ok := v.(json.Number); ok {
			c.Text = n.String()
			if i, err := n.Int64(); err == nil {
				c.Text = number(i)
			}
		}
	default:
		c.Text = f.write(v, p.zone)
	}
	if f.Name == "message" && o.text("reason") != catalog.HoldAdmin { // of holds: the control plane writes its own
		c.Text = p.words.message(c.Text)
	}
	if f.Name == "project" && c.Text != "" {
		c.Link = "keys?project=" + c.Text
	}
	return c
}

// meters returns what was spent of each budget of a key.
func meters(o object) (all []meter) {
	budgets, spend := o.objects("budgets"), o.objects("spend")
	for i, b := range budgets {
		if i >= len(spend) {
			break
		}
		limit, err := catalog.ParseUSD(b.text("limit"))
		spent, err2 := catalog.ParseUSD(spend[i].text("spent"))
		if err != nil || err2 != nil {
			continue
		}
		m := meter{
			Window: b.text("window"), Timezone: b.text("timezone"), Spent: usd(int64(spent)), Limit: usd(int64(limit)),
			Unpriced: spend[i].number("unpriced_requests"), Over: spent >= limit, Percent: 100,
		}
		if limit > 0 {
			m.Percent = int64(min(100, float64(spent)/float64(limit)*100))
		}
		all = append(all, m)
	}
	return all
}
