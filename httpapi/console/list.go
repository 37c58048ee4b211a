package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// pageSize is how many rows a list shows at once.
const pageSize = 50

// listView is a page of a list.
type listView struct {
	Kind     catalog.Kind
	Filters  []*input
	Filtered bool
	Columns  []*field
	Rows     []row
	Next     string // address of the next page
	First    string // address of the first page, on the others
	Writes   bool
	Tree     bool // whether the rows are a tree, in its order
}

// A row is an entity in a list.
type row struct {
	ID     int64
	Title  string
	Status string
	Cells  []cell
	Depth  int // in a tree
}

func (n *noun) path(id int64) string { return string(n.kind) + "/" + strconv.FormatInt(id, 10) }

// titleOf returns what people know an entity by.
func (n *noun) titleOf(o object) string {
	var parts []string
	for _, name := range n.title {
		parts = append(parts, o.text(name))
	}
	return strings.Join(parts, " ")
}

func (p *page) list(n *noun) error {
	query := p.r.URL.Query()
	q := client.Query{
		Text: query.Get("q"), Status: catalog.Status(query.Get("status")), Group: query.Get("group"),
		Namespace: query.Get("namespace"), Project: query.Get("project"), Name: query.Get("name"),
		Limit: pageSize, Cursor: query.Get("cursor"),
	}
	tree := n.kind == catalog.KindProject && p.r.URL.RawQuery == ""
	if tree {
		q.Limit = maxTree
	}
	if name, value, ok := strings.Cut(query.Get("label"), "="); ok {
		q.Labels = map[string]string{name: value}
	}
	found, err := p.client.Objects(n.kind).List(p.ctx(), q)
	if tree && found.Next != "" { // too many for one page
		tree, q.Limit = false, pageSize
		found, err = p.client.Objects(n.kind).List(p.ctx(), q)
	}
	if err != nil {
		return err
	}
	view := listView{Kind: n.kind, Writes: p.mayChange(n)}
	for _, name := range n.filters {
		in := newInput(&field{Name: name, Widget: widgetText}, name)
		if name == "status" {
			in.Widget, in.Enum = widgetSelect, []string{"active", "disabled"}
		}
		in.Value = query.Get(name)
		view.Filtered = view.Filtered || in.Value != ""
		view.Filters = append(view.Filters, in)
	}
	for _, name := range n.columns {
		view.Columns = append(view.Columns, n.fields[name])
	}
	for _, data := range found.Data {
		o, err := decodeObject(data)
		if err != nil {
			return err
		}
		r := row{ID: o.number("id"), Title: n.titleOf(o), Status: o.text("status")}
		for _, f := range view.Columns {
			r.Cells = append(r.Cells, p.cell(f, o))
		}
		view.Rows = append(view.Rows, r)
	}
	if tree {
		if err := p.growTree(&view); err != nil {
			return err
		}
	}
	view.Next, view.First = p.pager(found.Next)
	return p.render("list", http.StatusOK, view)
}

// maxTree is how many projects are shown as a tree. More come in pages.
const maxTree = 200

// growTree puts projects below their parents, with what they have spent of their budgets.
func (p *page) growTree(view *listView) error {
	view.Tree = true
	slices.SortFunc(view.Rows, func(a, b row) int { // a path comes right behind its parent's
		return slices.Compare(strings.Split(a.Title, "/"), strings.Split(b.Title, "/"))
	})
	// Those of projects come first.
	spent, err := p.client.Budgets(p.ctx(), client.BudgetsQuery{Limit: max(1, len(view.Rows))})
	if _, ok := p.problems(err); err != nil && !ok { // a log store that answers no questions knows none
		return err
	}
	meters := map[string][]meter{}
	for _, b := range spent.Data {
		if b.KeyID == 0 {
			meters[b.Project] = append(meters[b.Project], meterOf(b))
		}
	}
	view.Columns = append(view.Columns, &field{Name: "spend", Widget: widgetSpend})
	for i := range view.Rows {
		r := &view.Rows[i]
		r.Depth = strings.Count(r.Title, "/")
		r.Cells = append(r.Cells, cell{Widget: widgetSpend, Name: "spend", Meters: meters[r.Title]})
	}
	return nil
}

// pager returns the addresses of the next page, and of the first one where this is another.
func (p *page) pager(next string) (following, first string) {
	query := p.r.URL.Query()
	path := strings.TrimPrefix(p.r.URL.Path, "/")
	if query.Get("cursor") != "" {
		first = path + "?" + queryWithout(query, "cursor").Encode()
	}
	if next != "" {
		query.Set("cursor", next)
		following = path + "?" + query.Encode()
	}
	return following, first
}

func queryWithout(query url.Values, name string) url.Values {
	others := url.Values{}
	for k, v := range query {
		if k != name {
			others[k] = slices.Clone(v)
		}
	}
	return others
}

// mayChange reports whether forms that write a noun are shown.
func (p *page) mayChange(n *noun) bool { return p.MayWrite() && (n.writes || !p.Limited()) }
