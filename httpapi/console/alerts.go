package console

import (
	"net/http"

	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/httpapi/client"
)

// alertsView is what people were told of.
type alertsView struct {
	Kinds    []choice
	Problems []string
	Rows     []alertRow
	Next     string
	First    string
	Test     bool // whether the caller may try whether alerts arrive
}

type alertRow struct {
	alerts.Alert
	Time *moment
}

func (p *page) alerts() error {
	q := p.query()
	view := alertsView{Test: p.MayWrite() && !p.Limited()}
	for _, k := range alerts.Kinds() {
		view.Kinds = append(view.Kinds, choice{string(k), string(k) == q.text("kind")})
	}
	found, err := p.client.Alerts(p.ctx(), client.AlertsQuery{
		Kind: alerts.Kind(q.text("kind")), Cursor: q.text("cursor"), Limit: pageSize,
	})
	if messages, ok := p.problems(err); ok {
		view.Problems = messages
		return p.render("alerts", http.StatusUnprocessableEntity, view)
	}
	if err != nil {
		return err
	}
	for _, a := range found.Data {
		view.Rows = append(view.Rows, alertRow{a, p.at(a.At)})
	}
	view.Next, view.First = p.pager(found.Next)
	return p.render("alerts", http.StatusOK, view)
}

// testAlert tries whether alerts arrive. The list says what became of it.
func (p *page) testAlert() error {
	if _, err := p.client.TestAlert(p.ctx()); err != nil {
		return err
	}
	return p.done("alerts", flash{Text: "done.alerted"})
}
