package console

import (
	"net/http"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// budgetsView is how budgets stand.
type budgetsView struct {
	Filters  []*input
	Problems []string
	Rows     []budgetRow
	Next     string
	First    string
}

type budgetRow struct {
	client.Budget
	Key   *reference // nil for that of a project
	Meter meter
	End   *moment
}

// What of a budget is spent before the overview shows it, and how many it shows.
const (
	overviewPercent = 80
	overviewBudgets = 8
)

func (p *page) budgets() error {
	q := p.query()
	query := client.BudgetsQuery{
		Project: q.text("project"), KeyID: q.number("key_id"), Over: q.number("over"), Limit: pageSize,
		Cursor: q.text("cursor"),
	}
	view := budgetsView{Filters: q.inputs("project", "key_id", "over"), Problems: q.wrong}
	if len(q.wrong) > 0 {
		return p.render("budgets", http.StatusUnprocessableEntity, view)
	}
	rows, next, err := p.budgetRows(query)
	if messages, ok := p.problems(err); ok {
		view.Problems = messages
		return p.render("budgets", http.StatusUnprocessableEntity, view)
	}
	if err != nil {
		return err
	}
	view.Rows = rows
	view.Next, view.First = p.pager(next)
	return p.render("budgets", http.StatusOK, view)
}

func (p *page) budgetRows(query client.BudgetsQuery) (rows []budgetRow, next string, err error) {
	found, err := p.client.Budgets(p.ctx(), query)
	keys := p.namesOf(catalog.KindKey)
	for _, b := range found.Data {
		r := budgetRow{Budget: b, End: p.at(b.Ends), Meter: meterOf(b)}
		if b.KeyID != 0 {
			of := keys.reference(b.KeyID)
			r.Key = &of
		}
		rows = append(rows, r)
	}
	return rows, found.Next, err
}

func meterOf(b client.Budget) meter {
	m := meter{
		Window: b.Window, Timezone: b.Timezone, Spent: usd(int64(b.Spent)), Percent: min(100, b.Percent),
		Over: b.Percent >= 100, Unpriced: b.Unpriced,
	}
	if b.Limit != nil {
		m.Limit = usd(int64(*b.Limit))
	}
	return m
}
